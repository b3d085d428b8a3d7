//! What the firewall costs: the gateway with and without the Core Rule Set, beside nginx
//! with and without libmodsecurity and the same rules; and the engine by itself.

mod engine;
mod stage;
mod table;

use super::{fresh_folder, measured_binary, needs_two_cores, page};
use crate::suite::CrsPlaces as Places;
use crate::{test::tools, workspace};
use anyhow::{Result, bail};
use stage::{Stage, Way};
use std::path::PathBuf;
use table::{Figures, Samples, judge};

/// How long, how often.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Rounds; each measures every request with every server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Measure this binary instead of building the dist profile; the page is then left as it is
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

const TOOLS: &[tools::Tool] = &[
    tools::Tool { program: "nginx", package: "nginx" },
    tools::Tool { program: "libmodsecurity.so.3", package: "libnginx-mod-http-modsecurity" },
    tools::Tool { program: "wrk", package: "wrk" },
    tools::Tool { program: "curl", package: "curl" },
    tools::Tool { program: "taskset", package: "util-linux" },
];

/// Measures, writes the page; red when a row is past its bound.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs_two_cores()?;
    let root = workspace::root()?;
    let places = Places::usual(&root)?;
    tools::ensure(TOOLS)?;
    if !std::path::Path::new(stage::MODULE).is_file() {
        bail!("no {}: apt-get install libnginx-mod-http-modsecurity", stage::MODULE);
    }
    let binary = measured_binary(options.binary.as_deref(), &root)?;
    let engine = engine::measure(&root, &places, options.binary.is_none())?;
    let folder = fresh_folder("bench-waf")?;
    let stage = Stage::set(&folder, &binary, &places)?;
    let mut samples = Samples::default();
    for way in Way::ALL {
        stage.verify(way)?;
    }
    for round in 0..options.rounds {
        for way in Way::ALL {
            stage.round(way, round, options.seconds, &mut samples)?;
        }
    }
    let large = stage.large_body(options.rounds)?;
    let judged = judge(&Figures { samples, engine, large });
    println!("\n{}", judged.text);
    if options.binary.is_none() {
        let measured_by =
            format!("cargo xtask bench waf --rounds {} --seconds {}", options.rounds, options.seconds);
        let text = format!("{}\n{}\n{}", page::stamp(&measured_by)?, judged.text, method(options));
        page::write(&root, "waf", "The firewall beside ModSecurity", &text)?;
    }
    if !judged.past.is_empty() {
        bail!("past the bound: {}", judged.past.join("; "));
    }
    Ok(())
}

/// How it was measured, for whoever wants to doubt it.
fn method(options: &Options) -> String {
    format!(
        "Figures of requests are CPU time (user and system, of the server, its threads and children,
from `/proc/PID/stat`) over completed requests: the medians of {rounds} rounds of {seconds} s, with the
firewall less without it. The servers are pinned to one core, load (`wrk`, 64 connections that
are kept alive) and upstream to another; rounds are interleaved, and another server begins in
each. Every answer was a success. Both firewalls run the same files of the same Core Rule Set at
paranoia level 1, blocking, on requests and on answers, of 1 KB of `text/html`; ModSecurity
with what its recommended configuration sets and without an audit log, Bastide with its
firewall's log and its audit event. The GET has a browser's seven header fields, a cookie and two
arguments; the POST the same fields and 1 KB of JSON with 47 leaves.

Loading and the slowest of the rule set's own tests are of the engine by itself, in one thread.
The large body is 12 MiB of `application/octet-stream` through the gateway, with limits that let
all of it be inspected: the most memory that the process ever held less what it held before, and
the median time of {rounds} requests as the client sees it.
",
        rounds = options.rounds,
        seconds = options.seconds,
    )
}
