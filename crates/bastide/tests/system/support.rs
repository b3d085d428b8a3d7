//! What every test needs: a gateway in a folder of its own, an upstream to stand behind
//! it, and a way to ask.

use std::io::{Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bastide::demo::client::{Answer, Endpoint, Request, Trust, http1};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take before a test gives up. Not a bound that is tested.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a gateway that starts: of the Core Rule Set much is built, and here by code that is not
/// optimised.
const START_WITHIN: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(20);

/// The real binary.
pub(crate) const BASTIDE: &str = env!("CARGO_BIN_EXE_bastide");

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self { child: command.stdin(Stdio::piped()).spawn().unwrap() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let waited = timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(POLL).await;
            }
        });
        waited.await.expect("the process does not end")
    }

    /// Waits for its end, for so long.
    pub(crate) fn ended_within(&mut self, most: Duration) -> bool {
        let steps = most.as_millis() / POLL.as_millis();
        for _ in 0..steps {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` gives something.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition).await
}

/// The same for what a gateway has to start for.
pub(crate) async fn until_started<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(START_WITHIN, what, condition).await
}

/// So many connections reach each core: the system picks one for each of them.
pub(crate) const CONNECTIONS: usize = 32;

/// Waits until a condition that asks over a connection of its own holds at each core.
pub(crate) async fn until_each_core(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut in_a_row = 0;
    until(what, async || {
        in_a_row = if condition().await { in_a_row + 1 } else { 0 };
        (in_a_row >= CONNECTIONS).then_some(())
    })
    .await;
}

async fn until_within<T>(longest: Duration, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = timeout(longest, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            sleep(POLL).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// What `attempt` gives when nothing holds it up. It may give nothing only when the machine stood still
/// meanwhile, for longer than `most` at a time: that proves nothing.
pub(crate) async fn undisturbed<T>(
    what: &str,
    most: Duration,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        let pauses = Pauses::watch();
        if let Some(found) = attempt().await {
            return found;
        }
        // Who watches may be woken later than this.
        sleep(POLL).await;
        let longest = pauses.longest();
        assert!(longest > most, "the machine stood still for no longer than {longest:?}, and no {what}");
        assert!(begun.elapsed() < 3 * PATIENCE, "the machine stands still again and again: no {what}");
    }
}

/// How long the processor, or writes to files, let others wait meanwhile, as a thread of its own sees it.
struct Pauses {
    longest_us: Arc<AtomicU64>,
}

impl Pauses {
    fn watch() -> Self {
        const STEP: Duration = Duration::from_millis(5);
        let longest_us = Arc::<AtomicU64>::default();
        let watched = Arc::downgrade(&longest_us);
        let mut file = tempfile::tempfile().unwrap();
        std::thread::spawn(move || {
            while let Some(longest_us) = watched.upgrade() {
                let begun = Instant::now();
                std::thread::sleep(STEP);
                let _ = file.rewind().and_then(|()| file.write_all(b"."));
                let late = begun.elapsed().saturating_sub(STEP).as_micros();
                longest_us.fetch_max(u64::try_from(late).unwrap(), Ordering::Relaxed);
            }
        });
        Self { longest_us }
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

/// A folder with a configuration, and the gateway that runs on it.
pub(crate) struct TestBed {
    pub(crate) folder: TempDir,
    gateway: Option<Process>,
    listen: Vec<SocketAddr>,
    admin: SocketAddr,
}

impl TestBed {
    /// Writes the configuration and starts the gateway on it. `state`, `admin` and the
    /// listener are added.
    pub(crate) async fn start(rest: &str) -> Self {
        let mut testbed = Self::prepare(rest);
        testbed.start_gateway().await;
        testbed
    }

    /// Writes the configuration.
    pub(crate) fn prepare(rest: &str) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = tempfile::tempdir().unwrap();
        let testbed = Self { folder, gateway: None, listen: Vec::new(), admin: nowhere };
        testbed.configure(rest);
        testbed
    }

    /// Replaces the configuration, whole or not at all.
    pub(crate) fn configure(&self, rest: &str) {
        let text = format!(
            "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\n\
             listen:\n  - address: 127.0.0.1:0\n    tls: {{ local: true }}\n  - address: 127.0.0.1:0\n{rest}"
        );
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path("bastide.yaml")).unwrap();
    }

    /// `bastide serve` in this folder, its log in `log`.
    pub(crate) fn serve(&self, log: &str) -> Command {
        let mut command = Command::new(BASTIDE);
        command
            .args(["serve", "--config", "bastide.yaml"])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.path(log)).unwrap());
        command
    }

    /// Starts the gateway and waits until it serves.
    pub(crate) async fn start_gateway(&mut self) {
        let command = self.serve("log");
        self.start_gateway_by(command).await;
    }

    /// The same with a command of the test's own.
    pub(crate) async fn start_gateway_by(&mut self, mut command: Command) {
        let ready_file = self.path("state/ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let mut gateway = Process::spawn(&mut command);
        let log = self.path("log");
        let ready: Value = until_started("the gateway to be ready", async || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway ended ({status}): {}", read(&log));
            }
            serde_json::from_str(&read(&ready_file)).ok()
        })
        .await;
        let address = |value: &Value| value.as_str().unwrap().parse::<SocketAddr>().unwrap();
        self.listen = ready["listen"].as_array().unwrap().iter().map(address).collect();
        self.admin = address(&ready["admin"]);
        self.gateway = Some(gateway);
    }

    /// The gateway's process.
    pub(crate) fn gateway(&mut self) -> &mut Process {
        self.gateway.as_mut().unwrap()
    }

    /// Ends the gateway with SIGTERM and waits for it.
    pub(crate) async fn stop_gateway(&mut self) {
        self.gateway().signal(Signal::TERM);
        let status = self.gateway().ended().await;
        assert!(status.success(), "{status}: {}", self.log());
        self.gateway = None;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        read(&self.path("log"))
    }

    /// The n-th listener's; the first two are always the same.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        self.listen[number]
    }

    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.listen[0]
    }

    pub(crate) fn clear_address(&self) -> SocketAddr {
        self.listen[1]
    }

    /// The TLS endpoint.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let authority = std::fs::read(self.path("state/ca/ca.pem")).unwrap();
        let trust = Trust::new("localhost", &authority, None).unwrap();
        Endpoint { address: self.tls_address(), tls: Some(trust), from: None }
    }

    /// The cleartext endpoint.
    pub(crate) fn clear_endpoint(&self) -> Endpoint {
        Endpoint::clear(self.clear_address())
    }

    /// Asks over TLS on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        http1::ask(&self.endpoint(), &get_request(target)).await.unwrap()
    }

    /// The admin listener's address.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin listener.
    pub(crate) async fn admin(&self, target: &str) -> Answer {
        http1::ask(&Endpoint::clear(self.admin), &get_request(target)).await.unwrap()
    }

    /// Runs a `bastide` command in the folder: exit code, standard output, standard error.
    pub(crate) fn bastide(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(BASTIDE).args(arguments).current_dir(self.folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

pub(crate) fn get_request(target: &str) -> Request {
    Request::new("GET", "localhost", target)
}

/// A file's text; empty when it is not there.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// An upstream in the test's own process: `/` answers at once, `/slow` when `release`
/// is called.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    seen: AtomicU64,
    release: tokio::sync::Semaphore,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let desk = Arc::new(Desk { seen: AtomicU64::new(0), release: tokio::sync::Semaphore::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/slow", get(slow))
            .fallback(async |State(desk): State<Arc<Desk>>| {
                desk.seen.fetch_add(1, Ordering::SeqCst);
                "here"
            })
            .with_state(Arc::clone(&desk));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, desk }
    }

    /// Requests that arrived so far.
    pub(crate) fn seen(&self) -> u64 {
        self.desk.seen.load(Ordering::SeqCst)
    }

    /// Lets one request to `/slow` be answered.
    pub(crate) fn release(&self) {
        self.desk.release.add_permits(1);
    }
}

async fn slow(State(desk): State<Arc<Desk>>) -> &'static str {
    desk.seen.fetch_add(1, Ordering::SeqCst);
    desk.release.acquire().await.unwrap().forget();
    "at last"
}
