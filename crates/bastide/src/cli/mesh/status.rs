//! `bastide mesh status`: the authorities, the workloads, and what is valid of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ::mesh::authority::{Entry, Record, State};
use ::mesh::directory::Registration;
use ::mesh::workload::Workloads;
use ::mesh::{IssuedRecord, Revoked, TrustDomain};
use model::Timestamp;
use serde_json::{Value, json};

use crate::config::Mesh;

/// What the store says of a trust domain at one moment.
pub(super) struct MeshStatus {
    trust_domain: String,
    now: Timestamp,
    record: Record,
    registered: Vec<Registration>,
    revoked: Arc<Revoked>,
    workloads: Arc<Workloads>,
    /// Certificates that were issued and have not expired, by their authority.
    by_authority: BTreeMap<String, usize>,
    /// Those of them that are not revoked.
    valid: usize,
}

impl MeshStatus {
    /// Reads the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn read(domain: &TrustDomain, mesh: &Mesh, now: Timestamp) -> anyhow::Result<Self> {
        let record = domain.record().await?;
        let registered = domain.endpoints().await?;
        let revoked = domain.revoked();
        domain.declare(mesh.declared());
        let workloads = Arc::clone(&domain.workloads().borrow());
        let (mut by_authority, mut valid) = (BTreeMap::<String, usize>::new(), 0);
        let take = |svid: IssuedRecord| {
            valid += usize::from(revoked.certificate(&svid.id, &svid.serial).is_none());
            *by_authority.entry(svid.authority).or_default() += 1;
        };
        domain.each_issued(take).await?;
        let trust_domain = mesh.settings.trust_domain.clone();
        Ok(Self { trust_domain, now, record, registered, revoked, workloads, by_authority, valid })
    }

    fn certificates(&self, authority: &str) -> usize {
        self.by_authority.get(authority).copied().unwrap_or_default()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let authority = |entry: &Entry| {
            json!({
                "id": entry.id, "kind": entry.kind, "state": entry.state(self.now),
                "signs_from": entry.active_from.unix_seconds(), "ends": entry.ends.unix_seconds(),
                "certificates": self.certificates(&entry.id),
            })
        };
        let registered = |one: &Registration| {
            json!({
                "service": one.id, "address": one.address,
                "node": Some(&one.node).filter(|node| !node.is_empty()),
                "age_s": self.now.since(one.since).as_secs(),
                "renewed_s": self.now.since(one.renewed).as_secs(),
            })
        };
        json!({
            "trust_domain": self.trust_domain, "sequence": self.record.sequence,
            "authorities": self.record.entries.iter().map(authority).collect::<Vec<_>>(),
            "workloads": self.workloads.list.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
            "certificates": self.by_authority.values().sum::<usize>(),
            "endpoints": self.registered.iter().map(registered).collect::<Vec<_>>(),
            "revoked": {
                "certificates": self.revoked.serials().collect::<Vec<_>>(),
                "identities": self.revoked.identities().collect::<Vec<_>>(),
            },
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("trust domain {}, bundle {}", self.trust_domain, self.record.sequence);
        for entry in &self.record.entries {
            let _ = write!(text, "\n  {}", self.line(entry));
        }
        let (known, valid) = (self.workloads.list.len(), self.valid);
        let _ = write!(text, "\n{known} workloads are registered, {valid} certificates are valid");
        for id in self.revoked.identities() {
            let _ = write!(text, "\n  revoked  {id}");
        }
        for one in &self.registered {
            let node = if one.node.is_empty() { String::new() } else { format!(" on {}", one.node) };
            let [age, renewed] = [one.since, one.renewed].map(|time| self.now.since(time).as_secs());
            let _ = write!(
                text,
                "\n  listens  {} at {}{node}, since {age} s, renewed {renewed} s ago",
                one.id, one.address
            );
        }
        text
    }

    fn line(&self, entry: &Entry) -> String {
        let left = |end: Timestamp| Duration::from_secs(end.since(self.now).as_secs());
        let state = entry.state(self.now);
        let when = match state {
            State::Prepared => format!("signs in {:?}, ", left(entry.active_from)),
            State::Active => format!("signs for {:?}, ", left(entry.active_until)),
            _ => String::new(),
        };
        let (kind, id, state, ends) = (entry.kind.name(), &entry.id, state.name(), left(entry.ends));
        let certificates = self.certificates(id);
        format!("{kind:8}{state:9} {id}  {when}ends in {ends:?}, {certificates} certificates")
    }
}
