//! How long a request takes when nobody else asks, as `wrk` says it.

use crate::bench::server::{PEER_CORE, pinned};
use crate::command;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Times of requests, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Asks on one connection, the next request when the last is answered, for so long.
pub(super) fn measure(script: &Path, url: &str, seconds: u32) -> Result<Times> {
    let mut command = pinned(PEER_CORE);
    command.args(["wrk", "-t1", "-c1", &format!("-d{seconds}s"), "--latency", "-s"]).arg(script).arg(url);
    let report = command::read(&mut command).with_context(|| format!("asking {url}"))?;
    times(&report).with_context(|| format!("times of {url}"))
}

fn times(report: &str) -> Result<Times> {
    if let Some(line) = report.lines().find(|line| line.trim().starts_with("Non-2xx")) {
        bail!("{}; expected successes only", line.trim());
    }
    let at = |share: &str| {
        let line = report.lines().find_map(|line| line.trim().strip_prefix(share))?;
        microseconds(line.trim())
    };
    let (p50, p99) = at("50%").zip(at("99%")).context("wrk reported no latencies")?;
    Ok(Times { p50, p99 })
}

/// `635.00us`, `1.21ms`, `2.00s`
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_errors_refused() {
        let report = "  Latency Distribution\n     50%  635.00us\n     75%  812.00us\n     90%    0.90ms\n     99%    1.21ms\n";
        let read = times(report).unwrap();
        assert!((read.p50 - 635.0).abs() < 1e-9 && (read.p99 - 1_210.0).abs() < 1e-9, "{read:?}");
        assert!(times(&format!("{report}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(times("  5 requests in 1.00s\n").is_err());
        assert_eq!(microseconds("2.00s"), Some(2e6));
    }
}
