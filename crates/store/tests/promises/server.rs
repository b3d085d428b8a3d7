//! A real PostgreSQL for the tests: in a folder of its own, on loopback, ended with them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use store::PostgresSettings;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Runs the server and ends it when standard input closes: with the tests, however they
/// end. Nothing is left of its folder, which is the script's name.
const LEASHED: &str =
    r#""$@" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; cd /; rm -rf -- "$0""#;

/// How often a server is asked whether it is there, and how many times.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASKED_MAX: u32 = 600;
/// Asked so often, one that has no process yet will have none.
const ASKED_WITHOUT_PROCESS_MAX: u32 = 50;

/// A server.
pub(crate) struct Server {
    bin: PathBuf,
    user: u32,
    folder: TempDir,
    port: u16,
    /// Has the port as long as the server is wanted, and does not listen: nobody else is given it,
    /// also while the server is not there.
    _reserved: TcpSocket,
    running: Mutex<Child>,
    databases: AtomicU32,
}

/// The server that all tests share, or why there is none.
pub(crate) fn shared() -> Result<&'static Server, &'static str> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[])).as_ref().map_err(String::as_str)
}

/// Says once that a test was left out.
pub(crate) fn skip(why: &str) {
    println!("skipped: no PostgreSQL to test with: {why}");
}

impl Server {
    /// Makes a cluster and starts it.
    pub(crate) fn start(settings: &[&str]) -> Result<Self, String> {
        Self::start_in(&std::env::temp_dir(), settings, |_| ())
    }

    /// Makes a cluster in a folder of `place` and starts it; `prepare` is shown the data
    /// folder before. Servers refuse to run as root.
    pub(crate) fn start_in(
        place: &Path,
        settings: &[&str],
        prepare: impl FnOnce(&Path),
    ) -> Result<Self, String> {
        let bin = binaries().ok_or("no initdb; install the Debian package postgresql")?;
        let folder = tempfile::Builder::new()
            .prefix("bastide-pg")
            .tempdir_in(place)
            .map_err(|error| error.to_string())?;
        let own = fs::metadata(folder.path()).unwrap().uid();
        let user = if own == 0 {
            user("postgres").or_else(|| user("nobody")).ok_or("no user but root")?
        } else {
            own
        };
        chown(folder.path(), Some(user), None).map_err(|error| error.to_string())?;
        let data = folder.path().join("data");
        let made = as_user(Command::new(bin.join("initdb")), user, folder.path())
            .args(["--auth=trust", "--username=bastide", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg("--wal-segsize=1")
            .arg("--pgdata")
            .arg(&data)
            .output()
            .map_err(|error| error.to_string())?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = reserved.local_addr().unwrap().port();
        for line in settings {
            let path = data.join("postgresql.auto.conf");
            let text = fs::read_to_string(&path).unwrap() + line + "\n";
            fs::write(&path, text).unwrap();
        }
        prepare(&data);
        let running = Mutex::new(run(&bin, user, folder.path(), port));
        let databases = AtomicU32::new(0);
        let server = Self { bin, user, folder, port, _reserved: reserved, running, databases };
        server.comes_up();
        Ok(server)
    }

    /// A new database of this server, as a connection string.
    pub(crate) async fn database(&self) -> String {
        let name = format!("town{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let client = self.client("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
        self.address(&name)
    }

    pub(crate) fn address(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=bastide dbname={database}", self.port)
    }

    /// A client of our own over the Unix socket, for what the store has no function for.
    pub(crate) async fn client(&self, database: &str) -> tokio_postgres::Client {
        let (folder, port) = (self.folder.path().display(), self.port);
        let address = format!("host={folder} port={port} user=bastide dbname={database}");
        let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A port of loopback that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Kills the server's first process as a crash would, and starts it anew.
    pub(crate) fn crash(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid: i32 = pid.lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        // Its other processes see that it is gone, and the one above it waits for it; until then a
        // new one ends at once.
        let number = Path::new("/proc").join(pid.to_string());
        let is_gone = (0..ASKED_MAX).any(|_| (self.is_gone() && !number.exists()) || pause());
        assert!(is_gone, "PostgreSQL does not go");
        let mut running = self.running.lock().unwrap();
        running.kill().unwrap();
        running.wait().unwrap();
        *running = run(&self.bin, self.user, self.folder.path(), self.port);
        self.comes_up();
    }

    /// Stops all of its processes as they are, or lets them go on.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let data = self.data();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            if !fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data) {
                continue;
            }
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                let _ = kill_process(pid, if is_frozen { Signal::STOP } else { Signal::CONT });
            }
        }
    }

    /// Starts it anew where it gave up by itself.
    pub(crate) fn revive(&self) {
        for _ in 0..ASKED_MAX {
            if self.is_gone() {
                let mut running = self.running.lock().unwrap();
                running.kill().unwrap();
                running.wait().unwrap();
                *running = run(&self.bin, self.user, self.folder.path(), self.port);
                return self.comes_up();
            }
            if self.is_up() {
                return;
            }
            pause();
        }
        self.does_not_start();
    }

    /// Waits until it takes connections.
    fn comes_up(&self) {
        for asked in 0..ASKED_MAX {
            if self.is_up() {
                return;
            }
            pause();
            if asked > ASKED_WITHOUT_PROCESS_MAX && self.is_gone() {
                break;
            }
        }
        self.does_not_start();
    }

    fn does_not_start(&self) -> ! {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start: {log}");
    }

    fn is_up(&self) -> bool {
        let asked = as_user(Command::new(self.bin.join("pg_isready")), self.user, self.folder.path())
            .args(["--quiet", "--host=127.0.0.1", &format!("--port={}", self.port)])
            .status();
        asked.is_ok_and(|status| status.success())
    }

    /// Whether none of its processes is left: all of them work in its data folder.
    fn is_gone(&self) -> bool {
        let data = self.data();
        let works_there = |process: fs::DirEntry| {
            fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data)
        };
        !fs::read_dir("/proc").unwrap().flatten().any(works_there)
    }
}

/// `false`: not yet.
fn pause() -> bool {
    std::thread::sleep(ASK_EVERY);
    false
}

/// Settings for a connection string, with no TLS to verify.
pub(crate) fn settings(address: &str) -> PostgresSettings {
    let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    PostgresSettings::new(address, tls.with_no_client_auth(), false).unwrap()
}

fn run(bin: &Path, user: u32, folder: &Path, port: u16) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    as_user(Command::new("sh"), user, folder)
        .args(["-c", LEASHED])
        .arg(folder)
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
        .arg(folder)
        .args(["-c", "max_connections=400", "-c", "shared_buffers=32MB"])
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn as_user(mut command: Command, user: u32, folder: &Path) -> Command {
    command.current_dir(folder);
    if rustix::process::geteuid().as_raw() != user {
        command.uid(user);
    }
    command
}

/// Where `initdb` and its neighbours lie.
fn binaries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/pgsql/bin"].map(PathBuf::from);
    let mut places: Vec<_> = debian.chain(usual).filter(|place| place.join("initdb").exists()).collect();
    places.retain(|place| place.join("postgres").exists() && place.join("pg_isready").exists());
    places.into_iter().next()
}

fn user(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}
