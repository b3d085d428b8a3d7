//! The load: wrk for HTTP/1.1, h2load for HTTP/2; what they report is read strictly, so
//! that a row of errors cannot pass for a fast one.

use super::server::{PEER_CORE, pinned};
use crate::command;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Connections of every load, all kept alive.
pub(super) const CONNECTIONS: u32 = 64;
/// Connections, and requests in flight on each, with HTTP/2.
pub(super) const CONNECTIONS_HTTP2: u32 = 16;
pub(super) const STREAMS_HTTP2: u32 = 8;

/// How requests are made.
#[derive(Clone, Copy)]
pub(super) enum Load<'a> {
    /// HTTP/1.1, the same request again and again.
    Http1,
    /// HTTP/1.1, requests that a Lua script of wrk makes.
    Http1Script(&'a Path),
    /// HTTP/2.
    Http2,
}

impl Load<'_> {
    /// Loads `url` for so long; returns the number of requests answered well.
    ///
    /// # Errors
    /// The generator failed, or any answer was not a success.
    pub(super) fn run(self, url: &str, seconds: u32) -> Result<u64> {
        let mut command = pinned(PEER_CORE);
        match self {
            Self::Http1 | Self::Http1Script(_) => {
                command.args([
                    "wrk",
                    "-t1",
                    &format!("-c{CONNECTIONS}"),
                    &format!("-d{seconds}s"),
                    "--timeout=10s",
                ]);
                if let Self::Http1Script(script) = self {
                    command.arg("-s").arg(script);
                }
                wrk_completed(&command::read(command.arg(url))?)
            }
            Self::Http2 => {
                command.args([
                    "h2load",
                    "-t1",
                    &format!("-c{CONNECTIONS_HTTP2}"),
                    &format!("-m{STREAMS_HTTP2}"),
                ]);
                command.args([&format!("-D{seconds}"), url]);
                h2load_completed(&command::read(&mut command)?)
            }
        }
        .with_context(|| format!("loading {url}"))
    }
}

/// Reads `  123456 requests in 5.00s, …`; refuses reports of errors.
fn wrk_completed(report: &str) -> Result<u64> {
    for line in report.lines() {
        let line = line.trim();
        if line.starts_with("Non-2xx") || (line.starts_with("Socket errors") && !harmless(line)) {
            bail!("{line}; expected successes only");
        }
    }
    let line =
        report.lines().find(|line| line.contains(" requests in ")).context("wrk reported no requests")?;
    let count = line.trim().split(' ').next().unwrap_or("").parse().context("wrk's count is not a number")?;
    if count == 0 {
        bail!("wrk completed no request");
    }
    Ok(count)
}

/// wrk counts what it cuts off itself at the end of the run as a time-out now and then.
fn harmless(line: &str) -> bool {
    line.starts_with("Socket errors: connect 0, read 0, write 0")
}

/// Reads `requests: 1000 total, … 1000 succeeded, 0 failed, 0 errored, 0 timeout` and the
/// line of status codes.
fn h2load_completed(report: &str) -> Result<u64> {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))
        .context("h2load reported no requests")?;
    let count = |word: &str| -> Option<u64> {
        let part = line.split(", ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    let succeeded = count("succeeded").context("h2load's report has no count of successes")?;
    if count("failed") != Some(0) || count("errored") != Some(0) || succeeded == 0 {
        bail!("{line}; expected successes only");
    }
    if !report.contains("0 3xx, 0 4xx, 0 5xx") {
        bail!("h2load saw answers other than 2xx");
    }
    Ok(succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_success_are_counted() {
        let wrk = "Running 5s test\n  1 threads\n  123456 requests in 5.00s, 150MB read\nRequests/sec: 1\n";
        assert_eq!(wrk_completed(wrk).unwrap(), 123_456);
        let h2load = "requests: 900 total, 908 started, 900 done, 900 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 900 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(h2load_completed(h2load).unwrap(), 900);
    }

    #[test]
    fn reports_of_errors_are_refused() {
        for wrk in [
            "  5 requests in 5.00s\n  Non-2xx or 3xx responses: 1\n",
            "  5 requests in 5.00s\n  Socket errors: connect 0, read 3, write 0, timeout 0\n",
            "  0 requests in 5.00s\n",
            "unable to connect\n",
        ] {
            assert!(wrk_completed(wrk).is_err(), "{wrk}");
        }
        for h2load in [
            "requests: 9 total, 9 started, 9 done, 8 succeeded, 1 failed, 0 errored, 0 timeout\nstatus codes: 8 2xx, 0 3xx, 0 4xx, 0 5xx\n",
            "requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 8 2xx, 0 3xx, 1 4xx, 0 5xx\n",
            "requests: 0 total, 0 started, 0 done, 0 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 0 2xx, 0 3xx, 0 4xx, 0 5xx\n",
            "",
        ] {
            assert!(h2load_completed(h2load).is_err(), "{h2load}");
        }
    }
}
