//! The comparison with PCRE itself, where Debian's libpcre2 and Python are installed.

use super::super::super::tests::{Files, compile};
use crate::operator::{Found, found::CAPTURES_MAX};
use std::io::Write;
use std::process::{Command, Stdio};

/// Patterns of each construct that is translated, beside those of the Core Rule Set.
const PATTERNS: &[&str] = &[
    r"a.b",
    r"(?i)sel(ect)?",
    r"[[\]a]+",
    r"[a&&b]+",
    r"[+--]+",
    r"[!--b]x",
    r"\<a\>",
    r"\v|\h",
    r"[\v\h]+x",
    r"\N+",
    r"a{,3}",
    r"a{2,3}b",
    r"{x}",
    r"\Qa.b[\E+",
    r"(?x) a b # c",
    r"(?<n>a)(b)?",
    r"(a|ab)(c|bcd)(d*)",
    r"\d++x",
    r"[a-z]*+\d",
    r"a\Z",
    r"a$",
    r"(?m)^a$",
    r"(?s-i:A).",
    r"[[:alpha:][:digit:]_]+",
    r"[^[:space:]]+",
    r"\x{41}|\x4|\x",
    r"[\x00-\x1f\x7f-\xff]",
    r"\W\B.",
    r"(?:(a)|b)*",
    r"((a)|(b))+",
    r"(x?)*y",
    r"a*?b",
    r"(?U)a*b",
    r"\0|\012|[\12]",
    r"\cA|\e",
    r"(?i)[k-s]+\b",
    r"[\w-]+",
    r"[a-\d]",
    r"\s+\S",
    r"(\()?x(\))?",
    r"^$",
    r"",
    r"\bfoo\b|bar",
    r"[^\n]+",
    r"(a){0}b",
    r"(?:){3}a",
    r"\/\.\-\#",
    r"[\]\-\\]+",
    r"]",
    r"}",
];

/// What PCRE says of each value and each pattern: the captured groups, none where nothing
/// matches. The outer option of a pattern is none where PCRE does not take it.
fn pcre(patterns: &[String], values: &[Vec<u8>]) -> Option<Vec<Option<Vec<String>>>> {
    let script = r"
import ctypes, sys
try:
    library = ctypes.CDLL('libpcre2-8.so.0')
except OSError:
    sys.exit(3)
for name in ('pcre2_compile_8', 'pcre2_match_data_create_8', 'pcre2_get_ovector_pointer_8'):
    getattr(library, name).restype = ctypes.c_void_p
text, at = sys.stdin.buffer.read(), 0
def block():
    global at
    count = int.from_bytes(text[at:at + 4], 'little')
    at += 4
    items = []
    for _ in range(count):
        size = int.from_bytes(text[at:at + 4], 'little')
        items.append(text[at + 4:at + 4 + size])
        at += 4 + size
    return items
patterns, values = block(), block()
data = library.pcre2_match_data_create_8(10, None)
# DOTALL and DOLLAR_ENDONLY, as ModSecurity 2.9 sets them.
for pattern in patterns:
    code, offset = ctypes.c_int(), ctypes.c_size_t()
    compiled = library.pcre2_compile_8(pattern, ctypes.c_size_t(len(pattern)), 0x20 | 0x10, ctypes.byref(code), ctypes.byref(offset), None)
    if not compiled:
        print('refused', code.value)
        continue
    out = []
    for value in values:
        count = library.pcre2_match_8(ctypes.c_void_p(compiled), value, ctypes.c_size_t(len(value)), ctypes.c_size_t(0), 0, ctypes.c_void_p(data), None)
        if count == -1:
            out.append('-')
        elif count < 0:
            out.append('?')
        else:
            pairs = ctypes.cast(library.pcre2_get_ovector_pointer_8(ctypes.c_void_p(data)), ctypes.POINTER(ctypes.c_size_t))
            groups = [(pairs[2 * i], pairs[2 * i + 1]) for i in range(count or 10)]
            out.append(','.join('' if s == 2 ** 64 - 1 else '%d:%d' % (s, e) for s, e in groups))
    print(' '.join(['ok'] + out))
";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut input = Vec::new();
    let blocks = [
        patterns.iter().map(String::as_bytes).collect::<Vec<_>>(),
        values.iter().map(Vec::as_slice).collect(),
    ];
    for block in blocks {
        input.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        for item in block {
            input.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
            input.extend(item);
        }
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "PCRE's process ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    Some(
        text.lines()
            .map(|line| line.strip_prefix("ok ").map(|line| line.split(' ').map(str::to_owned).collect()))
            .collect(),
    )
}

/// What is found here, written as PCRE's answer is.
fn ours(found: &Found, matches: bool, value: &[u8]) -> String {
    if !matches {
        return "-".to_owned();
    }
    let groups: Vec<String> = (0..found.len())
        .map(|index| {
            let place = |group: &[u8]| {
                let start = group.as_ptr().addr() - value.as_ptr().addr();
                format!("{start}:{}", start + group.len())
            };
            found.get(value, index).map(place).unwrap_or_default()
        })
        .collect();
    // PCRE does not count the groups at the end that took no part.
    groups.join(",").trim_end_matches(',').to_owned()
}

/// Values that match now and then, the same in each run.
fn values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        "",
        "a",
        "ab\nb",
        "a\n",
        "SELECT",
        "sel",
        "[a]",
        "]",
        "a&&b",
        "+,-",
        "!x",
        "-x",
        "<a>",
        "a\u{b}\tx",
        "aa",
        "a{,3}",
        "aab",
        "{x}",
        "a.b[[",
        "abcd",
        "12x",
        "abc1",
        "b\na\n",
        "A\n",
        "A\x04",
        "  x",
        "(x)",
        "xxy",
        "\u{1}\u{1b}",
        "foo bar",
        "foobar",
        "b",
        "/.-#",
        "a-b]\\",
        "}",
        "1 union select 1",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "() { :;}; echo",
        "${jndi:ldap://x}",
        "; cat /etc/passwd",
        "`id`",
        "' or 1=1 --",
        "onload=alert(1)",
        "javascript:x",
        "O'Brien",
        "Mozilla/5.0 (X11; Linux x86_64)",
        "text/html; charset=utf-8",
        "application/json",
        "bytes=0-100",
        "GET / HTTP/1.1",
        "a=b&c=d",
        "<?php system('id');",
        "\0\u{ff}",
        "http://169.254.169.254/latest",
        "x\r\nSet-Cookie: a=b",
        "{{7*7}}",
        "%{#a}",
        "T(java.lang.Runtime)",
        "ORA-00933: x",
    ]
    .iter()
    .map(|text| text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect())
    .collect();
    let seeds = values.len();
    let mut state = 7_u64;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % sides
    };
    while values.len() < 150 {
        let mut value = values[roll(seeds)].clone();
        let other = values[roll(seeds)].clone();
        let at = roll(value.len() + 1);
        value.splice(at..at, other);
        values.push(value);
    }
    values
}

/// Every expression of the Core Rule Set and every translated construct finds the same
/// text and the same groups as PCRE.
#[test]
fn expressions_find_what_pcre_finds() {
    let mut patterns: Vec<String> = PATTERNS.iter().map(|pattern| (*pattern).to_owned()).collect();
    patterns.extend(super::rule_set_patterns());
    let values = values();
    let Some(answers) = pcre(&patterns, &values) else {
        eprintln!("skipped: python3 with libpcre2-8.so.0 (Debian: libpcre2-8-0) is not installed");
        return;
    };
    assert_eq!(answers.len(), patterns.len());
    let (mut compared, mut matched, mut different) = (0, 0, Vec::new());
    for (pattern, answers) in patterns.iter().zip(&answers) {
        let Some(answers) = answers else { continue };
        let operator =
            compile("rx", pattern, &Files(&[])).unwrap_or_else(|fault| panic!("{pattern}: {fault}"));
        let mut found = Found::default();
        for (value, answer) in values.iter().zip(answers) {
            // PCRE gave up.
            if answer == "?" {
                continue;
            }
            let matches = operator.evaluate(value, None, &mut found);
            let expected: Vec<&str> = answer.split(',').take(CAPTURES_MAX).collect();
            let (ours, theirs) = (ours(&found, matches, value), expected.join(","));
            if ours != theirs.trim_end_matches(',') {
                different.push(format!("{ours:?} for {theirs:?}: {pattern} in {}", value.escape_ascii()));
            }
            compared += 1;
            matched += usize::from(matches);
        }
    }
    println!("{compared} comparisons, {matched} matches");
    assert!(
        compared > PATTERNS.len() * 140 && matched > compared / 100,
        "{compared} comparisons, {matched} matches"
    );
}
