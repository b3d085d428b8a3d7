//! Whatever is written, the answer is a configuration or faults with positions.

use std::path::Path;

use proptest::prelude::*;

use super::super::{Severity, fuzz};
use super::{design, disk, environment, said_with};
use crate::config::load;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn fuzz_smoke_configuration_of_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz(&bytes);
    }

    #[test]
    fn fuzz_smoke_configuration_like_yaml(text in "([a-z_]{0,9}[:\\-\\[\\]{}&*!|>'\"%@`#, \n$]{1,3}){0,40}") {
        fuzz(text.as_bytes());
    }

    #[test]
    fn fuzz_smoke_configuration_cut_and_flipped(at in 0usize..500, byte in any::<u8>()) {
        let mut bytes = design("local: true").into_bytes();
        let at = at % bytes.len();
        fuzz(&bytes[..at]);
        bytes[at] = byte;
        fuzz(&bytes);
        if let Ok(text) = String::from_utf8(bytes) {
            let files = disk(&text, &[]);
            if let Err(findings) = load(Path::new("bastide.yaml"), &environment, &files) {
                prop_assert!(findings.iter().any(|finding| finding.severity == Severity::Fault));
                prop_assert!(findings.iter().all(|finding| finding.line > 0 && finding.column > 0));
            }
        }
    }
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused_quickly() {
    let mut bomb = "a0: &a0 [ x, x, x, x, x, x, x, x, x, x ]\n".to_owned();
    for level in 1..12 {
        let last = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} [ *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last} ]\n"));
    }
    for text in [bomb, "[".repeat(100_000), "{a: ".repeat(1_000), "- ".repeat(50_000)] {
        let said = said_with(&text, &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("bastide.yaml:"), "{said:?}");
    }
}

#[test]
fn an_honest_alias_works() {
    let said = said_with(
        "listen: [ 127.0.0.1:0 ]\nservices:\n  a: &a [ http://10.0.0.1 ]\n  b: *a\nroutes: [ { match: /**, to: b, allow: anyone } ]\n",
        &[],
    );
    assert_eq!(said, [""; 0]);
}
