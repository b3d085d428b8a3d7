//! The programs of a suite: each listens on loopback, at a port that is free, in a
//! folder of its own, and is ended by its id when dropped.

use crate::process::{Process, free_address, listens};
use crate::{built, command};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server.
pub(super) struct Server {
    process: Process,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts `command` in `folder`, its output in `NAME.log`, and waits until `address`
    /// accepts connections.
    fn start(name: &str, folder: &Path, command: &mut Command, address: SocketAddr) -> Result<Self> {
        let mut process = Process::start(name, folder, command)?;
        process.wait(|| listens(address.port()))?;
        Ok(Self { process, address })
    }

    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Bastide with this configuration, to which `state` and `admin` are added; its
    /// first listener must be `127.0.0.1:0`.
    pub(super) fn bastide(binary: &Path, folder: &Path, rest: &str) -> Result<Self> {
        configure(folder, rest)?;
        Self::serve(binary, folder)
    }

    /// The same with a store of its own.
    pub(super) fn bastide_with_store(binary: &Path, folder: &Path, rest: &str) -> Result<Self> {
        configure(folder, rest)?;
        command::read(Command::new(binary).arg("init").current_dir(folder))?;
        Self::serve(binary, folder)
    }

    fn serve(binary: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["serve", "--config", "bastide.yaml"]).current_dir(folder);
        let mut process = Process::start("bastide", folder, &mut command)?;
        let address = process.wait(|| first_listener(&folder.join("state/ready.json")))?;
        Ok(Self { process, address })
    }

    /// nginx as a plain reverse proxy of `upstream`, as its manual shows it.
    pub(super) fn nginx(folder: &Path, upstream: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let address = free_address()?;
        let here = folder.display();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/nginx.error.log crit;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  \
             client_body_temp_path {here}/nginx-body;\n  proxy_temp_path {here}/nginx-proxy;\n  \
             fastcgi_temp_path {here}/nginx-fastcgi;\n  uwsgi_temp_path {here}/nginx-uwsgi;\n  \
             scgi_temp_path {here}/nginx-scgi;\n  client_max_body_size 16m;\n  server {{\n    listen {address};\n    \
             location / {{\n      proxy_pass http://{upstream};\n      proxy_http_version 1.1;\n      \
             proxy_next_upstream off;\n      proxy_set_header Host $http_host;\n    }}\n  }}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, text)?;
        let mut command = Command::new(program("nginx")?);
        command.arg("-p").arg(folder).arg("-c").arg(&path);
        Self::start("nginx", folder, &mut command, address)
    }

    /// haproxy in HTTP mode in front of `upstream`.
    pub(super) fn haproxy(folder: &Path, upstream: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let address = free_address()?;
        let text = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  \
             retries 0\nfrontend front\n  bind {address}\n  default_backend back\nbackend back\n  \
             server one {upstream}\n"
        );
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, text)?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(&path);
        Self::start("haproxy", folder, &mut command, address)
    }

    /// varnish that passes everything on to `upstream`.
    pub(super) fn varnish(folder: &Path, upstream: SocketAddr) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let address = free_address()?;
        let text = format!(
            "vcl 4.1;\nbackend one {{ .host = \"{}\"; .port = \"{}\"; }}\nsub vcl_recv {{ return (pass); }}\n",
            upstream.ip(),
            upstream.port()
        );
        let path = folder.join("varnish.vcl");
        std::fs::write(&path, text)?;
        let mut command = Command::new(program("varnishd")?);
        command
            .args(["-F", "-j", "none", "-s", "default,16m", "-T", "127.0.0.1:0", "-n"])
            .arg(folder.join("run"));
        command
            .args(["-a", &address.to_string(), "-p", "thread_pool_min=5", "-p", "thread_pools=1", "-f"])
            .arg(&path);
        Self::start("varnish", folder, &mut command, address)
    }
}

fn configure(folder: &Path, rest: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let text = format!("state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\n{rest}");
    Ok(std::fs::write(folder.join("bastide.yaml"), text)?)
}

fn first_listener(ready: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(ready).ok()?;
    let ready: serde_json::Value = serde_json::from_str(&text).ok()?;
    ready.get("listen")?.get(0)?.as_str()?.parse().ok()
}

fn program(name: &str) -> Result<PathBuf> {
    command::find(name).with_context(|| format!("{name} is missing"))
}

/// The binary of the ordinary build, built now, or the one that was named.
pub(super) fn binary(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return named.canonicalize().with_context(|| format!("no binary at {}", named.display()));
    }
    built::bastide()
}
