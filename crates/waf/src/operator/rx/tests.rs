mod oracle;

use super::super::found::CAPTURES_MAX;
use super::super::tests::{Files, compile as operator, expect, expect_expanded, fault_of, finds};
use super::*;
use proptest::prelude::*;

fn groups(name: &str, pattern: &str, value: &[u8]) -> Vec<Option<String>> {
    let mut found = Found::default();
    assert!(operator(name, pattern, &Files(&[])).unwrap().evaluate(value, None, &mut found), "{pattern}");
    (0..found.len())
        .map(|index| found.get(value, index).map(|group| group.escape_ascii().to_string()))
        .collect()
}

#[test]
fn expressions_match_bytes() {
    expect("rx", "(?i)^sel.ct$", &[b"SELECT", b"sel\nct"], &[b"select\n", b" select", b""]);
    expect("rx", r"\xff\x00", &[b"a\xff\0"], &[b"\xc3\xbf\0"]);
    expect("rx", "", &[b"", b"x"], &[]);
    expect("rxGlobal", "b", &[b"abc"], &[b"ac"]);
    assert_eq!(finds("rx", "b+", b"abbc"), Some(b"bb".to_vec()));
}

#[test]
fn at_most_ten_groups_are_kept() {
    let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        groups("rx", "a(b)(c)?(d)", b"xabd"),
        [Some("abd".into()), Some("b".into()), None, Some("d".into())]
    );
    assert_eq!(groups("rx", "(a)(b)(c)(d)(e)(f)(g)(h)(i)", b"abcdefghi").len(), CAPTURES_MAX);
    let eleven = groups("rx", "(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)", b"abcdefghijk");
    assert_eq!(eleven, some(&["abcdefghijk", "a", "b", "c", "d", "e", "f", "g", "h", "i"]));
}

#[test]
fn what_matches_all_of_any_value_is_not_run() {
    for pattern in WHOLE {
        let known = Pattern::new(pattern, false).unwrap();
        assert!(known.whole && !Pattern::new(pattern, true).unwrap().whole, "{pattern}");
        for value in [&b""[..], b"a", b"a\nb\n", b"\n", b"\xff\0"] {
            let (mut shortly, mut fully) = (Found::default(), Found::default());
            assert!(known.evaluate(value, &mut shortly));
            assert!(search(known.regex().unwrap(), value, false, &mut fully));
            assert_eq!((shortly.get(value, 0), shortly.len()), (fully.get(value, 0), fully.len()));
        }
    }
    for pattern in ["^.+$", "^.*a", "^(.*)$", "^.*?", "^.?$"] {
        assert!(!Pattern::new(pattern, false).unwrap().whole, "{pattern}");
    }
}

#[test]
fn of_many_matches_the_last_one_is_kept() {
    assert_eq!(
        groups("rxGlobal", r"(\d)(x)?", b"1x 2 3"),
        [Some("3".into()), Some("3".into()), Some("x".into())]
    );
    assert_eq!(groups("rxGlobal", "x*", b"ab"), [Some(String::new())]);
    assert_eq!(groups("rx", r"(\d)", b"1 2"), [Some("1".into()), Some("1".into())]);
}

#[test]
fn an_expression_with_macros_is_compiled_when_it_is_known() {
    expect_expanded("rx", "^%{tx.a}$", b"^a+$", &[b"a", b"aa"], &[b"b", b"%{tx.a}"]);
    let expanding = Expanding::new(false);
    let mut found = Found::default();
    for (text, value, expected) in
        [(&b"a"[..], &b"a"[..], true), (b"b", b"a", false), (b"b", b"b", true), (b"a", b"b", false)]
    {
        assert_eq!(expanding.evaluate(value, text, &mut found), expected);
    }
    let longest = vec![b'a'; Expanding::EXPANDED_LENGTH_MAX];
    assert!(expanding.evaluate(&longest, &longest, &mut found) && found.fault().is_none());
    found.clear();
    let longer = vec![b'a'; Expanding::EXPANDED_LENGTH_MAX + 1];
    assert!(!expanding.evaluate(&longer, &longer, &mut found));
    assert!(found.fault().unwrap().contains(&Expanding::EXPANDED_LENGTH_MAX.to_string()));
    for (count, fits) in [(9, true), (10, false)] {
        found.clear();
        let text = format!("(?:a{{1000}}){{{count}}}|b");
        assert_eq!(expanding.evaluate(b"b", text.as_bytes(), &mut found), fits, "{count}");
        assert_eq!(found.fault().is_some(), !fits, "{count}");
    }
}

#[test]
fn an_expanded_expression_is_compiled_once_for_all_values_and_paid_for() {
    let (one, other) = (Expanding::new(false), Expanding::new(true));
    let mut found = Found::default();
    let mut costs = |expanding: &Expanding, text: &[u8]| {
        expanding.evaluate(b"a value", text, &mut found);
        found.clear();
        found.take_work()
    };
    // The first text is kept for all transactions, the last one for this.
    assert!(costs(&one, b"first") > 0);
    for text in [&b"second"[..], b"third", b"(?:x{1000}){9}"] {
        assert!(costs(&one, text) > 0);
        assert_eq!([costs(&one, text), costs(&one, b"first"), costs(&one, text)], [0, 0, 0]);
    }
    assert!(costs(&one, b"(?:y{1000}){9}") > 9_000, "a long one costs more");
    // What one operator compiled is none of another kind's.
    assert!(costs(&other, b"first") > 0);
    assert!(costs(&one, b"last") > 0 && costs(&other, b"last") > 0);
}

proptest! {
    #[test]
    fn what_a_macro_brings_matches_itself_alone(text in proptest::collection::vec(any::<u8>(), 0..40), other in proptest::collection::vec(any::<u8>(), 0..40)) {
        for (before, after) in [("^", "$"), ("^(?:", ")$"), ("(?x)^", "$"), ("(?s)^", "$")] {
            let mut expression = before.as_bytes().to_vec();
            escape(&text, &mut expression);
            expression.extend_from_slice(after.as_bytes());
            let expanding = Expanding::new(false);
            let mut found = Found::default();
            prop_assert!(expanding.evaluate(&text, &expression, &mut found), "{:?} {:?}", expression, found.fault());
            prop_assert_eq!(expanding.evaluate(&other, &expression, &mut found), text == other);
        }
        let mut class = b"^[".to_vec();
        escape(&text, &mut class);
        class.extend_from_slice(b"x]$");
        let expanding = Expanding::new(false);
        for byte in 0..=255_u8 {
            let expected = text.contains(&byte) || byte == b'x';
            prop_assert_eq!(expanding.evaluate(&[byte], &class, &mut Found::default()), expected, "{}", byte);
        }
    }
}

#[test]
fn limits_hold_at_load() {
    let fits = "a".repeat(PATTERN_LENGTH_MAX);
    // Length alone: states are a limit of their own.
    assert!(Pattern::new(&"(?i)".repeat(PATTERN_LENGTH_MAX / 4), false).is_ok());
    assert!(matches!(fault_of("rx", &format!("{fits}a")), OperatorFault::Argument { .. }));
    let counted = |times: u64| format!("(?:a{{1000}}){{{times}}}");
    assert!(Pattern::new(&counted(99), false).is_ok());
    match fault_of("rx", &counted(100)) {
        OperatorFault::Argument { message, .. } => assert!(message.contains("states"), "{message}"),
        fault => panic!("{fault:?}"),
    }
    let nested = |depth: u32| format!("{}a{}", "(?:".repeat(depth as usize), ")".repeat(depth as usize));
    assert!(Pattern::new(&nested(GROUP_DEPTH_MAX), false).is_ok());
    assert!(matches!(fault_of("rx", &nested(GROUP_DEPTH_MAX + 1)), OperatorFault::Argument { .. }));
}

#[test]
fn what_passes_the_check_compiles() {
    for pattern in ["(?:a{1000}){99}", r"(?:[a-z]{10}|\d){5500}", r"(?i)(?:\w{100}\W){600}"] {
        let pattern = Pattern::new(pattern, false).unwrap();
        assert!(pattern.regex().is_ok());
    }
}

/// A value that takes an exponential time with backtracking; here it just ends.
#[test]
fn nested_repetition_is_linear_cve_2019_11387() {
    let value = [vec![b'a'; 50_000], vec![b'!']].concat();
    expect("rx", "^(a+)+$", &[b"aaa"], &[&value]);
    expect("rx", r"(?:(?:\s*)+)+\(", &[b" ("], &[&vec![b' '; 20_000]]);
}

/// Expressions of the shapes that rule files have, and texts that often match them.
fn shapes() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        "[a-c]{1,3}",
        Just("[sS][eE]".to_owned()),
        Just(r"\s".to_owned()),
        Just(".".to_owned()),
        Just(r"\d".to_owned()),
        Just("<".to_owned()),
        Just(r"\b".to_owned()),
        Just("[^a]".to_owned()),
        Just("(?i:Ab)".to_owned()),
        Just(r"\x3c".to_owned()),
    ];
    atom.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            (
                inner.clone(),
                prop::sample::select(&["?", "*", "+", "{2}", "{1,2}", "{0,3}", "{2,}", "+?"][..])
            )
                .prop_map(|(part, times)| format!("(?:{part}){times}")),
            inner.prop_map(|part| format!("({part})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// An expression matches only what contains one of its literals.
    #[test]
    fn a_match_contains_a_literal(pattern in shapes(), values in prop::collection::vec("[a-cA-C<sSeE1 \"]{0,12}", 12)) {
        let pattern = Pattern::new(&pattern, false).unwrap();
        let Some(literals) = pattern.literals() else { return Ok(()) };
        for value in values {
            let mut found = Found::default();
            let known = classes::of(value.as_bytes()) & pattern.unless() == 0;
            if pattern.evaluate(value.as_bytes(), &mut found) && known {
                let folded = value.to_ascii_lowercase();
                prop_assert!(
                    literals.iter().any(|literal| memchr::memmem::find(folded.as_bytes(), literal.bytes()).is_some()),
                    "{} matches {value:?} without any of {literals:?}", pattern.source
                );
            }
        }
    }
}

/// A word that signs may take apart is looked for whole in values without such signs.
#[test]
fn words_taken_apart_are_looked_for_where_no_sign_could_hide_them() {
    let literals = |pattern: &str| {
        let pattern = Pattern::new(pattern, false).unwrap();
        let literals =
            pattern.literals().map(|literals| literals.iter().map(|one| one.bytes().to_vec()).collect());
        (literals, pattern.unless())
    };
    let some = |texts: &[&str]| Some(texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(literals(r#"n["'\\]*e['"]*t"#), (some(&["net"]), classes::QUOTE | classes::BACKSLASH));
    assert_eq!(literals(r#"(?:n['"]*c|w['"]+x|c['"]*p)\s*[0-9]"#).0, some(&["cp", "nc"]));
    assert_eq!(literals(r#"net['"]*"#), (some(&["net"]), 0));
    assert_eq!(literals(r#"n['"]*"#), (None, 0));
}

/// The expressions of the Core Rule Set, where it is at hand.
fn rule_set_patterns() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crs/rules");
    let Ok(files) = std::fs::read_dir(&folder) else { return Vec::new() };
    let rule = regex::Regex::new(r#"(?m)^\s*SecRule\s+\S+\s+"!?@rx ((?:[^"\\]|\\.)*)""#).unwrap();
    let mut patterns = Vec::new();
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|end| end == "conf")) {
        let text = std::fs::read_to_string(file.path()).unwrap().replace("\\\n", "");
        patterns.extend(rule.captures_iter(&text).map(|captures| captures[1].replace("\\\"", "\"")));
    }
    patterns
}

/// All expressions of the Core Rule Set compile, and most need a literal.
#[test]
fn the_core_rule_set_compiles() {
    let patterns = rule_set_patterns();
    if patterns.is_empty() {
        eprintln!("skipped: no rule set in ../shared/crs/rules");
        return;
    }
    let mut without = Vec::new();
    for source in &patterns {
        let pattern = Pattern::new(source, false).unwrap_or_else(|fault| panic!("{source}: {fault}"));
        assert!(pattern.regex().is_ok(), "{source}");
        if pattern.literals().is_none() {
            without.push(source.as_str());
        }
    }
    let (all, with_literals) = (patterns.len(), patterns.len() - without.len());
    println!("{with_literals} of {all} expressions need a literal; without:\n{}", without.join("\n"));
    assert!(all >= 300, "only {all} expressions were found");
    assert!(with_literals * 100 >= all * 80, "only {with_literals} of {all} need a literal");
}
