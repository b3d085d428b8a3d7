//! `t:parityEven7bit`, `t:parityOdd7bit`, `t:parityZero7bit`: the eighth bit of each byte
//! made the parity that an old line protocol would have sent, or cleared.

fn each(input: &[u8], with: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let at = input.iter().position(|&byte| with(byte) != byte)?;
    let (mut out, rest) = super::started(input, at);
    out.extend(rest.iter().map(|&byte| with(byte)));
    Some(out)
}

pub(super) fn even(input: &[u8]) -> Option<Vec<u8>> {
    each(input, |byte| if byte.count_ones() % 2 == 1 { byte | 0x80 } else { byte & 0x7f })
}

pub(super) fn odd(input: &[u8]) -> Option<Vec<u8>> {
    each(input, |byte| if byte.count_ones() % 2 == 1 { byte & 0x7f } else { byte | 0x80 })
}

pub(super) fn zero(input: &[u8]) -> Option<Vec<u8>> {
    each(input, |byte| byte & 0x7f)
}

#[cfg(test)]
mod tests {
    use crate::transform::{
        Transformation::{ParityEven7bit, ParityOdd7bit, ParityZero7bit},
        tests::table,
    };

    #[test]
    fn sets_or_clears_the_eighth_bit() {
        table(ParityEven7bit, &[(b"", b""), (b"abc", b"\xe1\xe2c"), (b"cc", b"cc")]);
        table(ParityOdd7bit, &[(b"", b""), (b"abc", b"ab\xe3"), (b"ab", b"ab")]);
        table(ParityZero7bit, &[(b"", b""), (b"abc", b"abc"), (b"\xe1b\xe3\x80", b"abc\0")]);
    }
}
