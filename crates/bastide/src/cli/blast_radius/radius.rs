//! From the points of a deployment to what somebody can reach through them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{Credential, Principal, PrincipalKind, SpiffeId};
use policy::Policies;
use policy::reach::{Certainty, Reach, Somebody, reach};

use crate::config::{Configuration, Proof};
use crate::wire;

/// A place where policies are asked.
pub(super) struct EnforcementPoint {
    /// `gateway`, or the service's name.
    name: String,
    policies: Policies,
    /// What each route looks for; `None`: every route of the point, a certificate.
    proofs: Option<BTreeMap<String, Vec<Proof>>>,
}

/// The name of the gateway's point.
const GATEWAY: &str = "gateway";

impl EnforcementPoint {
    /// The gateway's.
    pub(super) fn gateway(configuration: &Configuration) -> anyhow::Result<Self> {
        let routes = configuration.routes.iter();
        let proofs = routes.map(|route| (route.name.clone(), route.authenticate.clone())).collect();
        let policies = wire::load_policies(configuration, 0)?;
        Ok(Self { name: GATEWAY.to_owned(), policies, proofs: Some(proofs) })
    }

    /// That of a service of the mesh, from the configuration that `bastide run` makes for it.
    pub(super) fn service(name: &str, configuration: &Configuration) -> anyhow::Result<Self> {
        let policies = wire::load_policies(configuration, 0)?;
        Ok(Self { name: name.to_owned(), policies, proofs: None })
    }

    /// What somebody can reach here.
    fn reach(&self, who: &Intruder) -> Vec<Reach> {
        let Some(proofs) = &self.proofs else {
            // Its other routes are its program's outbound proxy, which nobody comes to from the mesh.
            let somebody = who.in_mesh();
            let all = somebody.map(|somebody| reach(&self.policies, &somebody)).unwrap_or_default();
            return all.into_iter().filter(|reach| reach.route == self.name).collect();
        };
        let all = reach(&self.policies, &who.at_gateway());
        let fits = |reach: &Reach| {
            // The administration's routes are not written down: whatever proves somebody does.
            proofs.get(&reach.route).is_none_or(|proofs| who.has_one_of(proofs))
        };
        all.into_iter().filter(|reach| fits(reach)).collect()
    }

    /// What anybody can reach here without proving anything.
    fn open(&self) -> BTreeSet<(String, String)> {
        if self.proofs.is_none() {
            return BTreeSet::new();
        }
        let anybody = Somebody {
            principal: Principal::anonymous(),
            is_whole: true,
            tls_version: None,
            certificate: None,
        };
        reach(&self.policies, &anybody).into_iter().map(|reach| (reach.route, reach.method)).collect()
    }
}

/// Everything that is configured.
pub(super) struct Deployment {
    pub(super) points: Vec<EnforcementPoint>,
    /// Services of the mesh with their identities.
    pub(super) services: Vec<(String, SpiffeId)>,
    /// The gateway's identity.
    pub(super) gateway: Option<SpiffeId>,
}

/// Somebody whom others have in their hands.
#[derive(Clone, Debug)]
pub(super) struct Intruder {
    pub(super) title: String,
    principal: Principal,
    is_whole: bool,
}

impl Intruder {
    /// A workload, with its key.
    pub(super) fn service(name: &str, id: SpiffeId) -> Self {
        let principal = Principal {
            kind: PrincipalKind::Service,
            id: id.as_str().to_owned(),
            credential: Credential::Certificate,
            spiffe_id: Some(id.clone()),
            ..Principal::anonymous()
        };
        let title = if name == id.as_str() { name.to_owned() } else { format!("{name} ({id})") };
        Self { title: format!("service {title}"), principal, is_whole: true }
    }

    /// Whoever holds a role.
    pub(super) fn role(name: &str, principal: Principal) -> Self {
        Self { title: format!("role {name}"), principal, is_whole: false }
    }

    /// Whoever has a token.
    pub(super) fn token(principal: Principal) -> Self {
        let title = format!("the token of {}::{:?}", principal.kind.name(), principal.id);
        Self { title, principal, is_whole: true }
    }

    fn is_workload(&self) -> bool {
        self.principal.kind == PrincipalKind::Service
    }

    fn at_gateway(&self) -> Somebody {
        Somebody {
            principal: self.principal.clone(),
            is_whole: self.is_whole,
            tls_version: None,
            certificate: self.is_workload().then_some(true),
        }
    }

    /// At the point of a service; `None`: nobody comes there without an SVID.
    fn in_mesh(&self) -> Option<Somebody> {
        self.is_workload().then(|| Somebody { tls_version: Some("1.3"), ..self.at_gateway() })
    }

    fn has_one_of(&self, proofs: &[Proof]) -> bool {
        proofs.iter().any(|proof| match proof {
            Proof::Certificate => self.is_workload(),
            Proof::Jwt => !self.is_workload(),
            // A token in hand is no session and no key; whoever holds a role may have any.
            Proof::Opaque | Proof::Session | Proof::ApiKey => !self.is_workload() && !self.is_whole,
        })
    }
}

/// Something that is reached.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// Who reaches it: the intruder, or a service that has fallen.
    pub(super) from: String,
    /// How many services have fallen before.
    pub(super) depth: usize,
    /// Whose point.
    pub(super) point: String,
    pub(super) reach: Reach,
}

/// All that somebody can reach.
#[derive(Default)]
pub(super) struct Radius {
    /// In the order of depth.
    pub(super) reached: Vec<Reached>,
    /// Services that are reached, in the order in which they fall.
    pub(super) services: Vec<String>,
    /// How many pairs of route and method anybody can reach; they are not listed.
    pub(super) open: usize,
    /// How many points there are.
    pub(super) points: usize,
}

impl Radius {
    /// Whether nothing is reached that not anybody could.
    pub(super) fn is_empty(&self) -> bool {
        self.reached.is_empty()
    }

    /// Pairs of route and method that are reached for sure, and under conditions.
    pub(super) fn counts(&self) -> (usize, usize) {
        let of = |certainty| self.reached.iter().filter(move |one| one.reach.certainty == certainty);
        (of(Certainty::Always).count(), of(Certainty::When).count())
    }
}

impl Deployment {
    /// Everything that somebody can reach, and what each service that is reached could.
    pub(super) fn radius(&self, intruder: &Intruder) -> Radius {
        let mut radius = Radius { points: self.points.len(), ..Radius::default() };
        let open: Vec<_> = self.points.iter().map(EnforcementPoint::open).collect();
        radius.open = open.iter().map(BTreeSet::len).sum();
        let mut waiting = VecDeque::from([(0, intruder.title.clone(), intruder.clone())]);
        let mut fallen = BTreeSet::new();
        if intruder.is_workload() {
            fallen.insert(intruder.principal.id.clone());
        }
        while let Some((depth, from, who)) = waiting.pop_front() {
            for (point, open) in self.points.iter().zip(&open) {
                for reach in point.reach(&who) {
                    if open.contains(&(reach.route.clone(), reach.method.clone()))
                        || self.ends_here(point, &reach)
                    {
                        continue;
                    }
                    self.fall(&reach.service, depth + 1, &mut fallen, &mut waiting, &mut radius);
                    let (from, point) = (from.clone(), point.name.clone());
                    radius.reached.push(Reached { from, depth, point, reach });
                }
            }
        }
        radius
    }

    /// Whether the gateway could not go on from one of its routes: the service behind it lets it
    /// not in with that method.
    fn ends_here(&self, point: &EnforcementPoint, reach: &Reach) -> bool {
        let behind = self.points.iter().find(|other| other.proofs.is_none() && other.name == reach.service);
        let (Some(_), Some(behind), Some(id)) = (&point.proofs, behind, &self.gateway) else { return false };
        let gateway = Intruder::service(GATEWAY, id.clone());
        !behind.reach(&gateway).iter().any(|further| further.method == reach.method)
    }

    /// A service that is reached is taken to fall, once.
    fn fall(
        &self,
        service: &str,
        depth: usize,
        fallen: &mut BTreeSet<String>,
        waiting: &mut VecDeque<(usize, String, Intruder)>,
        radius: &mut Radius,
    ) {
        if !radius.services.iter().any(|known| known == service) {
            radius.services.push(service.to_owned());
        }
        if let Some((name, id)) = self.services.iter().find(|(name, _)| name == service)
            && fallen.insert(id.as_str().to_owned())
        {
            waiting.push_back((depth, name.clone(), Intruder::service(name, id.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
