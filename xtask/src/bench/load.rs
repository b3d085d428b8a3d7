//! The load: wrk for HTTP/1.1, h2load for HTTP/2, a program of ours for handshakes; what they report is read strictly, so
//! that a row of errors cannot pass for a fast one.

use super::server::{PEER_CORE, pinned};
use crate::{command, workspace};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Connections of every load, all kept alive.
pub(super) const CONNECTIONS: u32 = 64;
/// The same where one answer has megabytes.
pub(super) const CONNECTIONS_LARGE: u32 = 8;
/// Connections, and requests in flight on each, with HTTP/2.
pub(super) const CONNECTIONS_HTTP2: u32 = 16;
pub(super) const STREAMS_HTTP2: u32 = 8;

/// How requests are made.
#[derive(Clone, Copy)]
pub(super) enum Load<'a> {
    /// HTTP/1.1, the same request again and again.
    Http1,
    /// The same, answers of megabytes.
    Http1Large,
    /// HTTP/1.1, requests that a Lua script of wrk makes.
    Http1Script(&'a Path),
    /// HTTP/2.
    Http2,
    /// A new TLS connection for each request, no session resumed.
    Handshakes(&'a TlsClient),
}

/// The example program that makes TLS connections; see `examples/tls_client.rs`.
pub(super) struct TlsClient {
    program: PathBuf,
    authority: PathBuf,
}

impl TlsClient {
    /// Builds it. It trusts the certificates of `authority`.
    pub(super) fn build(authority: &Path) -> Result<Self> {
        let root = workspace::root()?;
        let mut build = command::cargo(&root);
        build.args(["build", "--quiet", "--locked", "--release", "-p", "xtask", "--example", "tls_client"]);
        command::run(&mut build)?;
        let program = workspace::target()?.join("release/examples/tls_client");
        Ok(Self { program, authority: authority.to_owned() })
    }

    fn command(&self, mode: &str, count: u32, port: u16) -> Command {
        let mut command = pinned(PEER_CORE);
        command.arg(&self.program).args([mode, &count.to_string(), &port.to_string()]).arg(&self.authority);
        command
    }

    /// Opens so many connections, each with one answered request, and calls `look` while
    /// they stand open.
    pub(super) fn hold<T>(&self, count: u32, port: u16, look: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut child = self
            .command("hold", count, port)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the TLS client")?;
        let mut line = String::new();
        let out = child.stdout.take().context("its standard output was just piped")?;
        BufReader::new(out).read_line(&mut line)?;
        let seen =
            if line.trim() == format!("open {count}") { look() } else { Err(anyhow!("it said {line:?}")) };
        // The end of its standard input lets it go.
        drop(child.stdin.take());
        let ended = child.wait()?;
        if !ended.success() {
            bail!("holding {count} connections on port {port}: the client ended with {ended}");
        }
        seen
    }
}

impl Load<'_> {
    /// Loads `url` for so long; returns the number of requests answered well.
    ///
    /// # Errors
    /// The generator failed, or any answer was not a success.
    pub(super) fn run(self, url: &str, seconds: u32) -> Result<u64> {
        let mut command = pinned(PEER_CORE);
        match self {
            Self::Http1 | Self::Http1Large | Self::Http1Script(_) => {
                let connections =
                    if matches!(self, Self::Http1Large) { CONNECTIONS_LARGE } else { CONNECTIONS };
                command.args([
                    "wrk",
                    "-t1",
                    &format!("-c{connections}"),
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
            Self::Handshakes(client) => {
                let port = port_of(url).with_context(|| format!("no port in {url}"))?;
                let report = command::read(&mut client.command("handshakes", seconds, port))?;
                report.trim().strip_prefix("completed ").and_then(|count| count.parse().ok()).with_context(
                    || format!("the TLS client said {report:?}, expected `completed` and a number"),
                )
            }
        }
        .with_context(|| format!("loading {url}"))
    }
}

fn port_of(url: &str) -> Option<u16> {
    url.rsplit_once(':')?.1.split('/').next()?.parse().ok()
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
    fn ports_are_found_in_addresses() {
        assert_eq!(port_of("https://localhost:8443/"), Some(8443));
        assert_eq!(port_of("https://localhost/"), None);
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
