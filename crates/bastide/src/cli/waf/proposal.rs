//! From evidence to the fewest exclusions that let honest requests through.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Candidate, Evidence, Gathered, candidates};
use super::log::Line;
use super::verdict::{Outcome, Reason, Settings, replay};
use crate::config::Exclusion;

/// Blocked requests of a route that are looked at; they are many alike.
const LINES_PER_ROUTE_MAX: usize = 2_000;

/// What evidence must hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) requests_min: u64,
    pub(super) clients_min: usize,
}

impl Bar {
    /// Why evidence is not enough.
    pub(super) fn lacks(&self, evidence: &Evidence) -> Option<String> {
        let clients = evidence.clients.len();
        if clients < self.clients_min {
            return Some(format!(
                "{clients} of the {} clients it takes are otherwise served",
                self.clients_min
            ));
        }
        if evidence.requests < self.requests_min {
            return Some(format!("{} of the {} requests it takes", evidence.requests, self.requests_min));
        }
        // Attacks on the same place make it one that is worth guarding.
        if evidence.attacks * 10 > evidence.requests {
            return Some(format!(
                "{} requests with another critical rule on the same value",
                evidence.attacks
            ));
        }
        None
    }
}

/// A set of exclusions for the routes, with what speaks for each.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    pub(super) chosen: Vec<(Candidate, Exclusion)>,
    /// What was not proposed, and why.
    pub(super) refused: Vec<(Candidate, String)>,
}

impl Proposals {
    /// Chooses for every route.
    pub(super) fn choose(gathered: &Gathered, weighed: &BTreeMap<Candidate, Evidence>, bar: Bar) -> Self {
        let mut proposals = Self::default();
        let mut good: BTreeMap<&Candidate, Exclusion> = BTreeMap::new();
        for (candidate, evidence) in weighed {
            match (bar.lacks(evidence), candidate.exclusion()) {
                (Some(why), _) => proposals.refused.push((candidate.clone(), why)),
                (None, None) => {
                    let why = "its name cannot be written in a configuration".to_owned();
                    proposals.refused.push((candidate.clone(), why));
                }
                (None, Some(exclusion)) => {
                    good.insert(candidate, exclusion);
                }
            }
        }
        let routes: BTreeSet<&str> = good.keys().map(|candidate| candidate.route.as_str()).collect();
        for route in routes {
            let here: Vec<(&Candidate, &Exclusion)> = good
                .iter()
                .filter(|(candidate, _)| candidate.route == route)
                .map(|(candidate, exclusion)| (*candidate, exclusion))
                .collect();
            let honest = |line: &&Line| {
                line.route == route
                    && line.is_blocked()
                    && !line.is_refused_elsewhere()
                    && gathered.is_credible(&line.client())
            };
            let lines: Vec<&Line> = gathered.lines.iter().filter(honest).take(LINES_PER_ROUTE_MAX).collect();
            let chosen = fewest(&here, &lines);
            proposals.chosen.extend(
                chosen.into_iter().map(|(candidate, exclusion)| (candidate.clone(), exclusion.clone())),
            );
        }
        proposals
    }
}

/// A candidate with its exclusion.
type Choice<'c> = (&'c Candidate, &'c Exclusion);

/// The fewest, one after the other: always the one that frees most, until none does.
fn fewest<'c>(all: &[Choice<'c>], lines: &[&Line]) -> Vec<Choice<'c>> {
    let mut chosen: Vec<Choice<'c>> = Vec::new();
    let mut open: Vec<&Line> = lines.to_vec();
    loop {
        let with = |extra: Choice<'c>| settings(chosen.iter().copied().chain([extra]));
        let left: Vec<Choice<'c>> = all
            .iter()
            .copied()
            .filter(|(candidate, _)| !chosen.iter().any(|(known, _)| known == candidate))
            .collect();
        let frees = |choice: &Choice<'c>| {
            let settings = with(*choice);
            open.iter().filter(|line| touches(line, choice.0) && is_freed(line, &settings)).count()
        };
        // Where one alone frees nothing, one that helps: all that weighs there could be left out.
        let helps = |choice: &Choice<'c>| {
            open.iter().filter(|line| touches(line, choice.0) && is_all_of(line, all)).count()
        };
        let best = |worth: &dyn Fn(&Choice<'c>) -> usize| {
            left.iter().copied().map(|choice| (worth(&choice), choice)).rev().max_by_key(|(worth, _)| *worth)
        };
        let next = best(&frees).filter(|(worth, _)| *worth > 0).or_else(|| best(&helps));
        let Some((1.., choice)) = next else { break };
        chosen.push(choice);
        let settings = settings(chosen.iter().copied());
        open.retain(|line| !is_freed(line, &settings));
    }
    prune(chosen, lines)
}

/// Drops what the others make needless.
fn prune<'c>(mut chosen: Vec<Choice<'c>>, lines: &[&Line]) -> Vec<Choice<'c>> {
    let freed = |choices: &[Choice<'c>]| {
        let settings = settings(choices.iter().copied());
        lines.iter().filter(|line| is_freed(line, &settings)).count()
    };
    let all = freed(&chosen);
    let mut at = 0;
    while at < chosen.len() {
        let mut without = chosen.clone();
        without.remove(at);
        if freed(&without) == all {
            chosen = without;
        } else {
            at += 1;
        }
    }
    chosen
}

fn settings<'c>(choices: impl Iterator<Item = Choice<'c>>) -> Settings {
    let exclusions = choices.map(|(_, exclusion)| exclusion.clone()).collect();
    Settings { exclusions, ..Settings::default() }
}

/// Whether a request would go on past what stopped it.
fn is_freed(line: &Line, settings: &Settings) -> bool {
    matches!(replay(line, settings), Outcome::NewlyPassed { .. } | Outcome::Undecidable(Reason::CutShort))
}

fn touches(line: &Line, candidate: &Candidate) -> bool {
    candidates(line).any(|here| here == *candidate)
}

/// Whether everything that weighs in a request could be left out.
fn is_all_of(line: &Line, all: &[Choice<'_>]) -> bool {
    candidates(line).all(|here| all.iter().any(|(candidate, _)| **candidate == here))
}

#[cfg(test)]
mod tests;
