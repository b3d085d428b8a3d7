//! Servers that we did not write, as upstreams.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bastide::demo::port::Ports;

use crate::support::{Process, read, until};

/// A loopback address for one server to be started, kept to the end of the tests.
pub(crate) fn free_address() -> SocketAddr {
    static KEPT: Mutex<Ports> = Mutex::new(Ports::new());
    KEPT.lock().unwrap().another().unwrap()
}

/// The port of one.
pub(crate) fn free_port() -> u16 {
    free_address().port()
}

/// Whether a program is there; a test that goes without says so.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// One nginx with its own folder and address, which it keeps when it starts again.
pub(crate) struct Nginx {
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    process: Option<Process>,
}

impl Nginx {
    /// Starts one whose `http` block holds `http`; `ADDRESS` in it is its own.
    pub(crate) async fn start(folder: &Path, name: &str, http: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let address = free_address();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temporary}{}\n}}\n",
            http.replace("ADDRESS", &address.to_string()).replace("PORT", &address.port().to_string())
        );
        std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let mut nginx = Self { folder, address, process: None };
        nginx.run().await;
        nginx
    }

    /// Runs it, again when it was stopped.
    pub(crate) async fn run(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&self.folder).args(["-e", "error.log", "-c", "nginx.conf"]);
        self.process = Some(Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())));
        let address = self.address;
        let log = self.folder.join("error.log");
        until("nginx to listen", async || {
            let connected = tokio::net::TcpStream::connect(address).await;
            if connected.is_err() && read(&log).contains("[emerg]") {
                panic!("nginx: {}", read(&log));
            }
            connected.ok().map(drop)
        })
        .await;
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// Runs `openssl` in a folder.
pub(crate) fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority `NAME.pem` with its key.
pub(crate) fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} \
             -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// A certificate `NAME.pem` with its key, for this host name or address (`IP:127.0.0.1`).
pub(crate) fn certificate(folder: &Path, authority: &str, name: &str, alternative: &str) {
    std::fs::write(folder.join("extensions"), format!("subjectAltName={alternative}\n")).unwrap();
    openssl(
        folder,
        &format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr"
        ),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -days 2 -in {name}.csr -CA {authority}.pem -CAkey {authority}.key \
             -extfile extensions -out {name}.new"
        ),
    );
    std::fs::rename(folder.join(format!("{name}.new")), folder.join(format!("{name}.pem"))).unwrap();
}

/// Starts haproxy on an address of its own with this configuration; `ADDRESS` in it is
/// that address.
pub(crate) async fn haproxy(folder: &Path, configuration: &str) -> (Process, SocketAddr) {
    let address = free_address();
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, configuration.replace("ADDRESS", &address.to_string())).unwrap();
    let log = folder.join("haproxy.log");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null());
    let process = Process::spawn(command.stderr(std::fs::File::create(&log).unwrap()));
    until("haproxy to listen", async || {
        let connected = tokio::net::TcpStream::connect(address).await;
        if connected.is_err() && read(&log).contains("[ALERT]") {
            panic!("haproxy: {}", read(&log));
        }
        connected.ok().map(drop)
    })
    .await;
    (process, address)
}

/// A name server (dnsmasq) that answers from a hosts file, which it reads again when it
/// is told to; time to live one second.
pub(crate) struct NameServer {
    process: Process,
    hosts: PathBuf,
    pub(crate) address: SocketAddr,
}

impl NameServer {
    pub(crate) async fn start(folder: &Path, hosts: &str, more: &[String]) -> Self {
        let address = free_address();
        let file = folder.join("hosts");
        std::fs::write(&file, hosts).unwrap();
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--local-ttl=1",
                "--user=",
                "--pid-file=",
            ])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--addn-hosts={}", file.display()))
            .args(more);
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        until("dnsmasq to listen", async || tokio::net::TcpStream::connect(address).await.ok().map(drop))
            .await;
        Self { process, hosts: file, address }
    }

    /// Answers from these hosts from now on.
    pub(crate) fn replace(&self, hosts: &str) {
        std::fs::write(&self.hosts, hosts).unwrap();
        self.process.signal(rustix::process::Signal::HUP);
    }
}
