//! Codes by time (RFC 6238 over RFC 4226): HMAC-SHA-1, six digits, steps of 30 seconds,
//! which is what every authenticator app computes.

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Label;
use crate::Error;

/// Seconds of one step (RFC 6238 §4.1).
const STEP_SECONDS: u64 = 30;
/// Steps before and after the current one whose codes count: clocks are apart (§5.2).
const STEPS_APART_MAX: u64 = 1;
/// Digits of a code.
const DIGITS: usize = 6;
/// Bytes of a secret that is made here (RFC 4226 §4 R6 recommends 160 bits).
const SECRET_BYTES: usize = 20;
/// Bytes of a secret that is given: RFC 4226 §4 R6 requires 128 bits; more than a block
/// of the hash adds nothing.
const SECRET_BYTES_GIVEN: std::ops::RangeInclusive<usize> = 16..=64;

/// The key of an authenticator app that comes from elsewhere.
pub struct TotpSecret(Secret<Vec<u8>>);

impl TotpSecret {
    /// A key.
    ///
    /// # Errors
    /// [`Error::Record`]: it is too short or too long (RFC 4226 §4).
    pub fn of(key: Vec<u8>) -> Result<Self, Error> {
        let length = key.len();
        let secret = Self(Secret::new(key));
        if SECRET_BYTES_GIVEN.contains(&length) {
            return Ok(secret);
        }
        let (least, most) = (SECRET_BYTES_GIVEN.start(), SECRET_BYTES_GIVEN.end());
        Err(fault(format!("expected {least} to {most} bytes (RFC 4226 §4), found {length}")))
    }

    /// The same of its text in base32, in either case, with blanks and padding or without.
    ///
    /// # Errors
    /// [`Error::Record`]: it is not base32, too short or too long.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let plain = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '=');
        let plain: Zeroizing<String> =
            Zeroizing::new(plain.map(|letter| letter.to_ascii_uppercase()).collect());
        let key = BASE32_NOPAD.decode(plain.as_bytes());
        Self::of(key.map_err(|_| fault("expected base32 (RFC 4648 §6)".to_owned()))?)
    }

    /// Its text in base32, as apps take it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(self.0.expose()))
    }
}

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TotpSecret").finish()
    }
}

fn fault(why: String) -> Error {
    Error::Record { what: "TOTP secret".to_owned(), why }
}

/// An authenticator app that was enrolled.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Authenticator {
    pub(crate) label: Label,
    /// Base32, as the app has it: needed in the clear, so the store's barrier encrypts it.
    secret: Zeroizing<String>,
    /// The step of the newest code that counted: it and those before count no more (§5.2).
    last: u64,
}

impl Authenticator {
    /// One of this secret.
    ///
    /// # Errors
    /// [`Error::Record`]: the secret is too short or too long.
    pub(crate) fn new(label: Label, secret: &Secret<Vec<u8>>) -> Result<Self, Error> {
        Ok(Self::of(label, &TotpSecret::of(secret.expose().clone())?))
    }

    /// The same of one that was checked.
    pub(crate) fn of(label: Label, secret: &TotpSecret) -> Self {
        Self { label, secret: secret.text(), last: 0 }
    }

    /// Whether both compute the same codes.
    pub(crate) fn is_of_secret_of(&self, other: &Self) -> bool {
        self.secret.as_bytes().ct_eq(other.secret.as_bytes()).into()
    }

    /// Takes a code: once, and none older than one that was taken.
    pub(crate) fn take(&mut self, code: &str, now: Timestamp) -> bool {
        let secret = Zeroizing::new(BASE32_NOPAD.decode(self.secret.as_bytes()).unwrap_or_default());
        let current = now.unix_seconds() / STEP_SECONDS;
        let from = current.saturating_sub(STEPS_APART_MAX).max(self.last.saturating_add(1));
        let mut steps = from..=current.saturating_add(STEPS_APART_MAX);
        let taken = steps.find(|step| bool::from(at(&secret, *step).as_bytes().ct_eq(code.as_bytes())));
        if let Some(step) = taken {
            self.last = step;
            self.label.used = Some(now);
        }
        taken.is_some()
    }
}

/// A new secret, base32.
///
/// # Errors
/// The generator fails.
pub(crate) fn new_secret(random: &dyn keys::SecureRandom) -> Result<Zeroizing<String>, Error> {
    let bytes = Zeroizing::new(crate::random::bytes::<SECRET_BYTES>(random)?);
    Ok(Zeroizing::new(BASE32_NOPAD.encode(bytes.as_slice())))
}

/// The bytes of a secret in base32.
pub(crate) fn read_secret(text: &str) -> Option<Secret<Vec<u8>>> {
    BASE32_NOPAD.decode(text.as_bytes()).ok().map(Secret::new)
}

/// What a person typed, without whatever they put between the digits.
pub(crate) fn typed(code: &str) -> String {
    code.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').take(16).collect()
}

/// The address that apps read from a QR code (Key URI Format): whose account it is, and
/// where.
pub(crate) fn address(issuer: &str, account: &str, secret: &str) -> String {
    // A colon parts issuer and account, also where it is escaped.
    let plain = |text: &str| percent(&text.replace(':', " "));
    let (issuer, account) = (plain(issuer), plain(account));
    format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}"
    )
}

/// RFC 3986 §2.1: apps take a plus for a plus.
fn percent(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// The code of a step (RFC 4226 §5.3).
fn at(secret: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let number = truncated(hmac::sign(&key, &step.to_be_bytes()).as_ref()) % 1_000_000;
    format!("{number:0DIGITS$}")
}

/// RFC 4226 §5.4: 31 bits of the hash, at the place that its last four bits name.
fn truncated(hash: &[u8]) -> u32 {
    let offset = usize::from(hash.last().copied().unwrap_or_default() & 0x0f);
    let part = hash.get(offset..offset + 4).and_then(|part| <[u8; 4]>::try_from(part).ok());
    u32::from_be_bytes(part.unwrap_or_default()) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label::new("1".to_owned(), "phone", Timestamp::default())
    }

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    const KEY: &[u8] = b"12345678901234567890";

    /// RFC 6238 appendix B, SHA-1: eight digits there, the last six of them here.
    const VECTORS: [(u64, &str); 6] = [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ];

    #[test]
    fn codes_are_the_specifications() {
        for (time, code) in VECTORS {
            assert_eq!(at(KEY, time / STEP_SECONDS), code[2..], "{time}");
            if time == 20_000_000_000 {
                // The year 2603: our clock ends in 2554.
                continue;
            }
            let mut app = Authenticator::new(label(), &Secret::new(KEY.to_vec())).unwrap();
            assert!(app.take(&code[2..], seconds(time)), "{time}");
        }
        // RFC 4226 appendix D.
        for (count, code) in ["755224", "287082", "359152", "969429", "338314"].iter().enumerate() {
            assert_eq!(at(KEY, count as u64), *code);
        }
    }

    #[test]
    fn a_code_counts_once_and_within_one_step() {
        let secret = Secret::new(KEY.to_vec());
        let now: u64 = 1_795_384_260;
        let code = |step: i64| at(KEY, (now / 30).checked_add_signed(step).unwrap());
        for (step, good) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let mut app = Authenticator::new(label(), &secret).unwrap();
            assert_eq!(app.take(&code(step), seconds(now)), good, "{step}");
            assert!(!app.take(&code(step), seconds(now)), "{step}: a second time");
        }
        // Once a newer one was taken, the one before it is over.
        let mut app = Authenticator::new(label(), &secret).unwrap();
        assert!(app.take(&code(0), seconds(now)));
        assert!(!app.take(&code(-1), seconds(now)));
        assert!(app.take(&code(1), seconds(now)));
        assert!(app.take(&code(2), seconds(now + 30)));
        for wrong in ["", "000000", "12345", "1234567", "abcdef"] {
            assert!(!app.take(wrong, seconds(now + 60)), "{wrong}");
        }
    }

    #[test]
    fn secrets_have_the_length_that_the_specification_asks_for() {
        for (length, good) in [(0, false), (15, false), (16, true), (20, true), (64, true), (65, false)] {
            let app = Authenticator::new(label(), &Secret::new(vec![7; length]));
            assert_eq!(app.is_ok(), good, "{length}");
        }
    }

    #[test]
    fn secrets_are_written_as_apps_write_them() {
        let text = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for good in [text, "gezd gnbv gy3t qojq gezd gnbv gy3t qojq", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ===="]
        {
            let secret = TotpSecret::parse(good).unwrap();
            assert_eq!(secret.text().as_str(), text, "{good}");
            assert!(!format!("{secret:?}").contains("GEZD"));
        }
        assert_eq!(TotpSecret::of(KEY.to_vec()).unwrap().text().as_str(), text);
        for wrong in ["", "GEZDGNBV", "not base32 at all!", "11111111111111111111111111111111"] {
            let why = TotpSecret::parse(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !why.contains(wrong), "{why}");
        }
    }

    #[test]
    fn an_address_names_account_and_issuer_and_nothing_breaks_out() {
        assert_eq!(
            address("The shop: Ä", "a&secret=x@example.org", "ABC"),
            "otpauth://totp/The%20shop%20%20%C3%84:a%26secret%3Dx%40example.org?secret=ABC\
             &issuer=The%20shop%20%20%C3%84&algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(typed(" 123 4-56\t"), "123456");
        assert_eq!(typed(&"1".repeat(100)).len(), 16);
    }
}
