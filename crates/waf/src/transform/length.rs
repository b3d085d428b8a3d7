//! `t:length`: how many bytes the value has, as decimal digits.

/// `None` for the one value that is its own length.
pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let length = input.len().to_string().into_bytes();
    (length != input).then_some(length)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Length, tests::table};

    #[test]
    fn counts_bytes() {
        table(Length, &[(b"", b"0"), (b"1", b"1"), (b"0123456789", b"10"), ("é\0".as_bytes(), b"3")]);
    }
}
