//! The literals of many rules, looked for in one pass.

use crate::{operator::Literal, rule::Phase};
use aho_corasick::{
    Anchored, MatchKind, automaton::Automaton, dfa::DFA, nfa::contiguous, nfa::noncontiguous,
};
use std::collections::BTreeMap;

/// How much of a literal is looked for, bytes; more makes the automaton large and tells
/// little more.
const LITERAL_BYTES_MAX: usize = 16;
/// Most bytes of literals whose automaton is a table of all transitions: one look-up for
/// each byte of a value, at up to 256 bytes of memory for each byte of a literal.
const TABLE_LITERAL_BYTES_MAX: usize = 1 << 16;

/// Which half of a transaction a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request = 0,
    Response = 1,
}

impl Side {
    /// Of a phase; the logging phase counts as response.
    pub(crate) fn of(phase: Phase) -> Self {
        match phase {
            Phase::RequestHeaders | Phase::RequestBody => Self::Request,
            Phase::ResponseHeaders | Phase::ResponseBody | Phase::Logging => Self::Response,
        }
    }
}

/// Collects literals; each call of [`Builder::add`] is one bit.
#[derive(Debug, Default)]
pub(super) struct Builder {
    literals: BTreeMap<Vec<u8>, Vec<u32>>,
    /// Bits whose literals hold an empty one: always present.
    always: Vec<u32>,
    bits: u32,
}

impl Builder {
    pub(super) fn add(&mut self, literals: &[Literal]) -> u32 {
        let bit = self.bits;
        self.bits += 1;
        for literal in literals {
            if literal.bytes().is_empty() {
                self.always.push(bit);
                continue;
            }
            let bits = self.literals.entry(middle(literal.bytes()).to_ascii_lowercase()).or_default();
            if bits.last() != Some(&bit) {
                bits.push(bit);
            }
        }
        bit
    }

    /// When the automaton cannot be built, every bit counts as present: slower, never wrong.
    pub(super) fn build(self) -> Needles {
        let words = (self.bits as usize).div_ceil(64);
        let scanner = scanner(&self.literals);
        let mut needles = Needles { words, ..Needles::default() };
        needles.preset = vec![if scanner.is_some() { 0 } else { u64::MAX }; words];
        needles.scanner = scanner;
        for bit in self.always {
            set(&mut needles.preset, bit);
        }
        for bits in self.literals.into_values() {
            needles.starts.push(u32::try_from(needles.bits.len()).unwrap_or(u32::MAX));
            needles.bits.extend(bits);
        }
        needles.starts.push(u32::try_from(needles.bits.len()).unwrap_or(u32::MAX));
        needles
    }
}

/// The middle of a long literal: texts of one kind begin and end alike.
fn middle(literal: &[u8]) -> &[u8] {
    let first = literal.len().saturating_sub(LITERAL_BYTES_MAX) / 2;
    literal.get(first..(first + LITERAL_BYTES_MAX).min(literal.len())).unwrap_or(literal)
}

fn scanner(literals: &BTreeMap<Vec<u8>, Vec<u32>>) -> Option<Scanner> {
    // Values are folded byte by byte, so that the automaton needs small letters only.
    let tree = noncontiguous::Builder::new()
        .match_kind(MatchKind::Standard)
        .prefilter(false)
        .build(literals.keys())
        .ok()?;
    let bytes: usize = literals.keys().map(Vec::len).sum();
    if bytes <= TABLE_LITERAL_BYTES_MAX {
        return DFA::builder().build_from_noncontiguous(&tree).ok().map(Scanner::Table);
    }
    contiguous::Builder::new().build_from_noncontiguous(&tree).ok().map(Scanner::Tree)
}

fn set(words: &mut [u64], bit: u32) {
    if let Some(word) = words.get_mut(bit as usize / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Whether a bit is set.
pub(crate) fn has(words: &[u64], bit: u32) -> bool {
    words.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// The automaton of all literals.
#[derive(Debug)]
enum Scanner {
    Table(DFA),
    Tree(contiguous::NFA),
}

/// All literals of one side.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    scanner: Option<Scanner>,
    /// For each literal, where its bits begin in `bits`.
    starts: Vec<u32>,
    bits: Vec<u32>,
    /// What holds for every value.
    preset: Vec<u64>,
    words: usize,
}

impl Needles {
    /// Words of 64 bits that a scan takes.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Appends to `found` the bits whose literals are in `value`.
    pub(crate) fn scan(&self, value: &[u8], found: &mut Vec<u64>) {
        let begin = found.len();
        found.extend_from_slice(&self.preset);
        let Some(words) = found.get_mut(begin..) else { return };
        match &self.scanner {
            Some(Scanner::Table(table)) => self.run(table, value, words),
            Some(Scanner::Tree(tree)) => self.run(tree, value, words),
            None => {}
        }
    }

    fn run(&self, automaton: &impl Automaton, value: &[u8], words: &mut [u64]) {
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return words.fill(u64::MAX) };
        for byte in value {
            state = automaton.next_state(Anchored::No, state, byte.to_ascii_lowercase());
            if automaton.is_special(state) && automaton.is_match(state) {
                for number in 0..automaton.match_len(state) {
                    self.note(automaton.match_pattern(state, number).as_usize(), words);
                }
            }
        }
    }

    /// Sets the bits of a literal.
    fn note(&self, literal: usize, words: &mut [u64]) {
        let range = self.starts.get(literal).zip(self.starts.get(literal + 1));
        let Some((first, last)) = range.map(|(first, last)| (*first as usize, *last as usize)) else {
            return;
        };
        for bit in self.bits.get(first..last).unwrap_or_default() {
            set(words, *bit);
        }
    }
}
