//! `t:cmdLine`: what the shells of Unix and Windows make of a command line that somebody
//! disguised: quotes, carets and backslashes go, runs of separators become one space,
//! spaces before `/` and `(` go, and letters are folded.

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(input.len());
    let mut space = false;
    for &byte in input {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => continue,
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if !space {
                    out.push(b' ');
                }
                space = true;
                continue;
            }
            b'/' | b'(' if space => {
                out.pop();
                out.push(byte);
            }
            _ => out.push(byte.to_ascii_lowercase()),
        }
        space = false;
    }
    (out != input).then_some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::CmdLine, tests::table};

    #[test]
    fn undoes_disguises_of_commands() {
        table(
            CmdLine,
            &[
                (b"", b""),
                (b"plain words", b"plain words"),
                (b"C^OMMAND /C DIR", b"command/c dir"),
                (b"\"command\" /c DiR", b"command/c dir"),
                (b"cmd,;\t\r\n /c", b"cmd/c"),
                (b"a,,;b", b"a b"),
                (b"wh\\oa'm'i", b"whoami"),
                (b"test (x", b"test(x"),
                (b" /", b"/"),
                (b"te\0ST", b"te\0st"),
            ],
        );
    }
}
