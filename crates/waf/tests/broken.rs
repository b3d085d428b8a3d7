//! Rule files that were cut or changed: never a panic, never a part of the rules.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use support::Files;
use waf::{LoadFaults, Options, RuleSet};

/// One rule a line, so that every line is a whole or nothing.
const RULES: &[&str] = &[
    r#"SecRule ARGS|REQUEST_HEADERS:/^x-/|!ARGS:free "@rx (?i)union\s+select" "id:1,phase:2,deny,status:403,t:none,t:urlDecodeUni,msg:'SQL in %{MATCHED_VAR_NAME}'""#,
    r#"SecAction "id:2,phase:1,pass,nolog,setvar:tx.score=0,setvar:'tx.list=a b'""#,
    r#"SecRule &TX:score "!@eq 1" "id:3,phase:1,pass,nolog,ctl:ruleRemoveTargetById=1;ARGS:a""#,
    r#"SecRule REMOTE_ADDR "@ipMatch 192.0.2.0/24,2001:db8::/32" "id:4,phase:1,allow""#,
    r#"SecRule REQUEST_FILENAME "@pm admin |2f|etc" "id:5,phase:2,redirect:https://a.test/%{TX.score}""#,
];

fn load(text: &[u8]) -> Result<RuleSet, LoadFaults> {
    struct Bytes<'a>(&'a [u8]);
    impl waf::Sources for Bytes<'_> {
        fn read(&self, path: &str) -> Result<Vec<u8>, waf::SourceFault> {
            match path {
                "test.conf" => Ok(self.0.to_vec()),
                _ => Err(waf::SourceFault("no such file".to_owned())),
            }
        }

        fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, waf::SourceFault> {
            Ok(Vec::new())
        }
    }
    RuleSet::load(&Bytes(text), &["test.conf"], &Options::default())
}

#[test]
fn a_file_that_was_cut_loads_whole_lines_or_nothing() {
    let text = RULES.iter().flat_map(|rule| [rule, "\n"]).collect::<String>();
    let mut refused = 0;
    for cut in 0..=text.len() {
        let kept = &text[..cut];
        let last = kept.rsplit('\n').next().unwrap();
        let whole = last.is_empty() || RULES.contains(&last);
        match load(kept.as_bytes()) {
            Ok(set) => {
                assert!(whole, "a part of a rule was taken for a rule: {last}");
                assert_eq!(set.ids().count(), kept.lines().count(), "{last}");
            }
            Err(faults) => {
                assert!(!whole, "{last}: {faults}");
                let fault = &faults.faults[0];
                assert_eq!(
                    (fault.place.file.as_ref(), fault.place.line as usize),
                    ("test.conf", kept.lines().count())
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn a_file_that_was_changed_loads_every_rule_or_nothing() {
    let text = RULES.iter().flat_map(|rule| [rule, "\n"]).collect::<String>();
    let (mut loaded, mut state) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..4_000 {
        let mut changed = text.clone().into_bytes();
        let at = next(changed.len());
        // What begins or ends a line may honestly take a rule away or join two.
        let edge = changed[at] == b'\n' || at == 0 || changed[at - 1] == b'\n';
        let byte = [b'"', b'\'', b',', b':', b'%', b'{', b'|', b'@', b'a', b'7', b' ', 0, 0xff][next(13)];
        if edge {
            continue;
        }
        changed[at] = byte;
        if let Ok(set) = load(&changed) {
            assert_eq!(set.ids().count(), RULES.len(), "{}", String::from_utf8_lossy(&changed));
            loaded += 1;
        }
    }
    assert!(loaded > 300, "an honest change of a letter must load: {loaded}");
}

/// The files of the Core Rule Set, cut where chance wants it.
#[test]
fn the_core_rule_set_cut_anywhere_loads_what_it_says_or_nothing() {
    let Some(shared) = support::shared() else {
        eprintln!("skipped: no ../shared/crs beside the repository");
        return;
    };
    let folder = shared.join("crs/rules");
    let (mut whole, mut refused) = (0, 0);
    for (number, entry) in std::fs::read_dir(&folder).unwrap().enumerate() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "conf") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for part in 1..6 {
            let mut cut = text.len() * part / 6 + number;
            while !text.is_char_boundary(cut) {
                cut += 1;
            }
            let kept = &text[..cut];
            // Under its own folder, where the lists are that it names.
            let name = folder.join("cut.conf").to_str().unwrap().to_owned();
            let files = Files { texts: vec![(name.clone(), kept.to_owned())] };
            let lines = kept.lines().filter(|line| !line.trim_start().starts_with('#'));
            let said: usize = lines.map(|line| line.matches("\"id:").count()).sum();
            match RuleSet::load(&files, &[&name], &Options::default()) {
                Ok(set) => {
                    assert_eq!(set.ids().count(), said, "{} cut at {cut}", path.display());
                    whole += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(whole > 0 && refused > 10, "{whole} loaded, {refused} refused");
}
