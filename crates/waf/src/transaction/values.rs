//! The values of a transaction, each kept once: as it came, and as each transformation
//! chain left it. What a transformation leaves unchanged is the same value.

use crate::{
    classes::{self, Classes},
    plan::{Chain, Needles, Side},
    transform::Transformation,
};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Most bytes of all values of a transaction, transformed ones included. Past it the
/// transaction is refused.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 30;

/// A kept value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueId(u32);

/// A text in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// Not yet known.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot {
    span: Span,
    /// Where the bits of its scan begin, for each side.
    scans: [u32; 2],
    /// Equal to this value but for the case of its letters: shares its scans.
    folded: u32,
    /// Where its row of chain results begins.
    row: u32,
    /// Its classes; 0 is not yet known.
    classes: Classes,
    /// Results of single transformations.
    memo: SmallVec<[(Transformation, u32); 2]>,
}

/// All values of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Values {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    rows: Vec<u32>,
    scans: Vec<u64>,
    /// More came than may be kept.
    pub(crate) overflow: bool,
}

impl Values {
    /// Keeps a text that is no value of its own, such as a name.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        if start + bytes.len() > VALUE_BYTES_MAX {
            self.overflow = true;
            return Span::default();
        }
        self.bytes.extend_from_slice(bytes);
        let narrow = |number| u32::try_from(number).unwrap_or(0);
        Span { start: narrow(start), length: narrow(bytes.len()) }
    }

    /// Keeps a value.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> ValueId {
        let span = self.text(bytes);
        self.slot(span)
    }

    /// Keeps a value that already stands in the arena.
    pub(crate) fn slot(&mut self, span: Span) -> ValueId {
        let id = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Slot {
            span,
            scans: [NONE; 2],
            folded: id,
            row: NONE,
            classes: 0,
            memo: SmallVec::new(),
        });
        ValueId(id)
    }

    pub(crate) fn get(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + span.length as usize).unwrap_or_default()
    }

    pub(crate) fn value(&self, id: ValueId) -> &[u8] {
        self.slots.get(id.0 as usize).map_or(&[], |slot| self.get(slot.span))
    }

    /// The value after a chain.
    pub(crate) fn transformed(&mut self, chains: &[Chain], id: ValueId, chain: u16) -> ValueId {
        if chain == 0 {
            return id;
        }
        let Some(node) = chains.get(usize::from(chain)) else { return id };
        if self.classes(id) & node.may_change == 0 {
            return id;
        }
        let row = self.row(id, chains.len());
        if let Some(known) = self.rows.get(row + usize::from(chain)).filter(|known| **known != NONE) {
            return ValueId(*known);
        }
        let before = self.transformed(chains, id, node.parent);
        let after = self.apply(before, node.transformation);
        if let Some(slot) = self.rows.get_mut(row + usize::from(chain)) {
            *slot = after.0;
        }
        after
    }

    /// The kinds of bytes of a value.
    pub(crate) fn classes(&mut self, id: ValueId) -> Classes {
        let Some(slot) = self.slots.get(id.0 as usize) else { return classes::ALL };
        if slot.classes != 0 {
            return slot.classes;
        }
        let found = classes::of(self.get(slot.span));
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.classes = found;
        }
        found
    }

    fn row(&mut self, id: ValueId, width: usize) -> usize {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else { return 0 };
        if slot.row == NONE {
            slot.row = u32::try_from(self.rows.len()).unwrap_or(NONE);
            self.rows.resize(self.rows.len() + width, NONE);
        }
        slot.row as usize
    }

    fn apply(&mut self, id: ValueId, transformation: Transformation) -> ValueId {
        let Some(slot) = self.slots.get(id.0 as usize) else { return id };
        if let Some((_, known)) = slot.memo.iter().find(|(known, _)| *known == transformation) {
            return ValueId(*known);
        }
        let (span, folded) = (slot.span, slot.folded);
        let input = self.get(span);
        let after = match transformation.apply(Cow::Borrowed(input)) {
            Cow::Borrowed(same) if same.len() == input.len() => id,
            Cow::Borrowed(part) => {
                // A part of the input: found by where it begins.
                let offset = part.as_ptr().addr().wrapping_sub(input.as_ptr().addr());
                match u32::try_from(offset).ok().zip(u32::try_from(part.len()).ok()) {
                    Some((offset, length)) if offset + length <= span.length => {
                        self.slot(Span { start: span.start + offset, length })
                    }
                    _ => {
                        let part = part.to_vec();
                        self.add(&part)
                    }
                }
            }
            Cow::Owned(text) if text == input => id,
            Cow::Owned(text) => self.add(&text),
        };
        if after != id
            && matches!(transformation, Transformation::Lowercase | Transformation::Uppercase)
            && let Some(slot) = self.slots.get_mut(after.0 as usize)
        {
            slot.folded = folded;
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.memo.push((transformation, after.0));
        }
        after
    }

    /// The bits of the literals that a value holds.
    pub(crate) fn scan(&mut self, needles: &Needles, side: Side, id: ValueId) -> &[u64] {
        let at = self.scan_at(needles, side, id);
        self.scans.get(at..at + needles.words()).unwrap_or_default()
    }

    /// Puts the bits of a value to those of others.
    pub(crate) fn scan_into(&mut self, needles: &Needles, side: Side, id: ValueId, bits: &mut [u64]) {
        for (all, one) in bits.iter_mut().zip(self.scan(needles, side, id)) {
            *all |= one;
        }
    }

    fn scan_at(&mut self, needles: &Needles, side: Side, id: ValueId) -> usize {
        let Some(folded) = self.slots.get(id.0 as usize).map(|slot| slot.folded as usize) else { return 0 };
        let Some(slot) = self.slots.get_mut(folded) else { return 0 };
        let known = match side {
            Side::Request => &mut slot.scans[0],
            Side::Response => &mut slot.scans[1],
        };
        if *known != NONE {
            return *known as usize;
        }
        let at = self.scans.len();
        *known = u32::try_from(at).unwrap_or(NONE);
        let start = slot.span.start as usize;
        let value = self.bytes.get(start..start + slot.span.length as usize).unwrap_or_default();
        needles.scan(value, &mut self.scans);
        at
    }
}
