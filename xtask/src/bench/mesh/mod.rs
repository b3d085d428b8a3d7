//! A call between two services of the mesh, beside Envoy to Envoy and nginx to nginx: CPU of
//! both proxies per request, what they add to the time of a request, their memory; and how
//! many identities are issued.

mod chain;
mod latency;
mod peers;

use super::gateway::Spread;
use super::load::Load;
use super::peer::{self, BODY_BYTES, Ground, Proxy};
use super::server::{PEER_CORE, PROXY_CORE};
use super::verdict::verdict;
use super::{fresh_folder, measured_binary, needs_two_cores, page};
use crate::{command, test::tools, workspace};
use anyhow::{Context, Result, bail};
use chain::{Chain, SERVICE};
use latency::Times;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// At most so many times the CPU of a peer.
const BOUNDS: [(Proxy, f64); 2] = [(Proxy::Nginx, 0.65), (Proxy::Envoy, 0.35)];
/// The most memory that each of our proxies may take, MB (10⁶ bytes).
const MEMORY_MB_MAX: f64 = 20.0;
/// Before the first round, so that nobody pays for what is made once.
const WARM_UP_SECONDS: u32 = 1;

const TOOLS: &[tools::Tool] = &[
    tools::Tool { program: "nginx", package: "nginx" },
    tools::Tool { program: "wrk", package: "wrk" },
    tools::Tool { program: "curl", package: "curl" },
    tools::Tool { program: "openssl", package: "openssl" },
    tools::Tool { program: "taskset", package: "util-linux" },
];

/// How long, how often.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Rounds; each measures every pair of proxies
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure this binary instead of building the dist profile; the page is then left as it is
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Leave out how many identities are issued: it builds an example
    #[arg(long)]
    no_identities: bool,
}

/// What was measured of one pair of proxies.
struct Measured {
    proxy: Proxy,
    /// CPU of both, microseconds per request, by round.
    micros: Vec<f64>,
    /// Share of their core that they used, the last round.
    busy: f64,
    /// Memory of the caller's and of the service's proxy after the load, MB.
    memory: [f64; 2],
    times: Times,
}

/// Measures, writes the page; red when something is past its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs_two_cores()?;
    tools::ensure(TOOLS)?;
    peer::ensure_envoy()?;
    let root = workspace::root()?;
    let binary = measured_binary(options.binary.as_deref(), &root)?;
    let folder = fresh_folder("bench")?;
    let ground = Ground::set(&folder)?;
    let (mut all, direct) = measure(&ground, &binary, options)?;
    let (text, mut past) = judge(&mut all, &direct);
    let mut text = format!("{text}\n");
    if !options.no_identities {
        match identities(&root) {
            Ok(said) => _ = writeln!(text, "Identities: {said}\n"),
            Err(fault) => past.push(format!("identities: {fault:#}")),
        }
    }
    println!("\n{text}");
    if options.binary.is_none() {
        let by = format!("cargo xtask bench mesh --rounds {} --seconds {}", options.rounds, options.seconds);
        let text = format!("{}\n{text}\n{}", page::stamp(&by)?, method(options));
        page::write(&root, "mesh", "A call through the mesh beside nginx and Envoy", &text)?;
    }
    if !past.is_empty() {
        bail!("past the bound: {}", past.join("; "));
    }
    Ok(())
}

fn measure(ground: &Ground, binary: &Path, options: &Options) -> Result<(Vec<Measured>, Times)> {
    let script = ground.folder.join("mesh.lua");
    std::fs::write(&script, format!("wrk.headers[\"Host\"] = \"{SERVICE}\"\n"))?;
    let url = |chain: &Chain| format!("http://{}/", chain.outbound());
    let mut chains = Vec::new();
    for proxy in [Proxy::Bastide, Proxy::Nginx, Proxy::Envoy] {
        let chain = Chain::start(ground, binary, proxy)?;
        chain.verify()?;
        Load::Http1Script(&script).run(&url(&chain), WARM_UP_SECONDS)?;
        let measured =
            Measured { proxy, micros: Vec::new(), busy: 0.0, memory: [0.0; 2], times: Times::default() };
        chains.push((chain, measured));
    }
    for round in 0..options.rounds {
        let turn = usize::try_from(round)? % chains.len();
        for place in 0..chains.len() {
            let at = (place + turn) % chains.len();
            let (chain, measured) = chains.get_mut(at).context("a chain")?;
            let before = chain.cpu()?;
            let completed = Load::Http1Script(&script).run(&url(chain), options.seconds)?;
            let used = chain.cpu()?.saturating_sub(before).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            let micros = used * 1e6 / completed as f64;
            measured.micros.push(micros);
            measured.busy = used / f64::from(options.seconds);
            measured.memory = chain.memory_mb()?;
            let busy = measured.busy * 100.0;
            println!("round {} {:<8} {micros:>8.1} µs, core {busy:>3.0} % busy", round + 1, chain.name());
        }
    }
    for (chain, measured) in &mut chains {
        measured.times = latency::measure(&script, &url(chain), options.seconds)?;
    }
    let direct = format!("http://127.0.0.1:{}/", ground.upstream.cleartext);
    let direct = latency::measure(&script, &direct, options.seconds)?;
    Ok((chains.into_iter().map(|(_, measured)| measured).collect(), direct))
}

/// The tables, and each bound that does not hold.
fn judge(all: &mut [Measured], direct: &Times) -> (String, Vec<String>) {
    let mut text = "| a call over two proxies | CPU of both, µs per request | added p50, µs | added p99, µs | memory, MB: caller's, service's |\n|---|---|---|---|---|\n".to_owned();
    let (mut past, mut medians) = (Vec::new(), Vec::new());
    for measured in all.iter_mut() {
        let cpu = Spread::of(std::mem::take(&mut measured.micros));
        let [caller, service] = measured.memory;
        let added = |ours: f64, direct: f64| (ours - direct).max(0.0);
        let _ = writeln!(
            text,
            "| {name} to {name} | {cpu} | {:.0} | {:.0} | {caller:.1}, {service:.1} |",
            added(measured.times.p50, direct.p50),
            added(measured.times.p99, direct.p99),
            name = measured.proxy.name(),
        );
        if measured.proxy == Proxy::Bastide && caller.max(service) > MEMORY_MB_MAX {
            past.push(format!("memory ({:.1} MB, at most {MEMORY_MB_MAX} MB)", caller.max(service)));
        }
        medians.push((measured.proxy, cpu.median));
    }
    text.push_str("\n| Bastide to | ratio | at most | verdict |\n|---|---|---|---|\n");
    let median = |wanted| medians.iter().find(|(proxy, _)| *proxy == wanted).map(|(_, median)| *median);
    for (against, times) in BOUNDS {
        let (Some(ours), Some(theirs)) = (median(Proxy::Bastide), median(against)) else { continue };
        let (ratio, name) = (ours / theirs, against.name());
        let holds = ratio <= times;
        if !holds {
            past.push(format!("CPU ({ratio:.2} × {name}, at most {times:.2})"));
        }
        let verdict = verdict(holds);
        let _ = writeln!(text, "| {name} | {ratio:.2} | {times:.2} | {verdict} |");
    }
    (text, past)
}

/// What the example says that issues them.
fn identities(root: &Path) -> Result<String> {
    let mut example = command::cargo(root);
    example.args(["run", "--quiet", "--locked", "--profile", "dist", "-p", "mesh", "--example", "issue"]);
    Ok(command::read(&mut example)?.lines().collect::<Vec<_>>().join("; "))
}

/// How it was measured, for whoever wants to doubt it.
fn method(options: &Options) -> String {
    format!(
        "CPU is the time (user and system, from `/proc/PID/stat`) of both proxies on the way over
completed requests: the median of {rounds} rounds of {seconds} s, in parentheses the least and the
most. Both are pinned to core {PROXY_CORE}, load and upstream to core {PEER_CORE}; rounds are
interleaved. `wrk` asks with 64 connections over cleartext HTTP/1.1, as a program asks its way
out; the first proxy calls the second by mutual TLS 1.3, with ECDSA P-256 certificates of one
authority on all sides; the second asks an nginx that answers {BODY_BYTES} bytes. Between its two
proxies Bastide speaks HTTP/2, Envoy too, nginx HTTP/1.1 on connections that it keeps.

Bastide's are two `bastide run` with one worker: the second takes the caller by its SPIFFE ID and
judges each request by a policy; both write an audit event for each. The peers only forward,
without an access log.

Added times are those of requests one after the other on one connection, less those that the
upstream takes without proxies. Memory is the proportional set size after the load, the program's own
left out.
",
        rounds = options.rounds,
        seconds = options.seconds,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(proxy: Proxy, micros: f64, memory: f64) -> Measured {
        let times = Times { p50: 300.0, p99: 900.0 };
        Measured { proxy, micros: vec![micros], busy: 1.0, memory: [memory, 1.0], times }
    }

    #[test]
    fn bounds_that_do_not_hold_are_named() {
        let judged = |ours: f64, memory: f64| {
            let mut all = [
                measured(Proxy::Bastide, ours, memory),
                measured(Proxy::Nginx, 100.0, 90.0),
                measured(Proxy::Envoy, 200.0, 90.0),
            ];
            judge(&mut all, &Times { p50: 100.0, p99: 1_000.0 })
        };
        let (text, past) = judged(64.0, 20.0);
        assert!(past.is_empty(), "{past:?}");
        assert!(text.contains("| Bastide to Bastide | 64.0 (64.0–64.0) | 200 | 0 | 20.0, 1.0 |"), "{text}");
        assert!(text.contains("| Envoy | 0.32 | 0.35 | holds |"), "{text}");
        assert_eq!(judged(72.0, 20.1).1.len(), 3, "CPU against both, and memory");
    }
}
