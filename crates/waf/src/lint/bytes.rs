//! Which bytes a value can hold after its transformations.

use crate::transform::Transformation;

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes([bool; 256]);

impl Bytes {
    fn all() -> Self {
        Self([true; 256])
    }

    fn only(bytes: &[u8]) -> Self {
        let mut set = Self([false; 256]);
        set.change(bytes, true);
        set
    }

    pub(super) fn holds(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(true)
    }

    fn change(&mut self, bytes: &[u8], to: bool) {
        for byte in bytes {
            if let Some(slot) = self.0.get_mut(usize::from(*byte)) {
                *slot = to;
            }
        }
    }

    /// After these transformations, whatever stood there before.
    pub(super) fn after(transformations: &[Transformation]) -> Self {
        transformations.iter().fold(Self::all(), |set, transformation| set.through(*transformation))
    }

    fn through(mut self, transformation: Transformation) -> Self {
        use Transformation as T;
        const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        const SMALL: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
        let (gone, comes): (&[u8], &[u8]) = match transformation {
            T::None | T::Trim | T::TrimLeft | T::TrimRight => (b"", b""),
            T::Lowercase => (CAPITALS, SMALL),
            T::Uppercase => (SMALL, CAPITALS),
            T::RemoveNulls => (b"\0", b""),
            T::ReplaceNulls => (b"\0", b" "),
            T::RemoveWhitespace => (b" \t\n\x0b\x0c\r", b""),
            T::CompressWhitespace => (b"\t\n\x0b\x0c\r", b" "),
            T::CmdLine => (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\\\"'^,;", b"abcdefghijklmnopqrstuvwxyz "),
            T::Length => return Self::only(b"0123456789"),
            T::HexEncode => return Self::only(b"0123456789abcdef"),
            _ => return Self::all(),
        };
        self.change(comes, true);
        self.change(gone, false);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    proptest! {
        #[test]
        fn a_value_holds_only_what_it_can(
            value in proptest::collection::vec(prop_oneof![3 => prop::sample::select(
                b" \t\0\x0b\r\nAzZ09\\\"'^,;/*%41&#+-".to_vec()), 1 => any::<u8>()], 0..24),
            chain in proptest::collection::vec(prop::sample::select(
                Transformation::names().filter_map(Transformation::from_name).collect::<Vec<_>>()), 0..4),
        ) {
            let mut result = Cow::Borrowed(value.as_slice());
            for transformation in &chain {
                result = transformation.apply(result);
            }
            let can = Bytes::after(&chain);
            let stray = result.iter().find(|byte| !can.holds(**byte));
            prop_assert_eq!(stray, None, "{:?} of {:?}", result, chain);
        }
    }

    #[test]
    fn what_goes_stays_away_until_it_may_come_again() {
        let lower = Bytes::after(&[Transformation::Lowercase, Transformation::RemoveNulls]);
        assert!(!lower.holds(b'A') && lower.holds(b'a') && !lower.holds(0));
        let again = Bytes::after(&[Transformation::Lowercase, Transformation::UrlDecode]);
        assert!(again.holds(b'A'));
    }
}
