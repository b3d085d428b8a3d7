use std::os::unix::fs::{PermissionsExt as _, chown};
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn refusal<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_is_read_as_it_was_written_and_slips_are_found() {
    let key = UnsealKey::generate().unwrap();
    let text = key.to_text();
    assert!(UnsealKey::parse(&format!(" {}\n", text.as_str()), "test").unwrap().bytes() == key.bytes());
    for place in KEY_PREFIX.len()..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[place] = if wrong[place] == b'A' { b'B' } else { b'A' };
        let wrong = String::from_utf8(wrong).unwrap();
        let why = refusal(UnsealKey::parse(&wrong, "test"));
        assert!(why.starts_with("test: ") && !why.contains(&wrong[KEY_PREFIX.len()..]), "{why}");
    }
    for wrong in
        ["", "bastide-unseal-", "bastide-unseal-AAAA", "bastide-unseal-AAAAAAAA", &text[1..], &text[..40]]
    {
        assert!(UnsealKey::parse(wrong, "test").is_err(), "{wrong}");
    }
    let share = split(&key, 2, 2).unwrap().remove(0).to_text();
    assert!(UnsealKey::parse(&share, "test").is_err(), "a share is no key");
}

#[test]
fn a_key_file_is_read_only_when_nobody_else_may_use_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let owner = rustix::process::geteuid().as_raw();
    let key = UnsealKey::generate().unwrap();
    key.write_new_file(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(UnsealKey::read_file(&path, owner).unwrap().bytes() == key.bytes());
    assert!(matches!(UnsealKey::generate().unwrap().write_new_file(&path), Err(Error::File { .. })));
    assert!(UnsealKey::read_file(&path, owner).unwrap().bytes() == key.bytes(), "the old one stays");
    for (mode, taken) in [
        (0o400, true),
        (0o600, true),
        (0o640, false),
        (0o604, false),
        (0o620, false),
        (0o602, false),
        (0o610, false),
        (0o601, false),
        (0o700, false),
        (0o644, false),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let read = UnsealKey::read_file(&path, owner);
        assert_eq!(read.is_ok(), taken, "{mode:o}");
        if !taken {
            assert!(refusal(read).contains("chmod 600"));
        }
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    // What belongs to somebody else is theirs to change; only root can try that here.
    if chown(&path, Some(12_345), None).is_ok() {
        // Root that made the file its own would close it to the service.
        let as_root = refusal(UnsealKey::read_file(&path, 0));
        assert!(as_root.contains("belongs to user 12345") && as_root.contains("runuser -u"), "{as_root}");
        assert!(!as_root.contains("chown"), "{as_root}");
        assert!(refusal(UnsealKey::read_file(&path, 7)).contains("chown 7 "));
        assert!(UnsealKey::read_file(&path, 12_345).is_ok());
    }
    assert!(refusal(UnsealKey::read_file(folder.path(), owner)).contains("plain file"));
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let (told, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(refusal(UnsealKey::read_file(&pipe, owner))));
    let refused = answer.recv_timeout(Duration::from_secs(60)).expect("a pipe is not waited for");
    assert!(refused.contains("plain file"), "{refused}");
    assert!(matches!(UnsealKey::read_file(&folder.path().join("none"), owner), Err(Error::File { .. })));
}

/// An access control list as the kernel takes it: tag, permissions and id of each entry.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .flat_map(|(tag, may, id)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// Of no user or group.
const NOBODY: u32 = u32::MAX;

#[test]
fn a_key_file_that_a_list_gives_to_this_user_alone_is_read() {
    const USER: u32 = 12_345;
    if rustix::process::geteuid().as_raw() != 0 {
        println!("skipped: a credential is root's");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = UnsealKey::generate().unwrap();
    key.write_new_file(&path).unwrap();
    // What systemd makes of a credential for the user of a service: root's, and a list that names the user.
    let credential = [(1, 4, NOBODY), (2, 4, USER), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)];
    let with = |place: usize, entry| {
        let mut entries = credential;
        entries[place] = entry;
        list(&entries)
    };
    let two_users = [&credential[..2], &[(2, 4, USER + 1)], &credential[2..]].concat();
    let a_group = [&credential[..3], &[(8, 4, USER)], &credential[3..]].concat();
    let a_group_without = [&credential[..3], &[(8, 0, USER)], &credential[3..]].concat();
    for (what, list, taken) in [
        ("this user", list(&credential), true),
        ("root", with(1, (2, 4, 0)), true),
        ("a group that may nothing", list(&a_group_without), true),
        ("another user", with(1, (2, 4, USER + 1)), false),
        ("another user too", list(&two_users), false),
        ("the file's group", with(2, (4, 4, NOBODY)), false),
        ("another group", list(&a_group), false),
        ("everybody", with(4, (32, 4, NOBODY)), false),
        ("this user, who may change it", with(3, (16, 6, NOBODY)), false),
        ("this user, who may run it", with(3, (16, 5, NOBODY)), false),
    ] {
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(&path, "system.posix_acl_access", &list, flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP) => {
                println!("skipped: the file system has no access control lists");
                return;
            }
            Err(error) => panic!("{what}: {error}"),
        }
        let found = std::fs::metadata(&path).unwrap();
        let read = UnsealKey::read_file(&path, USER);
        assert_eq!(read.is_ok(), taken, "{what}: mode {:o}", found.permissions().mode() & 0o7777);
        if !taken {
            assert!(refusal(read).contains("chmod 600"), "{what}");
        }
    }
    // Without its list the same mode says that the group may read it.
    rustix::fs::removexattr(&path, "system.posix_acl_access").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    assert!(refusal(UnsealKey::read_file(&path, USER)).contains("mode 440"));
}

#[test]
fn a_list_that_is_not_understood_gives_a_key_to_nobody() {
    const USER: u32 = 7;
    let good = list(&[(1, 4, NOBODY), (2, 4, USER), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
    assert!(access::grants_user_alone(&good, USER));
    let mut of_another_version = good.clone();
    of_another_version[0] = 3;
    let unknown_tag = list(&[(2, 4, USER), (16, 4, NOBODY), (64, 4, NOBODY)]);
    let without_mask = list(&[(1, 4, NOBODY), (2, 4, USER), (4, 0, NOBODY), (32, 0, NOBODY)]);
    for wrong in
        [&[][..], &good[..3], &good[..4], &good[..20], &of_another_version, &unknown_tag, &without_mask]
    {
        assert!(!access::grants_user_alone(wrong, USER), "{wrong:?}");
    }
}

#[test]
fn as_many_shares_as_needed_give_the_key_and_fewer_do_not() {
    let key = UnsealKey::generate().unwrap();
    for (threshold, count) in [(2, 2), (2, 5), (3, 5), (5, 5), (64, 64)] {
        let texts: Vec<_> = split(&key, threshold, count).unwrap().iter().map(Share::to_text).collect();
        assert_eq!(texts.len(), usize::from(count));
        // The last ones, backwards: any will do.
        let mut shares = Shares::new();
        let mut given = 0;
        for text in texts.iter().rev() {
            given += 1;
            // Twice the same counts once.
            let first = shares.add(Share::parse(text).unwrap()).unwrap();
            if given < threshold {
                assert!(first.is_none());
                assert!(shares.add(Share::parse(text).unwrap()).unwrap().is_none());
                assert_eq!((shares.given(), shares.needed()), (usize::from(given), Some(threshold)));
            } else {
                assert!(first.unwrap().bytes() == key.bytes());
                break;
            }
        }
        assert_eq!(given, threshold);
    }
    for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 65)] {
        assert!(matches!(split(&key, threshold, count), Err(Error::Usage(_))), "{threshold} of {count}");
    }
}

#[test]
fn shares_that_do_not_fit_together_are_refused() {
    let (one, other) = (UnsealKey::generate().unwrap(), UnsealKey::generate().unwrap());
    let (ones, others) = (split(&one, 2, 3).unwrap(), split(&other, 2, 3).unwrap());
    let copy = |share: &Share| Share::parse(&share.to_text()).unwrap();
    let mut shares = Shares::new();
    shares.add(copy(&ones[0])).unwrap();
    assert!(refusal(shares.add(copy(&others[1]))).contains("another key"));
    assert!(shares.add(copy(&ones[2])).unwrap().is_some(), "the one that was refused is forgotten");
    // Two splits of one key look alike, and make up nothing together.
    let again = split(&one, 2, 3).unwrap();
    let mut mixed = Shares::new();
    mixed.add(copy(&ones[0])).unwrap();
    assert!(refusal(mixed.add(copy(&again[1]))).contains("begin again"));
    assert_eq!(mixed.given(), 0);
    // Share 0 would be the key itself, and a threshold of 1 no sharing.
    for (threshold, number) in [(2, 0), (0, 1), (1, 1), (65, 1), (2, 65)] {
        let bytes = [&[1, 2, 3, 4, threshold, number][..], &[7; KEY_BYTES]].concat();
        assert!(Share::parse(&checked_text("bastide-share-", &bytes)).is_err(), "{threshold} {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fuzz_smoke_keys_and_shares(text in "\\PC{0,80}", bytes: Vec<u8>) {
        prop_assert!(UnsealKey::parse(&text, "test").is_err());
        prop_assert!(Share::parse(&text).is_err());
        // With the right check, but any bytes.
        let _ = UnsealKey::parse(&checked_text(KEY_PREFIX, &bytes), "test");
        let _ = access::grants_user_alone(&bytes, 7);
        if let Ok(share) = Share::parse(&checked_text("bastide-share-", &bytes)) {
            let _ = Shares::new().add(share);
        }
    }
}
