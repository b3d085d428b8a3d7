//! The values of a transaction, each kept once: as it came, and as each transformation
//! chain left it. What a transformation leaves unchanged is the same value.

use super::KeptBody;
use crate::{
    classes::{self, Classes},
    plan::{Chain, Needles, Side, bound},
    transform::Transformation,
};
use std::borrow::Cow;

/// Most bytes of all values of a transaction, transformed ones included. Past it the
/// transaction is refused.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 30;

/// A kept value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueId(u32);

impl ValueId {
    /// To keep it among other numbers.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Of what [`Self::number`] gave.
    pub(super) const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// A text in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// In a span's start: it is one of the shared body. The arena is shorter than this.
const SHARED: u32 = 1 << 31;

/// Not yet known.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    span: Span,
    /// Where the bits of its scan begin, for each side.
    scans: [u32; 2],
    /// Equal to this value but for the case of its letters: shares its scans.
    folded: u32,
    /// Its classes; 0 is not yet known.
    classes: Classes,
    /// The last of its results of single transformations.
    made: u32,
}

/// What a transformation makes of a value.
#[derive(Debug, Clone, Copy)]
struct Made {
    by: Transformation,
    value: u32,
    /// The result of the same value before this one.
    before: u32,
}

/// What a plain request needs, so that its values grow into place without being moved.
const BYTES_AT_FIRST: usize = 4_096;
const VALUES_AT_FIRST: usize = 128;
const SCANS_AT_FIRST: usize = 512;

/// From so many bytes on, what a transformation may leave in a value is known well enough: to
/// look would be one more pass over it.
const BOUND_BYTES_MIN: usize = 256;

/// All values of a transaction.
#[derive(Debug)]
pub(crate) struct Values {
    bytes: Vec<u8>,
    /// The request's body, where it is a value: not copied.
    shared: Option<KeptBody>,
    slots: Vec<Slot>,
    made: Vec<Made>,
    scans: Vec<u64>,
    bytes_read: usize,
    /// [`VALUE_BYTES_MAX`]; less in tests.
    pub(crate) bytes_max: usize,
    /// More came than may be kept: what is missing reads as nothing, so no rule may be
    /// believed any more that it does not match.
    pub(crate) overflow: bool,
    /// Bytes of texts that are values once more without being kept again.
    repeated: usize,
}

impl Values {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(BYTES_AT_FIRST),
            shared: None,
            slots: Vec::with_capacity(VALUES_AT_FIRST),
            made: Vec::with_capacity(VALUES_AT_FIRST),
            scans: Vec::with_capacity(SCANS_AT_FIRST),
            bytes_read: 0,
            bytes_max: VALUE_BYTES_MAX,
            overflow: false,
            repeated: 0,
        }
    }

    /// Forgets all values and keeps their memory, emptied of what was read.
    pub(super) fn clear(&mut self) {
        let Self { bytes, shared, slots, made, scans, bytes_read, bytes_max, overflow, repeated } = self;
        bytes.fill(0);
        bytes.clear();
        *shared = None;
        slots.clear();
        made.clear();
        scans.clear();
        (*bytes_read, *bytes_max, *overflow, *repeated) = (0, VALUE_BYTES_MAX, false, 0);
    }

    /// Bytes of memory that are kept.
    pub(super) fn room_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.made.capacity() * size_of::<Made>()
            + self.scans.capacity() * size_of::<u64>()
    }

    /// Keeps a text that is no value of its own, such as a name.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        if start + bytes.len() > self.bytes_max {
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
        self.slots.push(Slot { span, scans: [NONE; 2], folded: id, classes: 0, made: NONE });
        ValueId(id)
    }

    /// Keeps the request's body as a value, without a copy of it.
    pub(crate) fn share(&mut self, body: &KeptBody) -> ValueId {
        let length = body.as_ref().len();
        self.overflow |= length > VALUE_BYTES_MAX;
        self.shared = Some(body.clone());
        self.slot(Span { start: SHARED, length: u32::try_from(length).unwrap_or(0) })
    }

    pub(crate) fn get(&self, span: Span) -> &[u8] {
        part(&self.bytes, self.shared.as_ref(), span)
    }

    pub(crate) fn value(&self, id: ValueId) -> &[u8] {
        self.slots.get(id.0 as usize).map_or(&[], |slot| self.get(slot.span))
    }

    /// A text that is kept is a value once more.
    pub(crate) fn repeat(&mut self, span: Span) {
        self.repeated = self.repeated.saturating_add(span.length as usize);
    }

    /// Bytes that are kept of values and names.
    #[cfg(test)]
    pub(crate) fn bytes_kept(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of all values and names, transformed ones and the shared body included. What is a
    /// value more than once counts as often: that much is read by a rule that looks at all.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.len() + self.repeated + self.shared.as_ref().map_or(0, |body| body.as_ref().len())
    }

    /// How many bytes transformations and scans have read so far.
    pub(crate) fn bytes_read(&self) -> usize {
        self.bytes_read
    }

    /// So many bytes of values were read by others.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.bytes_read += bytes;
    }

    /// Whether a chain may change a value.
    pub(crate) fn may_change(&mut self, chains: &[Chain], id: ValueId, chain: u16) -> bool {
        let node = chains.get(usize::from(chain));
        node.is_none_or(|node| self.classes(id) & node.may_change != 0)
    }

    /// The value after a chain.
    pub(crate) fn transformed(&mut self, chains: &[Chain], id: ValueId, chain: u16) -> ValueId {
        let Some(node) = chains.get(usize::from(chain)) else { return id };
        let mut classes = self.classes(id);
        if classes & node.may_change == 0 {
            return id;
        }
        let mut value = id;
        for (transformation, may_change) in &node.path {
            if classes & may_change != 0 {
                value = self.apply(value, *transformation);
                classes = self.classes(value);
            }
        }
        value
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

    /// The value after one transformation.
    pub(super) fn apply(&mut self, id: ValueId, transformation: Transformation) -> ValueId {
        let Some(Slot { span, folded, made, classes, .. }) = self.slots.get(id.0 as usize).copied() else {
            return id;
        };
        let mut known = made;
        while let Some(result) = self.made.get(known as usize) {
            if result.by == transformation {
                return ValueId(result.value);
            }
            known = result.before;
        }
        self.bytes_read += span.length as usize;
        let before = self.slots.len();
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
            Cow::Owned(text) => match self.made_last(transformation, &text) {
                Some(known) => known,
                None => self.add(&text),
            },
        };
        if after.0 as usize >= before {
            self.note_made(after, transformation, folded, classes);
        }
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.made = u32::try_from(self.made.len()).unwrap_or(NONE);
            self.made.push(Made { by: transformation, value: after.0, before: made });
        }
        after
    }

    /// What this transformation made last, where it is the same text: much is made of names that
    /// begin alike, and is looked through once.
    fn made_last(&mut self, by: Transformation, text: &[u8]) -> Option<ValueId> {
        let last = self.made.last().filter(|last| last.by == by)?;
        let (value, span) = (ValueId(last.value), self.slots.get(last.value as usize)?.span);
        if self.get(span) != text {
            return None;
        }
        self.repeat(span);
        Some(value)
    }

    /// What is known of a value because of what it was made of: of one with these classes, and
    /// these scans.
    fn note_made(&mut self, id: ValueId, by: Transformation, folded: u32, classes: Classes) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else { return };
        if matches!(by, Transformation::Lowercase | Transformation::Uppercase) {
            slot.folded = folded;
        }
        let known = by == Transformation::Lowercase || slot.span.length as usize >= BOUND_BYTES_MIN;
        if known && classes != 0 {
            slot.classes = bound(by, classes).unwrap_or(0);
        }
    }

    /// The bits of the literals that a value holds.
    pub(crate) fn scan(&mut self, needles: &Needles, side: Side, id: ValueId) -> &[u64] {
        let at = self.scan_at(needles, side, id);
        self.scans.get(at..at + needles.words()).unwrap_or_default()
    }

    /// Whether it is known which literals a value holds.
    pub(crate) fn is_scanned(&self, side: Side, id: ValueId) -> bool {
        let folded = self.slots.get(id.0 as usize).and_then(|slot| self.slots.get(slot.folded as usize));
        folded.is_some_and(|slot| slot.scans.get(side as usize).is_some_and(|at| *at != NONE))
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
        let value = part(&self.bytes, self.shared.as_ref(), slot.span);
        self.bytes_read += value.len();
        needles.scan(value, &mut self.scans);
        at
    }
}

/// The bytes of a span.
fn part<'v>(bytes: &'v [u8], shared: Option<&'v KeptBody>, span: Span) -> &'v [u8] {
    let (whole, start) = match span.start & SHARED {
        0 => (bytes, span.start),
        _ => (shared.map_or(&[][..], KeptBody::as_ref), span.start & !SHARED),
    };
    whole.get(start as usize..start as usize + span.length as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_alike_of_values_in_a_row_is_one_value() {
        let mut values = Values::new();
        let raw = ["json.a", "json.b", "other", "json.c"].map(|text| values.add(text.as_bytes()));
        let made = raw.map(|id| values.apply(id, Transformation::Base64Decode));
        assert_eq!(made[0], made[1]);
        // Of the same text as the one before the last, and yet another.
        assert!(made[2] != made[0] && made[3] != made[0]);
        let text = Transformation::Base64Decode.apply(Cow::Borrowed(b"json"));
        assert!([0, 1, 3].iter().all(|at| values.value(made[*at]) == text.as_ref()));
        // It counts as often as a rule may read it.
        let lengths = [raw, made].concat().iter().map(|id| values.value(*id).len()).sum::<usize>();
        assert_eq!(values.bytes_held(), lengths);
        // What is known of its letters' case is its own.
        let capital = values.add(b"JSON");
        let small = values.apply(capital, Transformation::Lowercase);
        assert_eq!(values.apply(raw[0], Transformation::Lowercase), raw[0]);
        assert_eq!(values.value(small), b"json");
    }
}
