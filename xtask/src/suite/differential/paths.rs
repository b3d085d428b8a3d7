//! Readers of paths: those that decode once or twice, drop `;parameters`, take a
//! backslash for a slash, resolve dots. A path that passed must have the same segments
//! for all of them.

/// Why two readers of this target would not end at the same resource.
pub(super) fn disagreement(target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default().as_bytes();
    let once = decode(path);
    let twice = decode(&once);
    let plain = segments(path);
    let slashed: Vec<u8> = twice.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    for (reader, read) in [
        ("as it is", path),
        ("decoded", &once),
        ("decoded twice", &twice),
        ("backslashes as slashes", &slashed),
    ] {
        let found = segments(read);
        let cut: Vec<&[u8]> = found
            .iter()
            .map(|segment| segment.split(|&byte| byte == b';').next().unwrap_or_default())
            .collect();
        let (_, before_last) = cut.split_last().map_or((&[][..], &[][..]), |(last, rest)| (*last, rest));
        if found.len() != plain.len() {
            return Some(format!("{reader}, {target:?} has {} segments, not {}", found.len(), plain.len()));
        }
        if cut.iter().any(|segment| matches!(*segment, b"." | b"..")) {
            return Some(format!("{reader}, {target:?} has a dot segment"));
        }
        if before_last.iter().skip(1).any(|segment| segment.is_empty()) {
            return Some(format!("{reader}, {target:?} has an empty segment"));
        }
        if read.iter().any(u8::is_ascii_control) {
            return Some(format!("{reader}, {target:?} has a control character"));
        }
    }
    None
}

fn segments(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').collect()
}

fn decode(path: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), path);
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::disagreement;

    #[test]
    fn what_readers_could_climb_with_is_named_and_the_honest_is_not() {
        for attack in [
            "/a/../b",
            "/a/%2e%2e/b",
            "/a%2fb",
            "/a/..;/b",
            "/a//b",
            "/a/;x/b",
            "/a\\b",
            "/a%5cb",
            "/a%252fb",
            "/a%00",
            "/.;x",
        ] {
            assert!(disagreement(attack).is_some(), "{attack}");
        }
        for honest in ["/", "/a/b", "/a/", "/a;b=c/d", "/%C3%A9/...?../..", "/a%20b", "/a/b?x=%2e%2e%2f"] {
            assert_eq!(disagreement(honest), None, "{honest}");
        }
    }
}
