//! nginx, twice: as the upstream of everybody, and as a proxy.

use super::{BODY_BYTES, BOTH, FILES, Ground, Listeners};
use crate::bench::pki::Pki;
use crate::bench::server::{PEER_CORE, PROXY_CORE, Server};
use anyhow::{Context, Result};
use std::path::Path;

/// Where the upstream listens.
#[derive(Clone, Copy)]
pub(in crate::bench) struct UpstreamPorts {
    pub(in crate::bench) cleartext: u16,
    pub(in crate::bench) tls: u16,
}

/// A server that answers everything with [`BODY_BYTES`] bytes, and has the [`FILES`].
pub(super) fn upstream(folder: &Path, pki: &Pki, ports: UpstreamPorts) -> Result<Server> {
    let files = folder.join("files");
    std::fs::create_dir_all(&files)?;
    let mut locations = String::new();
    for (path, bytes) in FILES {
        std::fs::write(files.join(path.trim_start_matches('/')), vec![b'x'; bytes])?;
        locations.push_str(&format!("    location = {path} {{ root {}; sendfile on; }}\n", files.display()));
    }
    let text = format!(
        "{opening}  access_log off;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{cleartext};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    location / {{ return 200 \"{body}\"; }}
{locations}  }}
}}
",
        opening = opening(folder, "upstream"),
        cleartext = ports.cleartext,
        tls = ports.tls,
        certificate = pki.certificate.display(),
        key = pki.key.display(),
        body = "x".repeat(BODY_BYTES),
    );
    run(folder, "upstream", PEER_CORE, &text, ports.cleartext)
}

/// nginx as a plain proxy, tuned as its manual says: one worker, connections to the
/// upstreams kept, nothing spooled to disk.
pub(super) fn start(ground: &Ground, listeners: Listeners) -> Result<Server> {
    let folder = ground.folder.as_path();
    let text = format!(
        "{opening}{files}{secure}  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.3;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_max_temp_file_size 0;
  proxy_ssl_trusted_certificate {authority};
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  proxy_ssl_server_name on;
  proxy_ssl_protocols TLSv1.3;
  server {{
    listen 127.0.0.1:{tls} ssl http2 reuseport;
    listen 127.0.0.1:{cleartext} reuseport;
    access_log off;
    location / {{ proxy_pass http://files; }}
    location {BOTH} {{ proxy_pass https://secure; }}
  }}
  server {{
    listen 127.0.0.1:{logged} ssl http2 reuseport;
    access_log {folder}/nginx.access.log combined;
    location / {{ proxy_pass http://files; }}
  }}
}}
",
        opening = opening(folder, "nginx"),
        files = upstream_group("files", ground.upstream.cleartext),
        secure = upstream_group("secure", ground.upstream.tls),
        certificate = ground.pki.certificate.display(),
        key = ground.pki.key.display(),
        authority = ground.pki.authority.display(),
        tls = listeners.tls,
        cleartext = listeners.cleartext,
        logged = listeners.logged,
        folder = folder.display(),
    );
    run(folder, "nginx", PROXY_CORE, &text, listeners.tls)
}

/// Servers under a name, to which connections are kept.
pub(in crate::bench) fn upstream_group(name: &str, port: u16) -> String {
    format!(
        "  upstream {name} {{
    server 127.0.0.1:{port};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
"
    )
}

/// Starts nginx with this configuration, on that core.
pub(in crate::bench) fn run(
    folder: &Path,
    name: &'static str,
    core: &str,
    text: &str,
    ready: u16,
) -> Result<Server> {
    let path = folder.join(format!("{name}.conf"));
    std::fs::write(&path, text)?;
    let program = crate::command::find("nginx").context("nginx is missing: apt-get install nginx")?;
    let program = program.display().to_string();
    let (folder_text, path) = (folder.display().to_string(), path.display().to_string());
    Server::start(name, core, folder, &[&program, "-p", &folder_text, "-c", &path], ready)
}

/// What every configuration begins with, up to and with `http {`.
pub(in crate::bench) fn opening(folder: &Path, name: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log warn;
events {{ worker_connections 12000; }}
http {{
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
