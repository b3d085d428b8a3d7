//! haproxy as a plain proxy: one thread, connections to the upstreams shared and kept.

use super::{BOTH, Ground, Listeners};
use crate::bench::server::{PROXY_CORE, Server};
use anyhow::{Context, Result};

pub(super) fn start(ground: &Ground, listeners: Listeners) -> Result<Server> {
    let path = ground.folder.join("haproxy.cfg");
    std::fs::write(&path, configuration(ground, listeners))?;
    let program = crate::command::find("haproxy").context("haproxy is missing: apt-get install haproxy")?;
    let (program, path) = (program.display().to_string(), path.display().to_string());
    Server::start("haproxy", PROXY_CORE, &ground.folder, &[&program, "-db", "-f", &path], listeners.tls)
}

fn configuration(ground: &Ground, listeners: Listeners) -> String {
    // What it logs goes to standard output, which is a file here.
    format!(
        "global
  nbthread 1
  maxconn 8000
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  option forwardfor
frontend plain
  bind 127.0.0.1:{tls} ssl crt {bundle} alpn h2,http/1.1
  bind 127.0.0.1:{cleartext}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  use_backend secure if {{ path_beg {BOTH} }}
  default_backend files
frontend logged
  bind 127.0.0.1:{logged} ssl crt {bundle} alpn h2,http/1.1
  log global
  option httplog
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  default_backend files
backend files
  server files 127.0.0.1:{files}
backend secure
  server secure 127.0.0.1:{secure} ssl ca-file {authority} verify required verifyhost localhost sni str(localhost)
",
        tls = listeners.tls,
        cleartext = listeners.cleartext,
        logged = listeners.logged,
        bundle = ground.pki.bundle.display(),
        authority = ground.pki.authority.display(),
        files = ground.upstream.cleartext,
        secure = ground.upstream.tls,
    )
}
