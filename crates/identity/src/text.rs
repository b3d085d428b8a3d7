//! Everything that pages and mails say, in every language.
//!
//! There is one catalogue per language, a constant of the type [`Texts`]: a text that one
//! language lacks does not compile. A sentence around a value is a [`Pattern`] or an
//! [`Around`], so that each language puts the value where it belongs. Another language is
//! a variant of [`Language`] and a file beside `english.rs`.

pub(crate) mod account;
mod english;
mod german;
mod negotiate;

use serde::{Deserialize, Serialize};
use zxcvbn::feedback::{Suggestion, Warning};

pub(crate) use negotiate::{KEPT, choose, chosen, cookie_name, preferred};

/// A language that pages and mails are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// German.
    #[serde(rename = "de")]
    German,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// Its tag (RFC 5646).
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// What its speakers call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::German => "Deutsch",
        }
    }

    /// Its catalogue.
    pub(crate) const fn texts(self) -> &'static Texts {
        match self {
            Self::English => &english::TEXTS,
            Self::German => &german::TEXTS,
        }
    }

    /// The language of a tag (RFC 4647 §3.4): `de` and `de-AT` are German.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }
}

/// A sentence with one value in it.
#[derive(Clone, Copy)]
pub(crate) struct Pattern(fn(&str) -> String);

impl Pattern {
    /// The sentence with this value.
    pub(crate) fn with(&self, value: &str) -> String {
        (self.0)(value)
    }
}

/// A sentence around a value that a page emphasises: what stands before and behind it.
#[derive(Clone, Copy)]
pub(crate) struct Around(pub(crate) &'static str, pub(crate) &'static str);

/// A catalogue.
pub(crate) struct Texts {
    pub(crate) common: Common,
    pub(crate) login: Login,
    pub(crate) consent: Consent,
    pub(crate) device: Device,
    pub(crate) logout: Logout,
    pub(crate) password: Password,
    pub(crate) factor: Factor,
    pub(crate) account: account::Account,
    pub(crate) recover: Recover,
    pub(crate) mail: Mail,
    /// What a person is told who cannot go on.
    pub(crate) notice: fn(Notice) -> &'static str,
}

/// What several pages have.
pub(crate) struct Common {
    pub(crate) language: &'static str,
    pub(crate) go_on: &'static str,
    pub(crate) back_to_application: &'static str,
    pub(crate) again: &'static str,
    /// When to try again, in so many seconds.
    pub(crate) wait: fn(u64) -> String,
    pub(crate) logged_in_as: Around,
    pub(crate) failed: &'static str,
    /// Before what only the developers of the application understand.
    pub(crate) application_at_fault: &'static str,
}

/// The login.
pub(crate) struct Login {
    pub(crate) title: &'static str,
    pub(crate) username: &'static str,
    pub(crate) password: &'static str,
    pub(crate) submit: &'static str,
    pub(crate) forgotten: &'static str,
    pub(crate) by_passkey: &'static str,
}

/// Consent, and what scopes mean.
pub(crate) struct Consent {
    pub(crate) title: &'static str,
    pub(crate) asks: Pattern,
    pub(crate) wants: Pattern,
    pub(crate) allow: &'static str,
    pub(crate) deny: &'static str,
    pub(crate) openid: &'static str,
    pub(crate) profile: &'static str,
    pub(crate) email: &'static str,
    pub(crate) address: &'static str,
    pub(crate) phone: &'static str,
    pub(crate) offline_access: &'static str,
}

/// A device that is to be connected.
pub(crate) struct Device {
    pub(crate) title: &'static str,
    pub(crate) code: &'static str,
    /// Before the code, between it and the client, behind the client.
    pub(crate) wants: (&'static str, &'static str, &'static str),
    pub(crate) only_if_yours: &'static str,
    pub(crate) connected: (&'static str, &'static str),
    pub(crate) not_connected: (&'static str, &'static str),
}

/// The logout.
pub(crate) struct Logout {
    pub(crate) title: &'static str,
    pub(crate) question: &'static str,
    pub(crate) submit: &'static str,
    pub(crate) done: (&'static str, &'static str),
}

/// Second factors: shown, and set up.
pub(crate) struct Factor {
    pub(crate) confirm: &'static str,
    pub(crate) logging_in: Around,
    /// When the browser gave no passkey.
    pub(crate) passkey_failed: &'static str,
    pub(crate) use_passkey: &'static str,
    pub(crate) app_code: &'static str,
    pub(crate) use_recovery: &'static str,
    pub(crate) one_recovery: &'static str,
    pub(crate) use_code: &'static str,
    pub(crate) setup: &'static str,
    pub(crate) application_asks: Around,
    pub(crate) account_needs: Around,
    pub(crate) setup_passkey: &'static str,
    pub(crate) setup_app: &'static str,
    pub(crate) or_app: &'static str,
    /// What an app is called whose owner does not say.
    pub(crate) app: &'static str,
    pub(crate) shown_code: &'static str,
    pub(crate) name: &'static str,
    pub(crate) submit: &'static str,
    pub(crate) later: &'static str,
    pub(crate) codes_title: &'static str,
    pub(crate) codes_keep: &'static str,
    pub(crate) codes_explained: &'static str,
    pub(crate) codes_kept: &'static str,
    /// Before the link, the link, and behind it.
    pub(crate) scan: (&'static str, &'static str, &'static str),
    pub(crate) qr: &'static str,
    pub(crate) type_instead: &'static str,
    pub(crate) key: &'static str,
    pub(crate) type_code: &'static str,
}

/// A lost password, and an address that is to be shown to be somebody's.
pub(crate) struct Recover {
    pub(crate) title: &'static str,
    pub(crate) explanation: &'static str,
    pub(crate) who: &'static str,
    pub(crate) submit: &'static str,
    /// Whoever was named.
    pub(crate) sent: (&'static str, &'static str),
    pub(crate) verify_title: &'static str,
    pub(crate) verify_question: Around,
    pub(crate) verify_submit: &'static str,
    pub(crate) verified: (&'static str, &'static str),
}

/// Messages by mail. The value of each pattern is what the realm is called.
pub(crate) struct Mail {
    /// With the person's name.
    pub(crate) greeting: Pattern,
    pub(crate) recovery: MailText,
    pub(crate) invitation: MailText,
    pub(crate) verification: MailText,
    pub(crate) password_changed: MailText,
}

/// One kind of message.
pub(crate) struct MailText {
    pub(crate) subject: Pattern,
    pub(crate) text: Pattern,
    /// Of its link.
    pub(crate) button: &'static str,
    pub(crate) closing: &'static str,
}

/// A new password, and what is wrong with it.
pub(crate) struct Password {
    pub(crate) title: &'static str,
    pub(crate) new: &'static str,
    pub(crate) again: &'static str,
    pub(crate) submit: &'static str,
    pub(crate) different: &'static str,
    pub(crate) changed: (&'static str, &'static str),
    /// The fewest characters.
    pub(crate) too_short: Pattern,
    pub(crate) too_long: &'static str,
    pub(crate) breached: &'static str,
    pub(crate) guessable: &'static str,
    pub(crate) warning: fn(Warning) -> &'static str,
    pub(crate) suggestion: fn(Suggestion) -> &'static str,
}

/// Why a person cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// One text for every reason: nobody learns which users exist.
    WrongPassword,
    TooManyAttempts,
    SlowDown,
    Busy,
    OutOfOrder,
    InteractionOver,
    FormForeign,
    FormTwice,
    SessionEnded,
    RequestOver,
    AddressNotRegistered,
    LogoutAddressNotRegistered,
    UnknownDevice,
    TooManyCodes,
    LoginTooWeak,
    LinkOver,
    PasskeyRefused,
    WrongCode,
    WrongRecoveryCode,
    TooManyWrongCodes,
    CodeMissing,
    NotTheCodeOfNow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_its_language_whatever_the_region() {
        for (tag, language) in [
            ("en", Some(Language::English)),
            ("de", Some(Language::German)),
            ("DE-at", Some(Language::German)),
            ("en-GB-oed", Some(Language::English)),
            ("den", None),
            ("d", None),
            ("fr", None),
            ("", None),
        ] {
            assert_eq!(Language::of_tag(tag), language, "{tag}");
        }
        for language in Language::ALL {
            assert_eq!(Language::of_tag(language.tag()), Some(language));
        }
    }

    #[test]
    fn a_language_is_not_a_copy_of_another() {
        let [english, german] = Language::ALL.map(Language::texts);
        assert_ne!(english.login.password, german.login.password);
        assert_ne!((english.notice)(Notice::WrongPassword), (german.notice)(Notice::WrongPassword));
        for texts in [english, german] {
            assert!(texts.consent.asks.with("Shop").contains("Shop"));
        }
    }
}
