//! `t:urlEncode`: everything but ASCII letters, digits and `*` becomes `%hh`, a space `+`.

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let plain = |byte: u8| byte == b'*' || byte.is_ascii_alphanumeric();
    let at = input.iter().position(|&byte| !plain(byte))?;
    let (mut out, rest) = super::started(input, at);
    for &byte in rest {
        match byte {
            b' ' => out.push(b'+'),
            byte if plain(byte) => out.push(byte),
            byte => {
                let digit = |value: u8| DIGITS.get(usize::from(value & 0x0f)).copied().unwrap_or_default();
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::UrlEncode, tests::table};

    #[test]
    fn escapes() {
        table(
            UrlEncode,
            &[(b"", b""), (b"TestCase*1", b"TestCase*1"), (b"a b-c_\0\xff%", b"a+b%2dc%5f%00%ff%25")],
        );
    }
}
