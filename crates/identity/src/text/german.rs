//! German.

use zxcvbn::feedback::{Suggestion, Warning};

use super::{
    Around, Common, Consent, Device, Factor, Login, Logout, Mail, MailText, Notice, Password, Pattern,
    Recover, Texts,
};

pub(super) const TEXTS: Texts = Texts {
    common: Common {
        language: "Sprache",
        go_on: "Weiter",
        back_to_application: "Zurück zur Anwendung",
        again: "Noch einmal versuchen",
        wait,
        logged_in_as: Around("Sie sind als ", " angemeldet."),
        failed: "Das hat nicht geklappt",
        application_at_fault: "Die Anwendung hat eine Anfrage gesandt, die sich nicht beantworten lässt. Hilft es nicht, zu ihr zurückzugehen, so sagen Sie denen Bescheid, die sie betreiben:",
    },
    login: Login {
        title: "Anmelden",
        username: "Benutzername",
        password: "Passwort",
        submit: "Anmelden",
        forgotten: "Passwort vergessen?",
        by_passkey: "Mit einem Passkey anmelden",
    },
    consent: Consent {
        title: "Zugriff erlauben",
        asks: Pattern(|client| format!("{client} bittet um Zugriff")),
        wants: Pattern(|client| format!("{client} möchte:")),
        allow: "Erlauben",
        deny: "Nicht erlauben",
        openid: "wissen, wer Sie sind",
        profile: "Ihren Namen und Ihr Profil lesen",
        email: "Ihre E-Mail-Adresse lesen",
        address: "Ihre Postanschrift lesen",
        phone: "Ihre Telefonnummer lesen",
        offline_access: "diesen Zugriff behalten, während Sie nicht da sind",
    },
    device: Device {
        title: "Gerät verbinden",
        code: "Der Code, den das Gerät anzeigt",
        wants: ("Ein Gerät mit dem Code ", " möchte ", " in Ihrem Namen verwenden:"),
        only_if_yours: "Erlauben Sie das nur, wenn das Gerät Ihnen gehört und diesen Code anzeigt.",
        connected: ("Verbunden", "Sie können zum Gerät zurückgehen."),
        not_connected: ("Nicht verbunden", "Das Gerät erhält keinen Zugriff."),
    },
    logout: Logout {
        title: "Abmelden",
        question: "Abmelden?",
        submit: "Abmelden",
        done: (
            "Abgemeldet",
            "Sie sind hier abgemeldet. Bis Anwendungen es bemerken, kann ein Augenblick vergehen.",
        ),
    },
    password: Password {
        title: "Passwort wählen",
        new: "Neues Passwort",
        again: "Neues Passwort noch einmal",
        submit: "Dieses Passwort verwenden",
        different: "Die beiden Passwörter sind nicht gleich.",
        changed: (
            "Das Passwort ist geändert",
            "Was mit dem vorigen angemeldet war, ist abgemeldet. Gehen Sie zurück zur Anwendung und melden Sie sich an.",
        ),
        too_short: Pattern(|least| {
            format!("Das Passwort ist zu kurz: Nehmen Sie mindestens {least} Zeichen.")
        }),
        too_long: "Das Passwort ist zu lang.",
        breached: "Dieses Passwort ist aus einem Einbruch bei einem anderen Dienst bekannt. Nehmen Sie ein anderes.",
        guessable: "Das Passwort ist leicht zu erraten.",
        warning,
        suggestion,
    },
    account: super::account::GERMAN,
    factor: Factor {
        confirm: "Bestätigen Sie, dass Sie es sind",
        logging_in: Around("Sie melden sich als ", " an."),
        passkey_failed: "Der Browser hat keinen Passkey geliefert. Versuchen Sie es noch einmal oder nehmen Sie einen anderen Weg.",
        use_passkey: "Passkey verwenden",
        app_code: "Code Ihrer Authenticator-App",
        use_recovery: "Wiederherstellungscode verwenden",
        one_recovery: "Einer Ihrer Wiederherstellungscodes",
        use_code: "Diesen Code verwenden",
        setup: "Zweiten Faktor einrichten",
        application_asks: Around("", ", die Anwendung verlangt mehr als ein Passwort."),
        account_needs: Around("", ", dieses Konto braucht mehr als ein Passwort."),
        setup_passkey: "Passkey einrichten",
        setup_app: "Authenticator-App einrichten",
        or_app: "Oder eine Authenticator-App",
        app: "Authenticator-App",
        shown_code: "Der Code, den die App anzeigt",
        name: "Bezeichnung",
        submit: "Einrichten",
        later: "Nicht jetzt",
        codes_title: "Wiederherstellungscodes",
        codes_keep: "Bewahren Sie diese Wiederherstellungscodes auf",
        codes_explained: "Jeder von ihnen lässt Sie einmal ohne Ihren anderen Faktor hinein. Drucken Sie sie aus oder schreiben Sie sie auf: Sie werden nur dieses eine Mal angezeigt.",
        codes_kept: "Ich habe sie aufbewahrt",
        scan: ("Lesen Sie dies mit der App ein, oder ", "öffnen Sie es auf diesem Gerät", "."),
        qr: "QR-Code für die Authenticator-App",
        type_instead: "Stattdessen eintippen",
        key: "Schlüssel, zeitbasiert, sechs Ziffern:",
        type_code: "Geben Sie den Code ein, den sie anzeigt.",
    },
    recover: Recover {
        title: "Passwort vergessen?",
        explanation: "Sagen Sie, wer Sie sind, und Sie erhalten eine E-Mail mit einem Link, über den Sie ein anderes Passwort wählen.",
        who: "Benutzername oder E-Mail-Adresse",
        submit: "Link senden",
        sent: (
            "Sehen Sie in Ihr Postfach",
            "Wenn es ein solches Konto gibt und es eine E-Mail-Adresse hat, ist ein Link unterwegs. Er gilt eine halbe Stunde.",
        ),
        verify_title: "E-Mail-Adresse bestätigen",
        verify_question: Around("Ist ", " Ihre Adresse?"),
        verify_submit: "Ja, sie gehört mir",
        verified: ("Bestätigt", "Vielen Dank. Die Adresse gehört Ihnen."),
    },
    mail: Mail {
        greeting: Pattern(|name| format!("Guten Tag {name},")),
        recovery: MailText {
            subject: Pattern(|product| format!("Ein anderes Passwort für {product} wählen")),
            text: Pattern(|product| {
                format!(
                    "jemand, wahrscheinlich Sie, hat um ein anderes Passwort für Ihr Konto bei {product} gebeten. Über diesen Link wählen Sie es:"
                )
            }),
            button: "Ein anderes Passwort wählen",
            closing: "Der Link gilt einmal und eine halbe Stunde lang. Haben nicht Sie darum gebeten, so tun Sie nichts: Ihr Passwort bleibt, wie es ist.",
        },
        invitation: MailText {
            subject: Pattern(|product| format!("Ihr Konto bei {product}")),
            text: Pattern(|product| {
                format!("bei {product} gibt es ein Konto für Sie. Über diesen Link wählen Sie sein Passwort:")
            }),
            button: "Passwort wählen",
            closing: "Der Link gilt einmal und drei Tage lang.",
        },
        verification: MailText {
            subject: Pattern(|product| format!("E-Mail-Adresse für {product} bestätigen")),
            text: Pattern(|product| {
                format!(
                    "diese Adresse wurde für Ihr Konto bei {product} angegeben. Über diesen Link bestätigen Sie, dass sie Ihnen gehört:"
                )
            }),
            button: "Adresse bestätigen",
            closing: "Der Link gilt einmal und einen Tag lang. Wissen Sie nichts davon, so tun Sie nichts.",
        },
        password_changed: MailText {
            subject: Pattern(|product| format!("Ihr Passwort für {product} wurde geändert")),
            text: Pattern(|product| {
                format!(
                    "das Passwort Ihres Kontos bei {product} wurde soeben geändert, und alle Sitzungen wurden beendet. Waren nicht Sie es, so wählen Sie sofort ein anderes:"
                )
            }),
            button: "Ein anderes Passwort wählen",
            closing: "Waren Sie es, so ist nichts zu tun.",
        },
    },
    notice,
};

fn warning(warning: Warning) -> &'static str {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess => "Tasten in einer Reihe werden früh geraten.",
        Warning::ShortKeyboardPatternsAreEasyToGuess => "Kurze Tastenmuster werden früh geraten.",
        Warning::RepeatsLikeAaaAreEasyToGuess => "Ein Zeichen viele Male wird früh geraten.",
        Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => {
            "Dasselbe mehrmals ist kaum schwerer zu erraten als einmal."
        }
        Warning::ThisIsATop10Password => "Es ist eines der zehn häufigsten Passwörter.",
        Warning::ThisIsATop100Password => "Es ist eines der hundert häufigsten Passwörter.",
        Warning::ThisIsACommonPassword => "Es ist ein häufiges Passwort.",
        Warning::ThisIsSimilarToACommonlyUsedPassword => "Es ähnelt einem häufigen Passwort.",
        Warning::SequencesLikeAbcAreEasyToGuess => "Folgen wie abc und 6543 werden früh geraten.",
        Warning::RecentYearsAreEasyToGuess => "Jahreszahlen unserer Zeit werden früh geraten.",
        Warning::AWordByItselfIsEasyToGuess => "Ein Wort allein wird früh geraten.",
        Warning::DatesAreOftenEasyToGuess => "Daten werden früh geraten.",
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess => "Namen allein werden früh geraten.",
        Warning::CommonNamesAndSurnamesAreEasyToGuess => "Häufige Namen werden früh geraten.",
    }
}

fn suggestion(suggestion: Suggestion) -> &'static str {
    match suggestion {
        Suggestion::UseAFewWordsAvoidCommonPhrases => {
            "Nehmen Sie ein paar Wörter, die sonst nicht beieinander stehen."
        }
        Suggestion::NoNeedForSymbolsDigitsOrUppercaseLetters => {
            "Es braucht keine Sonderzeichen, Ziffern oder Großbuchstaben."
        }
        Suggestion::AddAnotherWordOrTwo => "Fügen Sie noch ein, zwei Wörter hinzu; seltene sind besser.",
        Suggestion::CapitalizationDoesntHelpVeryMuch => "Ein großer Anfangsbuchstabe hilft wenig.",
        Suggestion::AllUppercaseIsAlmostAsEasyToGuessAsAllLowercase => "Alles groß zu schreiben hilft wenig.",
        Suggestion::ReversedWordsArentMuchHarderToGuess => "Wörter rückwärts zu schreiben hilft wenig.",
        Suggestion::PredictableSubstitutionsDontHelpVeryMuch => {
            "Zeichen, die Buchstaben ähneln, wie @ für a, helfen wenig."
        }
        Suggestion::UseALongerKeyboardPatternWithMoreTurns => {
            "Nehmen Sie ein längeres Tastenmuster mit mehr Wendungen."
        }
        Suggestion::AvoidRepeatedWordsAndCharacters => "Nehmen Sie kein Wort oder Zeichen mehrmals.",
        Suggestion::AvoidSequences => "Nehmen Sie keine Folge.",
        Suggestion::AvoidRecentYears => "Nehmen Sie keine Jahreszahl unserer Zeit.",
        Suggestion::AvoidYearsThatAreAssociatedWithYou => {
            "Nehmen Sie keine Jahreszahl, die mit Ihnen zu tun hat."
        }
        Suggestion::AvoidDatesAndYearsThatAreAssociatedWithYou => {
            "Nehmen Sie kein Datum und keine Jahreszahl, die mit Ihnen zu tun haben."
        }
    }
}

fn wait(seconds: u64) -> String {
    match (seconds, seconds.div_ceil(60)) {
        (0 | 1, _) => "In einer Sekunde können Sie es wieder versuchen.".to_owned(),
        (2..60, _) => format!("In {seconds} Sekunden können Sie es wieder versuchen."),
        (_, 1) => "In einer Minute können Sie es wieder versuchen.".to_owned(),
        (_, minutes) => format!("In {minutes} Minuten können Sie es wieder versuchen."),
    }
}

fn notice(notice: Notice) -> &'static str {
    match notice {
        Notice::WrongPassword => "Der Benutzername oder das Passwort ist falsch.",
        Notice::TooManyAttempts => {
            "Zu viele Versuche. Gehen Sie zurück zur Anwendung und beginnen Sie von vorn."
        }
        Notice::SlowDown => {
            "Zu viele Versuche sind fehlgeschlagen. Warten Sie, oder nehmen Sie einen Browser, in dem Sie sich schon einmal angemeldet haben."
        }
        Notice::Busy => "In diesem Augenblick melden sich zu viele an. Versuchen Sie es noch einmal.",
        Notice::OutOfOrder => {
            "Hier ist etwas nicht in Ordnung. Versuchen Sie es nach einer Weile noch einmal."
        }
        Notice::InteractionOver => {
            "Diese Anmeldung ist vorbei oder wurde in einem anderen Browser begonnen. Gehen Sie zurück zur Anwendung und beginnen Sie von vorn."
        }
        Notice::FormForeign => {
            "Das Formular kam nicht von unserer Seite. Gehen Sie zurück und versuchen Sie es noch einmal."
        }
        Notice::FormTwice => {
            "Das Formular wurde zweimal gesandt. Gehen Sie zurück zur Anwendung und beginnen Sie von vorn."
        }
        Notice::SessionEnded => "Ihre Sitzung ist zu Ende. Melden Sie sich wieder an.",
        Notice::RequestOver => {
            "Die Anfrage der Anwendung ist abgelaufen. Gehen Sie zurück und beginnen Sie von vorn."
        }
        Notice::AddressNotRegistered => {
            "Die Anwendung wollte eine Antwort an eine Adresse, die nicht für sie eingetragen ist."
        }
        Notice::LogoutAddressNotRegistered => {
            "Die Anwendung wollte zu einer Adresse weiterleiten, die nicht für sie eingetragen ist."
        }
        Notice::UnknownDevice => "Mit diesem Code wartet kein Gerät.",
        Notice::TooManyCodes => "Es wurden zu viele Codes versucht. Warten Sie zehn Minuten.",
        Notice::LoginTooWeak => {
            "Die Anwendung verlangt eine stärkere Anmeldung, als mit diesem Konto möglich ist. Fragen Sie ihren Betreiber."
        }
        Notice::LinkOver => {
            "Dieser Link ist abgelaufen oder wurde schon verwendet. Bitten Sie um einen neuen."
        }
        Notice::PasskeyRefused => "Der Passkey wurde nicht angenommen.",
        Notice::WrongCode => "Der Code ist falsch oder wurde schon verwendet. Warten Sie auf den nächsten.",
        Notice::WrongRecoveryCode => {
            "Das ist keiner Ihrer Wiederherstellungscodes, oder er wurde schon verwendet."
        }
        Notice::TooManyWrongCodes => {
            "Zu viele falsche Codes. Warten Sie eine Stunde oder verwenden Sie einen Wiederherstellungscode."
        }
        Notice::CodeMissing => "Geben Sie einen Code ein.",
        Notice::NotTheCodeOfNow => "Das ist nicht der Code von jetzt. Geht die Uhr des Telefons richtig?",
    }
}
