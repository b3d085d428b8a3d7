//! `t:normalisePath` and `t:normalisePathWin`: empty segments, references to the folder
//! itself and to its parent go. A rooted path never climbs above its root; a relative one
//! keeps the references that lead above where it starts. The Windows form takes a
//! backslash for a slash first.

pub(super) fn unix(input: &[u8]) -> Option<Vec<u8>> {
    // Only an empty segment or one that starts with a dot can change.
    let plain = !input.starts_with(b".")
        && memchr::memchr_iter(b'/', input).all(|at| !matches!(input.get(at + 1), Some(b'/' | b'.')));
    if plain {
        return None;
    }
    let normal = segments(input);
    (normal != input).then_some(normal)
}

pub(super) fn windows(input: &[u8]) -> Option<Vec<u8>> {
    if memchr::memchr(b'\\', input).is_none() {
        return unix(input);
    }
    let slashes: Vec<u8> = input.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    Some(unix(&slashes).unwrap_or(slashes))
}

fn segments(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let start = usize::from(rooted);
    let mut out = Vec::with_capacity(path.len());
    if rooted {
        out.push(b'/');
    }
    // How many references to the parent stand at the start and cannot be resolved.
    let mut floor = start;
    for segment in path.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." if out.len() > floor => {
                let parent = memchr::memrchr(b'/', out.get(floor..).unwrap_or_default());
                out.truncate(parent.map_or(floor, |at| floor + at).max(floor));
            }
            b".." if rooted => {}
            _ => {
                if out.len() > start {
                    out.push(b'/');
                }
                out.extend_from_slice(segment);
                if segment == b".." {
                    floor = out.len();
                }
            }
        }
    }
    if path.last() == Some(&b'/') && out.len() > start {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::transform::{
        Transformation::{NormalisePath, NormalisePathWin},
        tests::table,
    };

    #[test]
    fn resolves_segments() {
        table(
            NormalisePath,
            &[
                (b"", b""),
                (b"/", b"/"),
                (b"/foo/bar/baz", b"/foo/bar/baz"),
                (b"/foo/bar/baz/", b"/foo/bar/baz/"),
                (b"dir//foo///bar", b"dir/foo/bar"),
                (b"dir/foo//bar/", b"dir/foo/bar/"),
                (b"/./dir/./foo/.", b"/dir/foo"),
                (b"dir/../foo", b"foo"),
                (b"dir/../../foo", b"../foo"),
                (b"dir/./.././../../foo/bar", b"../../foo/bar"),
                (b"../../etc/passwd", b"../../etc/passwd"),
                (b"../a/../b", b"../b"),
                (b"/dir/foo/../../../etc/passwd", b"/etc/passwd"),
                (b"/dir/../", b"/"),
                (b"/..", b"/"),
                (b"/../../etc", b"/etc"),
                (b"dir/..", b""),
                (b".", b""),
                (b"./", b""),
                (b"./..", b".."),
                (b"/name../x", b"/name../x"),
                (b"/...", b"/..."),
                (b"/.hidden/x", b"/.hidden/x"),
                (b"/dir/\0/../foo", b"/dir/foo"),
                (b"a\\..\\b", b"a\\..\\b"),
            ],
        );
    }

    #[test]
    fn windows_takes_a_backslash_for_a_slash() {
        table(
            NormalisePathWin,
            &[
                (b"", b""),
                (b"/foo/bar", b"/foo/bar"),
                (b"\\foo\\bar", b"/foo/bar"),
                (b"dir\\..\\../foo", b"../foo"),
                (b"\\\\foo//..\\\\bar", b"/bar"),
                (b"a//b", b"a/b"),
            ],
        );
    }
}
