//! What holds for every operator, and the helpers of the operators' own tests.

use super::*;
use crate::sources::SourceFault;
use proptest::prelude::*;

/// Files in memory.
pub(super) struct Files<'a>(pub(super) &'a [(&'a str, &'a [u8])]);

impl Sources for Files<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        let file = self.0.iter().find(|(known, _)| *known == path);
        file.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| SourceFault("no such file".to_owned()))
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

pub(super) fn compile(name: &str, argument: &str, files: &Files<'_>) -> Result<Operator, OperatorFault> {
    Operator::compile(name, argument, false, files, "rules/main.conf")
}

/// The operator must match the first values and not the second.
pub(super) fn expect(name: &str, argument: &str, yes: &[&[u8]], no: &[&[u8]]) {
    let operator =
        compile(name, argument, &Files(&[])).unwrap_or_else(|fault| panic!("@{name} {argument}: {fault}"));
    check(&operator, name, argument, None, yes, no);
}

/// The same with an argument that holds macros and its expansion.
pub(super) fn expect_expanded(name: &str, argument: &str, expanded: &[u8], yes: &[&[u8]], no: &[&[u8]]) {
    let operator = Operator::compile(name, argument, true, &Files(&[]), "rules/main.conf").unwrap();
    assert!(operator.literals().is_none(), "@{name}: nothing is known of an argument with macros");
    check(&operator, name, argument, Some(expanded), yes, no);
}

fn check(
    operator: &Operator,
    name: &str,
    argument: &str,
    expanded: Option<&[u8]>,
    yes: &[&[u8]],
    no: &[&[u8]],
) {
    let mut found = Found::default();
    for value in yes {
        let matches = operator.evaluate(value, expanded, &mut found);
        assert!(matches, "@{name} {argument} must match {}: {:?}", value.escape_ascii(), found.fault());
        holds_a_literal(operator, value);
    }
    for value in no {
        let matches = operator.evaluate(value, expanded, &mut found);
        assert!(!matches, "@{name} {argument} must not match {}", value.escape_ascii());
        assert_eq!(found.fault(), None);
        assert_eq!(
            found.get(value, 0),
            None,
            "@{name} {argument} left something of {}",
            value.escape_ascii()
        );
    }
}

/// INVARIANT under test: an operator matches only what contains one of its literals.
fn holds_a_literal(operator: &Operator, value: &[u8]) {
    if crate::classes::of(value) & operator.unless() != 0 {
        return;
    }
    if let Some(literals) = operator.literals() {
        let folded = value.to_ascii_lowercase();
        let held = literals.iter().any(|literal| memchr::memmem::find(&folded, literal.bytes()).is_some());
        assert!(held, "{operator:?} matches {} without any of {literals:?}", value.escape_ascii());
    }
}

/// What `TX.0` would be.
pub(super) fn finds(name: &str, argument: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut found = Found::default();
    let operator = compile(name, argument, &Files(&[])).unwrap();
    operator.evaluate(value, None, &mut found).then(|| found.get(value, 0).unwrap().to_vec())
}

pub(super) fn fault_of(name: &str, argument: &str) -> OperatorFault {
    compile(name, argument, &Files(&[])).expect_err(argument)
}

#[test]
fn operators_are_known_in_any_case_and_others_refused() {
    let manual = "beginsWith contains containsWord detectSQLi detectXSS endsWith eq ge geoLookup gt ipMatch ipMatchF \
        ipMatchFromFile le lt noMatch pm pmf pmFromFile rx rxGlobal streq strmatch unconditionalMatch validateByteRange \
        validateUrlEncoding validateUtf8Encoding verifyCC verifyCPF verifySSN verifySVNR within";
    let names: Vec<&str> = Operator::names().collect();
    for name in manual.split_whitespace() {
        assert!(names.contains(&name), "{name}");
        let fault = compile(&name.to_uppercase(), "x", &Files(&[])).err();
        assert!(
            !matches!(fault, Some(OperatorFault::Unknown | OperatorFault::Refused(_))),
            "{name}: {fault:?}"
        );
    }
    for name in
        "fuzzyHash gsbLookup inspectFile rbl rsub validateDTD validateHash validateSchema".split_whitespace()
    {
        match fault_of(name, "x") {
            OperatorFault::Refused(reason) => assert!(reason.contains(name), "{name}: {reason}"),
            fault => panic!("{name}: {fault:?}"),
        }
    }
    for name in ["", "regex", "rx ", "!rx"] {
        assert_eq!(fault_of(name, "x"), OperatorFault::Unknown, "{name}");
    }
}

#[test]
fn constants_do_not_look() {
    expect("unconditionalMatch", "", &[b"", b"x"], &[]);
    expect("noMatch", "x", &[], &[b"", b"x"]);
}

#[test]
fn cheap_operators_come_before_dear_ones() {
    let cost = |name: &str, argument: &str| compile(name, argument, &Files(&[])).unwrap().cost();
    let ordered = [
        cost("noMatch", ""),
        cost("eq", "1"),
        cost("streq", "x"),
        cost("pm", "x"),
        cost("rx", "x"),
        cost("rx", "(?:a{100}){100}"),
        cost("detectSQLi", ""),
    ];
    assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]), "{ordered:?}");
}

#[test]
fn comparisons_of_texts_need_the_text() {
    let literals = |name: &str, argument: &str| {
        compile(name, argument, &Files(&[])).unwrap().literals().map(|literals| literals[0].bytes().to_vec())
    };
    for name in ["beginsWith", "contains", "containsWord", "endsWith", "streq", "strmatch"] {
        assert_eq!(literals(name, "ABc"), Some(b"abc".to_vec()), "{name}");
        assert_eq!(literals(name, ""), None, "{name}");
        expect(name, "ABc", &[b"ABc"], &[b"abc"]);
    }
    assert_eq!(literals("within", "abc"), None);
    assert_eq!(literals("eq", "100"), None);
}

#[test]
fn macros_are_refused_where_the_argument_is_compiled() {
    for name in ["pm", "pmFromFile", "ipMatchFromFile", "verifyCC"] {
        match Operator::compile(name, "a %{tx.b}", true, &Files(&[]), "") {
            Err(OperatorFault::Argument { offset, .. }) => assert_eq!(offset, 2, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_broken_expansion_is_a_fault_and_no_match() {
    for (name, expanded) in
        [("rx", &b"(a"[..]), ("rx", b"\xff"), ("ipMatch", b"x"), ("validateByteRange", b"x")]
    {
        let operator = Operator::compile(name, "%{tx.a}", true, &Files(&[]), "").unwrap();
        let mut found = Found::default();
        assert!(!operator.evaluate(b"a", Some(expanded), &mut found), "{name}");
        assert!(found.fault().is_some(), "{name}");
        // The fault is of that call alone.
        let good: &[u8] = match name {
            "rx" => b"a",
            "ipMatch" => b"192.0.2.1",
            _ => b"0-255",
        };
        operator.evaluate(b"a", Some(good), &mut found);
        assert_eq!(found.fault(), None, "{name}");
    }
}

/// Each operator, with an argument that makes it look at the value.
fn each() -> Vec<Operator> {
    [
        ("beginsWith", "ab"),
        ("contains", "ab"),
        ("containsWord", "ab"),
        ("detectSQLi", ""),
        ("detectXSS", ""),
        ("endsWith", "ab"),
        ("eq", "1"),
        ("ge", "1"),
        ("gt", "1"),
        ("ipMatch", "10.0.0.0/8,2001:db8::/32"),
        ("le", "1"),
        ("lt", "1"),
        ("pm", "select |00 ff| <a"),
        ("rx", r"(?i)(se|le)?lect|<a(b)?"),
        ("rxGlobal", r"(\d)(a)?"),
        ("streq", "ab"),
        ("strmatch", "ab"),
        ("validateByteRange", "1-200"),
        ("validateUrlEncoding", ""),
        ("validateUtf8Encoding", ""),
        ("verifyCC", r"\d{4,}"),
        ("verifyCPF", r"\d{4,}"),
        ("verifySSN", r"\d{4,}"),
        ("verifySVNR", r"\d{4,}"),
        ("within", "abcabc"),
    ]
    .iter()
    .map(|(name, argument)| compile(name, argument, &Files(&[])).unwrap())
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No value makes an operator panic, and what it says it found lies in the value.
    #[test]
    fn fuzz_smoke_operators(value in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[ -~]{0,60}".prop_map(String::into_bytes),
        "(select|'|\"|<|>|--|/\\*|1|=|or|on|union|script| |;|\\(|\\)|0x|@|`|#|\\\\|[0-9]{4,12}|%){0,14}".prop_map(String::into_bytes),
    ]) {
        for operator in each() {
            let mut found = Found::default();
            if operator.evaluate(&value, None, &mut found) {
                holds_a_literal(&operator, &value);
                for index in 0..found.len() {
                    let _ = found.get(&value, index);
                }
            } else {
                prop_assert!(found.get(&value, 0).is_none());
            }
        }
    }

    /// No argument makes compiling panic.
    #[test]
    fn fuzz_smoke_arguments(argument in prop_oneof![
        "[ -~]{0,40}",
        "(\\\\|\\[|\\]|\\(|\\)|\\?|\\*|\\+|\\{|\\}|\\||\\^|-|:|x|1|a|,|\\.|/|<|=|!|P|Q|E|é|&&|~~){0,16}",
    ], macros in any::<bool>()) {
        for name in Operator::names() {
            let _ = Operator::compile(name, &argument, macros, &Files(&[("rules/a", b"x")]), "rules/main.conf");
        }
    }
}
