//! An Aho-Corasick automaton as one table of all transitions, over bytes whose case is
//! folded on the way: one look-up for each byte of a value. A library's table costs twice
//! the steps, because it folds no case without doubling its alphabet.

use std::collections::{BTreeMap, VecDeque};

/// In an entry: something ends in the state that it leads to.
const ENDS: u32 = 1 << 31;

/// The automaton.
#[derive(Debug)]
pub(super) struct Table {
    /// The column of a byte; 0 for those that no literal holds.
    columns: [u8; 256],
    /// Columns of a row.
    width: u32,
    /// Where the row of the next state begins, with [`ENDS`].
    next: Vec<u32>,
    /// For each state, where its marks begin in `marks`; one more at the end.
    starts: Vec<u32>,
    /// Bits of the literals that end in a state, as words.
    marks: Vec<(u32, u64)>,
}

/// A state while the automaton is built: children by their column.
#[derive(Default)]
struct Node {
    children: Vec<(u8, usize)>,
    bits: Vec<u32>,
}

impl Table {
    /// Of literals in small letters, each with its bits.
    pub(super) fn new(literals: &BTreeMap<Vec<u8>, Vec<u32>>) -> Self {
        let columns = columns(literals);
        let width = 1 + columns.iter().copied().max().map_or(0, usize::from);
        let nodes = trie(literals, &columns);
        let mut table = Self {
            columns,
            width: narrow(width),
            next: vec![0; width * nodes.len()],
            starts: vec![0],
            marks: Vec::new(),
        };
        // Breadth first: a state's failure stands nearer to the root and is whole already.
        // Numbers in that order keep the common states together.
        let mut queue = VecDeque::from([(0_usize, 0_usize)]);
        let mut made = 0;
        let mut count = 1;
        while let Some((node, failure)) = queue.pop_front() {
            let row = made * width;
            if made > 0 {
                table.next.copy_within(failure..failure + width, row);
            }
            table.mark(nodes.get(node).map_or(&[][..], |node| &node.bits), failure / width, made > 0);
            let children = nodes.get(node).map_or(&[][..], |node| &node.children);
            for (column, child) in children {
                let Some(entry) = table.next.get_mut(row + usize::from(*column)) else { continue };
                // Where the failure goes on with this byte is the child's failure.
                let fallback = *entry as usize;
                *entry = narrow(count * width);
                queue.push_back((*child, fallback));
                count += 1;
            }
            made += 1;
        }
        table.note_ends();
        table
    }

    /// The marks of the next state: its own and those of its failure.
    fn mark(&mut self, bits: &[u32], failure: usize, has_failure: bool) {
        let mut words = BTreeMap::<u32, u64>::new();
        if has_failure {
            words.extend(self.marks_of(failure).iter().copied());
        }
        for bit in bits {
            *words.entry(bit / 64).or_default() |= 1 << (bit % 64);
        }
        self.marks.extend(words);
        self.starts.push(narrow(self.marks.len()));
    }

    /// Flags every entry that leads to a state with marks.
    fn note_ends(&mut self) {
        let ends: Vec<bool> = self.starts.windows(2).map(|pair| pair.first() != pair.last()).collect();
        let width = self.width;
        for entry in &mut self.next {
            if ends.get((*entry / width) as usize).copied().unwrap_or(false) {
                *entry |= ENDS;
            }
        }
    }

    fn marks_of(&self, state: usize) -> &[(u32, u64)] {
        let range = self.starts.get(state).zip(self.starts.get(state + 1));
        range.and_then(|(first, end)| self.marks.get(*first as usize..*end as usize)).unwrap_or_default()
    }

    /// Sets the bits of all literals that stand in `value`.
    pub(super) fn scan(&self, value: &[u8], words: &mut [u64]) {
        let next = self.next.as_slice();
        let mut row = 0_u32;
        for byte in value {
            let column = self.columns.get(usize::from(*byte)).copied().unwrap_or(0);
            let entry = next.get(row as usize + usize::from(column)).copied().unwrap_or(0);
            row = entry & !ENDS;
            if entry & ENDS != 0 {
                self.note(row, words);
            }
        }
    }

    #[inline(never)]
    fn note(&self, row: u32, words: &mut [u64]) {
        for (word, mask) in self.marks_of((row / self.width) as usize) {
            if let Some(word) = words.get_mut(*word as usize) {
                *word |= mask;
            }
        }
    }
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
