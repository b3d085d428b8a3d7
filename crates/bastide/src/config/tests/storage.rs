//! `storage:` and `storage.unseal`.

use std::path::PathBuf;

use super::super::{Database, Storage, Unseal};
use super::{certificate, read_with, said_with};

const BASE: &str = "listen: [ 127.0.0.1:0 ]
services: { a: [ http://10.0.0.1 ] }
routes: [ { match: /**, to: a, allow: anyone } ]
";

fn storage(written: &str) -> Storage {
    let (ca, _) = certificate();
    read_with(&format!("{BASE}{written}"), &[("ca.pem", &ca), ("password", "s3cret")]).unwrap().storage
}

#[test]
fn each_form_means_what_it_says() {
    let file = |name: &str| Database::Sqlite(PathBuf::from(name));
    let key = |name: &str| Unseal::KeyFile(PathBuf::from(name));
    let absent = storage("");
    assert!(!absent.is_set);
    for (written, database, unseal) in [
        ("", file("bastide-state/store.db"), key("bastide-state/unseal.key")),
        ("storage: db/a.db", file("db/a.db"), key("bastide-state/unseal.key")),
        ("storage: { file: a.db, unseal: { key_file: a.key } }", file("a.db"), key("a.key")),
        (
            "storage: { unseal: { environment: KEY_1 } }",
            file("bastide-state/store.db"),
            Unseal::Environment("KEY_1".to_owned()),
        ),
        ("storage: { unseal: shares }", file("bastide-state/store.db"), Unseal::Shares),
    ] {
        let found = storage(written);
        assert_eq!((found.database, found.unseal), (database, unseal), "{written}");
        assert_eq!(found.is_set, !written.is_empty());
    }
    let remote = storage(
        "storage: { postgres: \"postgresql://bastide:${file:password}@db.example.org/x\", ca: ca.pem }",
    );
    let Database::Postgres { url, ca, danger_cleartext } = &remote.database else { panic!("{remote:?}") };
    assert!(url.contains("s3cret") && ca.is_some() && !danger_cleartext);
    assert!(!format!("{remote:?}").contains("s3cret"), "a password in a debug text");
}

#[test]
fn faults_say_what_and_where_without_passwords() {
    let table = [
        (
            "storage: { fil: a.db }",
            "bastide.yaml:4:12: unknown key of storage \"fil\" (did you mean \"file\"?)",
        ),
        (
            "storage: { file: a.db, postgres: \"host=localhost user=a\" }",
            "bastide.yaml:4:12: `file` and `postgres` are two stores; keep one of them",
        ),
        ("storage: { ca: ca.pem }", "bastide.yaml:4:12: `ca` stands only beside `postgres`"),
        (
            "storage: { postgres: \"not:a@connection s3cret\" }",
            "bastide.yaml:4:12: this is no connection string: expected postgresql://user:password@host/database",
        ),
        (
            "storage: { postgres: \"postgresql://a:s3cret@db.example.org/x?sslmode=disable\" }",
            "bastide.yaml:4:12: sslmode=disable to another machine: records are sealed, but passwords and times are not",
        ),
        (
            "storage: { postgres: \"user=a password=s3cret\" }",
            "bastide.yaml:4:12: the connection string names no host",
        ),
        (
            "storage: { unseal: share }",
            "bastide.yaml:4:20: unknown way to unseal \"share\" (did you mean \"shares\"?)",
        ),
        (
            "storage: { unseal: { key_file: a, environment: B } }",
            "bastide.yaml:4:20: `key_file` and `environment` are two keys; keep one of them",
        ),
        (
            "storage: { unseal: { environment: A-B } }",
            "bastide.yaml:4:35: expected the name of an environment variable, such as BASTIDE_UNSEAL_KEY, found \"A-B\"",
        ),
    ];
    let (ca, _) = certificate();
    let found = table.map(|(written, _)| said_with(&format!("{BASE}{written}"), &[("ca.pem", &ca)]));
    assert_eq!(found, table.map(|(_, said)| vec![said.to_owned()]));
    let warned = said_with(
        &format!(
            "{BASE}storage: {{ postgres: \"postgresql://a@db.example.org/x?sslmode=disable\", danger_cleartext: true }}"
        ),
        &[],
    );
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("danger_cleartext"), "{warned:?}");
    let empty = "storage: { postgres: \"postgresql://a@db.example.org/x\", ca: ca.pem }";
    let found = said_with(&format!("{BASE}{empty}"), &[("ca.pem", "no certificate")]);
    assert!(found[0].ends_with("ca.pem: expected PEM certificates, found none"), "{found:?}");
}
