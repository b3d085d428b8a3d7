//! The gateway beside nginx, haproxy and Envoy: CPU per request, proxy on one core, load
//! and upstream on another, interleaved round by round; and memory.

mod idle;
mod row;
mod stage;
mod table;

use super::load::{CONNECTIONS, CONNECTIONS_HTTP2, CONNECTIONS_LARGE, STREAMS_HTTP2};
use super::peer::{self, BODY_BYTES};
use super::server::{PEER_CORE, PROXY_CORE};
use super::whole_way::TOKENS;
use super::{fresh_folder, measured_binary, needs_two_cores, page};
use crate::{command, test::tools, workspace};
use anyhow::{Context, Result, bail};
use row::{ROWS, Row};
use stage::Stage;
use std::path::PathBuf;
use std::process::Command;
pub(super) use table::Spread;
use table::{Samples, judge};

/// The row that measures memory; it has a table of its own.
const IDLE: &str = "idle";

/// How long, how often, which rows.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Rounds; each measures every row with every proxy
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure these rows only (repeat, or separate with commas); the page is then left as it is
    #[arg(long = "only", value_name = "ROW", value_delimiter = ',')]
    rows: Vec<String>,
    /// Measure this binary instead of building the dist profile
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also record where the CPU goes, with perf, into target/bench/ROW.perf.txt
    #[arg(long)]
    profile: bool,
}

const TOOLS: &[tools::Tool] = &[
    tools::Tool { program: "nginx", package: "nginx" },
    tools::Tool { program: "haproxy", package: "haproxy" },
    tools::Tool { program: "wrk", package: "wrk" },
    tools::Tool { program: "h2load", package: "nghttp2-client" },
    tools::Tool { program: "curl", package: "curl" },
    tools::Tool { program: "openssl", package: "openssl" },
    tools::Tool { program: "taskset", package: "util-linux" },
];

impl Options {
    fn wants(&self, id: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == id)
    }

    /// The rows that are wanted.
    fn chosen(&self) -> Result<Vec<&'static Row>> {
        let known = |id: &str| id == IDLE || ROWS.iter().any(|row| row.id == id);
        if let Some(unknown) = self.rows.iter().find(|id| !known(id)) {
            let all: Vec<&str> = ROWS.iter().map(|row| row.id).chain([IDLE]).collect();
            bail!("no row `{unknown}`; there are: {}", all.join(", "));
        }
        Ok(ROWS.iter().filter(|row| self.wants(row.id)).collect())
    }
}

/// Measures, writes the page; red when a row is past its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    let rows = options.chosen()?;
    needs_two_cores()?;
    tools::ensure(TOOLS)?;
    peer::ensure_envoy()?;
    let root = workspace::root()?;
    let binary = measured_binary(options.binary.as_deref(), &root)?;
    let folder = fresh_folder("bench")?;
    let stage = Stage::set(&folder, &binary, &rows, options.rounds, options.seconds)?;
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
    let (ground, client) = stage.into_ground();
    let mut judged = judge(&rows, &samples);
    if options.wants(IDLE) {
        let memory = idle::measure(&ground, &binary, &client)?;
        judged.text = format!("{}\n{}", judged.text, memory.text);
        judged.past.extend(memory.past);
    }
    println!("\n{}", judged.text);
    if options.rows.is_empty() && options.binary.is_none() {
        let measured_by =
            format!("cargo xtask bench gateway --rounds {} --seconds {}", options.rounds, options.seconds);
        let text = format!("{}\n{}\n{}", page::stamp(&measured_by)?, judged.text, method(options)?);
        page::write(&root, "gateway", "The gateway beside nginx, haproxy and Envoy", &text)?;
    }
    if !judged.past.is_empty() {
        bail!("past the bound: {}", judged.past.join("; "));
    }
    Ok(())
}

/// How it was measured, for whoever wants to doubt it.
fn method(options: &Options) -> Result<String> {
    Ok(format!(
        "Figures are CPU time (user and system, of the process, its threads and children, from
`/proc/PID/stat`) over completed requests: the median of {rounds} rounds of {seconds} s, in
parentheses the least and the most. The proxy is pinned to core {PROXY_CORE}, load and upstream to core
{PEER_CORE}; rounds are interleaved, and another proxy begins in each round. Every answer was a
success and had the row's bytes ({BODY_BYTES} where the row names no other), or there is no figure.
HTTP/1.1 is loaded by `wrk` with {CONNECTIONS} connections that are kept alive ({CONNECTIONS_LARGE} for
10 MB), HTTP/2 by `h2load` with {CONNECTIONS_HTTP2} connections of
{STREAMS_HTTP2} requests in flight, handshakes by 16 threads of rustls that offer X25519 and resume
nothing. All proxies have the same certificate (ECDSA P-256), one worker
or thread, TLS 1.3 with AES-256-GCM, and keep HTTP/1.1 connections to the same upstream; on
`tls-both` each verifies its certificate.

What each does in every row: Bastide (`workers: 1`) judges the request by its policy, forwards
who and where it came from, adds its security headers and writes an audit event. The peers
forward, with `X-Forwarded-For` and `-Proto`; without an access log unless the row says so. With
it, nginx ({nginx}) writes its `combined` format (buffered by the kernel only), haproxy ({haproxy})
its `httplog`, Envoy ({envoy}) its default format. On the whole way nginx gets the same requests,
{TOKENS} tokens and all, and looks at none of it; Envoy verifies the same tokens (its cache on),
asks one `rbac` policy per route (the role, not the owner) and one bucket per route (not per
user and address). Bounds are against peers without a log; the first aim is what the gateway
began with, the second is where it goes.

Memory is the proportional set size of the process and its children, read from a server that
was just started and has answered 16 requests, and again while the connections stand idle, each
after one answered request.
",
        rounds = options.rounds,
        seconds = options.seconds,
        nginx = version("nginx", "-v")?,
        haproxy = version("haproxy", "-v")?,
        envoy = version("envoy", "--version")?,
    ))
}

/// What a program says of its version, its first line without the name before the colon.
fn version(program: &str, argument: &str) -> Result<String> {
    let path = match program {
        "envoy" => peer::ensure_envoy()?,
        _ => command::find(program).with_context(|| format!("{program} was just measured"))?,
    };
    let output = Command::new(path).arg(argument).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(line
        .split(['/', ' '])
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
        .unwrap_or("version unknown")
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rows: &[&str]) -> Options {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        Options { rounds: 1, seconds: 1, rows, binary: None, profile: false }
    }

    #[test]
    fn rows_are_chosen_by_name_and_unknown_ones_are_named() {
        assert_eq!(options(&[]).chosen().unwrap().len(), ROWS.len());
        let two = options(&["tls-http1", "idle"]);
        assert_eq!(two.chosen().unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), ["tls-http1"]);
        assert!(two.wants(IDLE) && !two.wants("whole"));
        let error = options(&["tls-http9"]).chosen().unwrap_err().to_string();
        assert!(
            error.contains("tls-http9") && error.contains("tls-http1, ") && error.contains("idle"),
            "{error}"
        );
    }
}
