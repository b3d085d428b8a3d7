use super::*;
use regex::bytes::RegexBuilder;

fn matches(pattern: &str, value: &[u8]) -> bool {
    let translated = translate(pattern).unwrap_or_else(|fault| panic!("{pattern}: {fault:?}"));
    RegexBuilder::new(&translated)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
        .unwrap_or_else(|error| panic!("{pattern} as {translated}: {error}"))
        .is_match(value)
}

/// A pattern, what it matches and what it does not.
type Row = (&'static str, &'static [&'static [u8]], &'static [&'static [u8]]);

/// Each pattern with values that PCRE matches and values that it does not.
#[test]
fn a_pattern_matches_what_pcre_matches() {
    let table: &[Row] = &[
        ("a.b", &[b"a\nb", b"a\xffb"], &[b"ab"]),
        ("a$", &[b"a"], &[b"a\n"]),
        (r"a\Z", &[b"a", b"a\n"], &[b"a\nb"]),
        (r"(?m)a$", &[b"a\nb"], &[b"ab"]),
        (r"\x{3c}\x3c\x3", &[b"<<\x03"], &[b"<<3"]),
        (r"\x{a9}", &[b"\xa9"], &[b"a9", b"\xc2"]),
        ("é+$", &[b"\xc3\xa9\xa9"], &[b"\xc3"]),
        (r"[[\]]", &[b"[", b"]"], &[b"\\"]),
        (r"[a[bc]]", &[b"a]", b"[]"], &[b"a"]),
        (r"[a&&b]c", &[b"ac", b"&c"], &[b"c"]),
        (r"[!--b]", &[b",", b"b", b"-"], &[b"a"]),
        (r"[~~x]", &[b"~", b"x"], &[b"y"]),
        (r"[]a]", &[b"]", b"a"], &[b"["]),
        (r"[^]a]", &[b"b"], &[b"]", b"a"]),
        (r"[a-]", &[b"-", b"a"], &[b"b"]),
        (r"[-a]", &[b"-", b"a"], &[b"b"]),
        (r"[\d-x]", &[b"-", b"x", b"3"], &[b"y"]),
        (r"[a-\d]", &[b"-", b"a", b"3"], &[b"b"]),
        (r"[+--]", &[b"+", b",", b"-"], &[b"."]),
        (r"[\b]", &[b"\x08"], &[b"b"]),
        (r"[\1\12]", &[b"\x01", b"\n"], &[b"1"]),
        (r"[[:alpha:]\d]", &[b"a", b"1"], &[b"[", b":"]),
        (r"[[:^digit:]]", &[b"a"], &[b"1"]),
        (r"\<a\>", &[b"<a>"], &[b"a"]),
        (r"\v", &[b"\n", b"\x0b", b"\x85"], &[b" ", b"v"]),
        (r"\h\H", &[b"\xa0x"], &[b"\t\t"]),
        (r"[\h\v]", &[b"\t", b"\r"], &[b"x"]),
        (r"\N\e\a\cA", &[b"x\x1b\x07\x01"], &[b"\n\x1b\x07\x01"]),
        (r"\0\012", &[b"\0\n"], &[b"0"]),
        (r"a{,3}", &[b"a{,3}"], &[b"aa"]),
        (r"a{2}", &[b"aa"], &[b"a"]),
        (r"${jndi", &[], &[b"x"]),
        (r"\${j", &[b"${j"], &[b"j"]),
        ("{}", &[b"{}"], &[b"x"]),
        (r"\Qa.b[\E+", &[b"a.b[[", b"a.b["], &[b"axb["]),
        (r"(?#note)a", &[b"a"], &[b"note"]),
        ("(?x) a b # c\n [ ] d", &[b"ab d"], &[b"a b d"]),
        ("(?x: a b ) c", &[b"ab c"], &[b"abc"]),
        (r"(?<n>a)(?'m'b)(?P<o>c)", &[b"abc"], &[b"ab"]),
        (r"(?i)sELECT", &[b"Select"], &[b"selec"]),
        (r"(?i:a)B", &[b"AB"], &[b"ab"]),
        (r"a|(?-i)b", &[b"b"], &[b"B"]),
        (r"\.\-\ \_\/\#\&\~", &[b".- _/#&~"], &[b"x"]),
        (r"a\s\S\w\W\d\Db", &[b"a \xe9_-0.b"], &[b"ab"]),
        (r"\s", &[b"\x0b"], &[b"\xa0"]),
        (r"\w", &[b"_"], &[b"\xe9"]),
        (r"\d++x", &[b"12x"], &[b"x"]),
        (r"[a-z]*+\d", &[b"ab1"], &[b"ab"]),
        (r"a++$", &[b"baa"], &[b"ab"]),
        (r"(?:ab)++", &[b"abab"], &[b"ba"]),
        (r"x?+", &[b""], &[]),
        (r"\yz", &[b"yz"], &[b"z"]),
    ];
    for (pattern, yes, no) in table {
        for value in *yes {
            assert!(matches(pattern, value), "{pattern} must match {}", value.escape_ascii());
        }
        for value in *no {
            assert!(!matches(pattern, value), "{pattern} must not match {}", value.escape_ascii());
        }
    }
}

#[test]
fn what_means_something_else_is_refused_with_its_place() {
    for (pattern, offset, reason) in [
        ("a(?=b)", 1, "lookaround"),
        ("a(?!b)", 1, "lookaround"),
        ("(?<=a)b", 0, "lookaround"),
        ("(?<!a)b", 0, "lookaround"),
        (r"(a)\1", 3, "backreferences"),
        (r"(?P<q>a)(?P=q)", 8, "backreferences"),
        (r"(a)\g1", 3, "backreferences"),
        ("x(?>a|ab)c", 1, "atomic"),
        (r"\d++1", 3, "possessive"),
        (r"\d++1?x", 3, "possessive"),
        ("(?:a|ab)++c", 9, "possessive"),
        ("(a++)a", 3, "possessive"),
        (r"a++\w", 2, "possessive"),
        ("(?|a|b)", 0, "share numbers"),
        ("(?R)", 0, "recursion"),
        ("(?(1)a|b)", 0, "conditional"),
        ("(*UTF8)a", 0, "verbs"),
        (r"a\Kb", 1, "not supported"),
        (r"\p{L}", 0, "not supported"),
        (r"a\R", 1, "not supported"),
        (r"\x{2019}", 0, "no byte"),
        ("a)", 1, "closes no group"),
        ("[a", 0, "does not end"),
        ("[a--b]", 3, "before it starts"),
        ("[z-a]", 3, "before it starts"),
        ("a\\", 1, "backslash"),
        ("[[:foo:]]", 1, "not known"),
        ("(?y)", 2, "after `(?`"),
    ] {
        let fault = translate(pattern).expect_err(pattern);
        assert!(fault.message.contains(reason), "{pattern}: {}", fault.message);
        assert_eq!(fault.offset, offset, "{pattern}: {}", fault.message);
    }
}
