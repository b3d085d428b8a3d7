use super::super::class::parse;
use super::super::pcre::translate;
use super::*;

fn of(pattern: &str) -> Option<Vec<String>> {
    let expression = parse(&translate(pattern).unwrap()).unwrap();
    required(&expression)
        .map(|literals| literals.0.iter().map(|literal| literal.bytes().escape_ascii().to_string()).collect())
}

#[test]
fn the_rarest_required_texts_are_found() {
    for (pattern, expected) in [
        ("select", Some(&["select"][..])),
        ("(?i)SeLeCt", Some(&["select"])),
        (r"\bselect\s+.{0,100}\bfrom\b", Some(&["select"])),
        (r"a.*\bunion\b.*b", Some(&["union"])),
        ("(?:foo|ba[rz])qux", Some(&["barqux", "bazqux", "fooqux"])),
        ("(?:abc|xabcx)", Some(&["abc"])),
        ("(?i)[s][e]lect+", Some(&["select"])),
        ("a+bc+d+.", Some(&["abc"])),
        ("a+b{2,3}[xy]+z", Some(&["abb"])),
        ("(?:abc)+", Some(&["abc"])),
        ("(?:abc)?def", Some(&["def"])),
        ("(?:abc)*x", None),
        ("abc|.", None),
        (r"\d+", None),
        ("", None),
        ("^$", None),
        (".*<.*", Some(&["<"])),
        (r"a\.b", Some(&["a.b"])),
        ("(?:a|b|)cde", Some(&["cde"])),
        ("[a-z]{3}xyz[0-9]", Some(&["xyz"])),
        ("(?:ab){2}", Some(&["abab"])),
        ("(?:ab){2,}", Some(&["abab"])),
        ("(a(b(cd)))|efg", Some(&["abcd", "efg"])),
        (r"\xffx", Some(&[r"\xffx"])),
        ("n", None),
        ("no|yes", Some(&["no", "yes"])),
        ("[!-&]x", Some(&["!x", "\\\"x", "#x", "$x", "%x", "&x"])),
        ("[^ -~].", None),
        ("[!-/:-@]+.", None),
        (
            "[!-)<->^`{-~]+.",
            Some(&[
                "!", "\\\"", "#", "$", "%", "&", "\\'", "(", ")", "<", "=", ">", "^", "`", "{", "|", "}", "~",
            ]),
        ),
    ] {
        let expected = expected.map(|texts| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(pattern), expected, "{pattern}");
    }
}

#[test]
fn a_long_text_is_cut_and_many_texts_tell_nothing() {
    assert_eq!(of(&"q".repeat(LENGTH_MAX)).unwrap()[0].len(), LENGTH_MAX);
    assert_eq!(of(&"q".repeat(LENGTH_MAX + 1)).unwrap()[0].len(), LENGTH_MAX);
    let many = |count: usize| (0..count).map(|number| format!("k{number:05}")).collect::<Vec<_>>().join("|");
    assert_eq!(of(&many(LITERALS_MAX)).map(|literals| literals.len()), Some(LITERALS_MAX));
    assert_eq!(of(&many(LITERALS_MAX + 1)), None);
}

#[test]
fn a_set_with_the_empty_text_tells_nothing() {
    assert!(usable(&vec![b"abc".to_vec()]));
    assert!(!usable(&vec![b"abc".to_vec(), Vec::new()]));
    assert!(!usable(&Vec::new()));
}
