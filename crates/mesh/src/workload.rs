//! Registered workloads, and which of them a process is.

use model::{SpiffeId, Switch};
use serde::{Deserialize, Serialize};

use crate::attest::Facts;

/// Most registered workloads.
pub const WORKLOADS_MAX: usize = 10_000;

/// How a path is not met that names another file here.
const NOT_OURS: &str = "path, which is another file here";

/// What a process has to be. Every condition that is set has to hold; of several values of
/// one condition any will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Its user.
    pub uid: Vec<u32>,
    /// Its group.
    pub gid: Vec<u32>,
    /// Its executable.
    pub path: Vec<String>,
    /// The SHA-256 of that, lower-case hexadecimal.
    pub sha256: Vec<String>,
    /// The system's systemd unit.
    pub unit: Vec<String>,
    /// The container's id.
    pub container: Vec<String>,
}

impl Conditions {
    /// Whether nothing is asked: nobody meets that.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a process of a user may meet all of them.
    fn may_be_of(&self, uid: u32) -> bool {
        self.uid.is_empty() || self.uid.contains(&uid)
    }

    /// The first condition that a process does not meet; `None`: it meets all. The digest comes last:
    /// it is made only for who meets the others.
    pub fn unmet(&self, facts: &Facts) -> Option<&'static str> {
        let has = |wanted: &[String], found: &Option<String>| {
            wanted.is_empty() || found.as_ref().is_some_and(|found| wanted.contains(found))
        };
        let number = |wanted: &[u32], found: u32| wanted.is_empty() || wanted.contains(&found);
        // Whose mount namespace it is, these say.
        let is_placed = !self.unit.is_empty() || !self.container.is_empty();
        let conditions = [
            ("a condition", !self.is_empty()),
            ("uid", number(&self.uid, facts.uid)),
            ("gid", number(&self.gid, facts.gid)),
            ("path", has(&self.path, &facts.path)),
            (NOT_OURS, self.path.is_empty() || facts.is_path_ours || is_placed),
            ("unit", has(&self.unit, &facts.unit)),
            ("container", has(&self.container, &facts.container)),
            ("sha256", has(&self.sha256, &facts.sha256)),
        ];
        conditions.into_iter().find(|(_, met)| !met).map(|(name, _)| name)
    }
}

/// A workload that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is called where it is declared or registered; empty elsewhere.
    pub name: String,
    /// Its name in the mesh.
    pub id: SpiffeId,
    /// What tells it apart from others of the same process.
    pub hint: String,
    /// What a process has to be.
    pub conditions: Conditions,
    /// The nodes where it runs; none: beside the control plane.
    pub nodes: Vec<String>,
}

/// All registered workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// In the order of the configuration, then those that were registered.
    pub list: Vec<Workload>,
}

impl Workloads {
    /// Those that run on a node; `None`: beside the control plane.
    #[must_use]
    pub fn on(&self, node: Option<&str>) -> Self {
        let is_there = |workload: &&Workload| match node {
            Some(node) => workload.nodes.iter().any(|name| name == node),
            None => workload.nodes.is_empty(),
        };
        Self { list: self.list.iter().filter(is_there).cloned().collect() }
    }

    /// Whether it is the digest of its executable, which is not known, that decides what a process is.
    pub fn want_digest(&self, facts: &Facts) -> bool {
        self.list.iter().any(|workload| workload.conditions.unmet(facts) == Some("sha256"))
    }

    /// The workloads that a process is.
    ///
    /// # Errors
    /// It is none: why, for the log.
    pub fn of(&self, facts: &Facts) -> Result<Vec<Workload>, String> {
        let is =
            |workload: &&Workload| workload.conditions.unmet(facts).is_none() || Switch::Attestation.is_off();
        let found: Vec<Workload> = self.list.iter().filter(is).cloned().collect();
        if found.is_empty() { Err(self.why_none(facts)) } else { Ok(found) }
    }

    /// Whether a process may be one of the workloads, whatever the digest of its executable is.
    ///
    /// # Errors
    /// It is none: why, for the log.
    pub fn may_be(&self, facts: &Facts) -> Result<(), String> {
        match self.of(facts) {
            Err(_) if self.want_digest(facts) => Ok(()),
            found => found.map(|_| ()),
        }
    }

    /// Whether a process of a user may be one of the workloads: cheaper to say than [`Self::may_be`].
    pub fn may_be_of(&self, uid: u32) -> bool {
        self.list.iter().any(|workload| workload.conditions.may_be_of(uid))
    }

    fn why_none(&self, facts: &Facts) -> String {
        let Facts { pid, uid, gid, path, .. } = facts;
        let path = path.as_deref().unwrap_or("an unknown executable");
        let shown = self.list.iter().take(3).filter_map(|workload| {
            let unmet = workload.conditions.unmet(facts)?;
            Some(format!("{} by its {unmet}", workload.id.path().trim_start_matches('/')))
        });
        let shown: Vec<String> = shown.collect();
        let more = self.list.len().saturating_sub(3);
        let not = match (shown.as_slice(), more) {
            ([], _) => "no workload is registered".to_owned(),
            (some, 0) => format!("it is not {}", some.join(", not ")),
            (some, more) => format!("it is not {}, nor any of {more} others", some.join(", not ")),
        };
        format!("process {pid} (uid {uid}, gid {gid}, {path}) is no registered workload: {not}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            pid: 7,
            uid: 1000,
            gid: 100,
            path: Some("/usr/bin/orders".to_owned()),
            is_path_ours: true,
            sha256: Some("ab".repeat(32)),
            unit: Some("orders.service".to_owned()),
            container: None,
        }
    }

    fn workload(name: &str, conditions: Conditions) -> Workload {
        let id = format!("spiffe://shop.example/{name}").parse().unwrap();
        Workload { name: name.to_owned(), id, hint: name.to_owned(), conditions, nodes: Vec::new() }
    }

    #[test]
    fn every_condition_counts_and_of_several_values_any() {
        let all = Conditions {
            uid: vec![0, 1000],
            gid: vec![100],
            path: vec!["/usr/bin/orders".to_owned()],
            sha256: vec!["ab".repeat(32)],
            unit: vec!["other.service".to_owned(), "orders.service".to_owned()],
            container: Vec::new(),
        };
        assert_eq!(all.unmet(&facts()), None);
        type Attack = (&'static str, fn(&mut Facts));
        let attacks: [Attack; 9] = [
            ("uid", |facts| facts.uid = 1001),
            ("gid", |facts| facts.gid = 0),
            ("path", |facts| facts.path = Some("/usr/bin/order".to_owned())),
            ("path", |facts| facts.path = None),
            ("sha256", |facts| facts.sha256 = Some("ac".repeat(32))),
            ("sha256", |facts| facts.sha256 = None),
            ("unit", |facts| facts.unit = Some("orders.service2".to_owned())),
            ("unit", |facts| facts.unit = None),
            ("uid", |facts| *facts = Facts::default().clone_with_uid(9)),
        ];
        for (unmet, attack) in attacks {
            let mut changed = facts();
            attack(&mut changed);
            assert_eq!(all.unmet(&changed), Some(unmet));
        }
        let elsewhere = Facts { is_path_ours: false, ..facts() };
        let by_path = Conditions { path: vec!["/usr/bin/orders".to_owned()], ..Conditions::default() };
        assert_eq!((by_path.unmet(&facts()), by_path.unmet(&elsewhere)), (None, Some(NOT_OURS)));
        assert_eq!(all.unmet(&elsewhere), None, "its unit says whose mount namespace that is");
        let contained = Conditions { container: vec!["0".repeat(64)], ..Conditions::default() };
        assert_eq!(contained.unmet(&facts()), Some("container"));
        assert_eq!(Conditions::default().unmet(&facts()), Some("a condition"), "nobody is everybody");
    }

    impl Facts {
        fn clone_with_uid(self, uid: u32) -> Self {
            Self { uid, ..self }
        }
    }

    #[test]
    fn a_workload_is_where_it_is_registered_and_nowhere_else() {
        let on = |name: &str, nodes: &[&str]| Workload {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            ..workload(name, Conditions::default())
        };
        let all =
            Workloads { list: vec![on("a", &[]), on("b", &["edge-1"]), on("c", &["edge-1", "edge-2"])] };
        for (node, expected) in [
            (None, &["a"][..]),
            (Some("edge-1"), &["b", "c"]),
            (Some("edge-2"), &["c"]),
            (Some("edge"), &[]),
            (Some(""), &[]),
        ] {
            let found: Vec<String> = all.on(node).list.into_iter().map(|one| one.hint).collect();
            assert_eq!(found, expected, "{node:?}");
        }
    }

    fn uid(uid: u32) -> Conditions {
        Conditions { uid: vec![uid], ..Conditions::default() }
    }

    #[test]
    fn a_process_is_each_workload_that_it_matches_or_none_with_the_reason() {
        let list = vec![workload("a", uid(1000)), workload("b", uid(1)), workload("c", uid(1000))];
        let workloads = Workloads { list };
        let found = workloads.of(&facts()).unwrap();
        assert_eq!(found.iter().map(|one| one.hint.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert!(!workloads.want_digest(&facts()));
        let digest = |number| Conditions { sha256: vec!["ab".repeat(32)], ..uid(number) };
        let unknown = Facts { sha256: None, ..facts() };
        for (conditions, is_wanted) in [(digest(1000), true), (digest(1), false), (uid(1000), false)] {
            let workloads = Workloads { list: vec![workload("a", conditions)] };
            assert_eq!(workloads.want_digest(&unknown), is_wanted, "only where nothing else decides");
            assert!(!workloads.want_digest(&facts()));
            // By all that is known without it.
            let may_be = unknown.uid == workloads.list[0].conditions.uid[0];
            assert_eq!(workloads.may_be(&unknown).is_ok(), may_be);
            assert_eq!(workloads.may_be_of(unknown.uid), may_be);
        }
        let anybody = Workloads { list: vec![workload("a", Conditions { uid: Vec::new(), ..digest(1) })] };
        assert!(anybody.may_be_of(7) && anybody.may_be(&unknown).is_ok());
        let why = workloads.of(&Facts { uid: 9, ..facts() }).unwrap_err();
        assert!(why.contains("uid 9") && why.contains("not a by its uid"), "{why}");
        assert!(Workloads::default().of(&facts()).unwrap_err().contains("no workload is registered"));
    }
}
