//! Least-privilege policies from calls that were seen.
//!
//! Each call becomes who, method, route and, behind a `**`, the shape of its path; calls that
//! agree in these are one policy, and what is generalised is said: a person to a role, a path
//! parameter of the route to any value, a segment that reads like an identifier to any segment.
//! A parameter that was the caller's own name in every call has to stay that.
//!
//! What it must never do: permit a call whose who, method, route or shape was not seen.

mod shape;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use model::PrincipalKind;

use crate::names::{Bits, Names};
use crate::schema::{OTHER, Schema};
use crate::vocabulary::{Access, Vocabulary};
use shape::{Shape, shapes};

/// Most calls that differ in who, method, route or path.
pub const CALLS_MAX: usize = 200_000;
/// How many requests a suggestion names.
pub const SAMPLES_MAX: usize = 3;

/// A call that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub caller: Caller,
    /// The end user on whose behalf a service called, when the log says so.
    pub user: Option<Caller>,
    /// Whether the log says that it was on nobody's behalf.
    pub for_nobody: bool,
    /// The method, as it was sent.
    pub method: String,
    /// The route's name.
    pub route: String,
    /// The normalised path.
    pub path: String,
    /// The path parameters.
    pub parameters: BTreeMap<String, String>,
    /// When, Unix seconds.
    pub seconds: u64,
    /// The request's id.
    pub id: String,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// What kind of being.
    pub kind: PrincipalKind,
    /// Its id within the kind.
    pub id: String,
    /// The roles that the credential or the configuration gave, not closed.
    pub roles: Vec<String>,
}

impl Default for Caller {
    fn default() -> Self {
        Self { kind: PrincipalKind::Anonymous, id: crate::schema::ANONYMOUS.to_owned(), roles: Vec::new() }
    }
}

/// How the routes are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The path's pattern: `/orders/{owner}/**`.
    pub pattern: String,
    /// Whether policies name it by its service: services of the mesh share their policies, and
    /// none of them knows the routes of the others.
    pub by_service: bool,
}

/// Why a suggestion is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How many calls.
    pub count: u64,
    /// The first, Unix seconds.
    pub first: u64,
    /// The last, Unix seconds.
    pub last: u64,
    /// How many different callers.
    pub callers: usize,
    /// The first few requests, by id.
    pub requests: Vec<String>,
}

/// A policy that permits what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// Its `@id`.
    pub id: String,
    /// Its text.
    pub text: String,
    /// What it permits beyond the calls themselves, one line each.
    pub generalised: Vec<String>,
    /// The calls.
    pub evidence: Evidence,
}

/// Why no policy can be suggested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuggestible {
    /// The log is too varied.
    #[error("more than {CALLS_MAX} calls differ in who, method, route or path: take a shorter log")]
    TooMany,
    /// The call names a route that is not configured.
    #[error("there is no route {0:?}")]
    Route(String),
    /// The caller has a kind that no policy of a service's call can name.
    #[error("the log says nothing of the caller")]
    Nobody,
}

/// What agrees in everything that a policy can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    route: usize,
    method: String,
    path: String,
    caller: Caller,
    user: Option<Caller>,
    for_nobody: bool,
    parameters: BTreeMap<String, String>,
}

/// For whom calls were, as far as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ForWhom {
    Unsaid,
    Nobody,
    EndUser(PrincipalKind),
}

impl Seen {
    fn for_whom(&self) -> ForWhom {
        match &self.user {
            Some(user) => ForWhom::EndUser(user.kind),
            None if self.for_nobody => ForWhom::Nobody,
            None => ForWhom::Unsaid,
        }
    }
}

/// Gathers calls.
#[derive(Debug)]
pub struct Suggester<'v> {
    vocabulary: &'v Vocabulary,
    names: Names,
    schema: Schema,
    forms: BTreeMap<String, Form>,
    by_name: bool,
    seen: BTreeMap<Seen, Evidence>,
}

/// What becomes one policy.
#[derive(Debug)]
struct Group<'s> {
    subject: Subject,
    for_whom: ForWhom,
    route: usize,
    method: &'s str,
    shape: Shape,
    calls: Vec<(&'s Seen, &'s Evidence)>,
}

/// Whom a policy permits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    One(PrincipalKind, String),
    /// Of this kind, in this role.
    Role(PrincipalKind, usize),
}

impl<'v> Suggester<'v> {
    /// For routes of this vocabulary, written like this. `by_name`: people are named one by one,
    /// whatever their roles.
    pub fn new(vocabulary: &'v Vocabulary, forms: BTreeMap<String, Form>, by_name: bool) -> Self {
        let names = Names::new(vocabulary, &mut Vec::new());
        let schema = Schema::new(vocabulary);
        Self { vocabulary, names, schema, forms, by_name, seen: BTreeMap::new() }
    }

    /// Takes a call. `false`: its route needs no policy for this caller, so none is suggested.
    ///
    /// # Errors
    /// The route is unknown, or there are too many different calls.
    pub fn see(&mut self, call: Call) -> Result<bool, Unsuggestible> {
        let route = self.names.route(&call.route);
        let route = route.ok_or_else(|| Unsuggestible::Route(call.route.clone()))?;
        let access = self.vocabulary.routes.get(route).map(|route| route.access).unwrap_or_default();
        let proved = call.caller.kind != PrincipalKind::Anonymous;
        if access == Access::Public || (access == Access::Authenticated && proved) {
            return Ok(false);
        }
        if call.caller.id.is_empty() {
            return Err(Unsuggestible::Nobody);
        }
        // Of an opaque connection, what only HTTP has cannot be asked for.
        let opaque = self.schema.is_opaque(self.schema.action(&call.method));
        let ends_open =
            !opaque && self.forms.get(&call.route).is_some_and(|form| form.pattern.ends_with("**"));
        let seen = Seen {
            route,
            method: call.method,
            // What the route's pattern says whole is not told apart.
            path: if ends_open { call.path } else { String::new() },
            caller: call.caller,
            user: call.user,
            for_nobody: call.for_nobody,
            parameters: if opaque { BTreeMap::new() } else { call.parameters },
        };
        if self.seen.len() >= CALLS_MAX && !self.seen.contains_key(&seen) {
            return Err(Unsuggestible::TooMany);
        }
        self.seen.entry(seen).or_default().add(call.seconds, call.id);
        Ok(true)
    }

    /// The policies, in the order of routes and methods.
    pub fn suggestions(&self) -> Vec<Suggestion> {
        let mut out = Vec::new();
        for group in self.groups() {
            out.push(write::suggestion(self, &group, out.len() + 1));
        }
        out
    }

    fn groups(&self) -> Vec<Group<'_>> {
        let mut by_place: BTreeMap<(usize, &str), Vec<(&Seen, &Evidence)>> = BTreeMap::new();
        for (seen, evidence) in &self.seen {
            by_place.entry((seen.route, &seen.method)).or_default().push((seen, evidence));
        }
        let mut groups = Vec::new();
        for ((route, method), calls) in by_place {
            let pattern = self.pattern(route);
            let shape_of = shapes(pattern, calls.iter().map(|(seen, _)| seen.path.as_str()));
            let mut by_shape: BTreeMap<(&Shape, ForWhom), Calls<'_>> = BTreeMap::new();
            for call in calls {
                if let Some(shape) = shape_of.get(call.0.path.as_str()) {
                    by_shape.entry((shape, call.0.for_whom())).or_default().push(call);
                }
            }
            for ((shape, for_whom), calls) in by_shape {
                for (subject, calls) in self.by_subject(calls) {
                    groups.push(Group { subject, for_whom, route, method, shape: shape.clone(), calls });
                }
            }
        }
        groups
    }

    fn pattern(&self, route: usize) -> &str {
        let name = self.vocabulary.routes.get(route).map(|route| route.name.as_str());
        name.and_then(|name| self.forms.get(name)).map_or("", |form| form.pattern.as_str())
    }

    /// People by as few of their roles as hold them all, of equal ones the narrowest; everybody
    /// else by name.
    fn by_subject<'s>(&self, calls: Vec<(&'s Seen, &'s Evidence)>) -> Vec<(Subject, Calls<'s>)> {
        let mut named: BTreeMap<Subject, Calls<'s>> = BTreeMap::new();
        let mut waiting: Vec<(Bits, &'s Seen, &'s Evidence)> = Vec::new();
        for (seen, evidence) in calls {
            let roles = self.closed(&seen.caller);
            if self.by_name || seen.caller.kind != PrincipalKind::User || roles.is_empty() {
                let subject = Subject::One(seen.caller.kind, seen.caller.id.clone());
                named.entry(subject).or_default().push((seen, evidence));
            } else {
                waiting.push((roles, seen, evidence));
            }
        }
        while let Some(role) = self.widest(&waiting) {
            let (in_role, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(roles, ..)| roles.contains(role));
            let calls = named.entry(Subject::Role(PrincipalKind::User, role)).or_default();
            calls.extend(in_role.into_iter().map(|(_, seen, evidence)| (seen, evidence)));
            waiting = rest;
        }
        named.into_iter().collect()
    }

    fn closed(&self, caller: &Caller) -> Bits {
        self.names.closed(caller.roles.iter().filter_map(|role| self.names.role(role)))
    }

    /// The role that most of these people hold; of equal ones that which includes most, because
    /// fewest hold it.
    fn widest(&self, waiting: &[(Bits, &Seen, &Evidence)]) -> Option<usize> {
        let people = |role: usize| {
            let of_role = waiting.iter().filter(|(roles, ..)| roles.contains(role));
            of_role.map(|(_, seen, _)| &seen.caller).collect::<BTreeSet<_>>().len()
        };
        let includes = |role: usize| self.names.closed(std::iter::once(role)).iter().count();
        let held: BTreeSet<usize> = waiting.iter().flat_map(|(roles, ..)| roles.iter()).collect();
        held.into_iter().max_by_key(|role| (people(*role), includes(*role), std::cmp::Reverse(*role)))
    }

    /// The narrowest role that every end user of these calls held.
    fn user_role(&self, calls: &Calls<'_>) -> Option<usize> {
        let mut held = calls.iter().map(|(seen, _)| seen.user.as_ref().map(|user| self.closed(user)));
        let first = held.next()??;
        let rest: Vec<Option<Bits>> = held.collect();
        let by_all =
            |role: &usize| rest.iter().all(|roles| roles.as_ref().is_some_and(|roles| roles.contains(*role)));
        let includes = |role: &usize| self.names.closed(std::iter::once(*role)).iter().count();
        first.iter().filter(by_all).max_by_key(includes)
    }

    /// The action of a method, and whether it stands for that method alone.
    fn action(&self, method: &str) -> (&str, bool) {
        let action = self.schema.actions.get(self.schema.action(method));
        let name = action.map_or(OTHER, |action| action.name.as_str());
        (name, name == method)
    }
}

type Calls<'s> = Vec<(&'s Seen, &'s Evidence)>;

impl Evidence {
    fn add(&mut self, seconds: u64, id: String) {
        self.first = if self.count == 0 { seconds } else { self.first.min(seconds) };
        self.last = self.last.max(seconds);
        self.count += 1;
        if self.requests.len() < SAMPLES_MAX {
            self.requests.push(id);
        }
    }

    /// Of all these calls together.
    fn of(calls: &Calls<'_>) -> Self {
        let mut requests: Vec<String> =
            calls.iter().flat_map(|(_, evidence)| evidence.requests.iter().cloned()).collect();
        requests.sort();
        requests.truncate(SAMPLES_MAX);
        Self {
            count: calls.iter().map(|(_, evidence)| evidence.count).sum(),
            first: calls.iter().map(|(_, evidence)| evidence.first).min().unwrap_or_default(),
            last: calls.iter().map(|(_, evidence)| evidence.last).max().unwrap_or_default(),
            callers: calls.iter().map(|(seen, _)| &seen.caller).collect::<BTreeSet<_>>().len(),
            requests,
        }
    }
}
