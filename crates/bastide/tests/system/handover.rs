//! Reloads, hand-overs and drains under load: no request is lost, no connection refused
//! or reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use bastide::demo::client::{Endpoint, http2};
use bastide::process::handover;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::peers::free_address;
use crate::support::{BASTIDE, PATIENCE, Process, TestBed, Upstream, get_request, read, until};

fn routes(upstream: &Upstream, name: &str) -> String {
    format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - name: {name}\n    match: /**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n",
        upstream.address
    )
}

/// Between two requests of a client: the other tests want the processor too.
const PAUSE: Duration = Duration::from_millis(3);
/// How long a process that drains waits for one more request on an idle connection.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Clients that ask until they are told to stop: some on connections that they keep,
/// some on a new one for each request, over TLS, cleartext and HTTP/2.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(testbed: &TestBed) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for endpoint in [testbed.endpoint(), testbed.clear_endpoint()] {
            for keeps in [true, false] {
                let (endpoint, stop, asked) = (endpoint.clone(), Arc::clone(&stop), Arc::clone(&asked));
                clients.push(tokio::spawn(async move { over_http1(&endpoint, keeps, &stop, &asked).await }));
            }
        }
        let (endpoint, halt, counted) = (testbed.endpoint(), Arc::clone(&stop), Arc::clone(&asked));
        clients.push(tokio::spawn(async move { over_http2(&endpoint, &halt, &counted).await }));
        Self { stop, asked, clients }
    }

    /// Waits until so many more requests were answered.
    async fn goes_on(&self, more: u64) {
        let until_then = self.asked.load(Ordering::SeqCst) + more;
        until("the load to go on", async || (self.asked.load(Ordering::SeqCst) >= until_then).then_some(()))
            .await;
    }

    /// What went wrong.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut faults = Vec::new();
        for client in self.clients {
            faults.extend(client.await.unwrap());
        }
        faults
    }
}

async fn over_http1(endpoint: &Endpoint, keeps: bool, stop: &AtomicBool, asked: &AtomicU64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut kept: Option<(Connection, Instant)> = None;
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        let (mut connection, answered) = match kept.take() {
            Some((connection, answered)) => (connection, Some(answered)),
            None => match Connection::open(endpoint).await {
                Ok(connection) => (connection, None),
                Err(error) => {
                    faults.push(format!("connecting: {error}"));
                    continue;
                }
            },
        };
        match connection.ask(&get_request("/")).await {
            Ok(answer) if answer.status == 200 => {
                asked.fetch_add(1, Ordering::SeqCst);
                let closes = answer.field("connection").is_some_and(|value| value.contains("close"));
                kept = (keeps && !closes).then(|| (connection, Instant::now()));
            }
            Ok(answer) => faults.push(format!("status {}", answer.status)),
            // A client that is held up for that long may find it closed, as after any pause.
            Err(_) if answered.is_some_and(|answered| answered.elapsed() >= LAST_CHANCE) => {}
            Err(error) => faults.push(format!("asking (kept: {keeps}): {error}")),
        }
    }
    faults
}

/// A stream that is refused after GOAWAY was not looked at: it is asked again, as every
/// client does (RFC 9113 §6.8).
async fn over_http2(endpoint: &Endpoint, stop: &AtomicBool, asked: &AtomicU64) -> Vec<String> {
    let mut faults = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let connection = match http2::Connection::open(endpoint).await {
            Ok(connection) => connection,
            Err(error) => {
                faults.push(format!("connecting by HTTP/2: {error}"));
                continue;
            }
        };
        while !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(PAUSE).await;
            match connection.ask(&get_request("/")).await {
                Ok(answer) if answer.status == 200 => drop(asked.fetch_add(1, Ordering::SeqCst)),
                Ok(answer) => faults.push(format!("status {} by HTTP/2", answer.status)),
                Err(error) if goes_away(&error) => break,
                Err(error) => {
                    faults.push(format!("asking by HTTP/2: {error}"));
                    break;
                }
            }
        }
    }
    faults
}

fn goes_away(error: &std::io::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("GoAway") && text.contains("NO_ERROR") || text.contains("not a result of an error")
}

pub(crate) fn ready(testbed: &TestBed) -> Option<u32> {
    let ready: Value = serde_json::from_str(&read(&testbed.path("state/ready.json"))).ok()?;
    u32::try_from(ready["process"].as_u64()?).ok()
}

/// Resident memory of a process, KiB.
fn resident_kib(process: u32) -> u64 {
    let status = read(std::path::Path::new(&format!("/proc/{process}/status")));
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A process that is not this test's child, ended with it.
pub(crate) struct Heir(pub(crate) u32);

impl Heir {
    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(i32::try_from(self.0).unwrap()).unwrap(), signal);
    }

    async fn ended(&self) {
        let path = format!("/proc/{}/stat", self.0);
        until("the heir to end", async || {
            let stat = read(std::path::Path::new(&path));
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        })
        .await;
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_lose_nothing_and_keep_memory_level() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&routes(&upstream, "name-0")).await;
    let process = ready(&testbed).unwrap();
    let load = Load::start(&testbed);
    let mut level = 0;
    for reload in 1..=100 {
        testbed.configure(&routes(&upstream, &format!("name-{reload}")));
        testbed.gateway().signal(Signal::HUP);
        let wanted = reload;
        until("the reload", async || {
            let metrics = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
            let line =
                metrics.lines().find(|line| line.starts_with("bastide_reloads_total{result=\"good\"}"));
            let good: u64 = line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
            (good >= wanted).then_some(())
        })
        .await;
        if reload == 30 {
            level = resident_kib(process);
        }
    }
    load.goes_on(50).await;
    let after = resident_kib(process);
    assert_eq!(load.end().await, Vec::<String>::new(), "{}", testbed.log());
    assert!(after < level + level / 4 + 4096, "{level} KiB after 30 reloads, {after} KiB after 100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_without_a_lost_request() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&routes(&upstream, "here")).await;
    let first = ready(&testbed).unwrap();
    let slow = {
        let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
        tokio::spawn(async move { connection.ask(&get_request("/slow")).await })
    };
    until("the slow request to arrive", async || (upstream.seen() == 1).then_some(())).await;
    let load = Load::start(&testbed);
    load.goes_on(100).await;
    // By signal, as for a binary that was replaced.
    testbed.gateway().signal(Signal::USR2);
    let heir =
        until("the heir", async || ready(&testbed).filter(|process| *process != first).map(Heir)).await;
    load.goes_on(200).await;
    // The old process waits for what it has begun.
    upstream.release();
    assert_eq!(slow.await.unwrap().unwrap().body, b"at last");
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    load.goes_on(200).await;
    assert_eq!(ready(&testbed), Some(heir.0), "the old process took the new one's mark away");
    let (code, ..) = testbed.bastide(&["check", "bastide.yaml"]);
    assert_eq!(code, 0);

    // By hand, from the new binary; twice in a row.
    let mut command = testbed.serve("log-3");
    command.arg("--take-over");
    let mut third = Process::spawn(&mut command);
    until("the third", async || ready(&testbed).filter(|process| *process != heir.0)).await;
    heir.ended().await;
    load.goes_on(200).await;
    assert_eq!(load.end().await, Vec::<String>::new(), "{}\n{}", testbed.log(), read(&testbed.path("log-3")));
    // The admin listener and the audit log went along.
    assert_eq!(testbed.admin("/healthz").await.status, 200);
    let id = testbed.get("/").await.request_id().unwrap().to_string();
    until("the event to be written", async || {
        (testbed.bastide(&["explain", "--config", "bastide.yaml", &id]).0 == 0).then_some(())
    })
    .await;
    // And nobody else may come in between.
    let mut fourth = Process::spawn(&mut testbed.serve("log-4"));
    assert!(!fourth.ended().await.success());
    assert!(read(&testbed.path("log-4")).contains("already runs on this state folder"));
    third.signal(Signal::TERM);
    assert!(third.ended().await.success());
}

#[tokio::test]
async fn systemd_hears_of_the_new_main_process_and_of_no_end() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::prepare(&routes(&upstream, "here"));
    let systemd = std::os::unix::net::UnixDatagram::bind(testbed.path("notify")).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let heard = || {
        let mut bytes = [0; 128];
        let count = systemd.recv(&mut bytes).ok()?;
        Some(std::str::from_utf8(&bytes[..count]).unwrap().to_owned())
    };
    let mut command = testbed.serve("log");
    command.env("NOTIFY_SOCKET", testbed.path("notify"));
    testbed.start_gateway_by(command).await;
    let first = ready(&testbed).unwrap();
    assert_eq!(until("readiness", async || heard()).await, "READY=1");
    testbed.gateway().signal(Signal::USR2);
    let heir =
        until("the heir", async || ready(&testbed).filter(|process| *process != first).map(Heir)).await;
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    // The two say it at the same time.
    let mut words = [until("one", async || heard()).await, until("the other", async || heard()).await];
    words.sort();
    assert_eq!(words, [format!("MAINPID={}\nREADY=1", heir.0), "READY=1".to_owned()]);
    assert_eq!(heard(), None, "what ends is not the service");
    // What ends last is.
    heir.signal(Signal::TERM);
    assert_eq!(until("the end", async || heard()).await, "STOPPING=1");
    heir.ended().await;
}

/// A new process that is to take over with this configuration.
fn taking_over(testbed: &TestBed, configuration: &str, log: &str) -> std::process::Command {
    let mut command = std::process::Command::new(BASTIDE);
    command
        .args(["serve", "--take-over", "--config", configuration])
        .current_dir(testbed.folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(testbed.path(log)).unwrap());
    command
}

/// A new process that takes everything over, builds it and is awaited by nobody any more when it
/// would serve.
async fn fails_late(testbed: &TestBed) {
    let state = testbed.path("state");
    // The test stands between the two.
    let (resources, old) = handover::take(&state).unwrap();
    let endpoint = handover::offer(&state).unwrap();
    // Held up where it has everything.
    let lock = std::fs::File::options().write(true).open(state.join("identity.key.lock")).unwrap();
    lock.lock().unwrap();
    let mut late = Process::spawn(&mut taking_over(testbed, "good.yaml", "log-4"));
    endpoint.set_nonblocking(true).unwrap();
    let (stream, _) = until("the new process to ask", async || endpoint.accept().ok()).await;
    stream.set_nonblocking(false).unwrap();
    let ours = stream.try_clone().unwrap();
    let giver = std::thread::spawn(move || handover::give(&stream, resources));
    let holder = late.id().to_string();
    until("the new process to hold the folder", async || {
        (read(&state.join("lock")).trim() == holder).then_some(())
    })
    .await;
    ours.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(giver.join().unwrap().is_err());
    drop(lock);
    assert!(!late.ended().await.success());
    let log = read(&testbed.path("log-4"));
    assert!(log.contains("the process to take over from has gone"), "{log}");
    drop(old);
    until("the old process to go on", async || {
        testbed.log().contains("the hand-over failed; this process goes on").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hand_over_that_fails_changes_nothing() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&routes(&upstream, "here")).await;
    let first = ready(&testbed).unwrap();
    // The new process cannot have its state: another folder is configured.
    std::fs::write(testbed.path("broken.yaml"), "state: ./elsewhere\nlisten: [ 127.0.0.1:0 ]\nroutes: []\n")
        .unwrap();
    let mut lost = taking_over(&testbed, "broken.yaml", "log-2");
    std::fs::copy(testbed.path("bastide.yaml"), testbed.path("good.yaml")).unwrap();
    // The same configuration, but its policies do not load any more.
    testbed.configure(
        &(routes(&upstream, "here") + "policies: { inline: \"permit (principl, action, resource);\" }\n"),
    );
    let mut faulty = taking_over(&testbed, "bastide.yaml", "log-3");
    for (command, log, why) in
        [(&mut lost, "log-2", "no process to take over from"), (&mut faulty, "log-3", "principl")]
    {
        assert!(!Process::spawn(command).ended().await.success());
        let log = read(&testbed.path(log));
        assert!(log.contains(why), "{log}");
    }
    testbed.gateway().signal(Signal::USR2);
    until("the refusal", async || testbed.log().contains("principl").then_some(())).await;
    let said = "the new process has ended; this one goes on";
    until("a word of it", async || testbed.log().contains(said).then_some(())).await;
    assert_eq!(testbed.get("/").await.status, 200);
    assert_eq!(ready(&testbed), Some(first));
    fails_late(&testbed).await;
    assert_eq!(ready(&testbed), Some(first));
    assert_eq!(testbed.get("/").await.status, 200);
    let (code, _, err) = testbed.bastide(&["key", "list", "--config", "good.yaml"]);
    assert_eq!(code, 0, "the administration is still the old process': {err}");
    // Nobody to take over from.
    testbed.configure(&routes(&upstream, "here"));
    testbed.stop_gateway().await;
    let mut orphan = testbed.serve("log-5");
    orphan.arg("--take-over");
    assert!(!Process::spawn(&mut orphan).ended().await.success());
    assert!(
        read(&testbed.path("log-5")).contains("no process to take over from"),
        "{}",
        read(&testbed.path("log-5"))
    );
}

/// A container that is paused, or a shell that stops it: nothing has come, and nobody has gone.
#[tokio::test]
async fn a_new_process_that_is_stopped_for_a_moment_waits_on_for_the_old_one() {
    let testbed = TestBed::prepare("routes: []\n");
    std::fs::create_dir(testbed.path("state")).unwrap();
    let old = tokio::net::UnixListener::bind(testbed.path("state").join(handover::SOCKET)).unwrap();
    let mut command = testbed.serve("log");
    let mut new = Process::spawn(command.arg("--take-over"));
    let (silent, _) = tokio::time::timeout(PATIENCE, old.accept()).await.unwrap().unwrap();
    // One of them at least while it waits for the first word.
    for signal in [Signal::STOP, Signal::CONT].repeat(20) {
        new.signal(signal);
        tokio::time::sleep(PAUSE * 4).await;
    }
    drop(silent);
    assert!(!new.ended().await.success());
    assert!(testbed.log().contains("the old process broke off"), "{}", testbed.log());
}

#[tokio::test]
async fn streams_get_a_goaway_and_an_end() {
    let upstream = Upstream::start().await;
    let mut testbed = TestBed::start(&(routes(&upstream, "here") + "limits: { drain_ms_max: 500 }\n")).await;
    let connection = http2::Connection::open(&testbed.endpoint()).await.unwrap();
    let other = connection.clone();
    let stuck = tokio::spawn(async move { other.ask(&get_request("/slow")).await });
    until("the stream to arrive", async || (upstream.seen() == 1).then_some(())).await;
    testbed.gateway().signal(Signal::TERM);
    // After the GOAWAY no new stream is taken, while the old one still waits.
    until("the GOAWAY", async || connection.ask(&get_request("/")).await.err()).await;
    assert!(testbed.gateway().ended().await.success(), "{}", testbed.log());
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn sockets_of_systemd_are_taken() {
    let upstream = Upstream::start().await;
    let address = free_address();
    let testbed = TestBed::prepare("");
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten: [ {address} ]\n{}",
        routes(&upstream, "here")
    );
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    let activate = || {
        let mut command = std::process::Command::new("systemd-socket-activate");
        command
            .args(["--listen", &address.to_string(), BASTIDE, "serve", "--config", "bastide.yaml"])
            .current_dir(testbed.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(testbed.path("log")).unwrap());
        command
    };
    if std::process::Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        println!("skipped: no systemd-socket-activate here");
        return;
    }
    let mut process = Process::spawn(&mut activate());
    // The first connection starts the gateway, and is not lost while it does.
    let answer = until("an answer", async || {
        bastide::demo::client::http1::ask(&Endpoint::clear(address), &get_request("/")).await.ok()
    })
    .await;
    assert_eq!(answer.status, 200, "{}", testbed.log());
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());

    // A socket that nobody has a use for is a fault, not a hole.
    let text = read(&testbed.path("bastide.yaml")).replace(&address.to_string(), "127.0.0.1:0");
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    let mut process = Process::spawn(&mut activate());
    until("a listener", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    assert!(!process.ended().await.success());
    assert!(testbed.log().contains("which no listener of the configuration has"), "{}", testbed.log());
    assert!(testbed.log().contains("expected 127.0.0.1:0"), "{}", testbed.log());
}
