//! The literals of many rules, looked for in one pass.

use super::table::Table;
use crate::{bits, operator::Literal, rule::Phase};
use aho_corasick::{Anchored, MatchKind, automaton::Automaton, nfa::contiguous};
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
        let bytes: usize = self.literals.keys().map(Vec::len).sum();
        let scanner = match bytes <= TABLE_LITERAL_BYTES_MAX {
            true => Some(Scanner::Table(Table::new(&self.literals))),
            false => Tree::new(&self.literals).map(Scanner::Tree),
        };
        let mut preset = vec![if scanner.is_some() { 0 } else { u64::MAX }; words];
        for bit in self.always {
            bits::put(&mut preset, bit as usize);
        }
        Needles { scanner, preset }
    }
}

/// The middle of a long literal: texts of one kind begin and end alike.
fn middle(literal: &[u8]) -> &[u8] {
    let first = literal.len().saturating_sub(LITERAL_BYTES_MAX) / 2;
    literal.get(first..(first + LITERAL_BYTES_MAX).min(literal.len())).unwrap_or(literal)
}

/// The automaton of all literals.
#[derive(Debug)]
enum Scanner {
    Table(Table),
    Tree(Tree),
}

/// All literals of one side.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    scanner: Option<Scanner>,
    /// What holds for every value.
    preset: Vec<u64>,
}

impl Needles {
    /// Words of 64 bits that a scan takes.
    pub(crate) fn words(&self) -> usize {
        self.preset.len()
    }

    /// Appends to `found` the bits whose literals are in `value`.
    pub(crate) fn scan(&self, value: &[u8], found: &mut Vec<u64>) {
        let begin = found.len();
        found.extend_from_slice(&self.preset);
        let Some(words) = found.get_mut(begin..) else { return };
        match &self.scanner {
            Some(Scanner::Table(table)) => table.scan(value, words),
            Some(Scanner::Tree(tree)) => tree.scan(value, words),
            None => {}
        }
    }
}

/// An automaton that takes less memory and follows failure links.
#[derive(Debug)]
struct Tree {
    automaton: contiguous::NFA,
    /// For each literal, its bits.
    bits: Vec<Vec<u32>>,
}

impl Tree {
    /// Values are folded byte by byte, so that the automaton needs small letters only.
    fn new(literals: &BTreeMap<Vec<u8>, Vec<u32>>) -> Option<Self> {
        let automaton = contiguous::Builder::new()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(literals.keys())
            .ok()?;
        Some(Self { automaton, bits: literals.values().cloned().collect() })
    }

    fn scan(&self, value: &[u8], words: &mut [u64]) {
        let automaton = &self.automaton;
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return words.fill(u64::MAX) };
        for byte in value {
            state = automaton.next_state(Anchored::No, state, byte.to_ascii_lowercase());
            if automaton.is_special(state) && automaton.is_match(state) {
                for number in 0..automaton.match_len(state) {
                    let literal = automaton.match_pattern(state, number).as_usize();
                    self.bits
                        .get(literal)
                        .into_iter()
                        .flatten()
                        .for_each(|bit| bits::put(words, *bit as usize));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Both automata find what a search for each literal by itself finds.
        #[test]
        fn every_literal_is_found_wherever_it_stands(
            literals in prop::collection::vec("[aAbB%é]{1,4}", 1..12),
            // Long ones are read at several places at a time.
            value in prop_oneof!["[aAbBcC%é]{0,24}", "[aAbBcC%é]{60,90}", "c{0,99}[aAb]{0,4}c{80,120}[B%é]{0,4}c{30}"],
        ) {
            let mut all: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
            for (bit, literal) in (0..).zip(&literals) {
                // Bits of more than one word.
                let bits = all.entry(literal.as_bytes().to_ascii_lowercase()).or_default();
                bits.extend([bit, bit + 100]);
            }
            let folded = value.as_bytes().to_ascii_lowercase();
            let mut wanted = [0; 2];
            for (literal, bits) in &all {
                if memchr::memmem::find(&folded, literal).is_some() {
                    bits.iter().for_each(|bit| bits::put(&mut wanted, *bit as usize));
                }
            }
            let (mut by_table, mut by_tree) = ([0; 2], [0; 2]);
            Table::new(&all).scan(value.as_bytes(), &mut by_table);
            Tree::new(&all).unwrap().scan(value.as_bytes(), &mut by_tree);
            prop_assert_eq!(by_table, wanted);
            prop_assert_eq!(by_tree, wanted);
        }
    }

    #[test]
    fn without_literals_nothing_is_found() {
        let needles = Builder::default().build();
        let mut found = Vec::new();
        needles.scan(b"abc", &mut found);
        assert_eq!((needles.words(), found.len()), (0, 0));
    }
}
