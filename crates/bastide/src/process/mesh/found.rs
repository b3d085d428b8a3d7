//! Where the services are that are looked up in the registry: as the control plane in this process
//! knows it, or as a Workload API says it. What was said last stays in use while nobody says anything,
//! for [`KEPT_MAX`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::mesh::directory::{Endpoints, KEPT_MAX};
use ::mesh::workload_api::{Client, EndpointUpdates, said};
use ::mesh::{backoff, renew};
use keys::SystemRandom;
use model::SpiffeId;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a start or a reload waits for the first word.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// The newest of what was said; `None`: nothing yet.
pub(super) struct Found {
    newest: watch::Sender<Arc<Option<Endpoints>>>,
    told: tokio::sync::Mutex<watch::Receiver<Arc<Option<Endpoints>>>>,
}

impl Default for Found {
    fn default() -> Self {
        let (newest, told) = watch::channel(Arc::default());
        Self { newest, told: told.into() }
    }
}

impl Found {
    /// The addresses of a service now.
    pub(super) fn of(&self, id: &SpiffeId) -> Vec<SocketAddr> {
        let newest = self.newest.borrow();
        newest.iter().filter_map(|endpoints| endpoints.get(id)).flatten().copied().collect()
    }

    /// Waits until something was said, for a bounded time.
    pub(super) async fn first(&self) {
        let mut newest = self.newest.subscribe();
        let _ = tokio::time::timeout(FIRST_WITHIN, newest.wait_for(|known| known.is_some())).await;
    }

    /// Waits until something else is said than the last time.
    pub(super) async fn changed(&self) {
        let _ = self.told.lock().await.changed().await;
    }

    fn take(&self, next: Endpoints) {
        renew(&self.newest, Some(next));
    }

    /// Nobody has said anything for so long.
    fn forget_after(&self, silence: Duration) {
        if silence > KEPT_MAX {
            self.take(Endpoints::new());
        }
    }

    /// Takes what this process knows itself, of these services.
    pub(super) fn take_of(&self, known: &Endpoints, wanted: &[SpiffeId]) {
        let of = |id: &SpiffeId| Some((id.clone(), known.get(id)?.clone()));
        self.take(wanted.iter().filter_map(of).collect());
    }
}

/// Follows what the control plane in this process knows. Ends when it does.
pub(super) async fn run(
    mut known: watch::Receiver<Arc<Endpoints>>,
    wanted: Vec<SpiffeId>,
    found: Arc<Found>,
) {
    while known.changed().await.is_ok() {
        found.take_of(&known.borrow_and_update(), &wanted);
    }
}

/// Follows what a Workload API says. Ends when it is aborted.
pub(super) async fn follow(
    path: PathBuf,
    wanted: Vec<SpiffeId>,
    found: Arc<Found>,
    random: Arc<SystemRandom>,
) {
    let (mut failures, mut heard) = (0_u32, Instant::now());
    loop {
        let why = match open(&path, &wanted).await {
            // The client is the connection.
            Ok((_client, mut updates)) => loop {
                match updates.next().await {
                    Ok(Some(endpoints)) => {
                        failures = 0;
                        found.take(endpoints);
                    }
                    Ok(None) => break "it has ended".to_owned(),
                    Err(status) => break said(&status),
                }
                heard = Instant::now();
            },
            Err(why) => why,
        };
        // The last word was good until the connection ended.
        if failures == 0 {
            heard = Instant::now();
        }
        failures = failures.saturating_add(1);
        tracing::warn!(socket = %path.display(), why, "mesh: the addresses of services cannot be watched at the Workload API; the last known ones stay in use");
        tokio::time::sleep(backoff::after(failures, random.as_ref())).await;
        found.forget_after(heard.elapsed());
    }
}

async fn open(path: &Path, wanted: &[SpiffeId]) -> Result<(Client, EndpointUpdates), String> {
    let client = Client::connect(path).await.map_err(|error| error.to_string())?;
    let updates = client.endpoints(wanted).await.map_err(|status| said(&status))?;
    Ok((client, updates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_is_used_for_an_hour_without_a_word() {
        let [orders, stock]: [SpiffeId; 2] =
            ["orders", "stock"].map(|name| format!("spiffe://shop.example/{name}").parse().unwrap());
        let address: SocketAddr = "10.0.0.5:7001".parse().unwrap();
        let known = |id: &SpiffeId| (id.clone(), [address].into());
        let found = Found::default();
        found.take_of(&[known(&orders), known(&stock)].into(), std::slice::from_ref(&orders));
        assert_eq!((found.of(&orders), found.of(&stock)), (vec![address], Vec::new()), "what is wanted");
        found.forget_after(KEPT_MAX);
        assert_eq!(found.of(&orders), [address]);
        found.forget_after(KEPT_MAX + Duration::from_secs(1));
        assert_eq!(found.of(&orders), []);
    }
}
