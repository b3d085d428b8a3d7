//! No two readers disagree: raw requests and responses through Bastide, nginx, haproxy and
//! varnish, each in front of an upstream that keeps every byte. What counts is what
//! arrives on the other side.
//!
//! The way of one pair of [`corpus`] through [`judge`]: the honest neighbour must pass;
//! the attack is sent everywhere; readers of every leniency ([`readers`], [`paths`]) must
//! read what Bastide let through alike; the peers must too, when it is sent through them
//! in turn; and what two peers understood differently must not have passed at all.

mod corpus;
mod front;
mod judge;
mod paths;
mod readers;
mod recorder;
mod report;

use super::{Counts, servers};
use crate::clock::Stopwatch;
use crate::test::tools;
use anyhow::{Result, bail};
use front::{Front, PEERS};
use judge::{Lane, Verdict};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Times that a pair with a fault is tried again: what a reader makes of bytes does not change, what a
/// machine that stands still makes of them does.
const AGAIN_MAX: u32 = 3;

/// How much is tried, and where the result goes.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Generated pairs of an attack and its honest neighbour, beside the fixed ones
    #[arg(long, default_value_t = 600)]
    pub(super) cases: usize,
    /// Seed of the generator
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Only pairs whose name contains this
    #[arg(long)]
    pub(super) only: Option<String>,
    /// Write the table of disagreements to this file
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// The binary under test; built when left out
    #[arg(long, value_name = "FILE")]
    pub(super) binary: Option<PathBuf>,
    /// Sets of servers that work side by side
    #[arg(long, default_value_t = 4)]
    pub(super) lanes: usize,
}

impl Options {
    /// The bounded part that is a check of every run.
    pub(super) fn bounded() -> Self {
        Self { cases: 120, seed: 1, only: None, report: None, binary: None, lanes: 2 }
    }
}

/// Runs the pairs and prints what is wrong and a summary.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let watch = Stopwatch::start();
    let mut pairs = corpus::all(options.cases, options.seed);
    if let Some(only) = &options.only {
        pairs.retain(|pair| pair.name.contains(only.as_str()));
    }
    if pairs.is_empty() {
        bail!("no pair has {:?} in its name", options.only.as_deref().unwrap_or_default());
    }
    let binary = servers::binary(options.binary.as_deref())?;
    let skipped = missing_peers();
    let folder = tempfile::tempdir()?;
    let results = all_lanes(options, &pairs, &binary, folder.path())?;
    let failed = results.iter().filter(|(_, verdict)| !verdict.faults.is_empty()).count();
    let disagreements = results.iter().filter(|(_, verdict)| verdict.peers_disagree).count();
    for (at, verdict) in results.iter().filter(|(_, verdict)| !verdict.faults.is_empty()) {
        let Some(pair) = pairs.get(*at) else { continue };
        println!("FAILED {}\n  sent: {}", pair.name, report::escaped(&pair.attack, 300));
        verdict.faults.iter().for_each(|fault| println!("  {fault}"));
        verdict.outcomes.iter().for_each(|(name, outcome)| println!("  {name}: {outcome}"));
    }
    if let Some(path) = &options.report {
        report::write(path, options, &pairs, &results)?;
        println!("the table of disagreements is in {}", path.display());
    }
    println!(
        "{} messages as {} pairs of attack and neighbour, seed {}, in {} s; peers disagreed on {disagreements} attacks",
        pairs.len() * 2,
        pairs.len(),
        options.seed,
        watch.elapsed().as_secs()
    );
    Ok(Counts { passed: results.len() - failed, failed, skipped })
}

fn missing_peers() -> Vec<String> {
    // Missing ones are installed where that is possible; the others are compared without them.
    tools::ensure(tools::FOR_DIFFERENTIAL).err().map(|error| error.to_string()).into_iter().collect()
}

fn is_here(name: &str) -> bool {
    crate::command::find(if name == "varnish" { "varnishd" } else { name }).is_some()
}

/// Judges all pairs, lane by lane side by side; the results in the order of the pairs.
fn all_lanes(
    options: &Options,
    pairs: &[corpus::Pair],
    binary: &Path,
    folder: &Path,
) -> Result<Vec<(usize, Verdict)>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = |number: usize| -> Result<()> {
        let folder = folder.join(number.to_string());
        let peers = PEERS.iter().filter(|name| is_here(name)).map(|name| Front::peer(name, &folder));
        let lane = Lane { bastide: Front::bastide(binary, &folder)?, peers: peers.collect::<Result<_>>()? };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.get(at) else { return Ok(()) };
            let mut verdict = lane.judge(pair)?;
            for _ in 0..AGAIN_MAX {
                if verdict.faults.is_empty() {
                    break;
                }
                // A front end that was slow looks as if it waited for more.
                println!("pair {at} is tried again: {}", verdict.faults.join("; "));
                verdict = lane.judge(pair)?;
            }
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, verdict));
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> =
            (0..options.lanes.max(1)).map(|number| scope.spawn(move || work(number))).collect();
        lanes.into_iter().try_for_each(|lane| match lane.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a lane panicked"),
        })
    })?;
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    Ok(results)
}
