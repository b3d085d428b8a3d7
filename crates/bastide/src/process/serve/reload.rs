//! Another configuration in the place of the one before: built whole, checked whole, handed to
//! the cores; what cannot be taken leaves the old one as it was.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use gateway::snapshot::Snapshot;
use model::Switch;
use tokio::time::Instant;

use super::{Server, looks};
use crate::config::{self, Configuration, Written};
use crate::process::background;
use crate::process::beginning::destination;
use crate::process::dns::Learned;
use crate::process::generations::Generations;
use crate::process::health::warn_of_expired;
use crate::process::storage::RunningStore;
use crate::process::watch::Watched;
use crate::process::{open_files, prepare, running};
use crate::wire::{self, Listeners, Parts, Reading};

/// Settings that only a restart changes.
#[derive(Clone, PartialEq)]
pub(super) struct Settled {
    state: PathBuf,
    workers: Option<usize>,
    audit: config::Audit,
    admin: SocketAddr,
    storage: config::Storage,
}

impl Settled {
    pub(super) fn of(configuration: &Configuration) -> Self {
        Self {
            state: configuration.state.clone(),
            workers: configuration.workers,
            // Sinks follow a reload.
            audit: config::Audit { sinks: Vec::new(), ..configuration.audit.clone() },
            admin: configuration.admin.address,
            storage: configuration.storage.clone(),
        }
    }

    /// Refuses others, each by its key and where it is written.
    fn still_hold(&self, next: &Self, written: &Written) -> anyhow::Result<()> {
        let is_same = |key: &str| match key {
            "state" => self.state == next.state,
            "workers" => self.workers == next.workers,
            "audit" => self.audit == next.audit,
            "admin" => self.admin == next.admin,
            _ => self.storage == next.storage,
        };
        let changed = config::RESTART.into_iter().filter(|key| !is_same(key));
        // The log and the store are in the state folder unless something else is written.
        let follows = |key: &str| key != "state" && !is_same("state") && written.setting(key).is_none();
        let line = |key: &str| match written.setting(key) {
            Some(place) => format!("{place}: `{key}` changed, which takes a restart"),
            None => format!("`{key}` is at its default again, which takes a restart"),
        };
        let changed: Vec<String> = changed.filter(|key| !follows(key)).map(line).collect();
        anyhow::ensure!(changed.is_empty(), "{}", changed.join("\n"));
        Ok(())
    }
}

/// A fault with the place in the configuration that it is about.
pub(super) fn at(place: Option<String>, fault: anyhow::Error) -> anyhow::Error {
    match place {
        Some(place) => fault.context(place),
        None => fault,
    }
}

/// A fault, with the place of the listener in the configuration where it is about one.
pub(super) fn placed(fault: anyhow::Error, written: &Written) -> anyhow::Error {
    let address = fault.downcast_ref::<proxy::ListenError>().and_then(proxy::ListenError::address);
    at(address.and_then(|address| written.listener(address)), fault)
}

/// What of a renewal could not be had, and is tried again.
#[derive(Default)]
pub(super) struct Renewal {
    failures: u32,
    due: Option<Instant>,
}

impl Renewal {
    /// The longest pause between two attempts.
    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// Waits until it is time to try again; for ever where nothing is missing.
    pub(super) async fn is_due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, is_whole: bool) {
        self.failures = if is_whole { 0 } else { self.failures.saturating_add(1) };
        let pause = Duration::from_secs(1 << self.failures.min(5)).min(Self::PAUSE_MAX);
        self.due = (!is_whole).then(|| Instant::now() + pause);
    }
}

impl Server {
    /// Takes a new configuration, or says why not and goes on with the old one.
    pub(super) async fn reload(&mut self, why: &str) {
        self.notifier.reloading();
        match self.try_reload().await {
            Ok(()) => {
                tracing::info!(generation = self.current.generation, "reloaded ({why})");
                warn_of_expired(&self.current, self.shared.clock.as_ref());
                let mut reloads = self.shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.good += 1;
                reloads.fault.clear();
            }
            Err(fault) => {
                let fault = format!("{fault:#}");
                tracing::error!("reload refused ({why}); the old configuration stays:\n{fault}");
                // What was revoked or renewed beside it does not wait until somebody mends it.
                self.renew_beside().await;
                let mut reloads = self.shared.reloads.lock().unwrap_or_else(PoisonError::into_inner);
                reloads.refused += 1;
                reloads.fault = fault;
            }
        }
        self.notifier.ready();
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        if Switch::Reload.is_off() || self.shared.draining.load(Ordering::Acquire) {
            return Ok(());
        }
        let looked = self.watched.again();
        let loaded = (self.load)();
        // Whatever comes of it: what is wrong may be mended in a file that was not named before.
        let named = match &loaded {
            Ok((configuration, _)) => watch(configuration),
            Err(refused) => {
                Watched::look(refused.files.iter().cloned()).with_globs(refused.globs.iter().cloned())
            }
        };
        self.watched = watch(&self.configuration).and(named).since(&looked);
        let (configuration, written) = loaded.map_err(|refused| {
            let lines: Vec<String> = refused.faults.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })?;
        self.settled.still_hold(&Settled::of(&configuration), &written)?;
        let names = self.learn_names(&configuration).await;
        if let Err(fault) = self.take(&configuration).await {
            // What stays is the old configuration whole.
            let before = self.configuration.clone();
            let realms = self.follow_realms(&before.realms).await.context("the realms of before");
            let mesh = self.follow_mesh(before.mesh.as_ref()).await.context("the mesh of before");
            // INVARIANT: where it was lost, what is open may still be of the refused one, which does
            // not come to count.
            if mesh.is_ok() {
                self.parts.mesh.settle().await;
            }
            for lost in [realms, mesh].into_iter().filter_map(Result::err) {
                tracing::error!("{lost:#}");
            }
            return Err(placed(fault, &written));
        }
        self.parts.mesh.settle().await;
        self.parts.names.follow(names);
        self.parts.acme.follow(&configuration);
        self.watched = watch(&configuration).since(&self.watched);
        for warning in &configuration.warnings {
            tracing::warn!("{warning}");
        }
        if configuration.limits.connections_max > self.configuration.limits.connections_max {
            open_files::warn_of_few(configuration.limits.connections_max);
        }
        running::keep(self.parts.state.path(), &configuration, &written);
        self.configuration = configuration;
        Ok(())
    }

    /// Asks for names that nobody has asked for yet. What is revoked does not wait until DNS answers.
    async fn learn_names(&mut self, configuration: &Configuration) -> Learned {
        let (names, realms) = (Arc::clone(&self.parts.names), Arc::clone(&self.parts.realms));
        let sessions = Arc::clone(self.parts.sessions.sessions());
        let mut learning = pin!(names.learn(configuration));
        let changes = self.administration.changes();
        let (mut look, mut seen) = (looks(), self.watched.again());
        loop {
            tokio::select! {
                learned = &mut learning => return learned,
                () = realms.revocations_changed() => self.revoke().await,
                () = sessions.ended() => self.judge_again().await,
                _ = look.tick() => {
                    let upto = changes.last();
                    self.follow_revocations().await;
                    if let Some(now) = seen.changed() {
                        seen = now;
                        self.renew_beside().await;
                    }
                    changes.taken_up(upto);
                }
            }
        }
    }

    async fn take(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        self.follow_realms(&configuration.realms).await.context("realms")?;
        self.follow_mesh(configuration.mesh.as_ref()).await.context("mesh")?;
        self.publish(configuration).await
    }

    async fn follow_mesh(&self, mesh: Option<&config::Mesh>) -> anyhow::Result<()> {
        let store = self.shared.storage.as_ref().and_then(RunningStore::store);
        self.parts.mesh.follow(mesh, store.as_ref()).await
    }

    /// Opens realms that are others than those that are open.
    async fn follow_realms(&self, realms: &[config::Realm]) -> anyhow::Result<()> {
        let open = &self.parts.realms;
        if open.are(realms) {
            return Ok(());
        }
        let store = self.shared.storage.as_ref().and_then(RunningStore::store);
        Ok(open.follow(realms, store.as_ref()).await?)
    }

    /// Opens the realms anew, with settings that were changed in the store.
    pub(super) async fn reopen_realms(&self) {
        let Some(store) = self.shared.storage.as_ref().and_then(RunningStore::store) else { return };
        match self.parts.realms.open_wanted(&store).await {
            Ok(()) => tracing::info!("settings of a realm have changed"),
            Err(fault) => tracing::error!(%fault, "settings of a realm have changed, but those before stay"),
        }
    }

    /// Reads what stands beside the configuration again, and stays with the configuration.
    pub(super) async fn renew_beside(&mut self) {
        self.renew("API keys, certificates and revocation lists were read again").await;
    }

    /// What the configuration speaks of is something else now: the same configuration,
    /// with what there is. A file that cannot be used holds nothing else up.
    pub(super) async fn renew(&mut self, what: &str) {
        let (configuration, current) = (self.configuration.clone(), Arc::clone(&self.current));
        let reading = Reading::as_far_as_possible(&current);
        let published = self.publish_read(&configuration, &reading).await;
        let refused = reading.into_refused();
        self.renewal.ended(published.is_ok() && refused.is_empty());
        match published {
            Ok(()) if refused.is_empty() => tracing::info!("{what}"),
            Ok(()) => tracing::error!("{what}, but of these what was before stays:\n{}", refused.join("\n")),
            Err(fault) => tracing::error!("{what}, but what was before stays: {fault:#}"),
        }
    }

    /// Builds a snapshot, of files that can all be used, and hands it to the cores.
    pub(super) async fn publish(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        let current = Arc::clone(&self.current);
        self.publish_read(configuration, &Reading::whole(Some(&current))).await?;
        self.renewal.ended(true);
        Ok(())
    }

    /// Builds a snapshot of what can be read, and hands it to the cores.
    pub(super) async fn publish_read(
        &mut self,
        configuration: &Configuration,
        reading: &Reading<'_>,
    ) -> anyhow::Result<()> {
        let destination = destination(configuration)?;
        let has_ended = |key| self.cores.has_ended(key);
        let before = &self.configuration.listeners;
        let mut listeners = self.listeners.followed_by(before, &configuration.listeners, has_ended);
        let generation = self.current.generation + 1;
        let next = Arc::new(build(&self.parts, configuration, &listeners, generation, reading)?);
        let view = self.administration.view(configuration, &next)?;
        self.sinks.become_those(&configuration.audit.sinks, &self.log)?;
        self.exporter.redirect(destination);
        if let Err(fault) = self.cores.publish(Arc::clone(&next)).await {
            self.sinks.become_those(&self.configuration.audit.sinks, &self.log)?;
            self.exporter.redirect(self::destination(&self.configuration)?);
            return Err(fault.into());
        }
        listeners.say_missed(reading.take_missed());
        self.listeners = listeners;
        self.background.abort();
        self.background = background::spawn(&next, &self.parts);
        self.parts.sessions.follow(&next);
        self.prober.follow(&next.upstreams);
        self.administration.follow(view);
        *self.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        self.current = next;
        self.shared.files_refused.store(reading.refused(), Ordering::Relaxed);
        Ok(())
    }
}

/// Builds the snapshot and keeps its policies for `bastide explain`.
pub(super) fn build(
    parts: &Parts,
    configuration: &Configuration,
    listeners: &Listeners,
    generation: u64,
    reading: &Reading<'_>,
) -> anyhow::Result<Snapshot> {
    let generations = Generations::of(parts.state.path());
    let policies = wire::load_policies(configuration, generations.next())?;
    // Policies that are the same keep their number: nothing is to be told apart.
    let policies = match reading.before() {
        Some(before) if before.policies.snapshot() == policies.snapshot() => Arc::clone(&before.policies),
        _ => {
            generations.keep(&policies).context("cannot keep the policies for `bastide explain`")?;
            Arc::new(policies)
        }
    };
    let snapshot = wire::build(parts, configuration, listeners, generation, policies, reading)?;
    drop(prepare::in_background(configuration.firewalls.iter().map(|firewall| &firewall.rules)));
    Ok(snapshot)
}

/// The files that a configuration was read from.
pub(super) fn watch(configuration: &Configuration) -> Watched {
    Watched::look(configuration.files.iter().cloned().chain([configuration.authentication.api_keys.clone()]))
        .with_globs(configuration.globs.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewal_is_tried_again_only_while_something_is_missing() {
        let mut renewal = Renewal::default();
        for (is_whole, seconds) in [
            (true, None),
            (false, Some(2)),
            (false, Some(4)),
            (true, None),
            (false, Some(2)),
            (false, Some(4)),
            (false, Some(8)),
            (false, Some(16)),
            (false, Some(30)),
            (false, Some(30)),
        ] {
            renewal.ended(is_whole);
            let begun = Instant::now();
            let due = tokio::time::timeout(Duration::from_secs(3_600), renewal.is_due()).await;
            assert_eq!(due.ok().map(|()| begun.elapsed().as_secs()), seconds);
        }
    }
}
