use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn units_and_containers_are_read_where_no_user_can_make_them() {
    let table: [(&str, Option<&str>, bool); 12] = [
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
        ("0::/", None, false),
        ("", None, false),
    ];
    for (groups, expected, contained) in table {
        let groups = groups.replace("ID", ID);
        assert_eq!(unit(&groups), expected.map(|unit| unit.replace("ID", ID)), "{groups}");
        assert_eq!(container(&groups), contained.then(|| ID.to_owned()), "{groups}");
    }
    assert_eq!(container(&format!("0::/docker/{}", &ID[1..])), None);
    assert_eq!(container(&format!("0::/docker/{}", ID.to_uppercase())), None);
}

#[test]
fn a_replaced_executable_has_no_name() {
    assert_eq!(executable_name(Path::new("/usr/bin/orders")), Some("/usr/bin/orders".to_owned()));
    assert_eq!(executable_name(Path::new("/usr/bin/orders (deleted)")), None);
}

/// A connection from a process of its own, which stays until its input closes.
fn connected() -> (Caller, std::process::Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                print('there', flush=True); sys.stdin.read()";
    let mut child = Command::new("python3")
        .args(["-c", code])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    (Caller::of(&stream).unwrap(), child, folder)
}

#[test]
fn a_process_is_what_the_kernel_says() {
    let (caller, mut child, _folder) = connected();
    let facts = caller.facts(true).unwrap();
    assert_eq!(facts.pid, i32::try_from(child.id()).unwrap());
    assert_eq!(facts.uid, rustix::process::geteuid().as_raw());
    assert_eq!(facts.gid, rustix::process::getegid().as_raw());
    let path = facts.path.unwrap();
    assert!(path.contains("python3"), "{path}");
    let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(&facts.sha256.unwrap()));
    assert_eq!(caller.facts(false).unwrap().sha256, None);
    let _ = child.stdin.take().unwrap().write_all(b"");
    child.wait().unwrap();
}

#[test]
fn a_process_that_has_ended_is_nobody() {
    let (caller, mut child, _folder) = connected();
    assert!(caller.facts(false).is_ok());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(matches!(caller.facts(false), Err(Unattested::Gone(_))));
}
