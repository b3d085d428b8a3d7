use aws_lc_rs::rand::SystemRandom;
use proptest::prelude::*;

use super::*;
use crate::barrier::Keyring;

/// Reads to the end, whatever the bytes are.
fn read_all(bytes: &[u8], keyring: impl FnOnce(&[u8]) -> Result<Keyring, Error>) -> Result<u64, Error> {
    let (mut reader, _) = Reader::begin(bytes, keyring)?;
    let mut rows = 0;
    while reader.row()?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuzz_smoke_backups(tail: Vec<u8>, keyring in proptest::collection::vec(any::<u8>(), 0..40)) {
        let open = |_: &[u8]| Keyring::generate(&SystemRandom::new());
        prop_assert!(read_all(&tail, open).is_err());
        // A beginning as it has to be, so that what follows is read.
        let length = u32::try_from(keyring.len()).unwrap().to_be_bytes();
        let whole = [&b"BASTIDE-BACKUP-1\n"[..], &length, &keyring, &[0; 8], &tail].concat();
        prop_assert!(read_all(&whole, open).is_err());
    }
}

#[test]
fn why_a_beginning_is_none_is_told() {
    let open = |_: &[u8]| Keyring::generate(&SystemRandom::new());
    let head = |magic: &[u8], length: u32| [magic, &length.to_be_bytes()].concat();
    for (backup, why) in [
        (head(b"BASTIDE-BACKUP-1\n", u32::MAX), "the backup was changed or damaged"),
        (head(b"BASTIDE-BACKUP-1\n", 1), "the backup is cut off"),
        (head(b"BASTIDE-BACKUP-2\n", 1), "this is no backup of a store of this version"),
    ] {
        let told = read_all(&backup, open).unwrap_err();
        assert!(matches!(&told, Error::Corrupt(told) if told == why), "{told}");
    }
}

#[test]
fn a_length_that_no_row_has_is_refused_before_it_is_read() {
    let open = |_: &[u8]| Keyring::generate(&SystemRandom::new());
    let row = [&b"BASTIDE-BACKUP-1\n"[..], &[0; 4], &[0; 8], &[1], &u32::MAX.to_be_bytes()].concat();
    assert!(matches!(read_all(&row, open), Err(Error::Corrupt(_))));
}

#[test]
fn what_a_killed_backup_left_does_not_stop_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.backup");
    let beside = folder.path().join("store.backup.new");
    std::fs::write(&beside, "half of it").unwrap();
    let first = NewFile::create(&path).unwrap();
    assert_eq!(std::fs::read(&beside).unwrap(), b"");
    let busy = NewFile::create(&path).err().unwrap();
    assert!(busy.to_string().contains("another backup is writing it"), "{busy}");
    first.keep().unwrap();
    drop(first);
    assert!(path.exists() && !beside.exists());

    let other = folder.path().join("other.backup");
    std::os::unix::fs::symlink(&path, folder.path().join("other.backup.new")).unwrap();
    assert!(NewFile::create(&other).is_err(), "a link is not followed");
    assert!(path.exists());
}
