//! Floods: each attack against a gateway of its own, while honest clients go on. Memory
//! must stay under a bound, the server must do what its limits say, and the honest
//! clients' 99th percentile must stay within twice the quiet one.

mod attacks;
mod field;
mod honest;
mod table;

use super::{Counts, servers};
use crate::clock::Pauses;
use crate::test::tools;
use crate::{built, python};
use anyhow::{Result, bail};
use attacks::{ATTACKS, Attack};
use field::Field;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use table::Row;

/// A percentile below this is noise of the machine, in milliseconds: what is compared
/// with twice the quiet one is at least twice this.
const QUIET_MS_LEAST: f64 = 5.0;

/// A machine that stands still for longer than this at a time does to honest clients what an attack
/// must not: the field's limits of time are seconds.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Times that an attack is tried again for that reason.
const STANDSTILLS_MAX: u32 = 3;

/// How much is tried.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Seconds of each attack, and of the quiet before it
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Distinct rate-limit keys
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// Logins at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    logins: u64,
    /// Only attacks whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// The binary under test; built with the release profile when left out
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Times that an attack is tried again when only the honest clients' time was past its
    /// bound: other work on the machine shows in it
    #[arg(long, default_value_t = 1)]
    retries: u32,
    /// Do not judge the honest clients' time, which other work on the machine changes too
    #[arg(long)]
    no_times: bool,
}

impl Options {
    /// The bounded part that is a check of every run: what the server does and how much
    /// memory it takes. Times are measured, not judged.
    pub(crate) fn bounded() -> Self {
        Self {
            seconds: 2,
            keys: 50_000,
            logins: 400,
            only: None,
            binary: Some(PathBuf::new()),
            retries: 0,
            no_times: true,
        }
    }
}

/// Runs the attacks and prints the table.
pub(crate) fn run(options: &Options) -> Result<Counts> {
    let chosen: Vec<&Attack> = ATTACKS
        .iter()
        .filter(|attack| options.only.as_ref().is_none_or(|only| attack.name.contains(only.as_str())))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
        bail!(
            "no attack has {:?} in its name; there are: {}",
            options.only.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    let binary = match &options.binary {
        Some(path) if path.as_os_str().is_empty() => servers::binary(None)?,
        Some(path) => servers::binary(Some(path))?,
        None => built::released()?,
    };
    let mut skipped: Vec<String> =
        tools::ensure(tools::FOR_FLOODS).err().map(|e| e.to_string()).into_iter().collect();
    let python =
        python::environment().inspect_err(|error| skipped.push(format!("PyPI's h2: {error:#}"))).ok();
    let mut rows = Vec::new();
    for attack in chosen {
        if let Some(missing) = attack.lacks(python.is_some()) {
            skipped.push(format!("{}: {missing} is missing", attack.name));
            continue;
        }
        let mut row = one(attack, options, &binary, python.clone())?;
        for _ in 0..options.retries {
            if row.only_late() {
                row = one(attack, options, &binary, python.clone())?;
            }
        }
        for _ in 0..STANDSTILLS_MAX {
            if row.faults.is_empty() || row.stood_still <= STANDSTILL || row.is_certain {
                break;
            }
            println!("{}", row.line());
            println!("again, for the machine stood still for {} ms", row.stood_still.as_millis());
            row = one(attack, options, &binary, python.clone())?;
        }
        println!("{}", row.line());
        rows.push(row);
    }
    table::print(&rows);
    let failed = rows.iter().filter(|row| !row.faults.is_empty()).count();
    Ok(Counts { passed: rows.len() - failed, failed, skipped })
}

fn one(attack: &Attack, options: &Options, binary: &std::path::Path, python: Option<PathBuf>) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let field = Field::start(binary, folder.path(), python, options, attack.realm)?;
    let quiet = honest::go_on(&field, |_| Ok(()))?;
    let memory_before = field.memory_kib_most()?;
    let cpu_before = field.cpu()?;
    let pauses = Pauses::watch();
    let mut report = None;
    let under = honest::go_on(&field, |field| {
        report = Some((attack.run)(field)?);
        Ok(())
    })?;
    let Some(report) = report else { bail!("{} did not report", attack.name) };
    let cpu = field.cpu()?.saturating_sub(cpu_before);
    let memory = field.memory_kib_most()?;
    let mut faults: Vec<String> = report.fault.into_iter().collect();
    let grew = memory > attack.memory_mib_max * 1024;
    if grew {
        faults.push(format!("memory over {} MiB", attack.memory_mib_max));
    }
    if under.failed > 0 {
        faults.push(format!("{} honest requests failed", under.failed));
    }
    let bound = 2.0 * quiet.p99_ms.max(QUIET_MS_LEAST);
    let late = !options.no_times && under.p99_ms > bound;
    if late {
        faults.push(format!("honest p99 over {bound:.1} ms"));
    }
    Ok(Row {
        attack: attack.name,
        sent: report.sent,
        did: report.did,
        memory_before,
        memory,
        cpu_share: cpu.as_secs_f64() / under.elapsed.as_secs_f64().max(0.001),
        quiet_ms: quiet.p99_ms,
        under_ms: under.p99_ms,
        honest: under.answered,
        stood_still: pauses.longest(),
        is_certain: grew || field.bombs.load(Ordering::Relaxed) > 0,
        late,
        faults,
    })
}
