//! What a person still has to show or to enrol in a login. Pure: what they have shown and
//! have enrolled in, the next step out.

use std::collections::BTreeSet;

use super::acr::{self, AcrLevel};
use crate::factor::{FactorKind, Factors};
use crate::method::{self, HARDWARE_KEY, ONE_TIME, SEVERAL, SOFTWARE_KEY, USER};

/// What a person can show beside their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Passkey,
    Code,
    Recovery,
}

impl Way {
    /// The sets of methods that it may add.
    const fn methods(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Passkey => &[&[HARDWARE_KEY, USER, SEVERAL], &[SOFTWARE_KEY, USER, SEVERAL]],
            Self::Code | Self::Recovery => &[&[ONE_TIME]],
        }
    }
}

const fn way(kind: FactorKind) -> Way {
    match kind {
        FactorKind::Passkey => Way::Passkey,
        FactorKind::Totp => Way::Code,
    }
}

/// What is asked of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of each of these sets one class: by role, by client, by the request.
    pub(crate) required: Vec<Vec<String>>,
    /// One of these classes, if the person can (OpenID Connect Core §3.1.2.1).
    pub(crate) wished: Vec<String>,
    /// Whoever enrolled in a factor is asked for one.
    pub(crate) enrolled: bool,
}

/// What the person has.
pub(crate) struct Have<'a> {
    /// The methods that they showed.
    pub(crate) shown: &'a [String],
    pub(crate) factors: &'a Factors,
    /// They put off enrolling for a wish.
    pub(crate) declined: bool,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing is missing, or nothing can be done about it.
    Done,
    /// One of these is to be shown.
    Show(BTreeSet<Way>),
    /// One of these is to be enrolled; `may_wait`: not now, if the person does not want to.
    Enrol { kinds: Vec<FactorKind>, may_wait: bool },
}

/// The next step. `available`: the kinds that can be enrolled in this realm.
pub(crate) fn next(levels: &[AcrLevel], wanted: &Wanted, have: &Have<'_>, available: &[FactorKind]) -> Next {
    let several = have.shown.iter().any(|method| method == SEVERAL);
    let enrolled = ways(have.factors);
    let could: BTreeSet<Way> = enrolled.iter().copied().chain(available.iter().copied().map(way)).collect();
    let meets =
        |methods: &[String], goal: &[String]| acr::satisfies(levels, acr::reached(levels, methods), goal);
    let reaches = |way: Way, goals: &[&Vec<String>]| {
        let mut sets = way.methods().iter().map(|set| method::add(have.shown, set));
        sets.any(|methods| goals.iter().all(|goal| meets(&methods, goal)))
    };
    let mut goals: Vec<&Vec<String>> =
        wanted.required.iter().filter(|goal| !meets(have.shown, goal)).collect();
    let must = !goals.is_empty();
    let wish = &wanted.wished;
    let wished = !wish.is_empty() && !have.declined && !meets(have.shown, wish);
    if wished && could.iter().any(|way| reaches(*way, &[wish])) {
        goals.push(wish);
    }
    if goals.is_empty() {
        let ask = wanted.enrolled && !several && !enrolled.is_empty();
        return if ask { Next::Show(enrolled) } else { Next::Done };
    }
    let enough: BTreeSet<Way> = enrolled.iter().copied().filter(|way| reaches(*way, &goals)).collect();
    if !enough.is_empty() {
        return Next::Show(enough);
    }
    // Nobody enrols in another factor who has one and did not show it.
    if !enrolled.is_empty() && !several {
        return Next::Show(enrolled);
    }
    let kinds: Vec<FactorKind> =
        available.iter().copied().filter(|kind| reaches(way(*kind), &goals)).collect();
    if kinds.is_empty() { Next::Done } else { Next::Enrol { kinds, may_wait: !must } }
}

/// What the person can show.
fn ways(factors: &Factors) -> BTreeSet<Way> {
    let mut ways: BTreeSet<Way> = factors.list().iter().map(|factor| way(factor.kind)).collect();
    if !ways.is_empty() && !factors.recovery.is_empty() {
        ways.insert(Way::Recovery);
    }
    ways
}

/// What the methods that a person showed are worth for what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Good,
    /// The person can show or enrol what is missing.
    StepUp,
    /// They cannot.
    Unmet,
}

/// The class, where this is the next step.
pub(crate) fn class(levels: &[AcrLevel], wanted: &Wanted, shown: &[String], next: &Next) -> Class {
    match next {
        Next::Done if is_met(levels, wanted, shown) => Class::Good,
        Next::Done => Class::Unmet,
        Next::Show(_) | Next::Enrol { .. } => Class::StepUp,
    }
}

/// Whether every class that has to be reached is.
pub(crate) fn is_met(levels: &[AcrLevel], wanted: &Wanted, shown: &[String]) -> bool {
    let reached = acr::reached(levels, shown);
    wanted.required.iter().all(|goal| acr::satisfies(levels, reached, goal))
}
