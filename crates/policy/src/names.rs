//! The vocabulary as numbers: roles with their closure, members, routes by name. Built
//! once per generation; also the place where the vocabulary itself is checked.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use model::suggestion::suggestion;
use model::{Principal, PrincipalKind};
use smallvec::SmallVec;

use crate::fault::{Fault, Kind};
use crate::limits;
use crate::vocabulary::Vocabulary;

/// A set of small numbers, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    pub(crate) fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (number % 64);
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(word * 64 + bit)
            })
        })
    }
}

/// A kind's place in tables.
pub(crate) const fn kind_index(kind: PrincipalKind) -> usize {
    match kind {
        PrincipalKind::Anonymous => 0,
        PrincipalKind::User => 1,
        PrincipalKind::Service => 2,
        PrincipalKind::Client => 3,
        PrincipalKind::ApiKey => 4,
    }
}

/// The kind of an entity type, when it is a principal's.
pub(crate) fn kind_of(type_name: &str) -> Option<PrincipalKind> {
    [
        PrincipalKind::Anonymous,
        PrincipalKind::User,
        PrincipalKind::Service,
        PrincipalKind::Client,
        PrincipalKind::ApiKey,
    ]
    .into_iter()
    .find(|kind| kind.name() == type_name)
}

/// Names resolved to numbers.
#[derive(Debug)]
pub(crate) struct Names {
    roles: HashMap<String, usize, RandomState>,
    /// By role: itself and everything it includes, directly or not.
    closures: Vec<Bits>,
    /// By kind, then id: the roles given by the configuration, not yet closed.
    members: [HashMap<String, Vec<usize>, RandomState>; 5],
    routes: HashMap<String, usize, RandomState>,
}

impl Names {
    pub(crate) fn new(vocabulary: &Vocabulary, faults: &mut Vec<Fault>) -> Self {
        let mut names = Self {
            roles: HashMap::default(),
            closures: Vec::new(),
            members: Default::default(),
            routes: HashMap::default(),
        };
        names.number(vocabulary, faults);
        names.close(vocabulary, faults);
        names.enlist(vocabulary, faults);
        check_texts(vocabulary, faults);
        names
    }

    fn number(&mut self, vocabulary: &Vocabulary, faults: &mut Vec<Fault>) {
        if vocabulary.roles.len() > limits::ROLES_MAX {
            let found = vocabulary.roles.len();
            let message = format!("{found} roles are declared, at most {} can be", limits::ROLES_MAX);
            faults.push(Fault::declared(Kind::Limit, "", message));
        }
        for (number, role) in vocabulary.roles.iter().enumerate() {
            if self.roles.insert(role.name.clone(), number).is_some() {
                let message = format!("role {:?} is declared twice: give each a name of its own", role.name);
                faults.push(Fault::declared(Kind::Duplicate, &role.position, message));
            }
        }
        for (number, route) in vocabulary.routes.iter().enumerate() {
            if self.routes.insert(route.name.clone(), number).is_some() {
                let message = format!("route {:?} is declared twice: give each a `name`", route.name);
                faults.push(Fault::declared(Kind::Duplicate, &route.position, message));
            }
        }
    }

    fn close(&mut self, vocabulary: &Vocabulary, faults: &mut Vec<Fault>) {
        let mut includes: Vec<Vec<usize>> = Vec::new();
        for role in &vocabulary.roles {
            let mut numbers = Vec::new();
            for name in &role.includes {
                match self.roles.get(name) {
                    Some(number) => numbers.push(*number),
                    None => {
                        let hint = suggestion(name, self.roles.keys().map(String::as_str));
                        let message = format!("role {:?} includes unknown role {name:?}{hint}", role.name);
                        faults.push(Fault::declared(Kind::Unknown, &role.position, message));
                    }
                }
            }
            includes.push(numbers);
        }
        for (number, role) in vocabulary.roles.iter().enumerate() {
            let mut closure = Bits::default();
            let mut waiting = vec![number];
            let mut circle = false;
            while let Some(next) = waiting.pop() {
                if closure.contains(next) {
                    continue;
                }
                closure.insert(next);
                let Some(included) = includes.get(next) else { continue };
                circle |= included.contains(&number);
                waiting.extend(included);
            }
            if circle {
                let message = format!("role {:?} includes itself, directly or through others", role.name);
                faults.push(Fault::declared(Kind::Vocabulary, &role.position, message));
            }
            self.closures.push(closure);
        }
    }

    fn enlist(&mut self, vocabulary: &Vocabulary, faults: &mut Vec<Fault>) {
        for (number, role) in vocabulary.roles.iter().enumerate() {
            for member in &role.members {
                if member.kind == PrincipalKind::Anonymous {
                    let message =
                        format!("role {:?} has a member of kind Anonymous: nobody is in no role", role.name);
                    faults.push(Fault::declared(Kind::Vocabulary, &role.position, message));
                } else if let Some(of_kind) = self.members.get_mut(kind_index(member.kind)) {
                    of_kind.entry(member.id.clone()).or_default().push(number);
                }
            }
        }
    }

    pub(crate) fn role(&self, name: &str) -> Option<usize> {
        self.roles.get(name).copied()
    }

    pub(crate) fn route(&self, name: &str) -> Option<usize> {
        self.routes.get(name).copied()
    }

    /// The numbers of the roles that the credential or the configuration gives
    /// somebody, before closure.
    pub(crate) fn roles_given<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = usize> + 'a {
        let known = principal.kind != PrincipalKind::Anonymous;
        let proved = principal.roles.iter().filter_map(|name| self.role(name));
        let of_kind = self.members.get(kind_index(principal.kind));
        let configured = of_kind.and_then(|members| members.get(principal.id.as_str())).into_iter().flatten();
        proved.chain(configured.copied()).filter(move |_| known)
    }

    /// Everything that these roles hold.
    pub(crate) fn closed(&self, roles: impl Iterator<Item = usize>) -> Bits {
        let mut all = Bits::default();
        for role in roles {
            if let Some(closure) = self.closures.get(role) {
                all.extend(closure);
            }
        }
        all
    }
}

/// Names that end up in the schema's text or in messages must be printable, and
/// headers must be looked up by the name under which they are stored.
fn check_texts(vocabulary: &Vocabulary, faults: &mut Vec<Fault>) {
    let roles = vocabulary.roles.iter().map(|role| ("role", &role.name, &role.position));
    let routes = vocabulary.routes.iter().map(|route| ("route", &route.name, &route.position));
    for (what, name, position) in roles.chain(routes) {
        if name.is_empty() || name.chars().any(char::is_control) {
            let message = format!("{what} name {name:?} is empty or holds control characters");
            faults.push(Fault::declared(Kind::Vocabulary, position, message));
        }
    }
    for header in &vocabulary.headers {
        let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^`|~".contains(&b);
        if header.is_empty() || !header.bytes().all(token) {
            let message = format!("header {header:?} is not a field name in lower case");
            faults.push(Fault::declared(Kind::Vocabulary, "", message));
        }
    }
    let claims = vocabulary.claims.keys().map(|name| ("claim", name));
    let parameters = vocabulary.routes.iter().flat_map(|r| &r.parameters).map(|name| ("parameter", name));
    for (what, name) in claims.chain(parameters) {
        if name.is_empty() || name.chars().any(char::is_control) {
            let message = format!("{what} {name:?} is empty or holds control characters");
            faults.push(Fault::declared(Kind::Vocabulary, "", message));
        }
    }
    let methods: HashSet<&String> = vocabulary.routes.iter().flat_map(|route| &route.methods).collect();
    if methods.len() > limits::METHODS_MAX {
        let message =
            format!("routes name {} methods, at most {} can be", methods.len(), limits::METHODS_MAX);
        faults.push(Fault::declared(Kind::Limit, "", message));
    }
}
