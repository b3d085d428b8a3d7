//! The canonical layout.

use std::path::Path;

use proptest::prelude::*;

use super::super::format::format;
use super::super::node;

fn formatted(text: &str) -> String {
    format(Path::new("t.yaml"), text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

#[test]
fn lays_out_and_keeps_what_matters() {
    let written = "\
# top
listen:   [127.0.0.1:1,127.0.0.1:2]   # two
a: &x {b: 1,   c: '${HOME}'}
routes:
- match:    'GET a/{id}/**'
  to:  \"x\"
  # between

  headers: {request: {set: {x-v:  \"1.10\"}}}
-   match: /**
    <<: *x
    text: |
      kept
        as it is
    limit: [ 1/second per address , 2/minute per key]


empty: ''
off: { 'on':   \"off\" }
# end
";
    let expected = "\
# top
listen: [ 127.0.0.1:1, 127.0.0.1:2 ] # two
a: &x { b: 1, c: \"${HOME}\" }
routes:
  - match: \"GET a/{id}/**\"
    to: \"x\"
    # between

    headers: { request: { set: { x-v: \"1.10\" } } }
  - match: /**
    <<: *x
    text: |
      kept
        as it is
    limit: [ 1/second per address, 2/minute per key ]

empty: \"\"
off: { \"on\": \"off\" }
# end
";
    assert_eq!(formatted(written), expected);
    assert_eq!(formatted(expected), expected);
}

#[test]
fn windows_line_ends_and_a_missing_last_one_are_put_right() {
    assert_eq!(formatted("a: 1\r\nb:\r\n- 2"), "a: 1\nb:\n  - 2\n");
    assert_eq!(formatted("# only a comment"), "# only a comment\n");
}

#[test]
fn a_marked_entry_is_left_alone() {
    let text = "a: 1\n# fmt: off\nb:   [1,2,\n  3]\nc: 2\n";
    assert_eq!(formatted(text), text);
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    let fault = format(Path::new("t.yaml"), "a: [1\nb: 2\n").unwrap_err();
    assert!(fault.to_string().starts_with("t.yaml:2:"), "{fault}");
    assert!(format(Path::new("t.yaml"), "a: 1\n---\nb: 2\n").is_err());
    assert!(format(Path::new("t.yaml"), &"[".repeat(100_000)).is_err());
}

#[test]
fn every_example_can_be_laid_out() {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for entry in std::fs::read_dir(repository.join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(format(&path, &text).is_ok(), "{}", path.display());
            promise(&text);
        }
    }
}

/// What the formatter promises of any text: a fault, or a text that says the same, with
/// the same comments, and that it leaves alone.
fn promise(text: &str) {
    let Ok(once) = format(Path::new("t.yaml"), text) else { return };
    let values = |text: &str| node::parse(0, text).map(|node| plain(&node)).ok();
    assert_eq!(values(text), values(&once), "{text:?}");
    assert_eq!(format(Path::new("t.yaml"), &once).as_deref(), Ok(once.as_str()), "{text:?}");
    let comments = |text: &str| text.matches('#').count();
    assert_eq!(comments(text), comments(&once), "{text:?}\n{once}");
}

/// The tree without places, as a text.
fn plain(node: &node::Node) -> String {
    match &node.value {
        node::Value::Nothing => "~".to_owned(),
        node::Value::Broken => "!".to_owned(),
        node::Value::Scalar(scalar) => format!("{:?}", scalar.text),
        node::Value::List(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(","))
        }
        node::Value::Map(entries) => {
            let entries = entries.iter().map(|(name, node)| format!("{:?}:{}", name.text, plain(node)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
    }
}

/// A YAML value in one of its styles, at this depth of indentation.
fn value(depth: usize) -> BoxedStrategy<String> {
    let indent = "  ".repeat(depth);
    let scalar = prop_oneof![
        "[a-z][a-z0-9/.:*{}-]{0,12}[a-z0-9]".prop_filter("plain", |text| !text.contains(": ")),
        "[ -~]{0,12}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        "[ -~]{0,12}".prop_map(|text| format!("{text:?}")),
        "\\$\\{[A-Z]{1,5}\\}",
        "[0-9]{1,3}(\\.[0-9]{1,3})?",
        Just("true".to_owned()),
        Just(String::new()),
        Just("~".to_owned()),
    ];
    if depth > 3 {
        return scalar.boxed();
    }
    let inner = depth + 1;
    let below = "  ".repeat(inner);
    let comment = prop_oneof![3 => Just(String::new()), 1 => "  # [a-z]{1,8}"];
    let blank = prop_oneof![4 => Just(""), 1 => Just("\n\n")];
    let list = proptest::collection::vec((value(inner), comment.clone(), blank), 1..4).prop_map({
        let indent = indent.clone();
        move |items| {
            let lines = items.into_iter().map(|(item, comment, blank)| {
                let comment = if item.contains('\n') { String::new() } else { comment };
                format!("\n{blank}{indent}-   {item}{comment}")
            });
            lines.collect::<String>()
        }
    });
    let map =
        proptest::collection::vec(("[a-z_]{1,6}", value(inner), comment), 1..4).prop_map(move |entries| {
            let lines = entries.into_iter().enumerate().map(|(number, (key, item, comment))| {
                let comment = if item.contains('\n') { String::new() } else { comment };
                format!("\n{below}{key}{number}:  {item}{comment}")
            });
            lines.collect::<String>()
        });
    let block = Just(format!("|\n{}  first\n{}    second", indent, indent));
    prop_oneof![4 => scalar, 2 => list, 3 => map, 1 => block].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn generated_files_keep_their_meaning(values in proptest::collection::vec(value(0), 1..5)) {
        let entries = values.into_iter().enumerate().map(|(number, value)| format!("key{number}: {value}\n"));
        promise(&entries.collect::<String>());
    }

    #[test]
    fn mutated_files_keep_their_meaning_or_are_refused(
        cuts in proptest::collection::vec((0usize..4000, 0usize..8, "[ -~\n\t#&*'\"|>\\[\\]{}:,-]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> =
            include_str!("../../../../../docs/examples/full.yaml").chars().collect();
        for (place, length, put) in cuts {
            let place = place % text.len();
            let end = (place + length).min(text.len());
            text.splice(place..end, put.chars());
        }
        promise(&text.into_iter().collect::<String>());
    }

    #[test]
    fn fuzz_smoke_any_text_is_laid_out_or_refused(text in "[ -~\n\t]{0,80}|[a-c:\\[\\]{}\n #&*|>'\"-]{0,60}") {
        promise(&text);
    }
}
