//! The words of SQL dialects, what each is, and the fingerprints of injections. The tables
//! are libinjection's (Nick Galbreath and contributors, BSD-3-Clause): facts about SQL and
//! about attacks that were seen, gathered over years. They are laid out when this crate is
//! compiled.

use super::token::{Kind, TEXT_MAX};

const WORDS: &[u8] = include_bytes!("words.txt");
const FINGERPRINTS: &[u8] = include_bytes!("fingerprints.txt");

/// Slots of the table of words: a power of two, four times as many as words.
const SLOTS: usize = 4_096;
const FINGERPRINT_COUNT: usize = 8_367;

/// Where a word stands in [`WORDS`]; length 0: an empty slot.
#[derive(Clone, Copy)]
struct Slot {
    start: u16,
    length: u8,
    kind: Kind,
}

static TABLE: [Slot; SLOTS] = lay_out();
static PACKED: [u32; FINGERPRINT_COUNT] = pack_all();

const fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

const fn slot_of(hash: u32) -> usize {
    ((hash ^ (hash >> 15)) as usize) & (SLOTS - 1)
}

#[expect(clippy::indexing_slicing, reason = "runs when the crate is compiled: a mistake does not build")]
const fn lay_out() -> [Slot; SLOTS] {
    let mut table = [Slot { start: 0, length: 0, kind: Kind::Nothing }; SLOTS];
    let mut at = 0;
    let mut kind = Kind::Nothing;
    // Each line: a letter, then words, each after a tab.
    while at < WORDS.len() {
        if WORDS[at] == b'\n' {
            at += 1;
            continue;
        }
        if WORDS[at] != b'\t' {
            kind = Kind::from_letter(WORDS[at]);
            at += 1;
            continue;
        }
        let start = at + 1;
        let mut end = start;
        let mut hash = 0x811c_9dc5;
        while WORDS[end] != b'\t' && WORDS[end] != b'\n' {
            hash = step(hash, WORDS[end]);
            end += 1;
        }
        let mut slot = slot_of(hash);
        while table[slot].length != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        table[slot] = Slot { start: start as u16, length: (end - start) as u8, kind };
        at = end;
    }
    table
}

/// The letters of fingerprints, in the order of the file.
const LETTERS: &[u8] = b"&(),01:;ABCEFKNOSTUVX";

#[expect(clippy::indexing_slicing, reason = "the index is checked by the loop's bound")]
const fn number_of(letter: u8) -> u32 {
    let mut at = 0;
    while at < LETTERS.len() {
        if LETTERS[at] == letter {
            return at as u32 + 1;
        }
        at += 1;
    }
    0
}

#[expect(clippy::indexing_slicing, reason = "runs when the crate is compiled: a mistake does not build")]
const fn pack_all() -> [u32; FINGERPRINT_COUNT] {
    let mut packed = [0; FINGERPRINT_COUNT];
    let (mut at, mut count, mut value, mut length) = (0, 0, 0, 0);
    while at < FINGERPRINTS.len() {
        let byte = FINGERPRINTS[at];
        if byte == b' ' || byte == b'\n' {
            packed[count] = value << (5 * (5 - length));
            (count, value, length) = (count + 1, 0, 0);
        } else {
            value = (value << 5) | number_of(byte);
            length += 1;
        }
        at += 1;
    }
    packed
}

/// What the word is, in any case of letters; nothing: no known word.
pub(super) fn look_up(word: &[u8]) -> Kind {
    if word.is_empty() || word.len() > TEXT_MAX {
        return Kind::Nothing;
    }
    let hash = word.iter().fold(0x811c_9dc5, |hash, byte| step(hash, byte.to_ascii_uppercase()));
    let mut slot = slot_of(hash);
    // There are empty slots: this ends.
    while let Some(known) = TABLE.get(slot).filter(|known| known.length != 0) {
        let start = usize::from(known.start);
        let text = WORDS.get(start..start + usize::from(known.length)).unwrap_or_default();
        if text.eq_ignore_ascii_case(word) {
            return known.kind;
        }
        slot = (slot + 1) & (SLOTS - 1);
    }
    Kind::Nothing
}

/// Words that mean something only together with those behind them.
const PHRASES: [&[u8]; 13] = [
    b"AT",
    b"CTXSYS",
    b"CURRENT",
    b"DBMS_LOCK",
    b"DBMS_PIPE",
    b"DBMS_UTILITY",
    b"FULL",
    b"NEXT",
    b"PREVIOUS",
    b"SYS",
    b"USER_LOCK",
    b"UTL_HTTP",
    b"UTL_INADDR",
];

/// Whether a known phrase begins with this word, which is no known word itself.
pub(super) fn starts_phrase(word: &[u8]) -> bool {
    PHRASES.iter().any(|first| first.eq_ignore_ascii_case(word))
}

/// Whether these kinds of tokens in a row are known of injections.
pub(super) fn is_known(letters: &[u8]) -> bool {
    let mut value = 0;
    for letter in letters {
        let number = number_of(letter.to_ascii_uppercase());
        if number == 0 {
            return false;
        }
        value = (value << 5) | number;
    }
    let Some(missing) = 5_usize.checked_sub(letters.len()) else { return false };
    !letters.is_empty() && PACKED.binary_search(&(value << (5 * missing))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_and_no_other() {
        let mut count = 0;
        for line in WORDS.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let kind = Kind::from_letter(line[0]);
            assert_ne!(kind, Kind::Nothing);
            for word in line[2..].split(|byte| *byte == b'\t') {
                assert!(word.len() <= TEXT_MAX);
                assert_eq!(look_up(word), kind, "{}", word.escape_ascii());
                assert_eq!(look_up(&word.to_ascii_lowercase()), kind);
                count += 1;
            }
        }
        assert_eq!(count, 985);
        for word in [&b""[..], b"FOO", b"SELEC", b"SELECTS", b"UNION  ALL", &[b'A'; 32]] {
            assert_eq!(look_up(word), Kind::Nothing, "{}", word.escape_ascii());
        }
    }

    #[test]
    fn a_phrase_begins_with_a_known_word_or_one_of_the_list() {
        let words = WORDS.split(|byte| matches!(byte, b'\t' | b'\n'));
        let mut listed = std::collections::BTreeSet::new();
        let parts = |word: &'static [u8]| word.split(|byte| matches!(byte, b' ' | b'.'));
        for phrase in words.filter(|word| parts(word).count() > 1) {
            let first = parts(phrase).next().unwrap();
            if look_up(first) == Kind::Nothing {
                assert!(starts_phrase(first), "{}", phrase.escape_ascii());
                listed.insert(first);
            }
        }
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), PHRASES);
    }

    /// What `sql::is_prose` relies on.
    #[test]
    fn no_fingerprint_is_of_names_and_numbers_alone() {
        for fingerprint in std::str::from_utf8(FINGERPRINTS).unwrap().split_whitespace() {
            assert!(fingerprint.bytes().any(|letter| !b"N1".contains(&letter)), "{fingerprint}");
        }
    }

    /// What `sql::is_name` relies on.
    #[test]
    fn one_token_is_a_fingerprint_only_where_it_is_evil() {
        for fingerprint in std::str::from_utf8(FINGERPRINTS).unwrap().split_whitespace() {
            assert!(fingerprint.len() > 1 || fingerprint == "X", "{fingerprint}");
        }
        assert!(TABLE.iter().all(|slot| slot.kind != Kind::Evil), "no word is evil");
    }

    #[test]
    fn every_fingerprint_is_found_and_no_other() {
        assert!(PACKED.windows(2).all(|pair| pair[0] < pair[1]), "the file is in order");
        let text = std::str::from_utf8(FINGERPRINTS).unwrap();
        assert_eq!(text.split_whitespace().count(), FINGERPRINT_COUNT);
        for fingerprint in text.split_whitespace() {
            assert!(is_known(fingerprint.as_bytes()), "{fingerprint}");
            assert!(is_known(fingerprint.to_lowercase().as_bytes()), "{fingerprint}");
        }
        for fingerprint in ["", "n", "1", "s", "nnnnn", "X?", "s&1c1", "sUEok1"] {
            assert!(!is_known(fingerprint.as_bytes()), "{fingerprint}");
        }
    }
}
