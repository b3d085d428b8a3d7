//! `bastide mesh status`: the authorities, the workloads, and what is valid of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use ::mesh::authority::{Entry, Record, State};
use ::mesh::directory::Registration;
use ::mesh::workload::Workloads;
use ::mesh::{IssuedRecord, Revoked, TrustDomain};
use model::Timestamp;
use serde_json::{Value, json};

use crate::cli::admin_context::text;
use crate::cli::{count_of, span};
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
    /// Those of them that are not revoked, nor is their authority.
    valid: usize,
    /// The partners, as the administration lists them.
    partners: Vec<Value>,
}

impl MeshStatus {
    /// Reads the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn read(
        domain: &TrustDomain,
        mesh: &Mesh,
        partners: Vec<Value>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let record = domain.record().await?;
        let registered = domain.endpoints().await?;
        let revoked = domain.revoked();
        domain.declare(mesh.declared());
        let workloads = Arc::clone(&domain.workloads().borrow());
        let (mut by_authority, mut valid) = (BTreeMap::<String, usize>::new(), 0);
        let take = |svid: IssuedRecord| {
            let is_valid = revoked.certificate(&svid.id, &svid.serial).is_none()
                && record.is_trusted(&svid.authority, now);
            valid += usize::from(is_valid);
            *by_authority.entry(svid.authority).or_default() += 1;
        };
        domain.each_issued(take).await?;
        let trust_domain = mesh.settings.trust_domain.clone();
        Ok(Self { trust_domain, now, record, registered, revoked, workloads, by_authority, valid, partners })
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
            "certificates": self.by_authority.values().sum::<usize>(), "valid": self.valid,
            "partners": self.partners.iter().map(|one| self.partner_json(one)).collect::<Vec<_>>(),
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
        let [are_registered, are_valid] = [known, valid].map(|count| if count == 1 { "is" } else { "are" });
        let (known, valid) = (count_of(known, "workload"), count_of(valid, "certificate"));
        let _ = write!(text, "\n{known} {are_registered} registered, {valid} {are_valid} valid");
        for one in &self.partners {
            let _ = write!(text, "\n  partner  {}", self.partner_line(one));
        }
        for id in self.revoked.identities() {
            let _ = write!(text, "\n  revoked  {id}");
        }
        for one in &self.registered {
            let node = if one.node.is_empty() { String::new() } else { format!(" on {}", one.node) };
            let [age, renewed] = [one.since, one.renewed].map(|time| span(self.now.since(time).as_secs()));
            let _ = write!(
                text,
                "\n  listens  {} at {}{node}, since {age}, renewed {renewed} ago",
                one.id, one.address
            );
        }
        text
    }

    /// How long ago something of a partner was, seconds.
    fn age(&self, partner: &Value, name: &str) -> Option<u64> {
        let time = partner.get(name).and_then(Value::as_u64)?;
        Some(self.now.since(Timestamp::from_unix_seconds(time)).as_secs())
    }

    fn partner_json(&self, partner: &Value) -> Value {
        let [fetched, failed] = ["fetched", "failed"].map(|name| self.age(partner, name));
        json!({
            "trust_domain": partner.get("trust_domain"), "endpoint": partner.get("endpoint"),
            "sequence": partner.get("sequence"), "fetched_s": fetched,
            "failed_s": failed, "error": partner.get("error"),
        })
    }

    fn partner_line(&self, partner: &Value) -> String {
        let mut line = format!("{}, ", text(partner, "trust_domain"));
        line += &match partner.get("sequence").and_then(Value::as_u64) {
            Some(sequence) => format!("bundle {sequence}"),
            None => "no bundle yet: nobody of it is trusted".to_owned(),
        };
        match self.age(partner, "fetched") {
            Some(age) => line += &format!(", fetched {} ago", span(age)),
            None if partner.get("endpoint").is_none() => line += ", of its file",
            None => line += ", not fetched by a process that runs",
        }
        if let Some(age) = self.age(partner, "failed") {
            line += &format!("; the last attempt failed {} ago: {}", span(age), text(partner, "error"));
        }
        line
    }

    fn line(&self, entry: &Entry) -> String {
        let left = |end: Timestamp| span(end.since(self.now).as_secs());
        let state = entry.state(self.now);
        let when = match state {
            State::Prepared => format!("signs in {}, ", left(entry.active_from)),
            State::Active => format!("signs for {}, ", left(entry.active_until)),
            _ => String::new(),
        };
        let (kind, id, state, ends) = (entry.kind.name(), &entry.id, state.name(), left(entry.ends));
        let certificates = self.certificates(id);
        format!("{kind:8}{state:9} {id}  {when}ends in {ends}, {}", count_of(certificates, "certificate"))
    }
}
