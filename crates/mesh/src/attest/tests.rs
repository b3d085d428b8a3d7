use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use super::*;
use crate::digest::Digests;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn units_and_containers_are_read_where_no_user_can_make_them() {
    let table: [(&str, Option<&str>, bool); 17] = [
        ("0::/system.slice/orders.service", Some("orders.service"), false),
        ("0::/system.slice/orders.service/worker.service", Some("orders.service"), false),
        ("0::/system.slice/system-web.slice/web@1.service", Some("web@1.service"), false),
        ("12:cpu:/x\n1:name=systemd:/system.slice/orders.service", Some("orders.service"), false),
        ("0::/system.slice/docker-ID.scope", Some("docker-ID.scope"), true),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope", None, true),
        ("0::/docker/ID", None, true),
        ("0::/machine.slice/libpod-ID.scope/container", None, true),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/orders.service", None, false),
        ("0::/user.slice/user-1000.slice/user@1000.service/docker-ID.scope", None, false),
        // What a service makes below itself is its own word.
        ("0::/system.slice/ci.service/docker-ID.scope", Some("ci.service"), false),
        ("0::/system.slice/ci.scope/libpod-ID", Some("ci.scope"), false),
        ("0::/machine.slice/ci.service/ID", None, false),
        // So is what is behind a colon of a path.
        ("4:memory:/user/4011/x:name=systemd:/system.slice/ledger.service", None, false),
        (
            "4:memory:/a:name=systemd:/docker/ID\n1:name=systemd:/system.slice/orders.service",
            Some("orders.service"),
            false,
        ),
        ("0::/", None, false),
        ("", None, false),
    ];
    for (groups, expected, contained) in table {
        let groups = groups.replace("ID", ID);
        assert_eq!(unit(&groups), expected.map(|unit| unit.replace("ID", ID)), "{groups}");
        assert_eq!(container(&groups, |_| true), contained.then(|| ID.to_owned()), "{groups}");
    }
    for no_id in [&ID[1..], &ID.to_uppercase()] {
        assert_eq!(container(&format!("0::/docker/{no_id}"), |_| true), None);
    }
}

#[test]
fn a_container_counts_only_where_root_alone_makes_groups() {
    let systemd = "1:name=systemd:/docker";
    for (line, folder) in [
        (format!("{systemd}/{ID}"), "/sys/fs/cgroup/systemd/docker"),
        (format!("{systemd}/a/{ID}/docker-{ID}.scope"), "/sys/fs/cgroup/systemd/docker/a"),
        (format!("1:name=systemd:/{ID}"), "/sys/fs/cgroup/systemd"),
    ] {
        let is = |found: &Path| found.components().eq(Path::new(folder).components());
        assert_eq!(container(&line, is), Some(ID.to_owned()), "{line}");
        assert_eq!(container(&line, |found| !is(found)), None, "{line}");
    }
    let unified = container(&format!("0::/docker/{ID}"), |folder| {
        folder.starts_with("/sys/fs/cgroup")
            && folder.ends_with("docker")
            && !folder.starts_with("/sys/fs/cgroup/systemd")
    });
    assert_eq!(unified, Some(ID.to_owned()));

    assert!(is_roots_alone(Path::new("/proc")));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let is_root = std::fs::metadata(path).unwrap().uid() == 0;
    for (mode, expected) in [(0o755, is_root), (0o775, false), (0o757, false), (0o1777, false)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(is_roots_alone(path), expected, "{mode:o}");
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    if is_root {
        std::os::unix::fs::chown(path, Some(4011), None).unwrap();
        assert!(!is_roots_alone(path), "it was given to somebody");
    }
    assert!(!is_roots_alone(&path.join("nowhere")));
}

#[test]
fn a_replaced_executable_has_no_name() {
    assert_eq!(executable_name(Path::new("/usr/bin/orders")), Some("/usr/bin/orders".to_owned()));
    assert_eq!(executable_name(Path::new("/usr/bin/orders (deleted)")), None);
}

/// A connection from a process of its own, which stays until its input closes.
fn connected() -> (Caller, std::process::Child, tempfile::TempDir) {
    connected_by(|_| Command::new("python3"))
}

/// The same of a process that a command in this folder makes of Python.
fn connected_by(command: impl FnOnce(&Path) -> Command) -> (Caller, std::process::Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                print('there', flush=True); sys.stdin.read()";
    let mut child = command(folder.path())
        .args(["-c", code])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "there\n");
    let (stream, _) = listener.accept().unwrap();
    (Caller::of(&stream).unwrap(), child, folder)
}

#[tokio::test]
async fn a_process_is_what_the_kernel_says() {
    let (caller, mut child, _folder) = connected();
    let digest = Digests::default().of(caller.uid, caller.executable().unwrap()).await.unwrap();
    let facts = caller.facts(Some(&digest)).unwrap();
    assert_eq!(facts.pid, i32::try_from(child.id()).unwrap());
    assert_eq!(facts.uid, rustix::process::geteuid().as_raw());
    assert_eq!(facts.gid, rustix::process::getegid().as_raw());
    assert!(facts.is_path_ours);
    let path = facts.path.unwrap();
    assert!(path.contains("python3"), "{path}");
    let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(&facts.sha256.unwrap()));
    assert_eq!(caller.facts(None).unwrap().sha256, None);
    // What was made of another file, or of an earlier state, says nothing.
    let other = Digest { of: FileState::at(Path::new("/proc/self/exe")).unwrap(), ..digest };
    assert_eq!(caller.facts(Some(&other)).unwrap().sha256, None);
    let _ = child.stdin.take().unwrap().write_all(b"");
    child.wait().unwrap();
}

#[test]
fn a_process_that_has_ended_is_nobody() {
    let (caller, mut child, _folder) = connected();
    assert!(caller.facts(None).is_ok());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(matches!(caller.facts(None), Err(Unattested::Gone(_))));
}

/// As any user can: in a user namespace everybody may mount.
#[test]
fn a_path_in_a_mount_namespace_of_its_own_is_not_the_file_of_that_path() {
    let unshare = ["--mount", "--map-root-user"];
    if !Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: no user namespaces here");
        return;
    }
    let (caller, mut child, folder) = connected_by(|folder| {
        std::fs::write(folder.join("payments"), "another program").unwrap();
        let mount = r#"python=$(readlink -f "$(python3 -c 'import sys; print(sys.executable)')")
            mount --bind "$python" "$0" && PYTHONHOME=$(python3 -c 'import sys; print(sys.prefix)') exec "$0" "$@""#;
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", mount]).arg(folder.join("payments"));
        command
    });
    let facts = caller.facts(None).unwrap();
    assert_eq!(facts.path.as_deref(), folder.path().join("payments").to_str());
    assert!(!facts.is_path_ours);
    drop(child.stdin.take());
    child.wait().unwrap();
}
