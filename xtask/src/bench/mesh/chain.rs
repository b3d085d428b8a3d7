//! Two proxies, one behind the other.

use super::peers;
use crate::bench::peer::{BODY_BYTES, Ground, Proxy};
use crate::bench::server::{PEER_CORE, PROXY_CORE, Server};
use crate::command;
use crate::process::free_port;
use anyhow::{Result, bail};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The service that is called.
pub(super) const SERVICE: &str = "payments";

/// A caller's proxy and a service's.
pub(super) struct Chain {
    proxy: Proxy,
    caller: Server,
    service: Server,
    /// Where the caller asks.
    outbound: u16,
    /// Whoever gives identities.
    _authority: Option<Server>,
}

impl Chain {
    /// Starts both.
    pub(super) fn start(ground: &Ground, binary: &Path, proxy: Proxy) -> Result<Self> {
        let (outbound, between) = (free_port()?, free_port()?);
        let (authority, service, caller) = match proxy {
            Proxy::Bastide => bastide(ground, binary, outbound, between)?,
            Proxy::Nginx => peers::nginx(ground, outbound, between)?,
            Proxy::Envoy | Proxy::Haproxy => peers::envoy(ground, outbound, between)?,
        };
        Ok(Self { proxy, caller, service, outbound, _authority: authority })
    }

    pub(super) fn name(&self) -> &'static str {
        self.proxy.name()
    }

    /// Where a program asks for the service by its name.
    pub(super) fn outbound(&self) -> String {
        format!("127.0.0.1:{}", self.outbound)
    }

    /// One request: a success with the upstream's body.
    pub(super) fn verify(&self) -> Result<()> {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H"]);
        curl.arg(format!("Host: {SERVICE}")).arg(format!("http://{}/", self.outbound()));
        let answer = command::read(&mut curl)?;
        if answer != format!("200 {BODY_BYTES}") {
            bail!("{} answered `{answer}` (status, bytes), expected `200 {BODY_BYTES}`", self.name());
        }
        Ok(())
    }

    /// What both have used.
    pub(super) fn cpu(&self) -> Result<Duration> {
        Ok(self.caller.cpu()? + self.service.cpu()?)
    }

    /// Memory of both, MB.
    pub(super) fn memory_mb(&self) -> Result<[f64; 2]> {
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let mb = |server: &Server| Ok(server.resident_kib()? as f64 * 1_024.0 / 1e6);
        [mb(&self.caller), mb(&self.service)].into_iter().collect::<Result<Vec<f64>>>().map(|both| {
            let mut both = both.into_iter();
            [both.next().unwrap_or_default(), both.next().unwrap_or_default()]
        })
    }
}

/// Who gives identities, the service's proxy, the caller's.
pub(super) type Three = (Option<Server>, Server, Server);

/// Authority, service and caller, each its own process.
fn bastide(ground: &Ground, binary: &Path, outbound: u16, between: u16) -> Result<Three> {
    let folder = ground.folder.join("mesh");
    std::fs::create_dir_all(&folder)?;
    let (inbound, program) = (free_port()?, binary.display().to_string());
    let user = command::read(Command::new("id").arg("-u"))?;
    let user = user.trim();
    let mesh = format!(
        "mesh:
  trust_domain: bench.example
  socket: api.sock
  authority: {{ cert: {authority}, key: {key} }}
  services:
    {SERVICE}: 127.0.0.1:{between}
  workloads:
    caller: {{ uid: {user} }}
    {SERVICE}: {{ uid: {user} }}
policies:
  - inline: |
      @id(\"caller\") permit (principal == Service::\"spiffe://bench.example/caller\", action == Action::\"GET\", resource)
      when {{ context.path like \"/*\" }};
",
        authority = ground.pki.authority.display(),
        key = ground.pki.authority_key.display(),
    );
    std::fs::write(folder.join("mesh.yaml"), mesh)?;
    let serve = format!(
        "include: mesh.yaml\nstate: state\nadmin: \"127.0.0.1:0\"\nlisten: [ \"127.0.0.1:{inbound}\" ]\nroutes: []\n"
    );
    std::fs::write(folder.join("bastide.yaml"), serve)?;
    command::read(Command::new(binary).arg("init").current_dir(&folder))?;
    let serve = [program.as_str(), "serve", "--config", "bastide.yaml"];
    let authority = Server::start("authority", PEER_CORE, &folder, &serve, inbound)?;
    let (listen, to) = (format!("127.0.0.1:{between}"), ground.upstream.cleartext.to_string());
    // The upstream runs already, as this user.
    let uid = std::fs::metadata("/proc/self")?.uid().to_string();
    let service = [
        program.as_str(),
        "run",
        "--service",
        SERVICE,
        "--listen",
        &listen,
        "--to",
        &to,
        "--listener-uid",
        &uid,
        "--",
        "sleep",
        "1000000",
    ];
    let service = Server::start("service", PROXY_CORE, &folder, &service, between)?;
    let (out, nowhere) = (outbound.to_string(), format!("127.0.0.1:{}", free_port()?));
    let caller = [
        program.as_str(),
        "run",
        "--service",
        "caller",
        "--listen",
        &nowhere,
        "--outbound-port",
        &out,
        "--",
        "sleep",
        "1000000",
    ];
    let caller = Server::start("caller", PROXY_CORE, &folder, &caller, outbound)?;
    Ok((Some(authority), service, caller))
}
