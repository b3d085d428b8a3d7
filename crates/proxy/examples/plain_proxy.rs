//! A plain reverse proxy over the hop, without authentication or limits beside the
//! hop's own: what the hop alone costs.
//!
//! `plain_proxy LISTEN UPSTREAM [CORES] [CERTIFICATE KEY]`

use std::sync::Arc;
use std::time::Duration;

use proxy::tls::{Identity, ServerTls, ServerTlsSettings};
use proxy::{Cores, Limits};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{TestRoute, TestWorld, cleartext, service, settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let (Some(listen), Some(upstream)) = (argument(0), argument(1)) else {
        return Err("expected: plain_proxy LISTEN UPSTREAM [CORES] [CERTIFICATE KEY]".into());
    };
    let mut listener = cleartext(listen.parse()?);
    if let (Some(certificate), Some(key)) = (argument(3), argument(4)) {
        let identity = Identity::from_pem(certificate, &std::fs::read(certificate)?, &std::fs::read(key)?)?;
        let identities = vec![identity];
        listener.tls = Some(ServerTls::build(&ServerTlsSettings {
            identities,
            offers: proxy::tls::ServerOffer::Http,
            ..Default::default()
        })?);
    }
    let world = TestWorld::new(
        vec![listener],
        vec![service("upstream", &[upstream.parse()?])],
        vec![TestRoute { path: "/**", settings: settings(0) }],
        Limits { connections_per_address_max: 100_000, ..Limits::default() },
        None,
    );
    let cores = Cores::start(argument(2).map_or(Ok(1), str::parse)?, Arc::new(world))?;
    for (_, address) in cores.addresses() {
        tracing::info!(%address, "listening");
    }
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    cores.drain(Duration::from_secs(1)).await;
    Ok(())
}
