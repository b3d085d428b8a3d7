use super::*;
use crate::clock::Date;

const RULES: &str = r#"
    [licences]
    allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Zlib"]
    [[ban]]
    name = "rsa"
    reason = "leaks"
    [[ban]]
    name = "openssl*"
    reason = "aws-lc-rs alone"
"#;

const LOCKFILE: &str = r#"
version = 4

[[package]]
name = "leaky"
version = "1.2.3"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "mended"
version = "2.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
"#;

fn day(text: &str) -> Date {
    Date::parse(text).unwrap()
}

fn graph(text: &str) -> Vec<Crate> {
    graph::parse(text, Path::new("/town")).into_iter().collect()
}

fn subjects(findings: &Findings) -> Vec<(Check, &str)> {
    findings.faults.iter().map(|fault| (fault.check, fault.subject.as_str())).collect()
}

/// A database of one advisory per crate: patched from 2.0.0 on, with extra lines.
fn advisories(entries: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (package, id, extra) in entries {
        let path = folder.path().join("crates").join(package);
        std::fs::create_dir_all(&path).unwrap();
        let text = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2026-11-01\"\n{extra}\n[versions]\npatched = [\">= 2.0.0\"]\n```\n\n# Something leaks\n\nAt length.\n"
        );
        std::fs::write(path.join(format!("{id}.md")), text).unwrap();
    }
    folder
}

#[test]
fn an_open_advisory_turns_the_check_red() {
    let database = advisories(&[("leaky", "RUSTSEC-2026-9001", ""), ("mended", "RUSTSEC-2026-9002", "")]);
    let findings = advisories::check(database.path(), LOCKFILE, day("2026-11-22")).unwrap();
    assert_eq!(subjects(&findings), [(Check::Advisory, "RUSTSEC-2026-9001")]);
    assert!(findings.faults[0].text.contains("leaky 1.2.3"), "{}", findings.faults[0].text);
    assert!(findings.faults[0].text.contains("fixed in >=2.0.0"), "{}", findings.faults[0].text);
}

#[test]
fn unmaintained_and_unsound_crates_are_faults_and_notices_are_notes() {
    for (kind, faults, notes) in [("unmaintained", 1, 0), ("unsound", 1, 0), ("notice", 0, 1)] {
        let database = advisories(&[("leaky", "RUSTSEC-2026-9001", &format!("informational = \"{kind}\""))]);
        let findings = advisories::check(database.path(), LOCKFILE, day("2026-11-22")).unwrap();
        assert_eq!((findings.faults.len(), findings.notes.len()), (faults, notes), "{kind}");
    }
}

#[test]
fn a_stale_database_is_said() {
    let database = advisories(&[("other", "RUSTSEC-2026-9001", "")]);
    for (today, notes) in [("2026-12-01", 0), ("2026-12-02", 1)] {
        let findings = advisories::check(database.path(), LOCKFILE, day(today)).unwrap();
        assert_eq!(findings.notes.len(), notes, "{today}");
    }
}

#[test]
fn a_folder_that_is_no_database_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(advisories::check(empty.path(), LOCKFILE, day("2026-11-22")).is_err());
    let options = Options { advisory_db: Some(empty.path().to_path_buf()), online: false };
    assert!(database(Path::new("/town"), &options).is_err());
}

#[test]
fn banned_crates_turn_the_check_red() {
    let rules = Rules::parse(RULES).unwrap();
    let crates = graph("rsa v0.9.6|MIT\nopenssl-sys v0.9.1|MIT\nrsa-free v1.0.0|MIT\nserde v1.0.0|MIT");
    assert_eq!(subjects(&judge(&rules, &crates)), [(Check::Ban, "openssl-sys"), (Check::Ban, "rsa")]);
}

#[test]
fn licences_that_are_not_allowed_turn_the_check_red() {
    let rules = Rules::parse(RULES).unwrap();
    for (expression, allowed) in [
        ("MIT", true),
        ("MIT OR GPL-3.0-only", true),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT AND Zlib", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-2.0-or-later", false),
        ("AGPL-3.0-only", false),
        ("Zlib WITH Classpath-exception-2.0", false),
        ("SSPL-1.0", false),
        ("Proprietary", false),
        ("", false),
    ] {
        let findings = judge(&rules, &graph(&format!("part v1.0.0|{expression}")));
        let expected: &[_] = if allowed { &[] } else { &[(Check::Licence, "part")] };
        assert_eq!(subjects(&findings), expected, "{expression}");
    }
}

#[test]
fn sources_outside_registry_and_workspace_turn_the_check_red() {
    let rules = Rules::parse(RULES).unwrap();
    let crates = graph(
        "macros v1.0.0 (proc-macro)|MIT\nours v0.1.0 (/town/crates/ours)|MIT\nfork v1.0.0 (https://example.org/fork#1234)|MIT\nstray v0.1.0 (/elsewhere/stray)|MIT\npm v1.0.0 (proc-macro) (https://example.org/pm#12)|MIT",
    );
    assert_eq!(
        subjects(&judge(&rules, &crates)),
        [(Check::Source, "fork"), (Check::Source, "pm"), (Check::Source, "stray")]
    );
}

#[test]
fn several_versions_are_a_note() {
    let rules = Rules::parse(RULES).unwrap();
    let findings = judge(&rules, &graph("a v1.0.0|MIT\na v2.0.0|MIT\nb v1.0.0|MIT\nb v1.0.0|MIT"));
    assert_eq!(findings.notes, ["in several versions: a"]);
}

#[test]
fn exceptions_cover_what_they_name_until_their_last_day() {
    let text = format!(
        "{RULES}\n[[exception]]\ncheck = \"ban\"\nsubject = \"rsa\"\nreason = \"verification only\"\nuntil = \"2026-12-31\""
    );
    let rules = Rules::parse(&text).unwrap();
    let crates = graph("rsa v0.9.6|GPL-3.0-only");
    for (today, left) in [
        ("2026-12-31", vec![(Check::Licence, "rsa")]),
        ("2027-01-01", vec![(Check::Ban, "rsa"), (Check::Licence, "rsa")]),
    ] {
        assert_eq!(subjects(&rules.except(judge(&rules, &crates), day(today))), left, "{today}");
    }
    let idle = rules.except(judge(&rules, &graph("serde v1.0.0|MIT")), day("2026-11-22"));
    assert!(idle.notes.iter().any(|note| note.contains("covers nothing")), "{:?}", idle.notes);
}

#[test]
fn exceptions_need_a_reason_and_a_day_that_exists() {
    let exception = |reason: &str, until: &str| {
        let text = format!(
            "{RULES}\n[[exception]]\ncheck = \"ban\"\nsubject = \"rsa\"\nreason = \"{reason}\"\nuntil = \"{until}\""
        );
        Rules::parse(&text)
    };
    assert!(exception("verification only", "2026-12-31").is_ok());
    assert!(exception(" ", "2026-12-31").is_err());
    assert!(exception("verification only", "2026-02-30").is_err());
    assert!(Rules::parse(&format!("{RULES}\n[[exception]]\ncheck = \"ban\"\nsubject = \"rsa\"")).is_err());
    assert!(Rules::parse("[licences]\nallow = [\"Beerware-ish\"]").is_err());
}

#[test]
fn the_rules_of_this_workspace_ban_what_the_design_bans() {
    let text = std::fs::read_to_string(workspace::root().unwrap().join("dependencies.toml")).unwrap();
    let rules = Rules::parse(&text).unwrap();
    for name in ["rsa", "ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(rules.banned(name).is_some(), "{name}");
    }
    for name in ["rustls", "aws-lc-rs", "stringprep"] {
        assert!(rules.banned(name).is_none(), "{name}");
    }
    for expression in ["GPL-3.0-only", "AGPL-3.0-or-later", "LGPL-2.1-only", "BUSL-1.1"] {
        assert!(rules.licence(Some(expression)).is_err(), "{expression}");
    }
}
