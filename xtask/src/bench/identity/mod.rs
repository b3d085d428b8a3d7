//! The identity provider beside npm's `oidc-provider`: tokens, introspection and refresh on
//! one core each, interleaved round by round; how soon it gives its first token; what it
//! holds in memory with 100,000 people.

mod crowd;
mod job;
mod stage;
mod table;

use super::load::CONNECTIONS;
use super::server::{PEER_CORE, PROXY_CORE};
use super::{fresh_folder, measured_binary, needs_two_cores, page};
use crate::{command, test::tools, workspace};
use anyhow::{Result, bail};
use job::Way;
use stage::Stage;
use std::path::PathBuf;
use std::process::Command;
use table::{Figures, Samples, judge};

/// How long, how often, how many people.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Rounds; each measures every row with both providers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// People in the realm whose memory is measured; with another number than the bound is
    /// for, or with 0 and no such measurement, the page is left as it is
    #[arg(long, default_value_t = crowd::PEOPLE, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    people: u32,
    /// Measure this binary instead of building the dist profile; the page is then left as it is
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also record where the CPU goes, with perf, into target/bench-identity/ROW.perf.txt
    #[arg(long)]
    profile: bool,
}

const TOOLS: &[tools::Tool] = &[
    tools::Tool { program: "wrk", package: "wrk" },
    tools::Tool { program: "node", package: "nodejs" },
    tools::Tool { program: "npm", package: "npm" },
    tools::Tool { program: "taskset", package: "util-linux" },
];

/// Measures, writes the page; red when a row is past its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs_two_cores()?;
    tools::ensure(TOOLS)?;
    let root = workspace::root()?;
    let binary = measured_binary(options.binary.as_deref(), &root)?;
    let folder = fresh_folder("bench-identity")?;

    let stage = Stage::set(&folder, &binary)?;
    let starts = stage.starts(options.rounds)?;
    let running = stage.start()?;
    running.verify()?;
    let mut samples = Samples::default();
    for round in 0..options.rounds {
        for way in Way::ALL {
            running.round(way, round, options.seconds, &mut samples)?;
        }
    }
    if options.profile {
        for way in Way::ALL {
            running.profile(way, options.seconds)?;
        }
    }
    drop(running);
    let crowd =
        if options.people > 0 { Some(crowd::measure(&folder, &binary, options.people)?) } else { None };
    let judged = judge(&Figures { samples, starts, crowd });
    println!("\n{}", judged.text);
    if options.binary.is_none() && options.people == crowd::PEOPLE {
        let measured_by =
            format!("cargo xtask bench identity --rounds {} --seconds {}", options.rounds, options.seconds);
        let text = format!("{}\n{}\n{}", page::stamp(&measured_by)?, judged.text, method(options)?);
        page::write(&root, "identity", "The identity provider beside oidc-provider", &text)?;
    }
    if !judged.past.is_empty() {
        bail!("past the bound: {}", judged.past.join("; "));
    }
    Ok(())
}

/// How it was measured, for whoever wants to doubt it.
fn method(options: &Options) -> Result<String> {
    Ok(format!(
        "CPU is user and system time of the process and its threads from `/proc/PID/stat` over completed
requests, the rate is completed requests over seconds: medians of {rounds} rounds of {seconds} s, in
parentheses the least and the most. The provider is pinned to core {PROXY_CORE} with all of its
threads, the load (`wrk`, {CONNECTIONS} connections that are kept alive, cleartext) to core {PEER_CORE}; rounds are
interleaved, and the other provider begins in each. Every answer was a success, or there is no
figure. A bound holds when both ratios reach it, that of the rates and that of the CPU.

The peer is npm's oidc-provider {peer} on Node {node}, `NODE_ENV=production`, in one process without a
gateway. What it keeps is in memory and gone with it, which favours it: ours stands in a SQLite file,
encrypted, and every rotation is on disk before it is answered. Ours is `bastide serve` with
`workers: 1` as it ships, with its gateway before the provider: admission, policy, limits, and an
audit event for every request. Both authenticate the client by its secret in the form.

`credentials` gives access tokens (`at+jwt`, ES256) for one API. `introspection` asks about one token
that is good: ours a JWT, the peer's an opaque one, since it does not introspect its JWTs. `refresh`
rotates {tokens} families with an access token and an ID token in each answer, both ES256; the tokens
were got by login, consent and code.

Start to first token is from the start of the process to the first answer with a token, asked for
every 2 ms: the median of {rounds} starts, the store and its keys being there. Memory with people: they
are taken in by `bastide apply` with the password hashes that Keycloak writes; then the process is
started anew, gives a token, lists all of them to an administrator and answers 2,000 requests about
tokens; read is the proportional set size.
",
        rounds = options.rounds,
        seconds = options.seconds,
        peer = peer_version(),
        node = command::read(Command::new("node").arg("--version"))?.trim(),
        tokens = job::FAMILIES,
    ))
}

/// The version of the peer that is installed.
fn peer_version() -> &'static str {
    crate::node::PACKAGES
        .iter()
        .find_map(|package| package.strip_prefix("oidc-provider@"))
        .unwrap_or("version unknown")
}
