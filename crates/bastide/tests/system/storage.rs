//! The store from the command line: made, opened by a running gateway, unsealed by shares,
//! backed up, restored, rotated.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use bastide::admin::client::AdminClient;
use serde_json::Value;

use crate::administration::{POLICIES, SECRET, rules};
use crate::hosts::all_or_skip;
use crate::mesh_servers::{as_nobody_special, postgres};
use crate::peers::free_port;
use crate::support::{BASTIDE, Process, TestBed, Upstream, until};

const REST: &str = "services: { a: [ http://127.0.0.1:9 ] }
routes: [ { match: localhost/**, to: a, authenticate: none, allow: anyone } ]
";

fn json(testbed: &TestBed, arguments: &[&str], code: i32) -> Value {
    let (found, out, err) = testbed.bastide(&[arguments, &["--output", "json"]].concat());
    assert_eq!(found, code, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?}: {out}"))
}

/// `bastide`, with something on its standard input.
fn fed(testbed: &TestBed, arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(BASTIDE)
        .args(arguments)
        .current_dir(testbed.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_store_is_made_opened_backed_up_restored_and_rotated() {
    let mut testbed = TestBed::prepare(&format!("{REST}storage: store/records.db\n"));
    std::fs::create_dir(testbed.path("store")).unwrap();
    // A gateway whose store cannot be opened does not start.
    let (code, _, err) = testbed.bastide(&["serve"]);
    assert_eq!(code, 3);
    assert!(err.contains("bastide init"), "{err}");
    let made = json(&testbed, &["init"], 0);
    assert_eq!(made["made"], true);
    assert!(made.get("key").is_none(), "a key that is in a file is not shown");
    let mode = |name: &str| std::fs::metadata(testbed.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state/unseal.key"), mode("store/records.db")), (0o600, 0o600));
    let again = json(&testbed, &["init"], 1);
    assert!(again["made"] == false && again["error"].as_str().unwrap().contains("already"), "{again}");
    testbed.start_gateway().await;
    // Everything beside the running gateway.
    let status = json(&testbed, &["store", "status"], 0);
    assert_eq!((&status["backend"], &status["generation"]), (&"sqlite".into(), &1.into()));
    let backup = json(&testbed, &["store", "backup", "monday"], 0);
    assert_eq!(testbed.bastide(&["store", "backup", "monday"]).0, 3, "a backup takes nobody's place");
    assert_eq!(json(&testbed, &["store", "check", "monday"], 0)["records"], backup["backup"]["records"]);
    assert_eq!(json(&testbed, &["store", "rotate"], 0)["generation"], 2);
    assert_eq!(json(&testbed, &["store", "rotate", "--resume"], 0)["generation"], 2);
    let (code, out, err) = testbed.bastide(&["store", "restore", "monday", "--replace"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(json(&testbed, &["store", "check"], 0)["whole"], true);
    let mut damaged = std::fs::read(testbed.path("monday")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(testbed.path("damaged"), damaged).unwrap();
    assert_eq!(json(&testbed, &["store", "check", "damaged"], 1)["whole"], false);
    assert_eq!(testbed.bastide(&["store", "restore", "damaged", "--replace"]).0, 3);
    // Others may not read the key; then nobody may use it.
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(testbed.path("state/unseal.key"), open).unwrap();
    let (code, _, err) = testbed.bastide(&["store", "status"]);
    assert!(code == 3 && err.contains("chmod 600"), "{err}");
    testbed.stop_gateway().await;
    // Each left its event, beside the process and with none; what was not begun left none.
    std::fs::set_permissions(testbed.path("state/unseal.key"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    assert_eq!(testbed.bastide(&["store", "rotate"]).0, 0);
    let me = format!("local:{}", rustix::process::geteuid().as_raw());
    let events = audited(&testbed, "administration:store");
    let expected = [
        ("backup", "monday"),
        ("backup", "monday"),
        ("rotate", ""),
        ("rotate", "resumed"),
        ("restore", "monday"),
        ("restore", "damaged"),
        ("rotate", ""),
    ];
    let expected = expected.map(|(work, about)| (me.clone(), format!("/v1/store/{work}"), about.to_owned()));
    assert_eq!(events, expected);
}

/// Who, path and reason of the audit log's events of a route, in their order.
fn audited(testbed: &TestBed, route: &str) -> Vec<(String, String, String)> {
    let files = std::fs::read_dir(testbed.path("state/audit")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    files.sort();
    let lines: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text =
        |event: &Value, at: &str| event.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of_route = events.filter(|event| text(event, "/unmapped/route") == route);
    let told = |event: Value| {
        ["/actor/user/name", "/http_request/url/path", "/status_detail"].map(|at| text(&event, at)).into()
    };
    of_route.map(told).collect()
}

#[tokio::test]
async fn a_sealed_store_waits_for_enough_shares() {
    let mut testbed = TestBed::prepare(&format!("{REST}storage: {{ unseal: shares }}\n"));
    assert_eq!(testbed.bastide(&["init", "--shares", "3", "--threshold", "4"]).0, 3);
    assert_eq!(testbed.bastide(&["unseal", "--status"]).0, 3, "nobody waits");
    let made = json(&testbed, &["init", "--shares", "3", "--threshold", "2"], 0);
    let shares: Vec<&str> =
        made["shares"].as_array().unwrap().iter().map(|share| share.as_str().unwrap()).collect();
    assert_eq!((shares.len(), &made["threshold"]), (3, &2.into()));
    testbed.start_gateway().await;
    let ready = testbed.admin("/readyz").await;
    assert_eq!(ready.status, 503);
    let standing = json(&testbed, &["unseal", "--status"], 1);
    assert_eq!((&standing["given"], &standing["unsealed"]), (&0.into(), &false.into()));
    assert_eq!(fed(&testbed, &["unseal"], shares[0]).0, 1);
    // A slip of the pen, and the same share again, bring nothing.
    let slip = shares[1].replace(shares[1].chars().last().unwrap(), "~");
    let (code, out) = fed(&testbed, &["unseal"], &slip);
    assert!(code == 1 && out.contains("refused"), "{out}");
    let (code, out) = fed(&testbed, &["unseal", "--output", "json"], shares[0]);
    assert!(code == 1 && out.contains("\"given\": 1"), "{out}");
    // Offline commands make the key up of shares, too, and leave the gateway sealed.
    let both = format!("{}\n{}\n", shares[2], shares[1]);
    assert_eq!(fed(&testbed, &["store", "status"], &both).0, 0);
    assert_eq!(fed(&testbed, &["store", "status"], shares[2]).0, 3);
    std::fs::write(testbed.path("third"), shares[2]).unwrap();
    let (code, out, err) = testbed.bastide(&["unseal", "--share-file", "third"]);
    assert!(code == 0 && out.trim() == "unsealed", "{out}{err}");
    until("the gateway to be ready", async || (testbed.admin("/readyz").await.status == 200).then_some(()))
        .await;
    assert_eq!(json(&testbed, &["unseal", "--status"], 0)["unsealed"], true);
    assert_eq!(fed(&testbed, &["unseal"], shares[2]).0, 3, "nobody waits for shares any more");
    testbed.stop_gateway().await;
    assert_eq!(testbed.bastide(&["unseal", "--status"]).0, 3, "nobody runs");
}

#[tokio::test]
async fn a_sealed_process_takes_shares_after_an_upgrade_and_where_one_fails() {
    let mut testbed = TestBed::prepare(&format!("{REST}storage: {{ unseal: shares }}\n"));
    let made = json(&testbed, &["init", "--shares", "2", "--threshold", "2"], 0);
    testbed.start_gateway().await;
    let share = |number: usize| made["shares"][number].as_str().unwrap();
    assert_eq!(fed(&testbed, &["unseal"], share(0)).0, 1);
    // It waits for shares, too, and then cannot have its policies.
    testbed.configure(&format!(
        "{REST}storage: {{ unseal: shares }}\npolicies: {{ inline: \"permit (principl, action, resource);\" }}\n"
    ));
    let mut faulty = testbed.serve("log-2");
    faulty.arg("--take-over");
    assert!(!Process::spawn(&mut faulty).ended().await.success());
    testbed.configure(&format!("{REST}storage: {{ unseal: shares }}\n"));
    assert_eq!(json(&testbed, &["unseal", "--status"], 1)["given"], 1);
    let mut heir = testbed.serve("log-3");
    heir.arg("--take-over");
    let mut heir = Process::spawn(&mut heir);
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    let asked = async || (testbed.bastide(&["unseal", "--status"]).0 == 1).then_some(());
    until("the new process to take shares", asked).await;
    assert_eq!(json(&testbed, &["unseal", "--status"], 1)["given"], 0);
    assert_eq!(fed(&testbed, &["unseal"], share(0)).0, 1);
    assert_eq!(fed(&testbed, &["unseal"], share(1)).0, 0);
    until("the gateway to be ready", async || (testbed.admin("/readyz").await.status == 200).then_some(()))
        .await;
    heir.signal(rustix::process::Signal::TERM);
    assert!(heir.ended().await.success());
}

#[tokio::test]
async fn a_socket_that_a_killed_process_left_is_in_nobody_s_way() {
    let mut testbed = TestBed::prepare(&format!("{REST}storage: {{ unseal: shares }}\n"));
    let made = json(&testbed, &["init", "--shares", "2", "--threshold", "2"], 0);
    let share = |number: usize| made["shares"][number].as_str().unwrap();
    testbed.start_gateway().await;
    assert_eq!(fed(&testbed, &["unseal"], share(0)).0, 1);
    // While it lives, nobody takes its place.
    let mut second = Process::spawn(&mut testbed.serve("log-2"));
    assert!(!second.ended().await.success());
    let log = crate::support::read(&testbed.path("log-2"));
    assert!(log.contains("already runs on this state folder"), "{log}");
    assert_eq!(json(&testbed, &["unseal", "--status"], 1)["given"], 1);

    testbed.gateway().signal(rustix::process::Signal::KILL);
    assert!(!testbed.gateway().ended().await.success());
    let socket = testbed.path("state/unseal.sock");
    assert!(std::fs::symlink_metadata(&socket).is_ok(), "it is left");
    let (code, out, err) = testbed.bastide(&["unseal", "--status"]);
    assert!(code == 3 && err.contains("no process is waiting for shares"), "{code} {out}{err}");

    testbed.start_gateway().await;
    assert_eq!(json(&testbed, &["unseal", "--status"], 1)["given"], 0);
    let both = format!("{}\n{}\n", share(0), share(1));
    assert_eq!(fed(&testbed, &["unseal"], &both).0, 0);
    until("the gateway to be ready", async || (testbed.admin("/readyz").await.status == 200).then_some(()))
        .await;
    assert!(std::fs::symlink_metadata(&socket).is_err(), "nobody waits any more");
    testbed.stop_gateway().await;
}

/// A PostgreSQL server for one test.
struct Database {
    process: Process,
    port: u16,
    folder: tempfile::TempDir,
}

impl Database {
    async fn start(bin: &std::path::Path) -> Self {
        let folder = tempfile::Builder::new().prefix("bastide-pg").tempdir().unwrap();
        let before = as_nobody_special(folder.path());
        let program = |name: &str| {
            let words = [&before[..], &[bin.join(name).display().to_string()]].concat();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).current_dir("/");
            command
        };
        let data = folder.path().join("data");
        let made = program("initdb")
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--username=town",
                "--no-sync",
                "--pwfile",
            ])
            .arg({
                let path = folder.path().join("password");
                std::fs::write(&path, "right").unwrap();
                path
            })
            .arg("--pgdata")
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
            .arg(folder.path());
        server.stdout(Stdio::null()).stderr(log);
        let process = Process::spawn(&mut server);
        let log = folder.path().join("log");
        until("PostgreSQL", async || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("ready to accept")).then_some(())
        })
        .await;
        Self { process, port, folder }
    }

    /// Stops all of its processes as they are, or lets them go on.
    fn freeze(&self, is_frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let data = self.folder.path().join("data");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let works_there = std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data);
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let (true, Some(pid)) = (works_there, pid) {
                let _ = kill_process(pid, if is_frozen { Signal::STOP } else { Signal::CONT });
            }
        }
    }

    fn storage(&self, password: &str) -> String {
        format!(
            "{REST}storage: {{ postgres: \"postgresql://town:{password}@127.0.0.1:{}/postgres\" }}\n",
            self.port
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.freeze(false);
        self.process.signal(rustix::process::Signal::QUIT);
    }
}

#[tokio::test]
async fn a_frozen_database_is_no_secret_and_a_wrong_password_is_told_at_once() {
    let Some(bin) = postgres() else {
        all_or_skip("the store in PostgreSQL", "Debian's postgresql is not installed");
        return;
    };
    let database = Database::start(&bin).await;
    let mut testbed = TestBed::prepare(&database.storage("wrong"));
    let place = format!("\"postgres\" at 127.0.0.1:{}", database.port);
    let (code, _, err) = testbed.bastide(&["init"]);
    assert!(code == 3 && err.contains("28P01") && err.contains(&place), "{err}");
    testbed.configure(&database.storage("right"));
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    testbed.configure(&database.storage("wrong"));
    let (code, _, err) = testbed.bastide(&["serve"]);
    assert!(code == 3 && err.contains("28P01") && err.contains(&place), "{err}");
    assert!(!err.contains("yet"), "it is not tried again: {err}");
    testbed.configure(&database.storage("right"));
    testbed.start_gateway().await;
    assert_eq!(testbed.admin("/readyz").await.status, 200);
    database.freeze(true);
    let reasons = until("that it does not answer", async || {
        let ready = testbed.admin("/readyz").await;
        (ready.status == 503).then(|| String::from_utf8(ready.body).unwrap())
    })
    .await;
    assert!(reasons.contains("the store does not answer"), "{reasons}");
    assert!(testbed.log().contains("the database does not answer"), "{}", testbed.log());
    let (code, _, err) = testbed.bastide(&["store", "status"]);
    assert!(code == 3 && err.contains("no answer"), "{err}");
    database.freeze(false);
    until("that it answers", async || (testbed.admin("/readyz").await.status == 200).then_some(())).await;
    testbed.stop_gateway().await;
}

/// On SQLite it is compared and set by the same transaction.
#[tokio::test]
async fn of_many_who_are_given_one_address_at_once_one_has_it_verified() {
    let Some(bin) = postgres() else {
        all_or_skip("the store in PostgreSQL", "Debian's postgresql is not installed");
        return;
    };
    let (database, upstream) = (Database::start(&bin).await, Upstream::start().await);
    let storage = database.storage("right");
    let mut testbed = TestBed::prepare("routes: []\n");
    std::fs::write(testbed.path("secret.txt"), SECRET).unwrap();
    testbed.configure(&format!("{}{}", rules(&upstream, POLICIES), storage.strip_prefix(REST).unwrap()));
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    testbed.start_gateway().await;
    let socket = testbed.path("state/admin.sock");
    for round in 0..4 {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = |number: usize| {
                let admin = AdminClient::Running(socket.clone());
                scope.spawn(move || {
                    let name = format!("user-{round}-{number}");
                    let user = serde_json::json!({
                        "username": name, "email": format!("office-{round}@example.org"), "email_verified": true,
                    });
                    admin.call("PUT", &format!("/v1/realms/town/users/{name}"), Some(&user)).unwrap().status
                })
            };
            let asked: Vec<_> = (0..12).map(ask).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    }
    testbed.stop_gateway().await;
}
