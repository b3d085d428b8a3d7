//! When connections end that are watched since before what ends them.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// The bound on the 99th percentile.
const BOUND: Duration = Duration::from_secs(1);
/// What has not ended after this stays.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections that are watched.
pub(crate) struct Ends(JoinSet<Option<Duration>>);

impl Ends {
    /// Begins to watch, with a clock that starts now; `end` is over when the connection is.
    pub(crate) fn watch<C, E>(connections: Vec<C>, end: fn(C) -> E) -> Self
    where
        E: Future<Output = ()> + Send + 'static,
    {
        let since = Instant::now();
        Self(
            connections
                .into_iter()
                .map(|connection| {
                    let end = tokio::time::timeout(PATIENCE, end(connection));
                    async move { end.await.is_ok().then(|| since.elapsed()) }
                })
                .collect(),
        )
    }

    /// Prints when they ended; whether all did, and 99 of 100 within the bound.
    pub(crate) async fn say(self, what: &str) -> bool {
        let all = self.0.join_all().await;
        let mut took: Vec<Duration> = all.iter().flatten().copied().collect();
        let stayed = all.len() - took.len();
        took.sort_unstable();
        let of = |share: usize| {
            took.get((took.len().saturating_sub(1)) * share / 100).copied().unwrap_or_default()
        };
        println!(
            "{what:40} {:>6} ended {stayed:>5} stayed  p50 {:>5} ms  p99 {:>5} ms  most {:>5} ms",
            took.len(),
            of(50).as_millis(),
            of(99).as_millis(),
            of(100).as_millis()
        );
        stayed == 0 && of(99) < BOUND
    }
}
