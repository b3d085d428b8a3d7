//! From text to a checked, sliced set of policies.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Eid, EntityType, EntityUID, SlotEnv};
use model::PrincipalKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cache::{cacheable, keyed};
use crate::check;
use crate::compile::{Compiled, Effect, ResourceTest};
use crate::fault::{Fault, Kind, Severity};
use crate::names::{Bits, Names};
use crate::schema::{Leaf, PRINCIPAL_TYPES, READ, Schema, WRITE};
use crate::vocabulary::{Access, Source, Vocabulary};

/// A generation of policies: checked whole, sliced, never changed. Shared by all
/// cores behind one `Arc`.
#[derive(Debug)]
pub struct Policies {
    vocabulary: Vocabulary,
    sources: Vec<Source>,
    generation: u64,
    snapshot: String,
    warnings: Vec<Fault>,
    schema: Schema,
    names: Names,
    policies: Vec<Compiled>,
    slices: Vec<Slice>,
    /// By slice: what its policies can read, when its decisions may be remembered.
    slice_reads: Vec<Option<Bits>>,
    /// By route, then action: the slice's number.
    table: Vec<u32>,
    world: World,
    no_slots: SlotEnv,
}

/// The policies that can matter for a route and an action, forbids first.
#[derive(Debug, Default, PartialEq, Eq, Hash, Clone)]
pub(crate) struct Slice {
    pub(crate) policies: Vec<u32>,
}

/// Entity names, made once.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kinds: Vec<EntityType>,
    pub(crate) roles: Vec<EntityUID>,
    pub(crate) routes: Vec<Arc<EntityUID>>,
    pub(crate) actions: Vec<Arc<EntityUID>>,
    /// By action: the group that it is in.
    pub(crate) action_groups: Vec<EntityUID>,
}

impl World {
    fn new(vocabulary: &Vocabulary, schema: &Schema) -> Option<Self> {
        let ty = |name: &str| name.parse().ok().map(EntityType::EntityType);
        let (role, route, action) = (ty("Role")?, ty("Route")?, ty("Action")?);
        let uid = |ty: &EntityType, id: &str| EntityUID::from_components(ty.clone(), Eid::new(id), None);
        Some(Self {
            kinds: PRINCIPAL_TYPES.iter().map(|name| ty(name)).collect::<Option<_>>()?,
            roles: vocabulary.roles.iter().map(|r| uid(&role, &r.name)).collect(),
            routes: vocabulary.routes.iter().map(|r| Arc::new(uid(&route, &r.name))).collect(),
            actions: schema.actions.iter().map(|a| Arc::new(uid(&action, &a.name))).collect(),
            action_groups: schema
                .actions
                .iter()
                .map(|a| uid(&action, if a.safe { READ } else { WRITE }))
                .collect(),
        })
    }
}

/// Parses, validates and slices. All faults at once; warnings do not stop it and are
/// found in [`Policies::warnings`].
///
/// # Errors
/// Every fault found, errors and warnings, by file and position.
pub fn load(vocabulary: Vocabulary, sources: &[Source], generation: u64) -> Result<Policies, Vec<Fault>> {
    let mut faults = Vec::new();
    let names = Names::new(&vocabulary, &mut faults);
    let schema = Schema::new(&vocabulary);
    let policies = check::check(&vocabulary, &names, &schema, sources, &mut faults);
    let Some(world) = World::new(&vocabulary, &schema) else {
        faults.push(Fault::declared(Kind::Vocabulary, "", "the schema's own names do not parse".to_owned()));
        return Err(faults);
    };
    let (slices, table) = slice(&policies, vocabulary.routes.len(), schema.actions.len());
    let mut loaded = Policies {
        snapshot: snapshot(&vocabulary, sources),
        sources: sources.to_vec(),
        warnings: Vec::new(),
        no_slots: SlotEnv::new(),
        vocabulary,
        generation,
        slice_reads: slices.iter().map(|slice| reads(slice, &policies, &schema)).collect(),
        schema,
        names,
        policies,
        slices,
        table,
        world,
    };
    loaded.warn_of_the_idle(&mut faults);
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(faults);
    }
    loaded.warnings = faults;
    Ok(loaded)
}

fn snapshot(vocabulary: &Vocabulary, sources: &[Source]) -> String {
    let bytes = serde_json::to_vec(&(vocabulary, sources)).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One slice for each set of policies that differs; most routes share theirs.
fn slice(policies: &[Compiled], routes: usize, actions: usize) -> (Vec<Slice>, Vec<u32>) {
    let mut everywhere: Vec<u32> = Vec::new();
    let mut by_route: HashMap<usize, Vec<u32>> = HashMap::new();
    for (number, policy) in (0..).zip(policies) {
        match policy.resource {
            ResourceTest::Any => everywhere.push(number),
            ResourceTest::Route(route) => by_route.entry(route).or_default().push(number),
            ResourceTest::Nothing => {}
        }
    }
    let mut slices: Vec<Slice> = Vec::new();
    let mut known: HashMap<Slice, u32> = HashMap::new();
    let mut of = |numbers: &[u32]| -> Vec<u32> {
        (0..actions)
            .map(|action| {
                let effect = |number: &u32| policies.get(*number as usize).map(|p| p.effect);
                let takes =
                    |n: &&u32| policies.get(**n as usize).is_some_and(|p| p.actions >> action & 1 == 1);
                let mut chosen: Vec<u32> = numbers.iter().filter(takes).copied().collect();
                chosen.sort_by_key(|number| (effect(number) != Some(Effect::Forbid), *number));
                let slice = Slice { policies: chosen };
                *known.entry(slice).or_insert_with_key(|slice| {
                    slices.push(slice.clone());
                    u32::try_from(slices.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect()
    };
    let common = of(&everywhere);
    let mut table = Vec::with_capacity(routes * actions);
    for route in 0..routes {
        match by_route.get(&route) {
            Some(own) => table.extend(of(&[everywhere.as_slice(), own].concat())),
            None => table.extend(&common),
        }
    }
    (slices, table)
}

/// Everything that a slice's policies can read; `None` when one of them is outside the
/// fragment whose decisions may be remembered.
fn reads(slice: &Slice, policies: &[Compiled], schema: &Schema) -> Option<Bits> {
    let mut all = Bits::default();
    for number in &slice.policies {
        let policy = policies.get(*number as usize)?;
        if !policy.written.as_deref().is_none_or(cacheable) {
            return None;
        }
        all.extend(&policy.reads.leaves);
        all.extend(&policy.needs.leaves);
    }
    let is_keyed = |number| schema.leaves.get(number).is_none_or(|leaf: &Leaf| keyed(&leaf.read));
    let keyed_all = all.iter().all(is_keyed);
    keyed_all.then_some(all)
}

impl Policies {
    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// SHA-256 over vocabulary and sources, 64 hexadecimal digits.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    /// What probably is not meant.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The names it was checked against.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Whether they come of these names and texts.
    pub fn are(&self, vocabulary: &Vocabulary, sources: &[Source]) -> bool {
        self.sources == sources && self.vocabulary == *vocabulary
    }

    /// The roles that somebody holds: those that the credential and the configuration give, and
    /// all that these include.
    pub fn roles_of(&self, principal: &model::Principal) -> Vec<String> {
        let held = self.names.closed(self.names.roles_given(principal));
        let roles = held.iter().filter_map(|role| self.vocabulary.roles.get(role));
        roles.map(|role| role.name.clone()).collect()
    }

    /// The ids of all policies, in the order of the sources.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| policy.id.as_str())
    }

    /// Each policy's id and its text as Cedar prints it, in the order of the sources.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.policies.iter().map(|policy| (policy.id.as_str(), policy.text()))
    }

    /// The permits that hold for every resource alike, those that nobody thought of too: the id
    /// of each, and `file:line:column`.
    pub fn permits_everywhere(&self) -> impl Iterator<Item = (&str, String)> {
        let everywhere = self.policies.iter().filter(|policy| policy.permits_everywhere());
        everywhere.map(|policy| (policy.id.as_str(), policy.place()))
    }

    /// The id of a policy that names somebody, where one does: who gets to be them gets what it
    /// permits.
    pub fn naming(&self, kind: PrincipalKind, id: &str) -> Option<&str> {
        let found = self.policies.iter().find(|policy| policy.names(kind, id));
        found.map(|policy| policy.id.as_str())
    }

    /// The id of a policy by number; empty for no policy.
    pub(crate) fn id(&self, number: u32) -> &str {
        self.policy(number).map_or("", |policy| policy.id.as_str())
    }

    pub(crate) fn policy(&self, number: u32) -> Option<&Compiled> {
        self.policies.get(number as usize)
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn no_slots(&self) -> &SlotEnv {
        &self.no_slots
    }

    fn slice_number(&self, route: usize, action: usize) -> Option<usize> {
        let actions = self.schema.actions.len();
        if action >= actions {
            return None;
        }
        let number = self.table.get(route.checked_mul(actions)?.checked_add(action)?)?;
        Some(*number as usize)
    }

    pub(crate) fn slice(&self, route: usize, action: usize) -> Option<&Slice> {
        self.slices.get(self.slice_number(route, action)?)
    }

    /// What the policies of a slice can read, when its decisions may be remembered.
    pub(crate) fn slice_reads(&self, route: usize, action: usize) -> Option<&Bits> {
        self.slice_reads.get(self.slice_number(route, action)?)?.as_ref()
    }

    fn warn_of_the_idle(&self, faults: &mut Vec<Fault>) {
        let mut used = vec![false; self.policies.len()];
        for (number, route) in self.vocabulary.routes.iter().enumerate() {
            let mut permitted = route.access != Access::Policy;
            for (action, described) in self.schema.actions.iter().enumerate() {
                let taken = route.methods.is_empty() || route.methods.contains(&described.name);
                for policy in self.slice(number, action).iter().flat_map(|slice| &slice.policies) {
                    let Some(compiled) = self.policy(*policy).filter(|_| taken) else { continue };
                    permitted |= compiled.effect == Effect::Permit;
                    if let Some(used) = used.get_mut(*policy as usize) {
                        *used = true;
                    }
                }
            }
            if !permitted {
                let message = format!(
                    "no policy can permit anything on route {:?}: every request to it will be denied",
                    route.name
                );
                faults.push(Fault::declared(Kind::NeverApplies, &route.position, message).warning());
            }
        }
        for (policy, _) in self.policies.iter().zip(used).filter(|(_, used)| !used) {
            let message = "no route takes a method that this policy is about".to_owned();
            faults.push(Fault::declared(Kind::NeverApplies, &policy.place(), message).warning());
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Retained {
    generation: u64,
    vocabulary: Vocabulary,
    sources: Vec<Source>,
}

impl Policies {
    /// What to keep so that decisions of this generation can be explained later.
    pub fn to_retained(&self) -> Value {
        serde_json::json!({
            "generation": self.generation, "vocabulary": self.vocabulary, "sources": self.sources,
        })
    }

    /// The same policies again.
    ///
    /// # Errors
    /// What [`load`] finds, or one fault when the value is not a retained generation.
    pub fn from_retained(retained: &Value) -> Result<Self, Vec<Fault>> {
        let Retained { generation, vocabulary, sources } =
            Retained::deserialize(retained).map_err(|error| {
                let message = format!("not a retained generation of policies: {error}");
                vec![Fault::declared(Kind::Syntax, "", message)]
            })?;
        load(vocabulary, &sources, generation)
    }
}
