//! Hashes of passwords: ours, which is argon2id, and those that other programs made, until
//! their person logs in.
//!
//! | scheme | written as |
//! |---|---|
//! | argon2id, argon2i, argon2d (RFC 9106) | `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` |
//! | PBKDF2 with HMAC (RFC 8018 §5.2) | `$pbkdf2-sha256$i=27500,l=64$salt$hash`; `pbkdf2-sha1`, `-sha384`, `-sha512` |
//! | scrypt (RFC 7914) | `$scrypt$ln=15,r=8,p=1$salt$hash` |
//! | bcrypt | `$2b$12$` and 53 characters; `$2a$`, `$2y$` |
//!
//! All but the last are PHC strings: salt and hash in base64 without padding.
//!
//! INVARIANT: what a hash costs is bounded before any of it is computed, wherever it came
//! from. One that costs more is refused by [`check`], so that it is not imported, and never
//! computed at a login.

use std::num::NonZeroU32;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use aws_lc_rs::pbkdf2;
use keys::SecureRandom;
use subtle::ConstantTimeEq as _;

use crate::Error;

/// Memory of one hash of ours, KiB; passes over it; lanes. OWASP's first recommendation.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Most memory of one hash, KiB, whatever its scheme.
const MEMORY_KIB_MAX: u32 = 128 * 1024;
/// Most passes of argon2 over all of its memory, MiB: about a second.
const ARGON2_WORK_MIB_MAX: u64 = 1024;
/// Most lanes of argon2 and scrypt.
const LANES_MAX: u32 = 16;
/// Most rounds of PBKDF2: about a second.
const PBKDF2_ROUNDS_MAX: u32 = 2_000_000;
/// Most doublings of bcrypt: about a second.
const BCRYPT_COST_MAX: u32 = 14;
const BCRYPT_COST_MIN: u32 = 4;
/// Length of a bcrypt string.
const BCRYPT_BYTES: usize = 60;
/// Longest string that is read.
pub(super) const HASH_BYTES_MAX: usize = 512;

/// A hash whose cost is within bounds. Not for `Debug`.
enum Hash {
    Argon2(Box<PasswordHash>),
    Pbkdf2 { digest: pbkdf2::Algorithm, rounds: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
    Scrypt { params: scrypt::Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt(String),
}

/// Whether a password is that of a hash, and whether the hash is as ours are today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) good: bool,
    pub(super) current: bool,
}

/// Checks that a hash can be verified here, at a bounded cost.
///
/// # Errors
/// What was expected and what was found. The hash itself is not repeated.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// The hash of a password, as it is kept.
pub(super) fn make(password: &[u8], salt: &[u8; 16]) -> Result<String, Error> {
    let hash = argon2()?.hash_password_with_salt(password, salt);
    hash.map(|hash| hash.to_string()).map_err(|error| Error::Password(error.to_string()))
}

/// The hash of a password that is imported, with a salt of its own. It takes some 20 ms.
///
/// # Errors
/// There is no randomness, or the hash cannot be computed.
pub fn of(password: &str, random: &dyn SecureRandom) -> Result<String, Error> {
    make(password.as_bytes(), &crate::random::bytes::<16>(random)?)
}

/// Compares. A hash that cannot be read is no password's.
pub(super) fn verify(password: &[u8], text: &str) -> Verdict {
    match parse(text) {
        Ok(hash) => Verdict { good: hash.is_of(password), current: hash.is_current() },
        Err(why) => {
            tracing::error!(why, "identity: a stored password hash cannot be verified");
            Verdict { good: false, current: true }
        }
    }
}

fn argon2() -> Result<Argon2<'static>, Error> {
    let (memory, passes, lanes) = COST;
    let params =
        Params::new(memory, passes, lanes, None).map_err(|error| Error::Password(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl Hash {
    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(hash) => {
                argon2().is_ok_and(|ours| ours.verify_password(password, hash.as_ref()).is_ok())
            }
            Self::Pbkdf2 { digest, rounds, salt, hash } => {
                pbkdf2::verify(*digest, *rounds, salt, password, hash).is_ok()
            }
            Self::Scrypt { params, salt, hash } => {
                let mut found = vec![0; hash.len()];
                scrypt::scrypt(password, salt, params, &mut found).is_ok() && bool::from(found.ct_eq(hash))
            }
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        }
    }

    /// Whether it is what [`make`] makes today.
    fn is_current(&self) -> bool {
        let Self::Argon2(hash) = self else { return false };
        let (memory, passes, lanes) = COST;
        let cost = ["m", "t", "p"].map(|name| hash.params.get_decimal(name));
        hash.algorithm.as_str() == "argon2id"
            && hash.version == Some(19)
            && cost == [Some(memory), Some(passes), Some(lanes)]
    }
}

fn parse(text: &str) -> Result<Hash, String> {
    if text.len() > HASH_BYTES_MAX {
        return Err(format!("expected a hash of at most {HASH_BYTES_MAX} bytes, found {}", text.len()));
    }
    if text.starts_with("$2") {
        return bcrypt_of(text);
    }
    let phc = PasswordHash::new(text).map_err(|error| format!("expected a PHC string: {error}"))?;
    match phc.algorithm.as_str() {
        "argon2id" | "argon2i" | "argon2d" => argon2_of(phc),
        "pbkdf2-sha1" => pbkdf2_of(&phc, pbkdf2::PBKDF2_HMAC_SHA1),
        "pbkdf2-sha256" => pbkdf2_of(&phc, pbkdf2::PBKDF2_HMAC_SHA256),
        "pbkdf2-sha384" => pbkdf2_of(&phc, pbkdf2::PBKDF2_HMAC_SHA384),
        "pbkdf2-sha512" => pbkdf2_of(&phc, pbkdf2::PBKDF2_HMAC_SHA512),
        "scrypt" => scrypt_of(&phc),
        other => Err(format!("unknown scheme \"{}\"", keys::encoding::quote(other))),
    }
}

/// Salt and hash, both of which have to be there.
fn parts(phc: &PasswordHash) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (salt, hash) = phc.salt.as_ref().zip(phc.hash.as_ref()).ok_or("expected a salt and a hash")?;
    if hash.len() < 16 {
        return Err(format!("expected a hash of at least 16 bytes, found {}", hash.len()));
    }
    Ok((salt.as_ref().to_vec(), hash.as_bytes().to_vec()))
}

/// A parameter within its bounds.
fn number(phc: &PasswordHash, name: &str, least: u32, most: u32) -> Result<u32, String> {
    match phc.params.get_decimal(name) {
        Some(found) if (least..=most).contains(&found) => Ok(found),
        Some(found) => Err(format!("{name}={found}, expected {least} to {most}")),
        None => Err(format!("`{name}` is missing")),
    }
}

fn argon2_of(phc: PasswordHash) -> Result<Hash, String> {
    parts(&phc)?;
    let memory = number(&phc, "m", 8, MEMORY_KIB_MAX)?;
    let passes = number(&phc, "t", 1, u32::MAX)?;
    number(&phc, "p", 1, LANES_MAX)?;
    let work = u64::from(memory) * u64::from(passes) / 1024;
    if work > ARGON2_WORK_MIB_MAX {
        return Err(format!(
            "m={memory},t={passes} is {work} MiB of work, the limit is {ARGON2_WORK_MIB_MAX}"
        ));
    }
    Ok(Hash::Argon2(Box::new(phc)))
}

fn pbkdf2_of(phc: &PasswordHash, digest: pbkdf2::Algorithm) -> Result<Hash, String> {
    let (salt, hash) = parts(phc)?;
    let rounds = number(phc, "i", 1, PBKDF2_ROUNDS_MAX)?;
    // As long as the hash, where it is said at all.
    if phc.params.get_decimal("l").is_some_and(|length| length as usize != hash.len()) {
        return Err(format!("`l` is not the length of the hash, {}", hash.len()));
    }
    let rounds = NonZeroU32::new(rounds).ok_or("i=0")?;
    Ok(Hash::Pbkdf2 { digest, rounds, salt, hash })
}

fn scrypt_of(phc: &PasswordHash) -> Result<Hash, String> {
    let (salt, hash) = parts(phc)?;
    let log_n = number(phc, "ln", 1, 20)?;
    let r = number(phc, "r", 1, 64)?;
    let p = number(phc, "p", 1, LANES_MAX)?;
    // Each lane goes over all of the memory: 128 · r · N bytes.
    let memory_kib = (u64::from(r) << log_n) / 8;
    if memory_kib * u64::from(p) > u64::from(MEMORY_KIB_MAX) {
        return Err(format!(
            "ln={log_n},r={r},p={p} is {memory_kib} KiB in {p} lanes, the limit is {MEMORY_KIB_MAX} KiB in one"
        ));
    }
    let log_n = u8::try_from(log_n).map_err(|error| error.to_string())?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|error| error.to_string())?;
    Ok(Hash::Scrypt { params, salt, hash })
}

fn bcrypt_of(text: &str) -> Result<Hash, String> {
    let expected = || format!("expected a bcrypt string of {BCRYPT_BYTES} characters, such as $2b$12$…");
    let mut parts = text.split('$').skip(1);
    let (Some("2a" | "2b" | "2y"), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(expected());
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    if text.len() != BCRYPT_BYTES || cost.len() != 2 || !rest.bytes().all(known) {
        return Err(expected());
    }
    match cost.parse::<u32>() {
        Ok(BCRYPT_COST_MIN..=BCRYPT_COST_MAX) => Ok(Hash::Bcrypt(text.to_owned())),
        _ => Err(format!("bcrypt cost {cost}, expected {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of [`PASSWORD`], made by others: Python's `hashlib`, `bcrypt` and `argon2-cffi`.
    const BY_OTHERS: &[&str] = &[
        "$pbkdf2-sha1$i=20000,l=20$AAECAwQFBgcICQoLDA0ODw$mDBWhAY1XkkOEOxzcRFoSuJ6yR0",
        "$pbkdf2-sha256$i=27500,l=64$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWswH2gciKNBqwk+H7RPgAmCshFAhVRLSSar72bo1/g8dA",
        "$pbkdf2-sha384$i=1000,l=48$AAECAwQFBgcICQoLDA0ODw$7ruGx94mJzVQGffCTjryFD9LK6pqiBsoB44NwAgCD65E9We8g+XDcAcBfpBMh480",
        "$pbkdf2-sha512$i=210000,l=64$AAECAwQFBgcICQoLDA0ODw$tfP6dFnMFLm84erFFC/hWDzb6fAjAPCAs0RvJLiu5xYHfelPBTAEADgLVRgJzZ8bKvvUpW2nUExEbADbiezuPg",
        "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$7xdxRO7JQgy8EJPSqLNEqSvFBtDU7JwCjdGfgyTYweY",
        "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$11kKyiyYAc8G7rp3KmncMc44YlkdllIqxOa7pq0fMaU",
        "$scrypt$ln=12,r=8,p=4$AAECAwQFBgcICQoLDA0ODw$6v1yqD78kKvyx/xxn9AKyxVX2WPoV5DgQ+17wL5Oa7q0NZQtlTqjzNDH/zjsTYsC4rud4+qNHYex/9cCaGd4qg",
        "$2b$10$Yz9aEteeeUZrEnGOvzJn7.ZfKUsFzRrIVAiHnUT39VGlAkovlNg/2",
        "$2a$04$0OE4yxmBQ4nOTP4tTQ7zZuWv.WpkRk1MklTVvMHNePPHg4cGm6F.S",
        "$2y$10$Yz9aEteeeUZrEnGOvzJn7.ZfKUsFzRrIVAiHnUT39VGlAkovlNg/2",
        "$argon2id$v=19$m=7168,t=5,p=1$CZYDLEfAJ6MNg2FxG+kESQ$DCk1wa+32qUPUkC38GGLMuBFYLhbuh+PdCXl8RJpWWM",
        "$argon2i$v=19$m=7168,t=5,p=1$Q+vxJlps1NBIaeUk1jWL+g$m8Zxue55aBLMoArUSBFgLtmE+9klBmnsjccIega0xPQ",
        "$argon2d$v=19$m=7168,t=5,p=1$ihCPGx8U367XDQh01VtO+A$A9Gv45BU2GJuy6g5LCaMHuqWYzKE7DASAERsrO//6o8",
        "$argon2id$v=19$m=65536,t=3,p=4$W4gRo1o/mDZn4pRoBQl2wA$WXWHhsOXz3J+EvhiD2Bg8FPYr49SrJ/cNeW2VysIsNc",
    ];
    const PASSWORD: &[u8] = b"correct horse battery staple";
    const SALT: &str = "AAECAwQFBgcICQoLDA0ODw";
    const HASH: &str = "Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWs";

    #[test]
    fn hashes_of_other_programs_are_their_passwords_and_old() {
        for text in BY_OTHERS {
            assert_eq!(check(text), Ok(()), "{text}");
            assert_eq!(verify(PASSWORD, text), Verdict { good: true, current: false }, "{text}");
            assert!(!verify(b"correct horse battery stapl", text).good, "{text}");
            assert!(!verify(b"", text).good, "{text}");
        }
        let ours = make(PASSWORD, &[7; 16]).unwrap();
        assert_eq!(verify(PASSWORD, &ours), Verdict { good: true, current: true });
    }

    #[test]
    fn what_would_cost_too_much_is_neither_imported_nor_computed() {
        let phc = |scheme: &str| format!("${scheme}${SALT}${HASH}");
        let bcrypt = |cost: &str| format!("$2b${cost}$c/QAUzVl4dwIr/SVmkk3Uus0P88np.hRHNY64/fLrwE2PleATRUym");
        for (at_limit, past_it) in [
            (phc("pbkdf2-sha256$i=2000000"), phc("pbkdf2-sha256$i=2000001")),
            (phc("argon2id$v=19$m=131072,t=8,p=1"), phc("argon2id$v=19$m=131073,t=1,p=1")),
            (phc("argon2id$v=19$m=1024,t=1024,p=1"), phc("argon2id$v=19$m=1024,t=1025,p=1")),
            (phc("argon2id$v=19$m=1024,t=1,p=16"), phc("argon2id$v=19$m=1024,t=1,p=17")),
            (phc("scrypt$ln=17,r=8,p=1"), phc("scrypt$ln=18,r=8,p=1")),
            (phc("scrypt$ln=16,r=8,p=2"), phc("scrypt$ln=17,r=8,p=2")),
            (phc("scrypt$ln=17,r=8,p=1"), phc("scrypt$ln=17,r=9,p=1")),
            (bcrypt("14"), bcrypt("15")),
        ] {
            assert_eq!(check(&at_limit), Ok(()), "{at_limit}");
            assert!(check(&past_it).is_err(), "{past_it}");
            assert!(!verify(PASSWORD, &past_it).good, "{past_it}");
        }
        assert!(check(&bcrypt("31")).is_err() && check(&bcrypt("03")).is_err());
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_repeated() {
        let long = format!("$argon2id$v=19$m=8,t=1,p=1${SALT}${}", "A".repeat(HASH_BYTES_MAX));
        for wrong in [
            "",
            "correct horse battery staple",
            "$pbkdf2-sha256$i=27500",
            "$pbkdf2-sha256$l=64$AAECAwQFBgcICQoLDA0ODw",
            "$pbkdf2-sha256$i=0$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWs",
            "$pbkdf2-sha256$i=1,l=64$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWs",
            "$pbkdf2-md5$i=1$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWs",
            "$pbkdf2-sha1$i=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoL",
            "$scrypt$ln=14,r=8$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWs",
            "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw",
            "$2b$10$",
            "$2x$10$c/QAUzVl4dwIr/SVmkk3Uus0P88np.hRHNY64/fLrwE2PleATRUym",
            "$2b$10$c/QAUzVl4dwIr/SVmkk3Uus0P88np.hRHNY64/fLrwE2PleATRUy\u{e9}",
            &long,
        ] {
            let refused = check(wrong).unwrap_err();
            assert!(!refused.contains("Ca/W1uHP"), "{refused}");
            assert!(!verify(PASSWORD, wrong).good && !verify(b"", wrong).good, "{wrong}");
        }
    }
}
