//! `multipart/form-data` (RFC 7578) as only one reader could read it: no text before the
//! first or behind the last boundary, CRLF around it and nowhere else the boundary, one name for
//! each part.

/// Most parts.
pub const PARTS_MAX: usize = 256;
/// Longest head of a part, in bytes.
const PART_HEAD_BYTES_MAX: usize = 4 * 1024;

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'b> {
    pub(crate) name: String,
    /// Whether it has a file name.
    pub(crate) file: bool,
    /// Its media type as it was sent; empty without one.
    pub(crate) media_type: &'b [u8],
    pub(crate) content: &'b [u8],
}

/// Takes a body apart. `None` when it is not exactly what the standard says.
pub(crate) fn parts<'b>(body: &'b [u8], boundary: &str) -> Option<Vec<Part<'b>>> {
    let honest = !boundary.is_empty()
        && boundary.len() <= 70
        // Of what RFC 2046 allows not the blank, the comma, the quote and parentheses: some readers
        // end it there.
        && boundary.bytes().all(|b| b.is_ascii_alphanumeric() || b"+_-./:=?".contains(&b));
    if !honest {
        return None;
    }
    let dashed = format!("--{boundary}");
    let mut rest = body.strip_prefix(dashed.as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return (end.is_empty() || end == b"\r\n").then_some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        // The boundary may not stand in what it encloses (RFC 2046 §5.1.1). Some readers end a part
        // there without a line end before it (Django), or with half of one (Werkzeug, PHP).
        let (part, after) = rest.split_at(find(rest, dashed.as_bytes())?);
        let part = part.strip_suffix(b"\r\n")?;
        if parts.len() >= PARTS_MAX {
            return None;
        }
        parts.push(read(part)?);
        rest = after.get(dashed.len()..)?;
    }
}

fn read(part: &[u8]) -> Option<Part<'_>> {
    let end = find(part, b"\r\n\r\n").filter(|end| *end <= PART_HEAD_BYTES_MAX)?;
    let (head, content) = part.split_at(end);
    let content = content.get(4..)?;
    let (mut disposition, mut media_type) = (None, &b""[..]);
    for line in split_lines(head) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..)?.trim_ascii();
        // A name with a space is a folded line, or one that readers trim.
        let honest = std::str::from_utf8(name).is_ok_and(crate::media::is_token);
        if !honest || line.iter().any(|&byte| byte < 0x20 && byte != b'\t') {
            return None;
        }
        match name.to_ascii_lowercase().as_slice() {
            b"content-disposition" if disposition.is_none() => disposition = Some(value),
            b"content-type" if media_type.is_empty() => media_type = value,
            b"content-disposition" | b"content-type" => return None,
            // Encoded content would be read differently by those who ignore the field
            // (RFC 7578 §4.7 deprecates it).
            b"content-transfer-encoding" if !value.eq_ignore_ascii_case(b"binary") => return None,
            _ => {}
        }
    }
    let (name, file_name) = name_of(disposition?)?;
    // Browsers send an empty file name, and nothing else, where no file was chosen. With
    // content, some take it for a file and some for a text.
    if file_name == Some("") && !content.is_empty() {
        return None;
    }
    Some(Part { name, file: file_name.is_some(), media_type, content })
}

fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        match find(text, b"\r\n") {
            Some(at) => {
                rest = text.get(at + 2..);
                text.get(..at)
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// `form-data; name="a"; filename="b"`: the name and the file name.
fn name_of(value: &[u8]) -> Option<(String, Option<&str>)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut rest = text.strip_prefix("form-data")?;
    let (mut name, mut file) = (None, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(';')?.trim_start_matches([' ', '\t']);
        let (key, after) = rest.split_once('=')?;
        // Only quoted, and without the escapes that readers treat differently.
        let (value, after) = after.strip_prefix('"')?.split_once('"')?;
        if value.contains('\\') {
            return None;
        }
        match key {
            "name" if name.is_none() => name = Some(value.to_owned()),
            "filename" if file.is_none() => file = Some(value),
            _ => return None,
        }
        rest = after.trim_start_matches([' ', '\t']);
    }
    name.map(|name| (name, file))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &str) -> Option<Vec<String>> {
        parts(body.as_bytes(), "x").map(|parts| parts.into_iter().map(|part| part.name).collect())
    }

    #[test]
    fn reads_what_clients_send() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\n\
                    content-disposition: form-data; name=\"f\"; filename=\"b.txt\"\r\nContent-Type: text/plain\r\n\r\n\r\n--x--\r\n";
        let read = parts(body.as_bytes(), "x").unwrap();
        assert_eq!((read[0].name.as_str(), read[0].content, read[0].file), ("a", &b"1"[..], false));
        assert_eq!((read[1].name.as_str(), read[1].content, read[1].file), ("f", &b""[..], true));
        assert_eq!(read[1].media_type, b"text/plain");
    }

    #[test]
    fn refuses_what_two_readers_read_differently() {
        let good = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--";
        assert!(names(good).is_some());
        for wrong in [
            good.replace("\r\n", "\n"),
            format!("preamble\r\n{good}"),
            format!("{good}\r\nepilogue"),
            good.replace("--x--", "--x"),
            good.replace("name=\"a\"", "name=a"),
            good.replace("name=\"a\"", "name=\"a\"; name=\"b\""),
            good.replace("name=\"a\"", "name=\"a\\\"b\""),
            good.replace("name=\"a\"", "name=\"a\"; filename*=UTF-8''b"),
            good.replace("name=\"a\"", "name=\"a\"; filename=\"\""),
            good.replace("form-data", "attachment"),
            good.replace("Content-Disposition: form-data; name=\"a\"", "X: y"),
            good.replace("\r\n\r\n1", "\r\nContent-Transfer-Encoding: base64\r\n\r\n1"),
            good.replace("Content-Disposition", " Content-Disposition").replace("form-data", "form\rdata"),
            // Werkzeug and PHP end a part at a boundary behind a bare LF, and Django at one anywhere.
            good.replace("\r\n1", "\r\n1\n--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2"),
            good.replace("\r\n1", "\r\n1\r--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2"),
            good.replace("\r\n1", "\r\n1--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2"),
            good.replace("\r\n1", "\r\n--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2"),
            good.replace("name=\"a\"", "name=\"a--x\""),
        ] {
            assert_eq!(names(&wrong), None, "{wrong:?}");
        }
        // What browsers send for a file that nobody chose.
        let none = good.replace("name=\"a\"", "name=\"a\"; filename=\"\"").replace("\r\n\r\n1", "\r\n\r\n");
        assert!(names(&none).is_some());
        assert_eq!(parts(b"", "x"), None);
        assert_eq!(parts(good.as_bytes(), ""), None);
        assert_eq!(parts(good.as_bytes(), &"x".repeat(71)), None);
        for boundary in ["x y", "x,y", "x'y", "x(y", "x)y", "x;y", "x\"y"] {
            assert_eq!(
                parts(good.replace("--x", &format!("--{boundary}")).as_bytes(), boundary),
                None,
                "{boundary}"
            );
        }
        assert!(parts(good.replace("--x", "--x+_-./:=?y").as_bytes(), "x+_-./:=?y").is_some());
        // Dashes and words that are not the boundary are content.
        for content in ["1\n--y\r\n2", "-- x", "x--", "1\n-x"] {
            assert!(names(&good.replace("\r\n1", &format!("\r\n{content}"))).is_some(), "{content:?}");
        }
    }

    #[test]
    fn the_number_of_parts_has_a_limit() {
        let body = |count: usize| {
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n".repeat(count) + "--x--"
        };
        assert_eq!(names(&body(PARTS_MAX)).unwrap().len(), PARTS_MAX);
        assert_eq!(names(&body(PARTS_MAX + 1)), None);
    }
}
