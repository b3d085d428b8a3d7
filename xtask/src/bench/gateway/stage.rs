//! Everything that runs during the measurement, and one measurement.

use super::row::{Row, Way};
use super::table::{Sample, Samples};
use crate::bench::load::{Load, TlsClient};
use crate::bench::peer::{Ground, Peer, Proxy};
use crate::bench::server::Server;
use crate::bench::whole_way::{self, CacheCount, Configured, Scripts};
use crate::command;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// More tokens per second than a core can verify: none comes twice.
const FRESH_PER_SECOND: u32 = 14_000;
/// Before the first round of each row, so that nobody pays for what is made once.
const WARM_UP_SECONDS: u32 = 1;

/// Everything that runs.
pub(super) struct Stage {
    plain: Server,
    plain_at: Configured,
    whole: Server,
    whole_at: Configured,
    /// By place in [`Proxy::ALL`]; none where nobody asks for it.
    peers: Vec<Option<Peer>>,
    scripts: Scripts,
    client: TlsClient,
    ground: Ground,
}

impl Stage {
    /// Starts what `rows` need. `rounds` of `seconds` need that many new tokens.
    pub(super) fn set(
        folder: &Path,
        binary: &Path,
        rows: &[&Row],
        rounds: u32,
        seconds: u32,
    ) -> Result<Self> {
        let ground = Ground::set(folder)?;
        let client = TlsClient::build(&ground.pki.authority)?;
        let fresh = rows.iter().any(|row| row.way == Way::WholeFresh);
        let scripts = whole_way::scripts(folder, if fresh { rounds } else { 0 }, FRESH_PER_SECOND * seconds)?;
        let (plain, plain_at) = ground.bastide(binary, false)?;
        let (whole, whole_at) = ground.bastide(binary, true)?;
        let mut peers = Vec::new();
        for proxy in Proxy::ALL {
            let wanted = rows.iter().any(|row| row.peers.contains(&proxy));
            peers.push(if wanted { ground.peer(proxy)? } else { None });
        }
        Ok(Self { plain, plain_at, whole, whole_at, peers, scripts, client, ground })
    }

    /// What the servers stand on, and who can hold connections to them.
    pub(super) fn into_ground(self) -> (Ground, TlsClient) {
        (self.ground, self.client)
    }

    /// The proxies of a row.
    fn proxies(row: &Row) -> impl Iterator<Item = Proxy> {
        std::iter::once(Proxy::Bastide).chain(row.peers.iter().copied())
    }

    /// One request through each proxy: a success with the upstream's body, over the
    /// protocol that the row names.
    pub(super) fn verify(&self, row: &Row) -> Result<()> {
        for proxy in Self::proxies(row) {
            let url = self.url(row, proxy)?;
            let mut curl = Command::new("curl");
            curl.args(["-sk", "--max-time", "10", "-o", "/dev/null", "-w"]);
            curl.arg("%{http_code} %{http_version} %{size_download}");
            curl.arg(if row.way == Way::TlsHttp2 { "--http2" } else { "--http1.1" });
            if row.way != Way::Cleartext {
                curl.arg("--tlsv1.3");
            }
            if row.is_whole() {
                let known = std::fs::read_to_string(self.scripts.known.with_extension("txt"))?;
                let (path, token) =
                    known.lines().next().and_then(|line| line.split_once(' ')).context("no token")?;
                curl.args(["-H", &format!("Authorization: Bearer {token}")])
                    .arg(format!("{}{path}", url.trim_end_matches('/')));
            } else {
                curl.arg(&url);
            }
            let answer =
                command::read(&mut curl).with_context(|| format!("{}: asking {}", row.id, proxy.name()))?;
            let version = if row.way == Way::TlsHttp2 { "2" } else { "1.1" };
            let expected = format!("200 {version} {}", row.body_bytes());
            if answer != expected {
                bail!(
                    "{}: {} at {url} answered `{answer}` (status, version, bytes), expected `{expected}`",
                    row.id,
                    proxy.name()
                );
            }
        }
        Ok(())
    }

    /// All proxies of a row, another one beginning in each round.
    pub(super) fn round(&self, row: &Row, round: u32, seconds: u32, samples: &mut Samples) -> Result<()> {
        let mut order: Vec<Proxy> = Self::proxies(row).collect();
        let turn = usize::try_from(round)? % order.len();
        order.rotate_left(turn);
        for proxy in order {
            let sample = self.measure(row, proxy, round, seconds)?;
            println!(
                "round {} {:<17} {:<8} {:>8.1} µs, core {:>3.0} % busy{}",
                round + 1,
                row.id,
                proxy.name(),
                sample.micros,
                sample.busy * 100.0,
                sample
                    .hit_ratio
                    .map_or(String::new(), |ratio| format!(", token cache hits {:.1} %", ratio * 100.0))
            );
            samples.push(proxy, sample);
        }
        Ok(())
    }

    fn measure(&self, row: &Row, proxy: Proxy, round: u32, seconds: u32) -> Result<Sample> {
        let (server, url) = (self.server(row, proxy)?, self.url(row, proxy)?);
        if round == 0 {
            self.load(row, None)?.run(&url, WARM_UP_SECONDS)?;
        }
        let counted = proxy == Proxy::Bastide && row.is_whole();
        let cache = if counted { Some(CacheCount::read(self.whole_at.admin)?) } else { None };
        let before = server.cpu()?;
        let completed = self.load(row, Some(round))?.run(&url, seconds)?;
        let used = server.cpu()?.saturating_sub(before);
        let hit_ratio = match cache {
            Some(before) => Some(CacheCount::read(self.whole_at.admin)?.ratio_since(before)),
            None => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let micros = used.as_secs_f64() * 1e6 / completed as f64;
        Ok(Sample { micros, busy: used.as_secs_f64() / f64::from(seconds), hit_ratio })
    }

    /// The load of a row; without a round, to warm up: then with known tokens.
    fn load(&self, row: &Row, round: Option<u32>) -> Result<Load<'_>> {
        Ok(match (row.way, round) {
            (Way::TlsHttp2, _) => Load::Http2,
            (Way::TlsHttp1, _) if row.is_large() => Load::Http1Large,
            (Way::TlsHttp1 | Way::Cleartext, _) => Load::Http1,
            (Way::Handshakes, _) => Load::Handshakes(&self.client),
            (Way::WholeFresh, Some(round)) => {
                let at = usize::try_from(round)?;
                Load::Http1Script(self.scripts.fresh.get(at).context("a file of new tokens for each round")?)
            }
            (Way::Whole | Way::WholeFresh, _) => Load::Http1Script(&self.scripts.known),
        })
    }

    fn peer(&self, proxy: Proxy) -> Result<&Peer> {
        let peer = self.peers.get(proxy.index()).and_then(Option::as_ref);
        peer.with_context(|| format!("{} was not started", proxy.name()))
    }

    fn server(&self, row: &Row, proxy: Proxy) -> Result<&Server> {
        Ok(match proxy {
            Proxy::Bastide if row.is_whole() => &self.whole,
            Proxy::Bastide => &self.plain,
            peer => &self.peer(peer)?.server,
        })
    }

    fn url(&self, row: &Row, proxy: Proxy) -> Result<String> {
        let (tls, cleartext) = match proxy {
            Proxy::Bastide if row.is_whole() => (self.whole_at.tls, self.whole_at.cleartext),
            Proxy::Bastide => (self.plain_at.tls, self.plain_at.cleartext),
            peer => {
                let listeners = self.peer(peer)?.listeners;
                let tls = match (row.logged, row.is_whole() && peer == Proxy::Envoy) {
                    (true, _) => listeners.logged,
                    (_, true) => listeners.whole,
                    _ => listeners.tls,
                };
                (tls, listeners.cleartext)
            }
        };
        let path = if row.path.is_empty() { "/" } else { row.path };
        Ok(match row.way {
            Way::Cleartext => format!("http://localhost:{cleartext}{path}"),
            _ => format!("https://localhost:{tls}{path}"),
        })
    }

    /// Records our proxy under the row's load and writes perf's report.
    pub(super) fn profile(&self, row: &Row, folder: &Path, seconds: u32) -> Result<()> {
        let server = self.server(row, Proxy::Bastide)?;
        server.profile(folder, row.id, seconds, || {
            self.load(row, Some(0))?.run(&self.url(row, Proxy::Bastide)?, seconds).map(drop)
        })
    }
}
