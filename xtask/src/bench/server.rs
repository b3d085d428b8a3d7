//! The servers of a measurement: the upstream, nginx as the peer, and Bastide; each
//! pinned to a core, stopped when dropped.

use super::{pki::Pki, usage};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The core of the proxy under test.
pub(super) const PROXY_CORE: &str = "0";
/// The core of everything else: upstream and load.
pub(super) const PEER_CORE: &str = "1";
/// Bytes of the upstream's answer.
pub(super) const BODY_BYTES: usize = 1_024;
/// How long a server may take until it accepts connections.
const READY_SECONDS_MAX: u32 = 30;

/// A running server.
pub(super) struct Server {
    name: &'static str,
    child: Child,
}

/// Where nginx listens, the same routes behind each.
pub(super) struct NginxPorts {
    pub(super) tls: u16,
    pub(super) cleartext: u16,
}

impl Server {
    /// CPU that it and its children have used until now.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.child.id()).with_context(|| format!("measuring {}", self.name))
    }

    /// Resident memory in KiB.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        usage::resident_kib(self.child.id())
    }

    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Starts it pinned to `core`, its output in `NAME.log`, and waits until it listens.
    fn start(name: &'static str, core: &str, folder: &Path, command: &[&str], ready: u16) -> Result<Self> {
        let log_path = folder.join(format!("{name}.log"));
        let log = std::fs::File::create(&log_path)?;
        // `nice` and `taskset` become the program that they start: the process id stays.
        let child = pinned(core)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("could not start {}", command.join(" ")))?;
        let mut server = Self { name, child };
        let address = SocketAddr::from(([127, 0, 0, 1], ready));
        for _ in 0..READY_SECONDS_MAX * 20 {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "{name} ended with {status}: {}",
                    std::fs::read_to_string(&log_path).unwrap_or_default().trim()
                );
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{name} does not listen on {address} after {READY_SECONDS_MAX} s; see {}", log_path.display())
    }

    /// A server that answers everything with [`BODY_BYTES`] bytes.
    pub(super) fn upstream(folder: &Path, port: u16) -> Result<Self> {
        let mut text = nginx_opening(folder, "upstream");
        let body = "x".repeat(BODY_BYTES);
        write!(
            text,
            "  server {{ listen 127.0.0.1:{port}; default_type application/octet-stream; location / {{ return 200 \"{body}\"; }} }}\n}}\n"
        )?;
        Self::nginx_with(folder, "upstream", PEER_CORE, &text, port)
    }

    /// nginx as a plain proxy with TLS 1.3 and in cleartext, tuned as its manual says:
    /// one worker, connections to the upstream kept, no access log.
    pub(super) fn nginx(folder: &Path, pki: &Pki, upstream: u16, ports: &NginxPorts) -> Result<Self> {
        let mut text = nginx_opening(folder, "nginx");
        let NginxPorts { tls, cleartext } = ports;
        write!(
            text,
            "  upstream files {{
    server 127.0.0.1:{upstream};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
  server {{
    listen 127.0.0.1:{tls} ssl http2 reuseport;
    listen 127.0.0.1:{cleartext} reuseport;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.3;
    location / {{
      proxy_pass http://files;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
",
            pki.certificate.display(),
            pki.key.display(),
        )?;
        Self::nginx_with(folder, "nginx", PROXY_CORE, &text, *tls)
    }

    fn nginx_with(folder: &Path, name: &'static str, core: &str, text: &str, ready: u16) -> Result<Self> {
        let path = folder.join(format!("{name}.conf"));
        std::fs::write(&path, text)?;
        let program = crate::command::find("nginx").context("nginx is missing: apt-get install nginx")?;
        let program = program.display().to_string();
        Self::start(
            name,
            core,
            folder,
            &[&program, "-p", &folder.display().to_string(), "-c", &path.display().to_string()],
            ready,
        )
    }

    /// `bastide serve` with that configuration; `ready` is a port on which it will listen.
    pub(super) fn bastide(folder: &Path, binary: &Path, configuration: &Path, ready: u16) -> Result<Self> {
        let (binary, configuration) = (binary.display().to_string(), configuration.display().to_string());
        Self::start("bastide", PROXY_CORE, folder, &[&binary, "serve", "--config", &configuration], ready)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: nginx's workers would outlive a killed master.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..100 {
            if asked.is_err() || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command before which the words of a program are put: on that core, and before
/// everything else on it where the user may ask for that.
pub(super) fn pinned(core: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "-20", "taskset", "-c", core]);
    command
}

fn nginx_opening(folder: &Path, name: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
",
        folder = folder.display()
    )
}

/// A port that is free now. Another program could take it before the server does; then
/// the server says so and the measurement is repeated.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
