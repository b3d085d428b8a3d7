//! Recovery codes: for who lost every other factor. Each counts once.

use crate::Error;
use crate::realm::Realm;

/// Codes that are made at once.
pub(crate) const CODES_COUNT: usize = 10;
/// Letters of one code: 80 bits.
const LETTERS_COUNT: usize = 16;
/// Letters between two hyphens.
const GROUP: usize = 4;
/// Crockford's base 32: no letter that is taken for another.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new code, as it is shown.
///
/// # Errors
/// The generator fails.
pub(crate) fn new_code(realm: &Realm) -> Result<String, Error> {
    let bytes = crate::random::bytes::<LETTERS_COUNT>(realm.random.as_ref())?;
    let mut code = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % GROUP == 0 {
            code.push('-');
        }
        // Of 256 values each letter has eight.
        code.extend(LETTERS.get(usize::from(byte % 32)).copied().map(char::from));
    }
    Ok(code)
}

/// How a code is kept: under the realm's secret, so that the records alone do not let
/// anybody try codes.
pub(crate) fn hash(realm: &Realm, user: &str, code: &str) -> String {
    realm.key_ring().derive("recovery", &format!("{} {user} {}", user.len(), read(code)))
}

/// What a person typed, without case, and letters for those that they are taken for.
fn read(code: &str) -> String {
    let letters = code.chars().filter(char::is_ascii_alphanumeric).take(2 * LETTERS_COUNT);
    let read = |letter: char| match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    letters.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        for typed in ["0123-ABCD-1111-0000", "0123abcd11110000", " o123 abcd iLl1 OOoo "] {
            assert_eq!(read(typed), "0123ABCD11110000", "{typed}");
        }
        assert_eq!(read(&"A".repeat(1000)).len(), 32);
    }
}
