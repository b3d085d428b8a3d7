//! A thief has every file: of what went in, nothing is to be found.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use model::Clock as _;
use store::{Expect, Key};

use crate::server;
use crate::testbed::{Place, TestBed, on_stores};

on_stores!(sqlite, sqlite: nothing_that_went_in_is_in_the_files);
on_stores!(postgres, postgres: nothing_that_went_in_is_in_the_files);

/// What goes in, so long and odd that it is nowhere by chance.
const PEOPLE: [&str; 3] = ["alice.geheim@example.org", "bob.verborgen@example.org", "Zoë Überraschung"];
const VALUES: [&str; 3] =
    ["a passphrase of hers: correct horse", "refresh-token-9f8e7d6c", "{\"totp\":\"JBSWY3DPEHPK3PXP\"}"];
/// A word of the program: it may be found, and shows that the search would find something.
const READABLE: &str = "readable-word-of-the-program";

async fn nothing_that_went_in_is_in_the_files(testbed: TestBed) {
    let store = &testbed.store;
    let key = |person: &str| Key::new(READABLE).hidden("tenant-streng-geheim").hidden(person);
    let end = Some(testbed.clock.now().plus(std::time::Duration::from_secs(5)));
    for (place, person) in PEOPLE.iter().enumerate() {
        let expires = if place == 0 { end } else { None };
        store.put(key(person), VALUES[place], expires, Expect::Absent).await.unwrap();
        store.put(key(person), VALUES[(place + 1) % 3], expires, Expect::Present).await.unwrap();
    }
    // Deletions, ends, new keys, leases and backups leave nothing either.
    store.delete(key(PEOPLE[1]), Expect::Present).await.unwrap();
    store.rotate().await.unwrap();
    store.reencryption().step().await.unwrap();
    testbed.clock.advance(std::time::Duration::from_secs(5));
    store.maintain().await.unwrap();
    store.backup(&testbed.folder.path().join("backup")).await.unwrap();
    let mut folders = vec![testbed.folder.path().to_owned()];
    if let Place::Database(address) = &testbed.place {
        let server = server::shared().unwrap();
        let client = server.client(address.rsplit('=').next().unwrap()).await;
        client.batch_execute("CHECKPOINT").await.unwrap();
        // What its log had of before may be gone with that.
        store.put(key(PEOPLE[2]), VALUES[1], None, Expect::Any).await.unwrap();
        folders.push(server.data());
    }
    let unseal = testbed.key().to_text()[15..].to_owned();
    let secrets = PEOPLE.iter().chain(&VALUES).copied().chain(["tenant-streng-geheim", &unseal]);
    let found = search(&folders, secrets.flat_map(written_as));
    assert!(found.is_empty(), "what went in is in {found}");
    let found = search(&folders, [READABLE.as_bytes().to_vec()]);
    assert!(found.contains("/backup"), "the search finds nothing at all");
    match &testbed.place {
        Place::Database(_) => {
            assert!(found.contains("/base/") && found.contains("/pg_wal/"), "the search misses the database");
        }
        _ => assert!(found.contains("/store.db-wal"), "the search misses the log"),
    }
}

/// The files in which any of these bytes are, as grep finds them.
fn search(folders: &[PathBuf], needles: impl IntoIterator<Item = Vec<u8>>) -> String {
    let patterns = tempfile::NamedTempFile::new().unwrap();
    let needles: Vec<_> = needles.into_iter().collect();
    assert!(needles.iter().all(|needle| needle.len() > 8 && !needle.contains(&b'\n')));
    std::fs::write(patterns.path(), needles.join(&b'\n')).unwrap();
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").args(["-rlaF", "-f"]).arg(patterns.path()).args(folders);
    let found = grep.output().unwrap();
    // 2: some file went away meanwhile, as those of other databases do.
    assert!(found.status.code().is_some_and(|code| code <= 2));
    String::from_utf8(found.stdout).unwrap()
}

/// As it is, its beginning, and as it may be written.
fn written_as(secret: &str) -> [Vec<u8>; 5] {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let wide: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    // Without the last characters, which depend on what follows.
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
    let base64 = base64.as_bytes()[..base64.len() - 3].to_vec();
    [secret.as_bytes().to_vec(), secret.as_bytes()[..12].to_vec(), hex.into_bytes(), wide, base64]
}
