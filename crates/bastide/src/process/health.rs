//! What the admin listener looks at: health, readiness and the metrics that are read, not
//! counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use gateway::inventory::Inventory;
use gateway::metric::{Exposition, Registry};
use gateway::snapshot::Snapshot;
use keys::publish;
use model::Clock;
use proxy::listen::TotalsReader;
use tokio::task::JoinHandle;

use super::log::Log;
use super::metrics;
use super::metrics_listener::{self, MetricsListener};
use super::self_metrics;
use super::storage::RunningStore;
use super::upstream_metrics;
use crate::acme::Orders;
use crate::config::Configuration;
use crate::wire::Parts;

/// What the admin listener looks at.
pub(super) struct Shared {
    pub(super) current: Mutex<Arc<Snapshot>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) draining: AtomicBool,
    /// Whether the revocation list on disk is not the one in force.
    pub(super) revocations_refused: AtomicBool,
    /// Files beside the configuration that cannot be used: what they held before stays.
    pub(super) files_refused: AtomicU64,
    pub(super) reloads: Mutex<Reloads>,
    /// Of the audit log and the firewall's.
    pub(super) audit: [Arc<audit::Health>; 2],
    /// The certificates that are ordered.
    pub(super) acme: Arc<Orders>,
    /// The process' own log.
    pub(super) log: Log,
    /// The store, where one is configured.
    pub(super) storage: Option<RunningStore>,
}

#[derive(Default)]
pub(super) struct Reloads {
    pub(super) good: u64,
    pub(super) refused: u64,
    /// Why the last one was refused; empty when it was not.
    pub(super) fault: String,
}

/// Answers the admin listener's requests until it is ended; gives its socket too, for a
/// process that takes over.
pub(super) fn start_admin(
    configuration: &Configuration,
    parts: &Parts,
    shared: &Arc<Shared>,
    inherited: Option<std::net::TcpListener>,
) -> anyhow::Result<(JoinHandle<()>, std::net::TcpListener)> {
    let wanted = configuration.admin.address;
    let socket = match inherited {
        Some(socket) => socket,
        None => std::net::TcpListener::bind(wanted).with_context(|| {
            format!("the admin listener cannot have {wanted}; set `admin: {{ address: … }}`")
        })?,
    };
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
    let address = socket.local_addr()?;
    let metrics = Arc::clone(&parts.process.metrics);
    let signer = Arc::clone(&parts.signer);
    let inventory = Arc::clone(&parts.process.inventory);
    let (well, ready) = (Arc::clone(shared), Arc::clone(shared));
    let admin = Arc::new(MetricsListener {
        metrics: Arc::new(move || metrics.render()),
        unwell: Box::new(move || well.unwell()),
        unready: Box::new(move || ready.unready()),
        undocumented: Box::new(move || serde_json::to_string(&inventory.report()).unwrap_or_default()),
        jwks: Box::new(move || publish(&[signer.as_ref()])),
    });
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, metrics_listener::router(admin, address)).await {
            tracing::error!(%error, "the admin listener ended");
        }
    });
    Ok((task, socket))
}

impl Shared {
    fn unwell(&self) -> Vec<String> {
        let said = |(name, health): (&str, &Arc<audit::Health>)| match health.status() {
            audit::Status::Good => None,
            audit::Status::Bad { reason, .. } => Some(format!("the {name} log is not written: {reason}")),
        };
        ["audit", "firewall"].into_iter().zip(&self.audit).filter_map(said).collect()
    }

    fn unready(&self) -> Vec<String> {
        let mut reasons = self.unwell();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining".to_owned());
        }
        let issuers = self.issuers();
        // Out of rotation only when nobody's token can be verified.
        if !issuers.is_empty() && issuers.iter().all(|(_, health)| health.is_err()) {
            let reason = |(name, health): (String, Result<(), String>)| {
                format!("no usable keys of {name}: {}", health.err().unwrap_or_default())
            };
            reasons.extend(issuers.into_iter().map(reason));
        }
        reasons.extend(self.acme.unready());
        if let Some(storage) = &self.storage {
            match storage.store().map(|store| store.fault()) {
                Some(None) => {}
                Some(Some(why)) => reasons.push(format!("the store does not answer: {why}")),
                None => reasons
                    .push("the store is sealed: give shares of its key with `bastide unseal`".to_owned()),
            }
        }
        reasons
    }

    fn issuers(&self) -> Vec<(String, Result<(), String>)> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.issuers.health(self.clock.now())
    }
}

/// Metrics that are read, not counted.
pub(super) fn add_inventory(registry: &Registry, inventory: Arc<Inventory>) {
    registry.add_source(move |out: &mut Exposition| {
        out.only(&metrics::CONTRACT_REPORTS, inventory.reports());
        out.only(&metrics::UNDOCUMENTED, inventory.report().endpoints.len() as u64);
    });
}

/// When the certificates end that listeners show, by name; of several for one name the soonest.
fn certificates(snapshot: &Snapshot) -> BTreeMap<&str, u64> {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    let open = snapshot.listeners.iter().filter(|listener| !listener.closing);
    let listeners = open.filter_map(|listener| listener.tls.as_ref());
    for end in listeners.flat_map(|tls| tls.ends()) {
        let soonest = ends.entry(&end.name).or_insert(end.not_after);
        *soonest = end.not_after.min(*soonest);
    }
    ends
}

/// Says which certificates of listeners every client refuses.
pub(super) fn warn_of_expired(snapshot: &Snapshot, clock: &dyn Clock) {
    let now = clock.now().unix_seconds();
    for (name, not_after) in certificates(snapshot) {
        if let Some(since) = now.checked_sub(not_after).filter(|since| *since > 0) {
            let since = crate::cli::span(since);
            tracing::warn!("the certificate for {name} expired {since} ago: clients refuse it");
        }
    }
}

pub(super) fn add_sources(parts: &Parts, shared: &Arc<Shared>, totals: TotalsReader) {
    let (shared, names) = (Arc::clone(shared), Arc::clone(&parts.names));
    let outdated = parts.mesh.outdated_bundles();
    let started = shared.clock.now();
    parts.process.metrics.add_source(move |out: &mut Exposition| {
        self_metrics::write(started, out);
        let reloads = shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        out.family(&metrics::RELOADS);
        out.sample(&[("result", "good")], reloads.good);
        out.sample(&[("result", "refused")], reloads.refused);
        out.only(&metrics::RELOAD_REFUSED, u64::from(!reloads.fault.is_empty()));
        drop(reloads);
        let refused = shared.revocations_refused.load(Ordering::Relaxed);
        out.only(&metrics::REVOCATIONS_REFUSED, u64::from(refused));
        out.only(&metrics::FILES_REFUSED, shared.files_refused.load(Ordering::Relaxed));
        out.family(&metrics::ISSUER_KEYS);
        for (issuer, health) in shared.issuers() {
            out.sample(&[("issuer", &issuer)], u64::from(health.is_ok()));
        }
        out.only(&metrics::LOG_DROPPED, shared.log.dropped_total());
        out.only(&metrics::DNS_FAILURES, names.failures_total());
        out.only(&metrics::BUNDLES_OUTDATED, outdated.load(Ordering::Relaxed));
        let current = Arc::clone(&shared.current.lock().unwrap_or_else(PoisonError::into_inner));
        upstream_metrics::write(&current.upstreams, totals.now_ms(), out);
        out.family(&metrics::CERTIFICATE_EXPIRY);
        for (name, not_after) in certificates(&current) {
            out.sample(&[("name", name)], not_after);
        }
        shared.acme.write(out);
        out.family(&metrics::LIMIT_REFUSED);
        for (row, count) in totals.limit_hits().iter() {
            out.sample(&[("limit", row.metric)], count);
        }
        let totals = totals.totals();
        out.only(&metrics::CONNECTIONS_OPEN, totals.connections_open);
        out.family(&metrics::CONNECTIONS);
        let by = [
            ("accepted", totals.connections_accepted),
            ("refused", totals.connections_refused),
            ("cut", totals.connections_cut),
            ("handshake_failed", totals.handshakes_failed),
        ];
        for (result, value) in by {
            out.sample(&[("result", result)], value);
        }
        let (written, left_out) = totals.handshakes_refused;
        out.family(&metrics::HANDSHAKES_REFUSED);
        out.sample(&[("event", "written")], written);
        out.sample(&[("event", "left_out")], left_out);
        out.only(&metrics::CONNECTIONS_PLAIN_TEXT, totals.connections_cleartext);
    });
}
