//! Mail to people: what there is to tell them, kept in the store until a server took it.
//!
//! ```text
//! request ─ outbox (one record, whoever is meant) ─ [later] ─ who is that? ─ secret ─ message ─ MailTransport
//! ```
//!
//! A request only ever writes one small record: it takes no longer when the mail server is
//! slow or dead, and no longer for a person who exists than for one who does not. Whoever
//! sends looks the person up, makes the secret of the link ([`secret`]) and hands the message
//! to the [`MailTransport`]. A message is taken by a compare-and-set, so of several processes one
//! sends it; it is sent again when that process dies in between, and given up after a day.
//!
//! INVARIANT: a link leads to the issuer of the settings, never to a host that a request
//! named.

mod compose;
pub(crate) mod index;
pub(crate) mod outbox;
pub(crate) mod secret;

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// A message, ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct MailMessage {
    /// The address: [`is_address`].
    pub to: String,
    /// One line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// The language tag of both.
    pub language: &'static str,
}

impl std::fmt::Debug for MailMessage {
    /// Without its text, in which there may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailMessage").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Why a message was not taken; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The server cannot be reached or does not talk to us: nothing is sent for a while.
    Server(String),
    /// Not this message, and not now.
    Later(String),
    /// This message never.
    Never(String),
}

/// A message on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), NotSent>> + Send + 'a>>;

/// The way to the mail server, bounded in time.
pub trait MailTransport: Send + Sync {
    /// Hands a message over. What is done when this is good is that a server took it.
    fn send(&self, message: MailMessage) -> Sending<'_>;
}

/// For processes that put messages into the outbox and leave the sending to the one that
/// serves, such as the command line.
#[derive(Clone, Copy, Debug)]
pub struct SentElsewhere;

impl MailTransport for SentElsewhere {
    fn send(&self, _: MailMessage) -> Sending<'_> {
        Box::pin(async { Err(NotSent::Server("this process sends no messages".to_owned())) })
    }
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// A link to choose another password, because somebody asked for it.
    Recovery,
    /// A link to choose the first password, from an administrator.
    Invitation,
    /// A link that shows that an address is its person's.
    Verification,
    /// The password was changed.
    PasswordChanged,
}

/// Longest address, bytes (RFC 5321 §4.5.3.1.3).
const ADDRESS_BYTES_MAX: usize = 254;

/// Whether a text is one e-mail address and nothing else: no second one, no name, no field
/// of a header. Stricter than RFC 5321 §4.1.2: no quotes, no comments, no address literals.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte) || !byte.is_ascii()
    };
    let label = |label: &str| {
        let known = |one: char| one.is_alphanumeric() || one == '-';
        !label.is_empty() && label.len() <= 63 && label.chars().all(known) && !label.starts_with('-')
    };
    let no_control = |text: &str| !text.chars().any(|one| one.is_control() || one.is_whitespace());
    text.len() <= ADDRESS_BYTES_MAX
        && no_control(text)
        && (1..=64).contains(&local.len())
        && local.bytes().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address_and_no_field_of_a_header() {
        for good in [
            "alice@example.org",
            "alice+town@mail.example.org",
            "o'brien@example.org",
            "a.b.c@localhost",
            "ängström@exämple.org",
        ] {
            assert!(is_address(good), "{good}");
        }
        let (long_local, long) =
            (format!("{}@example.org", "a".repeat(65)), format!("a@{}", "b.".repeat(130)));
        for wrong in [
            "",
            "alice",
            "@example.org",
            "alice@",
            "alice@example.org\r\nBcc: eve@evil.example",
            "alice@example.org\nSubject: x",
            "alice@example.org, eve@evil.example",
            "alice@example.org;eve@evil.example",
            "Alice <alice@example.org>",
            "\"alice\"@example.org",
            "alice@[127.0.0.1]",
            "alice@example..org",
            "alice@-example.org",
            ".alice@example.org",
            "alice.@example.org",
            "al..ice@example.org",
            "alice @example.org",
            "alice@example.org ",
            "alice@exam\u{2028}ple.org",
            "alice\u{0}@example.org",
            "eve@evil.example@example.org",
            &long_local,
            &long,
        ] {
            assert!(!is_address(wrong), "{wrong:?}");
        }
    }
}
