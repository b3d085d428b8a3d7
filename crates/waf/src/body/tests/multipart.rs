use super::{BodyKind, BodyLimits, BodyReader, Parsed, args, read_with};

const TYPE: &str = "multipart/form-data; boundary=B";

fn read(body: &str) -> Parsed {
    super::read(BodyKind::Multipart, TYPE, body)
}

fn of_type(content_type: &str, body: &str) -> Parsed {
    super::read(BodyKind::Multipart, content_type, body)
}

/// A body of parts; each is its header lines and its content.
fn body(parts: &[(&str, &str)]) -> String {
    let parts: String =
        parts.iter().map(|(head, content)| format!("--B\r\n{head}\r\n\r\n{content}\r\n")).collect();
    format!("{parts}--B--\r\n")
}

const FIELD: &str = "Content-Disposition: form-data; name=\"a\"";
const FILE: &str =
    "Content-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain";

#[test]
fn fields_and_files_are_told_apart() {
    let parsed = read(&body(&[(FIELD, "1"), (FILE, "content\r\n"), (FIELD, "")]));
    assert_eq!(parsed.error, None);
    assert!(!parsed.multipart.strict_error() && !parsed.multipart.unmatched_boundary);
    assert_eq!(args(&parsed), ["a=1", "a="]);
    let file = &parsed.files[0];
    assert_eq!((file.name.as_slice(), file.filename.as_slice(), file.size), (&b"f"[..], &b"x.txt"[..], 9));
    assert!(file.content.is_empty());
    assert_eq!(
        (parsed.multipart.name.as_slice(), parsed.multipart.filename.as_slice()),
        (&b"a"[..], &b"x.txt"[..])
    );
    assert!(parsed.multipart.crlf && !parsed.multipart.crlf_lf_lines());
}

#[test]
fn a_file_without_a_name_is_a_field_too() {
    let file = |filename: &str| format!("{FIELD}; filename={filename}\r\nContent-Type: text/plain");
    for nameless in [
        "\"\"",
        "\" \"",
        "\"\t\"",
        "\"\u{2003}\"",
        "\"/\"",
        "\"\\\\\"",
        "\"a/\"",
        "\"a\\\\\"",
        "\".\"",
        "\"..\"",
        "\"%2f\"",
        "\"a%5C\"",
        "\"\\\"\"",
        "''",
    ] {
        let parsed = read(&body(&[(&file(nameless), "1' OR '1'='1\r\n"), (FIELD, "2")]));
        assert_eq!(args(&parsed), ["a=1' OR '1'='1\r\n", "a=2"], "{nameless}");
        assert_eq!((parsed.files.len(), parsed.files[0].size), (1, 14), "{nameless}");
        assert_eq!(parsed.error, None, "{nameless}");
    }
    for name in ["\"a\"", "\" a\"", "\"/a\"", "\"C:\\a.txt\"", "\".a\"", "\"O'Brien\"", "\"100%\""] {
        let parsed = read(&body(&[(&file(name), "1"), (FIELD, "2")]));
        assert_eq!((args(&parsed), parsed.files.len()), (vec!["a=2".to_owned()], 1), "{name}");
    }
    let bare = read(&body(&[("Content-Disposition: form-data; name=a; filename=b", "1"), (FIELD, "2")]));
    assert_eq!((args(&bare), bare.files.len(), bare.error), (vec!["a=2".to_owned()], 1, None));
    for overlooked in ["{};filename=\"a\"", "{};\tfilename=\"a\"", "{}; filename=-a", "{}; filename=\"a\""] {
        let (field, hides) = match overlooked.ends_with("; filename=\"a\"") {
            true => (FIELD.replace("\"a\"", "\" filename=-\""), " filename=-"),
            false => (FIELD.to_owned(), "a"),
        };
        let parsed = read(&body(&[(&overlooked.replace("{}", &field), "1")]));
        let found = (args(&parsed), parsed.files.len(), parsed.error);
        assert_eq!(found, (vec![format!("{hides}=1")], 1, None), "{overlooked}");
    }
    // A form in which no file was chosen.
    let parsed = read(&body(&[(&file("\"\""), "")]));
    assert_eq!((args(&parsed), parsed.files[0].size), (vec!["a=".to_owned()], 0));
    assert!(parsed.error.is_none() && !parsed.multipart.strict_error());
    // Other ways to write it are errors.
    for error in ["", "\"a", "*=utf-16''a"] {
        let head = file(error).replace("=*=", "*=");
        assert!(read(&body(&[(&head, "1")])).error.is_some(), "{error}");
    }
}

#[test]
fn an_extended_name_of_a_file_is_one_besides_its_name() {
    let named = |field: &str, names: &str| {
        read(&body(&[(&format!("{field}; {names}"), "1' OR '1'='1"), (FIELD, "2")]))
    };
    let with = |names: &str| named(FIELD, names);
    // As .NET writes it: the name of the field is in quotes where that of the file is. Every reader takes
    // the part for a file.
    for (names, besides) in [
        ("filename=b.txt; filename*=utf-8''b.txt", None),
        ("filename=\"=?utf-8?B?w6QudHh0?=\"; filename*=utf-8''%C3%A4.txt", Some("ä.txt")),
        ("filename=\"b.txt\"; filename*=UTF-8'en-GB'c%2Fd+e.php", Some("c/d+e.php")),
    ] {
        let in_quotes = names.starts_with("filename=\"");
        let parsed = named(if in_quotes { FIELD } else { "Content-Disposition: form-data; name=a" }, names);
        assert_eq!((parsed.error.as_deref(), args(&parsed)), (None, vec!["a=2".to_owned()]), "{names}");
        assert!(!parsed.multipart.strict_error(), "{names}");
        let file = &parsed.files[0];
        assert_eq!(file.filename_besides.as_deref(), besides.map(str::as_bytes), "{names}");
        assert_eq!(parsed.multipart.filename_besides, file.filename_besides, "{names}");
        assert_ne!(file.filename, besides.unwrap_or_default().as_bytes());
    }
    // Those who do not know it, or find no name in it, take the part for a field.
    for names in [
        "filename*=UTF-8''b.txt",
        "filename*=UTF-8''b.txt; filename=\"\"",
        "filename*=UTF-8''b.txt; filename=\"b.txt\"",
        "filename=b.txt; filename*=UTF-8''b.txt",
        "filename=\"b.txt\"; filename*=UTF-8''%20",
        "filename=\"b.txt\"; filename*=UTF-8''a%2F",
    ] {
        let parsed = with(names);
        assert_eq!(
            (parsed.error.as_deref(), args(&parsed)),
            (None, vec!["a=1' OR '1'='1".to_owned(), "a=2".to_owned()]),
            "{names}"
        );
        assert_eq!(parsed.files.len(), 1, "{names}");
    }
    let hidden = FIELD.replace("\"a\"", "\" filename=a\"");
    let parsed = read(&body(&[(&format!("{hidden}; filename*=UTF-8''b"), "1")]));
    assert_eq!((parsed.error.as_deref(), parsed.args.len(), parsed.files.len()), (None, 1, 1));
    // What readers decode to different names, or not at all, is an error.
    for names in [
        "filename*=UTF-8''",
        "filename*=\"UTF-8''b\"",
        "filename*='b'",
        "filename*=b.txt",
        "filename*=UTF-8'b.txt",
        "filename*=UTF-8'e n'b",
        "filename*=UTF-8''b'c",
        "filename*=iso-8859-1''%E4",
        "filename*=utf-16''b",
        "filename*=UTF-8''%E4",
        "filename*=UTF-8''b%",
        "filename*=UTF-8''b%4",
        "filename*=UTF-8''b%+1",
        "filename*=UTF-8''b%00.txt",
        "filename*=UTF-8''b%0D%0AX",
        "filename*=UTF-8''b%C2%85",
        "filename*=UTF-8''b(c)",
        "filename*=UTF-8''b\u{e4}",
        "filename*=UTF-8''b; filename*=UTF-8''b",
        "filename *=UTF-8''b",
        "Filename*=UTF-8''b",
        "filename**=UTF-8''b",
        "filename*0*=UTF-8''b",
    ] {
        for before in ["", "filename=\"b.txt\"; "] {
            let parsed = with(&format!("{before}{names}"));
            assert!(parsed.error.is_some(), "{before}{names}");
        }
    }
}

#[test]
fn a_disposition_is_as_long_as_all_readers_take_it() {
    const SHORT: &str = "Content-Disposition: form-data; name=\"a\"; filename=\"\"";
    for (more, misleads) in [(1_536 - SHORT.len(), false), (1_537 - SHORT.len(), true)] {
        let head = SHORT.replace("e=\"\"", &format!("e=\"{}\"", "f".repeat(more)));
        let parsed = read(&body(&[(&head, "1"), (FIELD, "2")]));
        assert_eq!((parsed.multipart.invalid_part, parsed.error), (misleads, None), "{} bytes", head.len());
        assert_eq!(parsed.args.len(), 1 + usize::from(misleads));
    }
}

#[test]
fn a_file_without_a_name_counts_as_a_field_does() {
    let limits = BodyLimits { no_files_bytes_max: 1_000, arguments_max: 1, ..BodyLimits::default() };
    let with = |filename: &str, length: usize, times: usize| {
        let head = format!("{FIELD}; filename=\"{filename}\"");
        let content = "x".repeat(length);
        let parts = vec![(head.as_str(), content.as_str()); times];
        read_with(BodyKind::Multipart, TYPE, body(&parts), &limits)
    };
    assert!(with("", 2_000, 1).over_no_files_limit);
    assert_eq!(with("a", 2_000, 1).error, None);
    assert_eq!(with("", 500, 1).error, None);
    assert!(with("", 1, 2).error.unwrap().contains("SecArgumentsLimit"));
    assert_eq!(with("a", 1, 2).error, None);
}

#[test]
fn every_header_line_of_every_part_is_seen() {
    // CVE-2026-21876: a charset that stands in the first part only.
    let utf7 = format!("{FIELD}\r\nContent-Type: text/plain; charset=utf-7");
    let utf8 = format!("{FIELD}\r\nContent-Type: text/plain; charset=utf-8");
    let parsed = read(&body(&[(&utf7, "+ADw-"), (&utf8, "x")]));
    let lines: Vec<_> =
        parsed.part_headers.iter().map(|(name, line)| (name.as_deref(), line.as_slice())).collect();
    let a = Some(&b"a"[..]);
    assert_eq!(
        lines,
        [
            (a, FIELD.as_bytes()),
            (None, b"Content-Type: text/plain; charset=utf-7"),
            (a, FIELD.as_bytes()),
            (None, b"Content-Type: text/plain; charset=utf-8"),
        ]
    );
}

#[test]
fn content_keeps_its_line_ends_but_the_one_before_the_boundary() {
    for (content, value) in
        [("a\r\nb", "a\r\nb"), ("\r\n", "\r\n"), ("--", "--"), ("-", "-"), ("a\r", "a\r"), ("a\n", "a\n")]
    {
        assert_eq!(read(&body(&[(FIELD, content)])).args[0].1, value.as_bytes(), "{content:?}");
    }
}

#[test]
fn a_content_longer_than_a_line_is_read_whole() {
    for length in [4094, 4095, 4096, 4097, 8191, 8192, 8193, 20_000] {
        for filler in ["x", "\r", "\n"] {
            let content = filler.repeat(length);
            let parsed = read(&body(&[(FIELD, &content)]));
            assert_eq!(parsed.error, None, "{length} {filler:?}");
            assert!(parsed.args[0].1 == content.as_bytes(), "{length} {filler:?}");
        }
    }
}

/// What a flag is called, whether it is up.
fn flags(parsed: &Parsed) -> Vec<&'static str> {
    let m = &parsed.multipart;
    [
        ("ERROR", m.error),
        ("BOUNDARY_QUOTED", m.boundary_quoted),
        ("BOUNDARY_WHITESPACE", m.boundary_whitespace),
        ("DATA_BEFORE", m.data_before),
        ("DATA_AFTER", m.data_after),
        ("HEADER_FOLDING", m.header_folding),
        ("INVALID_HEADER_FOLDING", m.invalid_header_folding),
        ("LF_LINE", m.lf),
        ("CRLF_LF_LINES", m.crlf_lf_lines()),
        ("MISSING_SEMICOLON", m.missing_semicolon),
        ("INVALID_QUOTING", m.invalid_quoting),
        ("INVALID_PART", m.invalid_part),
        ("UNMATCHED_BOUNDARY", m.unmatched_boundary),
        ("FILE_LIMIT_EXCEEDED", m.file_limit_exceeded),
    ]
    .into_iter()
    .filter_map(|(name, up)| up.then_some(name))
    .collect()
}

#[test]
fn each_flag_is_raised_by_its_fault_alone() {
    let good = body(&[(FIELD, "1")]);
    for (content_type, body, raised) in [
        (TYPE, good.clone(), &[][..]),
        ("multipart/form-data; boundary=\"B\"", good.clone(), &["BOUNDARY_QUOTED"]),
        ("multipart/form-data; boundary =B", good.clone(), &["BOUNDARY_WHITESPACE"]),
        ("multipart/form-data boundary=B", good.clone(), &["MISSING_SEMICOLON"]),
        (TYPE, format!("x\r\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!("\r\n{good}"), &[]),
        (TYPE, format!("\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!(" \r\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!("\r\n\r\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!("\r\nx\r\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!("\r\n{FIELD}\r\n\r\n2\r\n{good}"), &["DATA_BEFORE"]),
        (TYPE, format!("{good}x"), &["DATA_AFTER"]),
        (TYPE, format!("{good}\r\n"), &[]),
        (TYPE, format!("{good}\r\n\r\nx"), &["DATA_AFTER"]),
        (TYPE, format!("{good}\r\n "), &["DATA_AFTER"]),
        (TYPE, format!("{good}\r\n{good}"), &["DATA_AFTER"]),
        ("multipart/form-data; boundary=B; charset=utf-8", good.clone(), &[]),
        ("multipart/form-data; boundary=\"B\";Charset=\"UTF-8\"", good.clone(), &["BOUNDARY_QUOTED"]),
        (TYPE, good.replace("form-data; ", "form-data;\r\n "), &["HEADER_FOLDING"]),
        (
            TYPE,
            good.replace("form-data; ", "form-data;\r\n\u{b}"),
            &["HEADER_FOLDING", "INVALID_HEADER_FOLDING"],
        ),
        (TYPE, good.replace("\r\n", "\n"), &["LF_LINE"]),
        (TYPE, good.replacen("\r\n", "\n", 1), &["LF_LINE", "CRLF_LF_LINES"]),
        (TYPE, good.replace("\r\n1\r\n", "\r\n1\n"), &["LF_LINE", "CRLF_LF_LINES"]),
        (TYPE, good.replace("\"a\"", "'a'"), &["INVALID_QUOTING"]),
        (TYPE, good.replace("\"a\"", "a'b"), &["INVALID_QUOTING"]),
        (TYPE, good.replace("\"a\"", r#""a\\""#), &["INVALID_QUOTING"]),
        (TYPE, good.replace("\"a\"", r#""a\\b\"""#), &[]),
        ("multipart/form-data; boundary=B/b", good.replace("--B", "--B/b"), &["INVALID_QUOTING"]),
        ("multipart/form-data; boundary=B+b", good.replace("--B", "--B+b"), &[]),
        (TYPE, format!("--B\r\n{FIELD}\r\n\r\n--B--\r\n"), &["INVALID_PART"]),
        (TYPE, format!("--B\r\n{FIELD}\r\n--B--\r\n"), &["INVALID_PART"]),
        (TYPE, good.replace("\r\n1\r\n", "\r\n--C\r\n"), &["UNMATCHED_BOUNDARY"]),
        (TYPE, good.replace("\r\n1\r\n", "\r\n1--B\r\n"), &["UNMATCHED_BOUNDARY"]),
    ] {
        let parsed = of_type(content_type, &body);
        assert_eq!(parsed.error, None, "{content_type} {body:?}");
        assert_eq!(flags(&parsed), raised, "{content_type} {body:?}");
        let strict = !matches!(raised, [] | ["UNMATCHED_BOUNDARY"]);
        assert_eq!(parsed.multipart.strict_error(), strict, "{raised:?}");
    }
}

#[test]
fn the_boundary_is_found_wherever_it_stands() {
    let within = |content_type: &str, content: &str| {
        let parsed = of_type(content_type, &body(&[(FIELD, content)]));
        assert_eq!(parsed.error, None, "{content:?}");
        (parsed.multipart.unmatched_boundary, parsed.multipart.boundary_within)
    };
    assert_eq!(within(TYPE, "1--B"), (true, true));
    assert_eq!(within(TYPE, "--C--B"), (true, true));
    assert_eq!(within(TYPE, "-- \r\nA. Signature\r\n--"), (true, false));
    assert_eq!(within(TYPE, "1-B"), (false, false));
    // Lines are read in pieces of 4,096 bytes.
    for before in [4_000, 4_093, 4_094, 4_095, 4_096, 4_097, 8_190, 8_191, 8_192, 9_000] {
        let content = |end: &str| format!("{}{end}", "x".repeat(before));
        assert_eq!(within(TYPE, &content("--B")), (true, true), "{before}");
        assert_eq!(within(TYPE, &content("--B\r\n")), (true, true), "{before}");
        assert_eq!(within(TYPE, &content("--\r\nB")), (false, false), "{before}");
    }
    for stem in ["B,b", "B b", "B(b)", "B'b"] {
        let content_type = format!("multipart/form-data; boundary={stem}");
        let read = |content: &str| {
            let text = body(&[(FIELD, content)]).replace("\n--B", &format!("\n--{stem}"));
            let text = text.replacen("--B", &format!("--{stem}"), 1);
            let parsed = of_type(&content_type, &text);
            assert_eq!(parsed.error, None, "{stem} {content:?}");
            (parsed.multipart.unmatched_boundary, parsed.multipart.boundary_within)
        };
        assert_eq!(read("1--B"), (false, true), "{stem}");
        assert_eq!(read(&format!("1--{stem}")), (true, true), "{stem}");
        assert_eq!(read("1--b"), (false, false), "{stem}");
    }
}

/// As libmodsecurity 3.0.3 and later have it.
#[test]
fn a_line_of_two_dashes_is_told_apart_from_what_could_be_the_boundary() {
    let told = |boundary: &str, head: &str, content: &str| {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let text = body(&[(head, content)]).replace("--B\r\n", &format!("--{boundary}\r\n"));
        let parsed = of_type(&content_type, &text.replace("--B--", &format!("--{boundary}--")));
        assert_eq!(parsed.error, None, "{boundary} {content:?}");
        parsed.multipart.unmatched()
    };
    let long = format!("{}{}", "-".repeat(8), "0123456789".repeat(8));
    let boundaries = ["frontier", "----WebKitFormBoundary7MA4YWxkTrZu0gWa", "a=_b:c?d/e", &long];
    for boundary in boundaries {
        for head in [FIELD, FILE] {
            for honest in [
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-- a comment\n",
                "Yours\r\n-- \r\nBob",
                "--",
                "-- a comment of SQL\nselect 1",
                "------------------------------\na ruler",
                "------WebKitFormBoundaryAAAAAAAAAAAAAAAA\r\nof another body",
                "\0\x01\n--\x02",
            ] {
                assert_eq!(told(boundary, head, honest), 2, "{boundary} {honest:?}");
            }
            assert_eq!(told(boundary, head, "a - b, a -- b"), 0);
            let dashes = boundary.chars().take_while(|letter| *letter == '-').count();
            let telling = dashes + ((boundary.len().min(70) - dashes) * 3).div_ceil(4);
            let (most, less) = (&boundary[..telling], &boundary[..telling - 1]);
            for (attack, wanted) in [
                (format!("x--{boundary}"), 1),
                (format!("x\r--{boundary}--\r"), 1),
                (format!("\n--{most}\r\n{FIELD}\r\n\r\n2"), 1),
                (format!("\n--{}\r\n", boundary.to_ascii_lowercase().replace("w", "W")), 1),
                (format!("\n--{}~", boundary[..boundary.len().min(70)].to_ascii_uppercase()), 1),
                (format!("\n--{less}~"), 2),
            ] {
                if !attack.starts_with(&format!("\n--{boundary}")) {
                    assert_eq!(told(boundary, head, &attack), wanted, "{boundary} {attack:?}");
                }
            }
        }
    }
    // Wherever readers find it that take no more than a boundary may have.
    assert_eq!(told(&long, FILE, &format!("x--{}", &long[..70])), 1);
    assert_eq!(told(&long, FILE, &format!("x--{}", &long[..69])), 0);
    assert_eq!(told("B,b", FIELD, "1--B"), 1);
    // Where the boundaries themselves are not all there, no line is above suspicion.
    let open = read(&format!("--B\r\n{FIELD}\r\n\r\n1\r\n--C\r\n"));
    assert!(open.error.is_some());
    assert_eq!(open.multipart.unmatched(), 1);
    // What was not looked at is not missed.
    let mut cut = BodyReader::new(BodyKind::Multipart, TYPE.as_bytes(), &BodyLimits::default());
    cut.feed(format!("--B\r\n{FILE}\r\n\r\n1\r\n--C\r\n").as_bytes());
    assert_eq!(cut.finish_cut().multipart.unmatched(), 2);
}

#[test]
fn a_text_that_is_not_what_it_was_read_as_is_found() {
    let foreign = |head: &str, content: &str| {
        let parsed = read(&body(&[(head, content), (FIELD, "2")]));
        assert_eq!(parsed.error, None, "{head:?}");
        (parsed.multipart.foreign_charset, parsed.multipart.foreign_encoding)
    };
    let (charset, encoding, none) = ((true, false), (false, true), (false, false));
    for (header, told) in [
        ("Content-Type: text/plain; charset=utf-16le", charset),
        ("content-type: text/plain;\r\n charset=utf-7", charset),
        ("Content-Transfer-Encoding: base64", encoding),
        ("content-transfer-encoding:Quoted-Printable", encoding),
        ("Content-Type: text/plain; charset=utf-7\r\nContent-Transfer-Encoding: base64", (true, true)),
    ] {
        assert_eq!(foreign(&format!("{FIELD}\r\n{header}"), "1"), told, "{header}");
        assert_eq!(foreign(&format!("{FIELD}; filename=\"\"\r\n{header}"), "1"), told, "{header}");
        // What is in a file no rule on fields looks at.
        assert_eq!(foreign(&format!("{FIELD}; filename=\"a\"\r\n{header}"), "1"), none, "{header}");
    }
    for header in [
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Type: application/json",
        "Content-Transfer-Encoding: 8bit",
        "Content-Transfer-Encoding: BINARY",
        "X-Type: text/plain; charset=utf-7",
    ] {
        assert_eq!(foreign(&format!("{FIELD}\r\n{header}"), "1"), none, "{header}");
    }
    let says = "Content-Disposition: form-data; name=\"_charset_\"";
    assert_eq!(foreign(says, "utf-7"), charset);
    assert_eq!((foreign(says, "UTF-8"), foreign(says, "")), (none, none));
}

#[test]
fn every_visible_letter_may_stand_in_a_header_name() {
    for name in ["Content!X", "Content~X", "X'1", "x"] {
        assert_eq!(read(&body(&[(&format!("{name}: y\r\n{FIELD}"), "1")])).error, None, "{name}");
    }
}

#[test]
fn a_quote_within_double_quotes_is_a_letter() {
    let parsed =
        read(&body(&[("Content-Disposition: form-data; name=\"f\"; filename=\"O'Brien.txt\"", "x")]));
    assert_eq!(flags(&parsed), &[] as &[&str]);
    assert_eq!(parsed.files[0].filename, b"O'Brien.txt");
}

#[test]
fn a_boundary_that_readers_read_differently_is_an_error() {
    let good = body(&[(FIELD, "1")]);
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; Boundary=B",
        "multipart/form-data; boundary=B; boundary=C",
        "multipart/form-data; boundary",
        "multipart/form-data; boundaryx=B",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"B",
        "multipart/form-data; boundary=B\"",
        "multipart/form-data; boundary=B;charset=utf-7",
        "multipart/form-data; boundary=B; charset=",
        "multipart/form-data; boundary=B; charset=\"utf-8",
        "multipart/form-data; boundary=B ; charset=utf-8",
        "multipart/form-data; boundary=B; charset =utf-8",
        "multipart/form-data; boundary=B; charset*=utf-8",
        "multipart/form-data; boundary=B; charset=utf-8; charset=utf-8",
        "multipart/form-data; boundary=B; charset=utf-8; boundary=C",
        "multipart/form-data; boundary=B; boundary=C; charset=utf-8",
        "multipart/form-data; boundary=B; charset=\"boundary=C\"",
        "multipart/form-data; boundary=\"B; charset=utf-8\"",
        "multipart/form-data; boundary=B; type=utf-8",
        "multipart/form-data; boundary=B; charset=utf-8;",
        "multipart/form-data; boundary=B;",
        "multipart/form-data; charset=utf-8; boundary=B",
        "multipart/form-data; boundary=aboundary=b",
        "multipart/form-data; boundary=a\u{e4}",
        "multipart/mixed; boundary=B",
    ] {
        let parsed = of_type(content_type, &good);
        assert!(parsed.error.is_some() && parsed.multipart.strict_error(), "{content_type}");
        assert!(parsed.args.is_empty());
    }
    let long = format!("{TYPE}{}", "x".repeat(1025 - TYPE.len()));
    assert!(of_type(&long, "").error.unwrap().contains("length"));
    assert_eq!(of_type(&long[..1024], "").error, None);
    for boundary in [
        "'()+_,-./:=?",
        "a b",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "boundary",
        "----geckoformboundary5c1b",
    ] {
        let read = of_type(&format!("multipart/form-data; boundary={boundary}"), "");
        assert_eq!(read.error, None, "{boundary}");
    }
}

#[test]
fn a_body_that_readers_read_differently_is_an_error() {
    let good = body(&[(FIELD, "1")]);
    for (bad, why) in [
        ("x\r\n".to_owned(), "No boundaries"),
        (good.replace("--B--\r\n", ""), "Final boundary missing"),
        (good.replace("--B--", "--B-- "), "Invalid boundary"),
        (good.replacen("--B\r\n", "--Bx\r\n", 1), "Invalid boundary"),
        (good.replace("--B--", "-- B--"), "whitespace"),
        (good.replace("name=\"a\"", "name=\"a\"; name=\"b\""), "-14"),
        (good.replace("name=\"a\"", "name=\"a\"; filename=\"b\"; filename=\"c\""), "-15"),
        (good.replace("name=\"a\"", "name*=UTF-8''a"), "-11"),
        (good.replace("name=\"a\"", "name=\"a\"; filename*0=b"), "-11"),
        (good.replace("--B--", "--B; charset=utf-8--"), "Invalid boundary"),
        (good.replace("form-data", "attachment"), "-1"),
        (good.replace("name=\"a\"", "name=\"a"), "-10"),
        (good.replace("name=\"a\"", "name"), "-4"),
        (good.replace("name=\"a\"", "name=\"a\"x"), "-12"),
        (good.replace("name=\"a\"", "name=\"a\"; filename =\"x\""), "filename"),
        (good.replace("; name=\"a\"", ""), "missing name"),
        (good.replace("Content-Disposition", "Content-Type"), "missing Content-Disposition"),
        (good.replace("Content-Disposition: ", "Content-Disposition "), "colon missing"),
        (good.replace("Content-D", "\u{e}Content-D"), "invalid character"),
        (good.replace("Content-D", "Content- D"), "invalid character"),
        (good.replace("Content-D", "Content-\u{7f}D"), "invalid character"),
        (good.replace("Content-Disposition", ""), "name missing"),
        (good.replace("name=", "\0name="), "Nul byte"),
        (good.replace("name=\"a\"", "name=\"a\rb\""), "control character"),
        (good.replace(FIELD, &format!("{FIELD}\r\nx: y\r\r2")), "control character"),
        (good.replace("form-data; ", "form-data;\r\n x\r; "), "control character"),
        (good.replace("name=\"a\"", "name={a}"), "-12"),
        (good.replace(FIELD, &format!("{FIELD}\r\n{FIELD}")), "Duplicate part header"),
        (good.replace("Content-D", " Content-D"), "folding"),
        (good.replace(FIELD, &format!("{FIELD}\r\nx: {}", "y".repeat(4096))), "over 4096"),
    ] {
        let parsed = read(&bad);
        let error = parsed.error.as_deref().unwrap_or_else(|| panic!("{bad:?} was taken"));
        assert!(error.contains(why), "{bad:?}: {error}, not {why}");
        assert!(error.starts_with("Multipart parsing error: "), "{error}");
        assert!(parsed.multipart.strict_error());
    }
    let quoted = of_type("multipart/form-data; boundary=\"B\"", &good.replacen("--B\r\n", "--\"B\"\r\n", 1));
    assert!(quoted.error.unwrap().contains("quotes"));
}

#[test]
fn the_last_boundary_needs_no_line_end() {
    let parsed = read(body(&[(FIELD, "1")]).trim_end());
    assert_eq!((parsed.error.as_deref(), args(&parsed)), (None, vec!["a=1".to_owned()]));
    assert_eq!(read("").error, None);
}

#[test]
fn what_was_sent_is_seen_even_when_it_was_not_sent_whole() {
    let parsed = read(&format!("--B\r\n{FIELD}\r\n\r\n<script>"));
    assert!(parsed.error.is_some());
    assert_eq!(args(&parsed), ["a=<script>"]);
}

#[test]
fn a_body_that_was_cut_by_us_has_no_error() {
    let mut reader = BodyReader::new(BodyKind::Multipart, TYPE.as_bytes(), &BodyLimits::default());
    reader.feed(format!("--B\r\n{FIELD}\r\n\r\n<script>").as_bytes());
    let parsed = reader.finish_cut();
    assert_eq!((parsed.error.as_deref(), args(&parsed)), (None, vec!["a=<script>".to_owned()]));
}

#[test]
fn files_parts_and_bytes_are_held_at_their_limits() {
    let with = |limits: BodyLimits, body: &str| read_with(BodyKind::Multipart, TYPE, body, &limits);
    let limits = BodyLimits { files_max: 1, parts_max: 2, ..BodyLimits::default() };
    assert!(!with(limits.clone(), &body(&[(FILE, "x")])).multipart.file_limit_exceeded);
    let over = with(limits.clone(), &body(&[(FILE, "x"), (FILE, "y")]));
    assert!(over.multipart.file_limit_exceeded && over.multipart.strict_error());
    assert!(
        with(limits, &body(&[(FIELD, "x"), (FIELD, "y"), (FIELD, "z")])).error.unwrap().contains("2 parts")
    );
    let limits = BodyLimits { arguments_max: 1, ..BodyLimits::default() };
    assert_eq!(with(limits.clone(), &body(&[(FIELD, "x")])).error, None);
    assert!(with(limits, &body(&[(FIELD, "x"), (FIELD, "y")])).error.unwrap().contains("SecArgumentsLimit"));
    // Files do not count, header lines and fields do.
    let counted = (FILE.len() + 4 + FIELD.len() + 4 + 10) as u64;
    let both = body(&[(FILE, &"f".repeat(100_000)), (FIELD, &"v".repeat(10))]);
    let limits = BodyLimits { no_files_bytes_max: counted, ..BodyLimits::default() };
    assert_eq!(with(limits.clone(), &both).error, None);
    let over = with(BodyLimits { no_files_bytes_max: counted - 1, ..limits }, &both);
    assert!(over.over_no_files_limit && over.error.is_some());
}

#[test]
fn the_content_of_files_is_kept_up_to_its_limit() {
    let limits = BodyLimits { files_content_bytes_max: 5, ..BodyLimits::default() };
    let parsed = read_with(BodyKind::Multipart, TYPE, body(&[(FILE, "abcd"), (FILE, "efgh")]), &limits);
    let kept: Vec<_> = parsed.files.iter().map(|file| (file.content.as_slice(), file.size)).collect();
    assert_eq!(kept, [(&b"abcd"[..], 4), (b"e", 4)]);
}

#[test]
fn many_header_lines_are_an_error() {
    let lines = |count: usize| {
        let more: String = (1..count).map(|number| format!("\r\nx{number}: y")).collect();
        read(&body(&[(&format!("{FIELD}{more}"), "1")])).error
    };
    assert_eq!(lines(64), None);
    assert!(lines(65).unwrap().contains("64 headers"));
}
