//! What `cargo xtask bench waf` asks of the engine by itself: what loading a rule set
//! costs, and which of its own tests costs most.
//!
//! `figures SETUP RULES TESTS HARNESS`: the setup file, the folders of rules and of tests,
//! and the folder that holds `engine.conf` and `crs-test.conf`. Prints lines of a name and
//! a value.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a measurement")]
#![allow(clippy::disallowed_methods, clippy::indexing_slicing, reason = "it measures time")]

#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/support/thread_time.rs"]
mod thread_time;

use std::{path::Path, sync::Arc, time::Duration, time::Instant};
use support::{Files, Raw, corpus::cases, run};
use thread_time::thread_time;
use waf::{EngineMode, Options, RuleSet};

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn load(entries: &[String], engine: EngineMode) -> RuleSet {
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let options = Options { engine: Some(engine), ..Options::default() };
    RuleSet::load(&Files::default(), &entries, &options).unwrap_or_else(|faults| panic!("{faults}"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [setup, rules, tests, harness] = arguments.as_slice() else {
        panic!("expected SETUP RULES TESTS HARNESS, found {arguments:?}")
    };
    let of = |settings: Option<&str>| {
        let settings = settings.map(|name| format!("{harness}/{name}"));
        let first = [format!("{harness}/engine.conf"), setup.clone()];
        first.into_iter().chain(settings).chain([format!("{rules}/*.conf")]).collect::<Vec<_>>()
    };
    let before = resident_kib();
    let start = Instant::now();
    let set = load(&of(None), EngineMode::On);
    println!("load_ms {:.1}", start.elapsed().as_secs_f64() * 1e3);
    set.prepare();
    println!("load_mib {:.1}", (resident_kib() - before) / 1_024.0);
    drop(set);

    let set = Arc::new(load(&of(Some("crs-test.conf")), EngineMode::DetectionOnly));
    set.prepare();
    let all = cases(Path::new(tests));
    let costs = all.iter().map(|case| {
        let raw = Raw::parse(&case.bytes);
        // The least of three: what it takes, not what else the machine did.
        let once = |_| {
            let start = thread_time();
            let _ = std::hint::black_box(run(&set, &raw));
            thread_time() - start
        };
        ((0..3).map(once).min().unwrap(), case.id.as_str())
    });
    let (time, slowest) = costs.max().unwrap_or((Duration::ZERO, ""));
    println!("slowest_ms {:.3}\nslowest {slowest}\ntests {}", time.as_secs_f64() * 1e3, all.len());
}
