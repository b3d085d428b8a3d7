//! Both providers, set up for the same job, and one measurement.

use super::job::{self, RESOURCE, Way};
use super::table::{Sample, Samples};
use crate::bench::gateway::Spread;
use crate::bench::load::Load;
use crate::bench::server::{PROXY_CORE, Server};
use crate::clock::Stopwatch;
use crate::process::free_port;
use crate::{command, node};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(super) const SCOPE: &str = "orders:read";
pub(super) const SECRET: &str = "a-client-secret-of-more-than-32-characters";
const CALLBACK: &str = "https://app.bench/cb";
const USERNAME: &str = "alice";
const PASSWORD: &str = "correct horse battery staple";
/// How long tokens last: longer than any measurement.
const TOKEN_SECONDS: u32 = 3_600;
/// Before the first round of each row, so that nobody pays for what is made once.
const WARM_UP_SECONDS: u32 = 1;
/// Between two questions whether it gives tokens.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Bastide,
    Peer,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Bastide, Self::Peer];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bastide => "Bastide",
            Self::Peer => "oidc-provider",
        }
    }

    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Bastide => "bastide",
            Self::Peer => "peer",
        }
    }

    /// Where its settings are written for the scripts.
    pub(super) fn settings(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.id()))
    }
}

/// A folder with `bastide.yaml` and a store.
pub(super) struct Home {
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    binary: PathBuf,
}

impl Home {
    /// Writes the configuration and makes the store.
    pub(super) fn make(folder: &Path, binary: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = free_port()?;
        std::fs::write(folder.join("bastide.yaml"), configuration(port, free_port()?))?;
        let home = Self { folder: folder.to_owned(), port, binary: binary.to_owned() };
        home.run(&["init"])?;
        Ok(home)
    }

    /// Runs one of its commands and gives what it prints.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        command::read(Command::new(&self.binary).args(arguments).current_dir(&self.folder))
    }

    /// Starts the process; it need not be ready.
    pub(super) fn spawn(&self) -> Result<Server> {
        let binary = self.binary.display().to_string();
        Server::spawn("bastide", PROXY_CORE, &self.folder, &[&binary, "serve"])
    }
}

/// One realm; the clients and people come by `bastide apply`.
fn configuration(port: u16, admin: u16) -> String {
    format!(
        "state: ./state
workers: 1
admin: {{ address: 127.0.0.1:{admin} }}
listen:
  - address: 127.0.0.1:{port}
limits: {{ connections_per_address_max: 10000 }}
realms:
  bench:
    issuer: http://localhost:{port}
    lifetimes: {{ access_token: 1h, id_token: 1h }}
    scopes: {{ \"{SCOPE}\": see orders }}
    resources: {{ \"{RESOURCE}\": {{}} }}
routes:
  - {{ name: id, match: localhost/**, to: identity, authenticate: none, allow: anyone }}
"
    )
}

/// The clients that both have, as a file of `bastide apply`.
pub(super) fn clients() -> serde_json::Value {
    json!({
        "importer": {
            "name": "importer", "secret": SECRET, "grant_types": ["client_credentials"],
            "scopes": [SCOPE], "resources": [RESOURCE],
        },
        "web": {
            "name": "web", "secret": SECRET, "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [CALLBACK], "scopes": ["openid", "offline_access", SCOPE],
            "resources": [RESOURCE], "id_token_algorithm": "ES256",
        },
    })
}

/// Both, ready to be started.
pub(super) struct Stage {
    folder: PathBuf,
    home: Home,
    peer_port: u16,
    peer_script: PathBuf,
}

impl Stage {
    /// Sets both up.
    pub(super) fn set(folder: &Path, binary: &Path) -> Result<Self> {
        let home = Home::make(&folder.join("home"), binary)?;
        let file = home.folder.join("clients.json");
        std::fs::write(&file, json!({ "realm": "bench", "clients": clients() }).to_string())?;
        home.run(&["apply", "-f", "clients.json"])?;
        let password = home.folder.join("password.txt");
        std::fs::write(&password, PASSWORD)?;
        let added = Command::new(&home.binary)
            .args(["user", "add", USERNAME, "--password-stdin"])
            .current_dir(&home.folder)
            .stdin(std::fs::File::open(&password)?)
            .output()?;
        if !added.status.success() {
            bail!("adding {USERNAME}: {}", String::from_utf8_lossy(&added.stderr).trim());
        }
        let peer_port = free_port()?;
        let peer_script = node::script("bench-peer.mjs", include_str!("peer.mjs"))?;
        let stage = Self { folder: folder.to_owned(), home, peer_port, peer_script };
        for side in Side::ALL {
            let settings = json!({
                "issuer": format!("http://localhost:{}", stage.port(side)), "resource": RESOURCE, "scope": SCOPE,
                "secret": SECRET, "callback": CALLBACK, "seconds": TOKEN_SECONDS, "username": USERNAME,
                "password": PASSWORD,
            });
            std::fs::write(side.settings(folder), settings.to_string())?;
        }
        Ok(stage)
    }

    fn port(&self, side: Side) -> u16 {
        match side {
            Side::Bastide => self.home.port,
            Side::Peer => self.peer_port,
        }
    }

    fn spawn(&self, side: Side) -> Result<Server> {
        match side {
            Side::Bastide => self.home.spawn(),
            Side::Peer => {
                let (script, port) = (self.peer_script.display().to_string(), self.peer_port.to_string());
                let settings = side.settings(&self.folder).display().to_string();
                let words = ["env", "NODE_ENV=production", "node", &script, &port, &settings];
                Server::spawn("oidc-provider", PROXY_CORE, &self.folder, &words)
            }
        }
    }

    /// Milliseconds from the start of the process to the first token, each so often.
    pub(super) fn starts(&self, rounds: u32) -> Result<Vec<(Side, Spread)>> {
        let mut starts = Vec::new();
        for side in Side::ALL {
            let mut times = Vec::new();
            for _ in 0..rounds {
                let watch = Stopwatch::start();
                let mut server = self.spawn(side)?;
                first_token(&mut server, self.port(side))?;
                times.push(watch.elapsed().as_secs_f64() * 1e3);
            }
            println!("start {:<13} {:?} ms", side.name(), times);
            starts.push((side, Spread::of(times)));
        }
        Ok(starts)
    }

    /// Starts both.
    pub(super) fn start(self) -> Result<Running> {
        let mut servers = Vec::new();
        for side in Side::ALL {
            let mut server = self.spawn(side)?;
            first_token(&mut server, self.port(side))?;
            servers.push(server);
        }
        Ok(Running { stage: self, servers })
    }
}

/// Waits until it gives a token.
pub(super) fn first_token(server: &mut Server, port: u16) -> Result<()> {
    let form = job::credentials(true);
    server.wait(ASK_EVERY, || job::post(port, "/token", &form).ok()).map(drop)
}

/// Both, at work.
pub(super) struct Running {
    stage: Stage,
    /// In the order of [`Side::ALL`].
    servers: Vec<Server>,
}

impl Running {
    fn server(&self, side: Side) -> Result<&Server> {
        self.servers.get(side as usize).with_context(|| format!("{} was not started", side.name()))
    }

    /// One request of each row to each.
    pub(super) fn verify(&self) -> Result<()> {
        Side::ALL.into_iter().try_for_each(|side| {
            job::verify(side, self.stage.port(side), &self.stage.folder)
                .with_context(|| format!("trying {}", side.name()))
        })
    }

    /// Both for one row, another one beginning in each round.
    pub(super) fn round(&self, way: Way, round: u32, seconds: u32, samples: &mut Samples) -> Result<()> {
        let mut order = Side::ALL;
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            if round == 0 {
                self.load(way, side, WARM_UP_SECONDS)?;
            }
            let sample = self.load(way, side, seconds)?;
            println!(
                "round {} {:<13} {:<13} {:>7.0} µs, {:>6.0} /s, core {:>3.0} % busy",
                round + 1,
                way.id(),
                side.name(),
                sample.micros,
                sample.rate,
                sample.micros * sample.rate / 1e4,
            );
            samples.push(way, side, sample);
        }
        Ok(())
    }

    fn load(&self, way: Way, side: Side, seconds: u32) -> Result<Sample> {
        let (server, port) = (self.server(side)?, self.stage.port(side));
        let script = job::script(way, side, port, &self.stage.folder)?;
        let url = format!("http://localhost:{port}{}", way.endpoint(side));
        let before = server.cpu()?;
        let completed = Load::Http1Script(&script)
            .run(&url, seconds)
            .with_context(|| format!("{} at {}", way.id(), side.name()))?;
        let used = server.cpu()?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let completed = completed as f64;
        Ok(Sample { micros: used.as_secs_f64() * 1e6 / completed, rate: completed / f64::from(seconds) })
    }

    /// Records ours under the row's load and writes perf's report.
    pub(super) fn profile(&self, way: Way, seconds: u32) -> Result<()> {
        let server = self.server(Side::Bastide)?;
        let port = self.stage.port(Side::Bastide);
        let script = job::script(way, Side::Bastide, port, &self.stage.folder)?;
        let url = format!("http://localhost:{port}{}", way.endpoint(Side::Bastide));
        server.profile(&self.stage.folder, way.id(), seconds, || {
            Load::Http1Script(&script).run(&url, seconds).map(drop)
        })
    }
}
