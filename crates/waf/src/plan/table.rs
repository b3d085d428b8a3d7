//! An Aho-Corasick automaton as one table of all transitions, over bytes whose case is
//! folded on the way: one look-up for each byte of a value, and each waits for the one
//! before it. Long values are therefore read at several places at a time, which a
//! library's search cannot.

use std::collections::{BTreeMap, VecDeque};

/// A value of so many bytes is read at four places at a time, of so many at two.
const FOUR_LANES_BYTES: usize = 192;
const TWO_LANES_BYTES: usize = 64;

/// The automaton.
#[derive(Debug)]
pub(super) struct Table {
    /// The column of a byte; 0 for those that no literal holds.
    columns: [u8; 256],
    /// Columns of a row.
    width: u32,
    /// Where the row of the next state begins. Those in which literals end stand behind all
    /// others.
    next: Vec<u32>,
    /// Where the first row of a state stands in which literals end.
    ends: u32,
    /// For each of those, where its marks begin in `marks`; one more at the end.
    starts: Vec<u32>,
    /// Bits of the literals that end in a state, as words.
    marks: Vec<(u32, u64)>,
    /// Bytes before a place that a literal which ends there may begin in.
    overlap: usize,
}

/// A state while the automaton is built: children by their column.
#[derive(Default)]
struct Node {
    children: Vec<(u8, usize)>,
    bits: Vec<u32>,
}

/// All states, numbered breadth first: common ones stand together.
struct Built {
    width: usize,
    next: Vec<u32>,
    /// The words of the bits that end in each state.
    marks: Vec<BTreeMap<u32, u64>>,
}

impl Built {
    /// A state's failure stands nearer to the root and is whole already.
    fn new(nodes: &[Node], width: usize) -> Self {
        let mut built = Self { width, next: vec![0; width * nodes.len()], marks: Vec::new() };
        let mut queue = VecDeque::from([(0_usize, 0_usize)]);
        let mut count = 1;
        while let Some((node, failure)) = queue.pop_front() {
            let (made, row) = (built.marks.len(), built.marks.len() * width);
            let mut words = BTreeMap::new();
            if made > 0 {
                built.next.copy_within(failure..failure + width, row);
                words = built.marks.get(failure / width).cloned().unwrap_or_default();
            }
            let Some(Node { children, bits }) = nodes.get(node) else { continue };
            for bit in bits {
                *words.entry(bit / 64).or_default() |= 1 << (bit % 64);
            }
            built.marks.push(words);
            for (column, child) in children {
                let Some(entry) = built.next.get_mut(row + usize::from(*column)) else { continue };
                // Where the failure goes on with this byte is the child's failure.
                let fallback = *entry as usize;
                *entry = narrow(count * width);
                queue.push_back((*child, fallback));
                count += 1;
            }
        }
        built
    }

    /// The new place of each row: those with marks stand behind, so that one comparison
    /// tells them.
    fn places(&self) -> (Vec<u32>, u32) {
        let plain = self.marks.iter().filter(|words| words.is_empty()).count();
        let (mut front, mut back) = (0, plain);
        let places = self.marks.iter().map(|words| {
            let next = if words.is_empty() { &mut front } else { &mut back };
            *next += 1;
            narrow((*next - 1) * self.width)
        });
        (places.collect(), narrow(plain * self.width))
    }
}

impl Table {
    /// Of literals in small letters, each with its bits.
    pub(super) fn new(literals: &BTreeMap<Vec<u8>, Vec<u32>>) -> Self {
        let columns = columns(literals);
        let width = 1 + columns.iter().copied().max().map_or(0, usize::from);
        let built = Built::new(&trie(literals, &columns), width);
        let (places, ends) = built.places();
        let mut next = vec![0; built.next.len()];
        for (row, place) in built.next.chunks(width).zip(&places) {
            let place = *place as usize;
            let moved = row.iter().map(|entry| places.get(*entry as usize / width).copied().unwrap_or(0));
            for (entry, moved) in next.get_mut(place..place + width).into_iter().flatten().zip(moved) {
                *entry = moved;
            }
        }
        let (mut starts, mut marks) = (vec![0], Vec::new());
        for words in built.marks.into_iter().filter(|words| !words.is_empty()) {
            marks.extend(words);
            starts.push(narrow(marks.len()));
        }
        let overlap = literals.keys().map(Vec::len).max().unwrap_or(0).saturating_sub(1);
        Self { columns, width: narrow(width), next, ends, starts, marks, overlap }
    }

    /// Sets the bits of all literals that stand in `value`.
    pub(super) fn scan(&self, value: &[u8], words: &mut [u64]) {
        match value.len() {
            FOUR_LANES_BYTES.. => self.four(value, words),
            TWO_LANES_BYTES.. => self.two(value, words),
            _ => self.one(0, value, words),
        }
    }

    fn one(&self, mut row: u32, value: &[u8], words: &mut [u64]) {
        let (fours, rest) = value.as_chunks::<4>();
        for [one, two, three, four] in fours {
            row = self.step(row, *one, words);
            row = self.step(row, *two, words);
            row = self.step(row, *three, words);
            row = self.step(row, *four, words);
        }
        for byte in rest {
            row = self.step(row, *byte, words);
        }
    }

    /// Reads `value` at two places at a time.
    fn two(&self, value: &[u8], words: &mut [u64]) {
        let [one, two] = self.lanes(value);
        let (mut first, mut second) = (0, 0);
        for (a, b) in one.iter().zip(two) {
            first = self.step(first, *a, words);
            second = self.step(second, *b, words);
        }
        self.one(first, one.get(two.len()..).unwrap_or_default(), words);
        self.one(second, two.get(one.len()..).unwrap_or_default(), words);
    }

    /// Reads `value` at four places at a time.
    fn four(&self, value: &[u8], words: &mut [u64]) {
        let lanes @ [one, two, three, four] = self.lanes(value);
        let mut rows = [0; 4];
        for (((a, b), c), d) in one.iter().zip(two).zip(three).zip(four) {
            let [first, second, third, fourth] = &mut rows;
            *first = self.step(*first, *a, words);
            *second = self.step(*second, *b, words);
            *third = self.step(*third, *c, words);
            *fourth = self.step(*fourth, *d, words);
        }
        let common = lanes.iter().map(|lane| lane.len()).min().unwrap_or(0);
        for (row, lane) in rows.into_iter().zip(lanes) {
            self.one(row, lane.get(common..).unwrap_or_default(), words);
        }
    }

    /// Parts of `value`. Each begins as far before its own as the longest literal reaches, so
    /// that none is missed on the border.
    fn lanes<'v, const LANES: usize>(&self, value: &'v [u8]) -> [&'v [u8]; LANES] {
        let part = value.len().div_ceil(LANES);
        let from = |lane: usize| (lane * part).saturating_sub(self.overlap).min(value.len());
        std::array::from_fn(|lane| {
            value.get(from(lane)..((lane + 1) * part).min(value.len())).unwrap_or_default()
        })
    }

    #[inline]
    fn step(&self, row: u32, byte: u8, words: &mut [u64]) -> u32 {
        let column = self.columns.get(usize::from(byte)).map_or(0, |column| u32::from(*column));
        let Some(row) = self.next.get((row + column) as usize).copied() else { return no_row() };
        if row >= self.ends {
            self.note(row, words);
        }
        row
    }

    #[inline(never)]
    fn note(&self, row: u32, words: &mut [u64]) {
        let state = ((row - self.ends) / self.width) as usize;
        let range = self.starts.get(state).zip(self.starts.get(state + 1));
        let marks = range.and_then(|(first, end)| self.marks.get(*first as usize..*end as usize));
        for (word, mask) in marks.unwrap_or_default() {
            if let Some(word) = words.get_mut(*word as usize) {
                *word |= mask;
            }
        }
    }
}

/// There is a row for every state: this is never reached.
#[cold]
#[inline(never)]
fn no_row() -> u32 {
    0
}

/// A column for each byte that a literal holds, the same for both cases of a letter.
fn columns(literals: &BTreeMap<Vec<u8>, Vec<u32>>) -> [u8; 256] {
    let mut held = [false; 256];
    for byte in literals.keys().flatten() {
        if let Some(held) = held.get_mut(usize::from(*byte)) {
            *held = true;
        }
    }
    let mut columns = [0; 256];
    let mut last = 0;
    for (column, held) in columns.iter_mut().zip(held) {
        if held {
            // No literal holds capitals, so there are fewer than 256.
            last += 1;
            *column = last;
        }
    }
    for capital in b'A'..=b'Z' {
        let small = columns.get(usize::from(capital.to_ascii_lowercase())).copied().unwrap_or(0);
        if let Some(column) = columns.get_mut(usize::from(capital)) {
            *column = small;
        }
    }
    columns
}

fn trie(literals: &BTreeMap<Vec<u8>, Vec<u32>>, columns: &[u8; 256]) -> Vec<Node> {
    let mut nodes = vec![Node::default()];
    for (literal, bits) in literals {
        let mut at = 0;
        for byte in literal {
            let column = columns.get(usize::from(*byte)).copied().unwrap_or(0);
            let new = nodes.len();
            let Some(node) = nodes.get_mut(at) else { break };
            at = match node.children.iter().find(|(known, _)| *known == column) {
                Some((_, child)) => *child,
                None => {
                    node.children.push((column, new));
                    nodes.push(Node::default());
                    new
                }
            };
        }
        if let Some(node) = nodes.get_mut(at) {
            node.bits.extend_from_slice(bits);
        }
    }
    nodes
}

/// A table has fewer than 2^31 entries: 64 KiB of literals, 256 columns.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
