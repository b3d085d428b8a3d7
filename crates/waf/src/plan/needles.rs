//! The literals of many rules, looked for in one pass.

use crate::{operator::Literal, rule::Phase};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use std::collections::BTreeMap;

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
            let bits = self.literals.entry(literal.bytes().to_ascii_lowercase()).or_default();
            if bits.last() != Some(&bit) {
                bits.push(bit);
            }
        }
        bit
    }

    /// When the automaton cannot be built, every bit counts as present: slower, never wrong.
    pub(super) fn build(self) -> Needles {
        let words = (self.bits as usize).div_ceil(64);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .ascii_case_insensitive(true)
            .build(self.literals.keys())
            .ok();
        let mut needles = Needles { words, automaton, ..Needles::default() };
        needles.preset = vec![if needles.automaton.is_some() { 0 } else { u64::MAX }; words];
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

fn set(words: &mut [u64], bit: u32) {
    if let Some(word) = words.get_mut(bit as usize / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Whether a bit is set.
pub(crate) fn has(words: &[u64], bit: u32) -> bool {
    words.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// All literals of one side.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    automaton: Option<AhoCorasick>,
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
        let Some(automaton) = &self.automaton else { return };
        let Some(words) = found.get_mut(begin..) else { return };
        for literal in automaton.find_overlapping_iter(value) {
            let at = literal.pattern().as_usize();
            let range = self.starts.get(at).zip(self.starts.get(at + 1));
            let Some((first, last)) = range.map(|(first, last)| (*first as usize, *last as usize)) else {
                continue;
            };
            for bit in self.bits.get(first..last).unwrap_or_default() {
                set(words, *bit);
            }
        }
    }
}
