//! `t:lowercase` and `t:uppercase`: the letters of ASCII.

pub(super) fn lower(input: &[u8]) -> Option<Vec<u8>> {
    input.iter().any(u8::is_ascii_uppercase).then(|| input.to_ascii_lowercase())
}

pub(super) fn upper(input: &[u8]) -> Option<Vec<u8>> {
    input.iter().any(u8::is_ascii_lowercase).then(|| input.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use crate::transform::{
        Transformation::{Lowercase, Uppercase},
        tests::table,
    };

    #[test]
    fn folds_ascii_alone() {
        table(Lowercase, &[(b"", b""), (b"testcase", b"testcase"), (b"Test\0Case\xc9", b"test\0case\xc9")]);
        table(Uppercase, &[(b"", b""), (b"TESTCASE", b"TESTCASE"), (b"Test\0Case\xe9", b"TEST\0CASE\xe9")]);
    }
}
