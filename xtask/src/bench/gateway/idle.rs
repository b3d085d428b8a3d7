//! Memory at rest and for each idle TLS connection.

use crate::bench::load::TlsClient;
use crate::bench::peer::{Ground, Proxy};
use crate::bench::server::Server;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// The most memory that it may take at rest, MB (10⁶ bytes).
const REST_MB_MAX: f64 = 40.0;
/// Idle connections.
const CONNECTIONS: u32 = 5_000;
/// How long a server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Memory of one proxy, in bytes.
struct Memory {
    proxy: Proxy,
    rest: f64,
    per_connection: f64,
}

/// The table, and each bound that does not hold.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) past: Vec<String>,
}

/// Starts each proxy anew, reads its memory, opens the connections, reads it again.
pub(super) fn measure(ground: &Ground, binary: &Path, client: &TlsClient) -> Result<Found> {
    let mut all = Vec::new();
    for proxy in Proxy::ALL {
        let (server, port) = match ground.peer(proxy)? {
            Some(peer) => (peer.server, peer.listeners.tls),
            None => {
                let (server, configured) = ground.bastide(binary, false)?;
                (server, configured.tls)
            }
        };
        let memory =
            one(proxy, &server, port, client).with_context(|| format!("memory of {}", proxy.name()))?;
        println!(
            "idle {:<8} {:.1} MB at rest, {:.1} KB for each connection",
            proxy.name(),
            memory.rest / 1e6,
            memory.per_connection / 1e3
        );
        all.push(memory);
    }
    Ok(judge(&all))
}

fn one(proxy: Proxy, server: &Server, port: u16, client: &TlsClient) -> Result<Memory> {
    let read = || {
        std::thread::sleep(SETTLE);
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        server.resident_kib().map(|kib| kib as f64 * 1_024.0)
    };
    // Some requests first: what is allocated once is not the connections'.
    let rest = client.hold(16, port, || Ok(())).and_then(|()| read())?;
    let full = client.hold(CONNECTIONS, port, read)?;
    Ok(Memory { proxy, rest, per_connection: (full - rest).max(0.0) / f64::from(CONNECTIONS) })
}

fn judge(all: &[Memory]) -> Found {
    let mut text = format!(
        "| memory | at rest, MB | per idle TLS connection, {CONNECTIONS} of them, KB |\n|---|---|---|\n"
    );
    for memory in all {
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} |",
            memory.proxy.name(),
            memory.rest / 1e6,
            memory.per_connection / 1e3
        );
    }
    let mut past = Vec::new();
    let of = |proxy| all.iter().find(|memory| memory.proxy == proxy);
    if let (Some(ours), Some(nginx)) = (of(Proxy::Bastide), of(Proxy::Nginx)) {
        if ours.rest / 1e6 > REST_MB_MAX {
            past.push(format!("idle ({:.1} MB at rest, at most {REST_MB_MAX})", ours.rest / 1e6));
        }
        if ours.per_connection > nginx.per_connection {
            past.push(format!(
                "idle ({:.1} KB per connection, at most nginx's {:.1})",
                ours.per_connection / 1e3,
                nginx.per_connection / 1e3
            ));
        }
    }
    let verdict =
        if past.is_empty() { "both hold".to_owned() } else { format!("**past: {}**", past.join("; ")) };
    let _ = writeln!(
        text,
        "\nBounds: at most {REST_MB_MAX} MB at rest, per connection at most what nginx needs; {verdict}."
    );
    Found { text, past }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rest: f64, per_connection: f64) -> Found {
        judge(&[
            Memory { proxy: Proxy::Bastide, rest, per_connection },
            Memory { proxy: Proxy::Nginx, rest: 1e7, per_connection: 2e4 },
        ])
    }

    #[test]
    fn memory_is_bound_at_rest_and_by_connection() {
        assert!(found(40e6, 2e4).past.is_empty());
        assert_eq!(found(41e6, 2e4).past, ["idle (41.0 MB at rest, at most 40)"]);
        assert_eq!(found(40e6, 2.1e4).past, ["idle (21.0 KB per connection, at most nginx's 20.0)"]);
    }
}
