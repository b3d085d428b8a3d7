//! The gateway beside nginx: CPU per request, proxy on one core, load and upstream on
//! another, interleaved round by round.

use super::{
    load::{CONNECTIONS, CONNECTIONS_HTTP2, Load, STREAMS_HTTP2},
    page,
    pki::Pki,
    server::{BODY_BYTES, NginxPorts, PEER_CORE, PROXY_CORE, Server, free_port},
    shipped_binary,
    whole_way::{self, CacheCount, Configured, Scripts, TOKENS},
};
use crate::{command, test::tools, workspace};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long, how often, which rows.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Rounds; each measures every row with both proxies
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure this row only (repeat for several); the page is then left as it is
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Measure this binary instead of building the dist profile
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also record where the CPU goes, with perf, into target/bench/ROW.perf.txt
    #[arg(long)]
    profile: bool,
}

/// How a row is driven.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    TlsHttp1,
    TlsHttp2,
    CleartextHttp1,
    Whole,
    WholeFresh,
}

struct Row {
    id: &'static str,
    title: &'static str,
    way: Way,
    /// At most so many times nginx; `None`: reported only.
    bound: Option<f64>,
}

const ROWS: &[Row] = &[
    Row {
        id: "tls-http1",
        title: "TLS 1.3, HTTP/1.1 keep-alive, plain proxying",
        way: Way::TlsHttp1,
        bound: Some(0.75),
    },
    Row { id: "tls-http2", title: "TLS 1.3, HTTP/2, plain proxying", way: Way::TlsHttp2, bound: Some(1.1) },
    Row {
        id: "cleartext",
        title: "cleartext HTTP/1.1, plain proxying",
        way: Way::CleartextHttp1,
        bound: None,
    },
    Row {
        id: "whole",
        title: "the whole way: TLS, JWT of 1,000 tokens, 100 routes, 100 policies, limits, hygiene, audit",
        way: Way::Whole,
        bound: Some(1.6),
    },
    Row { id: "whole-fresh", title: "the whole way, every token new", way: Way::WholeFresh, bound: None },
];

/// More tokens per second than a core can verify: none comes twice.
const FRESH_PER_SECOND: u32 = 14_000;
const WARM_UP_SECONDS: u32 = 1;

const TOOLS: &[tools::Tool] = &[
    tools::Tool { program: "nginx", package: "nginx" },
    tools::Tool { program: "wrk", package: "wrk" },
    tools::Tool { program: "h2load", package: "nghttp2-client" },
    tools::Tool { program: "curl", package: "curl" },
    tools::Tool { program: "openssl", package: "openssl" },
    tools::Tool { program: "taskset", package: "util-linux" },
];

/// Everything that runs during the measurement.
struct Stage {
    plain: Server,
    plain_at: Configured,
    whole: Server,
    whole_at: Configured,
    nginx: Server,
    nginx_at: NginxPorts,
    scripts: Scripts,
    _upstream: Server,
}

/// One measurement.
struct Sample {
    /// CPU, user and system, in microseconds per completed request.
    micros: f64,
    /// Share of its core that the proxy used.
    busy: f64,
    /// Token-cache hits, on rows with tokens.
    hit_ratio: Option<f64>,
}

/// Samples of one row, by round.
#[derive(Default)]
struct Samples {
    ours: Vec<Sample>,
    nginx: Vec<Sample>,
}

/// Measures, writes the page; red when a row is past its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| options.only.is_empty() || options.only.iter().any(|id| id == row.id))
        .collect();
    if let Some(unknown) = options.only.iter().find(|id| ROWS.iter().all(|row| row.id != **id)) {
        bail!(
            "no row `{unknown}`; there are: {}",
            ROWS.iter().map(|row| row.id).collect::<Vec<_>>().join(", ")
        );
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("needs two cores: one for the proxy, one for load and upstream");
    }
    tools::ensure(TOOLS)?;
    let root = workspace::root()?;
    let binary = match &options.binary {
        Some(binary) => {
            std::fs::canonicalize(binary).with_context(|| format!("--binary {}", binary.display()))?
        }
        None => shipped_binary(&root)?,
    };
    let folder = workspace::target()?.join("bench");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let stage = Stage::set(&folder, &binary, options)?;
    for row in &rows {
        stage.verify(row)?;
    }

    let mut samples: Vec<Samples> = rows.iter().map(|_| Samples::default()).collect();
    for round in 0..options.rounds {
        for (row, samples) in rows.iter().zip(&mut samples) {
            stage.round(row, round, options.seconds, samples)?;
        }
    }
    if options.profile {
        for row in &rows {
            stage.profile(row, &folder, options.seconds)?;
        }
    }
    conclude(&root, options, &rows, &samples)
}

impl Stage {
    fn set(folder: &Path, binary: &Path, options: &Options) -> Result<Self> {
        let pki = Pki::make(folder)?;
        let upstream_port = free_port()?;
        let upstream = Server::upstream(folder, upstream_port)?;
        let nginx_at = NginxPorts { tls: free_port()?, cleartext: free_port()? };
        let nginx = Server::nginx(folder, &pki, upstream_port, &nginx_at)?;
        let fresh = options.only.is_empty() || options.only.iter().any(|id| id == "whole-fresh");
        let fresh_rounds = if fresh { options.rounds } else { 0 };
        let scripts = whole_way::scripts(folder, fresh_rounds, FRESH_PER_SECOND * options.seconds)?;
        let plain_at = whole_way::plain(folder, &pki, upstream_port)?;
        let plain = Server::bastide(folder, binary, &plain_at.path, plain_at.tls)?;
        let whole_at = whole_way::whole(folder, &pki, upstream_port)?;
        let whole = Server::bastide(folder, binary, &whole_at.path, whole_at.tls)?;
        Ok(Self { plain, plain_at, whole, whole_at, nginx, nginx_at, scripts, _upstream: upstream })
    }

    /// One request through each proxy: a success with the upstream's body, over the
    /// protocol that the row names.
    fn verify(&self, row: &Row) -> Result<()> {
        for (name, url) in [("bastide", self.our_url(row)), ("nginx", self.nginx_url(row))] {
            let mut curl = Command::new("curl");
            curl.args([
                "-sk",
                "--max-time",
                "10",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{http_version} %{size_download}",
            ]);
            curl.arg(if row.way == Way::TlsHttp2 { "--http2" } else { "--http1.1" });
            if row.way != Way::CleartextHttp1 {
                curl.args(["--tlsv1.3"]);
            }
            if matches!(row.way, Way::Whole | Way::WholeFresh) {
                let known = std::fs::read_to_string(self.scripts.known.with_extension("txt"))?;
                let (path, token) =
                    known.lines().next().and_then(|line| line.split_once(' ')).context("no token")?;
                curl.args(["-H", &format!("Authorization: Bearer {token}")])
                    .arg(format!("{url}{}", path.trim_start_matches('/')));
            } else {
                curl.arg(&url);
            }
            let answer = command::read(&mut curl).with_context(|| format!("{}: asking {name}", row.id))?;
            let version = if row.way == Way::TlsHttp2 { "2" } else { "1.1" };
            let expected = format!("200 {version} {BODY_BYTES}");
            if answer != expected {
                bail!(
                    "{}: {name} at {url} answered `{answer}` (status, version, bytes), expected `{expected}`",
                    row.id
                );
            }
        }
        Ok(())
    }

    /// Both proxies, the order changing from round to round.
    fn round(&self, row: &Row, round: u32, seconds: u32, samples: &mut Samples) -> Result<()> {
        for ours in if round.is_multiple_of(2) { [true, false] } else { [false, true] } {
            let sample = self.measure(row, round, seconds, ours)?;
            println!(
                "round {} {:<12} {:<8} {:>6.1} µs, core {:>3.0} % busy{}",
                round + 1,
                row.id,
                if ours { "bastide" } else { "nginx" },
                sample.micros,
                sample.busy * 100.0,
                sample
                    .hit_ratio
                    .map_or(String::new(), |ratio| format!(", token cache hits {:.1} %", ratio * 100.0))
            );
            if ours { samples.ours.push(sample) } else { samples.nginx.push(sample) }
        }
        Ok(())
    }

    fn measure(&self, row: &Row, round: u32, seconds: u32, ours: bool) -> Result<Sample> {
        let (server, url) =
            if ours { (self.ours(row), self.our_url(row)) } else { (&self.nginx, self.nginx_url(row)) };
        self.load(row, None)?.run(&url, WARM_UP_SECONDS)?;
        let counted = ours && matches!(row.way, Way::Whole | Way::WholeFresh);
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
            (Way::TlsHttp1 | Way::CleartextHttp1, _) => Load::Http1,
            (Way::WholeFresh, Some(round)) => {
                let at = usize::try_from(round)?;
                Load::Http1Script(self.scripts.fresh.get(at).context("a file of new tokens for each round")?)
            }
            (Way::Whole | Way::WholeFresh, _) => Load::Http1Script(&self.scripts.known),
        })
    }

    fn ours(&self, row: &Row) -> &Server {
        if matches!(row.way, Way::Whole | Way::WholeFresh) { &self.whole } else { &self.plain }
    }

    fn our_url(&self, row: &Row) -> String {
        match row.way {
            Way::TlsHttp1 | Way::TlsHttp2 => format!("https://localhost:{}/", self.plain_at.tls),
            Way::CleartextHttp1 => format!("http://localhost:{}/", self.plain_at.cleartext),
            Way::Whole | Way::WholeFresh => format!("https://localhost:{}/", self.whole_at.tls),
        }
    }

    fn nginx_url(&self, row: &Row) -> String {
        match row.way {
            Way::CleartextHttp1 => format!("http://localhost:{}/", self.nginx_at.cleartext),
            _ => format!("https://localhost:{}/", self.nginx_at.tls),
        }
    }

    /// Records our proxy under the row's load and writes perf's report.
    fn profile(&self, row: &Row, folder: &Path, seconds: u32) -> Result<()> {
        if command::find("perf").is_none() {
            bail!("--profile needs perf: apt-get install linux-perf");
        }
        let data = folder.join(format!("{}.perf.data", row.id));
        let mut perf = Command::new("perf")
            .args(["record", "-q", "-F", "1999", "-p", &self.ours(row).process().to_string(), "-o"])
            .arg(&data)
            .args(["--", "sleep", &seconds.to_string()])
            .spawn()?;
        self.load(row, Some(0))?.run(&self.our_url(row), seconds)?;
        perf.wait()?;
        let report = command::read(
            Command::new("perf")
                .args(["report", "--stdio", "--no-children", "--percent-limit", "0.4", "-i"])
                .arg(&data),
        )?;
        let path = folder.join(format!("{}.perf.txt", row.id));
        std::fs::write(&path, report)?;
        println!("where the CPU of {} goes: {}", row.id, path.display());
        Ok(())
    }
}

/// The table, the page, the verdict.
fn conclude(root: &Path, options: &Options, rows: &[&Row], samples: &[Samples]) -> Result<()> {
    let (table, past) = table(rows, samples);
    println!("\n{table}");
    if options.only.is_empty() && options.binary.is_none() {
        let measured_by =
            format!("cargo xtask bench gateway --rounds {} --seconds {}", options.rounds, options.seconds);
        let text = format!("{}\n{table}\n{}", page::stamp(&measured_by)?, method(options)?);
        page::write(root, "gateway", "The gateway beside nginx", &text)?;
    }
    if !past.is_empty() {
        bail!("past the bound: {}", past.join("; "));
    }
    Ok(())
}

/// The rows as Markdown, and those past their bound.
fn table(rows: &[&Row], samples: &[Samples]) -> (String, Vec<String>) {
    let mut text = "| workload | Bastide, µs | nginx, µs | Bastide / nginx | at most | verdict |\n|---|---|---|---|---|---|\n".to_owned();
    let mut past = Vec::new();
    for (row, samples) in rows.iter().zip(samples) {
        let micros = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.micros).collect());
        let (ours, nginx) = (micros(&samples.ours), micros(&samples.nginx));
        let ratio = ours.median / nginx.median;
        let verdict = match row.bound {
            None => "reported",
            Some(bound) if ratio <= bound => "holds",
            Some(bound) => {
                past.push(format!("{} ({ratio:.2} × nginx, at most {bound})", row.id));
                "**past its bound**"
            }
        };
        let hits: Vec<f64> = samples.ours.iter().filter_map(|sample| sample.hit_ratio).collect();
        let hits = if hits.is_empty() {
            String::new()
        } else {
            format!(" (token cache hits {:.1} %)", Spread::of(hits).median * 100.0)
        };
        let bound = row.bound.map_or("–".to_owned(), |bound| format!("{bound}"));
        let _ =
            writeln!(text, "| {}{hits} | {ours} | {nginx} | {ratio:.2} | {bound} | {verdict} |", row.title);
    }
    (text, past)
}

/// Median and the outermost values.
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        };
        Self { median, low: at(0), high: at(values.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.1} ({:.1}–{:.1})", self.median, self.low, self.high)
    }
}

/// How it was measured, for whoever wants to doubt it.
fn method(options: &Options) -> Result<String> {
    let nginx =
        Command::new(command::find("nginx").context("nginx was just measured")?).arg("-v").output()?;
    let nginx = String::from_utf8_lossy(&nginx.stderr);
    Ok(format!(
        "Figures are CPU time (user and system, of the process, its threads and children, from
`/proc/PID/stat`) over completed requests: the median of {rounds} rounds of {seconds} s, in
parentheses the least and the most. The proxy is pinned to core {PROXY_CORE}, load and upstream to core
{PEER_CORE}; rounds are interleaved, and the proxies change their order each round. Every answer has {BODY_BYTES}
bytes and was a success, or there is no figure. HTTP/1.1 is loaded by `wrk` with {CONNECTIONS} connections
that are kept alive, HTTP/2 by `h2load` with {CONNECTIONS_HTTP2} connections of {STREAMS_HTTP2} requests in flight. Both
proxies have the same certificate (ECDSA P-256) and keep HTTP/1.1 connections to the same
upstream. Bastide has `workers: 1` and writes its audit event for each request in every
row; {nginx} has one worker, `access_log off`, and does plain proxying in every row: in the
whole-way rows it gets the same requests, {TOKENS} tokens and all, and looks at none of it.
",
        rounds = options.rounds,
        seconds = options.seconds,
        nginx = nginx.trim().trim_start_matches("nginx version: "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ours: &[f64], nginx: &[f64]) -> Samples {
        let all = |values: &[f64]| {
            values.iter().map(|micros| Sample { micros: *micros, busy: 1.0, hit_ratio: None }).collect()
        };
        Samples { ours: all(ours), nginx: all(nginx) }
    }

    #[test]
    fn medians_are_of_the_middle() {
        assert!((Spread::of(vec![3.0, 1.0, 2.0]).median - 2.0).abs() < 1e-9);
        assert!((Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median - 2.5).abs() < 1e-9);
    }

    #[test]
    fn rows_past_their_bound_are_named() {
        let bounded = Row { id: "tls", title: "TLS", way: Way::TlsHttp1, bound: Some(0.75) };
        let free = Row { id: "free", title: "free", way: Way::CleartextHttp1, bound: None };
        let rows = [&bounded, &free];
        let (text, past) = table(&rows, &[samples(&[30.0], &[40.0]), samples(&[90.0], &[40.0])]);
        assert!(past.is_empty() && text.contains("| 0.75 | 0.75 | holds |"), "{text}");
        let (text, past) = table(&rows, &[samples(&[30.1], &[40.0]), samples(&[90.0], &[40.0])]);
        assert_eq!(past, ["tls (0.75 × nginx, at most 0.75)"]);
        assert!(text.contains("past its bound"), "{text}");
    }
}
