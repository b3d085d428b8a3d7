//! English.

use zxcvbn::feedback::{Suggestion, Warning};

use super::{
    Around, Common, Consent, Device, Factor, Login, Logout, Mail, MailText, Notice, Password, Pattern,
    Recover, Texts,
};

pub(super) const TEXTS: Texts = Texts {
    common: Common {
        language: "Language",
        go_on: "Go on",
        back_to_application: "Back to the application",
        again: "Try again",
        wait,
        logged_in_as: Around("You are logged in as ", "."),
        failed: "That did not work",
        application_at_fault: "The application sent a request that cannot be answered. If going back to it does not help, tell the people who run it:",
    },
    login: Login {
        title: "Log in",
        username: "User name",
        password: "Password",
        submit: "Log in",
        forgotten: "Forgot your password?",
        by_passkey: "Log in with a passkey",
    },
    consent: Consent {
        title: "Allow access",
        asks: Pattern(|client| format!("{client} asks for access")),
        wants: Pattern(|client| format!("{client} wants to:")),
        allow: "Allow",
        deny: "Do not allow",
        openid: "know who you are",
        profile: "read your name and profile",
        email: "read your e-mail address",
        address: "read your postal address",
        phone: "read your phone number",
        offline_access: "keep this access while you are away",
    },
    device: Device {
        title: "Connect a device",
        code: "The code that the device shows",
        wants: ("A device with the code ", " wants to use ", " in your name:"),
        only_if_yours: "Allow this only if the device is yours and shows this code.",
        connected: ("Connected", "You can go back to the device."),
        not_connected: ("Not connected", "The device gets no access."),
    },
    logout: Logout {
        title: "Log out",
        question: "Log out?",
        submit: "Log out",
        done: ("Logged out", "You are logged out here. Applications may take a moment to notice."),
    },
    password: Password {
        title: "Choose a password",
        new: "New password",
        again: "New password again",
        submit: "Use this password",
        different: "The two passwords are not the same.",
        changed: (
            "The password is changed",
            "Whatever was logged in with the one before is logged out. Go back to the application and log in.",
        ),
        too_short: Pattern(|least| format!("The password is too short: take at least {least} characters.")),
        too_long: "The password is too long.",
        breached: "This password is known from a breach of another site. Take another one.",
        guessable: "The password is easy to guess.",
        warning,
        suggestion,
    },
    account: super::account::ENGLISH,
    factor: Factor {
        confirm: "Confirm it is you",
        logging_in: Around("You log in as ", "."),
        passkey_failed: "The browser gave no passkey. Try again, or go another way.",
        use_passkey: "Use a passkey",
        app_code: "Code of your authenticator app",
        use_recovery: "Use a recovery code",
        one_recovery: "One of your recovery codes",
        use_code: "Use this code",
        setup: "Set up a second factor",
        application_asks: Around("", ", the application asks for more than a password."),
        account_needs: Around("", ", this account needs more than a password."),
        setup_passkey: "Set up a passkey",
        setup_app: "Set up an authenticator app",
        or_app: "Or an authenticator app",
        app: "Authenticator app",
        shown_code: "The code that the app shows",
        name: "What you call it",
        submit: "Set up",
        later: "Not now",
        codes_title: "Recovery codes",
        codes_keep: "Keep these recovery codes",
        codes_explained: "Without your other factor each of them lets you in once. Print them or write them down: this is the only time that they are shown.",
        codes_kept: "I have kept them",
        scan: ("Scan this with the app, or ", "open it on this device", "."),
        qr: "QR code for the authenticator app",
        type_instead: "Type it instead",
        key: "Key, by time, six digits:",
        type_code: "Type the code that it shows.",
    },
    recover: Recover {
        title: "Forgot your password?",
        explanation: "Say who you are, and you get an e-mail with a link by which you choose another password.",
        who: "User name or e-mail address",
        submit: "Send the link",
        sent: (
            "Look into your mailbox",
            "If there is such an account and it has an e-mail address, a link is on its way. It is valid for half an hour.",
        ),
        verify_title: "Confirm your e-mail address",
        verify_question: Around("Is ", " your address?"),
        verify_submit: "Yes, it is mine",
        verified: ("Confirmed", "Thank you. The address is yours."),
    },
    mail: Mail {
        greeting: Pattern(|name| format!("Hello {name},")),
        recovery: MailText {
            subject: Pattern(|product| format!("Choose another password for {product}")),
            text: Pattern(|product| {
                format!(
                    "somebody, probably you, asked for another password for your account at {product}. By this link you choose it:"
                )
            }),
            button: "Choose another password",
            closing: "The link can be used once, within half an hour. If you did not ask for it, do nothing: your password stays as it is.",
        },
        invitation: MailText {
            subject: Pattern(|product| format!("Your account at {product}")),
            text: Pattern(|product| {
                format!("there is an account for you at {product}. By this link you choose its password:")
            }),
            button: "Choose a password",
            closing: "The link can be used once, within three days.",
        },
        verification: MailText {
            subject: Pattern(|product| format!("Confirm your e-mail address for {product}")),
            text: Pattern(|product| {
                format!(
                    "this address was given for your account at {product}. By this link you confirm that it is yours:"
                )
            }),
            button: "Confirm the address",
            closing: "The link can be used once, within a day. If you did not ask for it, do nothing.",
        },
        password_changed: MailText {
            subject: Pattern(|product| format!("Your password for {product} was changed")),
            text: Pattern(|product| {
                format!(
                    "the password of your account at {product} was changed just now, and every session was ended. If it was not you, choose another one at once:"
                )
            }),
            button: "Choose another password",
            closing: "If it was you, there is nothing to do.",
        },
    },
    notice,
};

fn warning(warning: Warning) -> &'static str {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess => "Straight rows of keys are among the first guesses.",
        Warning::ShortKeyboardPatternsAreEasyToGuess => "Short patterns of keys are among the first guesses.",
        Warning::RepeatsLikeAaaAreEasyToGuess => "One character many times is among the first guesses.",
        Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => {
            "The same several times is hardly harder to guess than once."
        }
        Warning::ThisIsATop10Password => "It is one of the ten most common passwords.",
        Warning::ThisIsATop100Password => "It is one of the hundred most common passwords.",
        Warning::ThisIsACommonPassword => "It is a common password.",
        Warning::ThisIsSimilarToACommonlyUsedPassword => "It is much like a common password.",
        Warning::SequencesLikeAbcAreEasyToGuess => {
            "Sequences such as abc and 6543 are among the first guesses."
        }
        Warning::RecentYearsAreEasyToGuess => "Years of our time are among the first guesses.",
        Warning::AWordByItselfIsEasyToGuess => "One word alone is among the first guesses.",
        Warning::DatesAreOftenEasyToGuess => "Dates are among the first guesses.",
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess => "Names alone are among the first guesses.",
        Warning::CommonNamesAndSurnamesAreEasyToGuess => "Common names are among the first guesses.",
    }
}

fn suggestion(suggestion: Suggestion) -> &'static str {
    match suggestion {
        Suggestion::UseAFewWordsAvoidCommonPhrases => "Take a few words that do not usually stand together.",
        Suggestion::NoNeedForSymbolsDigitsOrUppercaseLetters => {
            "It needs no symbols, digits or capital letters."
        }
        Suggestion::AddAnotherWordOrTwo => "Add another word or two; rare ones are better.",
        Suggestion::CapitalizationDoesntHelpVeryMuch => "A capital letter at the beginning helps little.",
        Suggestion::AllUppercaseIsAlmostAsEasyToGuessAsAllLowercase => "All in capital letters helps little.",
        Suggestion::ReversedWordsArentMuchHarderToGuess => "Words written backwards help little.",
        Suggestion::PredictableSubstitutionsDontHelpVeryMuch => {
            "Signs that look like letters, such as @ for a, help little."
        }
        Suggestion::UseALongerKeyboardPatternWithMoreTurns => {
            "Take a longer pattern of keys, with more turns."
        }
        Suggestion::AvoidRepeatedWordsAndCharacters => "Take no word or character several times.",
        Suggestion::AvoidSequences => "Take no sequence.",
        Suggestion::AvoidRecentYears => "Take no year of our time.",
        Suggestion::AvoidYearsThatAreAssociatedWithYou => "Take no year that has to do with you.",
        Suggestion::AvoidDatesAndYearsThatAreAssociatedWithYou => {
            "Take no date or year that has to do with you."
        }
    }
}

fn wait(seconds: u64) -> String {
    match (seconds, seconds.div_ceil(60)) {
        (0 | 1, _) => "You can try again in one second.".to_owned(),
        (2..60, _) => format!("You can try again in {seconds} seconds."),
        (_, 1) => "You can try again in one minute.".to_owned(),
        (_, minutes) => format!("You can try again in {minutes} minutes."),
    }
}

fn notice(notice: Notice) -> &'static str {
    match notice {
        Notice::WrongPassword => "The user name or the password is wrong.",
        Notice::TooManyAttempts => "Too many attempts. Go back to the application and begin again.",
        Notice::SlowDown => "Too many attempts failed. Wait, or use a browser in which you logged in before.",
        Notice::Busy => "Too many people log in at this moment. Try again.",
        Notice::OutOfOrder => "Something is out of order here. Try again in a while.",
        Notice::InteractionOver => {
            "This login is over, or was begun in another browser. Go back to the application and begin again."
        }
        Notice::FormForeign => "The form did not come from our page. Go back and try again.",
        Notice::FormTwice => "The form was sent twice. Go back to the application and begin again.",
        Notice::SessionEnded => "Your session has ended. Log in again.",
        Notice::RequestOver => "The application's request is over. Go back and begin again.",
        Notice::AddressNotRegistered => {
            "The application asked for an answer at an address that is not registered for it."
        }
        Notice::LogoutAddressNotRegistered => {
            "The application asked to go to an address that is not registered for it."
        }
        Notice::UnknownDevice => "No device waits with this code.",
        Notice::TooManyCodes => "Too many codes were tried. Wait ten minutes.",
        Notice::LoginTooWeak => {
            "The application asks for a stronger login than this account can give. Ask its operator."
        }
        Notice::LinkOver => "This link is over or was used before. Ask for another one.",
        Notice::PasskeyRefused => "The passkey was not accepted.",
        Notice::WrongCode => "The code is wrong, or was used before. Wait for the next one.",
        Notice::WrongRecoveryCode => "That is not one of your recovery codes, or it was used before.",
        Notice::TooManyWrongCodes => "Too many wrong codes. Wait an hour, or use a recovery code.",
        Notice::CodeMissing => "Type a code.",
        Notice::NotTheCodeOfNow => "That is not the code of now. Is the phone's clock right?",
    }
}
