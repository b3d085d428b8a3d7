//! `realms.NAME.theme` and `language`: what people see.

use identity::{Language, Theme};

use super::{read_with, said_with};

const BASE: &str = "listen: [ 127.0.0.1:0 ]
routes: [ { match: id.example.org/**, to: identity, authenticate: none, allow: anyone } ]
realms:
  town: { issuer: \"https://id.example.org\", ";

const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

fn with(written: &str) -> String {
    format!("{BASE}{written} }}\n")
}

#[test]
fn a_realm_has_a_language_and_a_theme() {
    let read = |written: &str| {
        let files = [("brand/style.css", "a{}"), ("brand/logo.svg", SVG), ("plain/style.css", "a{}")];
        let configuration = read_with(&with(written), &files).unwrap();
        assert!(configuration.warnings.is_empty(), "{:?}", configuration.warnings);
        configuration
    };
    let plain = read("display_name: Town").realms.remove(0).settings;
    assert_eq!((plain.language, plain.theme), (Language::English, Theme::default()));
    let configuration = read("language: de, theme: brand");
    let logo = (identity::theme::Format::Svg, SVG.as_bytes().to_vec());
    let expected = Theme::new(Some(b"a{}".to_vec()), Some(logo)).unwrap();
    let settings = &configuration.realms[0].settings;
    assert_eq!((settings.language, &settings.theme), (Language::German, &expected));
    // A change of any of its files is a change of the configuration.
    assert!(configuration.files.iter().any(|file| file.ends_with("brand/logo.svg")));
    assert!(configuration.globs.iter().any(|glob| glob.ends_with("brand/*")));
    assert_ne!(read("theme: plain").realms[0].settings.theme, expected);
}

#[test]
fn faults_of_themes_say_what_and_where() {
    let large = " ".repeat(identity::theme::STYLE_BYTES_MAX + 1);
    let files = [
        ("two/logo.svg", SVG),
        ("two/logo.png", "\u{89}PNG"),
        ("wrong/logo.png", SVG),
        ("more/style.css", ""),
        ("more/page.html", ""),
        ("large/style.css", large.as_str()),
    ];
    for (written, said) in [
        ("language: fr", "bastide.yaml:4:55: unknown language \"fr\""),
        ("theme: nowhere", "bastide.yaml:4:52: theme \"nowhere\": no style.css and no logo there"),
        ("theme: two", "bastide.yaml:4:52: two/logo.png is a second logo; keep one"),
        ("theme: wrong", "bastide.yaml:4:52: theme: expected a png image"),
        ("theme: large", "bastide.yaml:4:52: large/style.css has more than 65536 bytes, the limit"),
        ("theme: more", "bastide.yaml:4:52: warning: more/page.html is not part of a theme"),
    ] {
        let found = said_with(&with(written), &files);
        assert!(found.iter().any(|line| line.starts_with(said)), "{written}: {found:#?}");
    }
}
