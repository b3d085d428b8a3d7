//! A blast radius as text and as JSON.

use std::fmt::Write as _;

use policy::reach::{Certainty, Grant};
use serde_json::{Value, json};

use super::radius::{Intruder, Radius, Reached};

/// For people.
pub(super) fn text(intruder: &Intruder, radius: &Radius) -> String {
    if radius.is_empty() {
        return format!("{} reaches nothing that not anybody could\n{}", intruder.title, open(radius));
    }
    let (always, when) = radius.counts();
    let mut out = format!(
        "{} reaches {} ({always} pairs of route and method always, {when} under conditions)\n",
        intruder.title,
        radius.services.join(", ")
    );
    let mut from = None;
    for reached in &radius.reached {
        if from != Some(&reached.from) {
            let then = if reached.depth == 0 { "directly" } else { "once it is compromised" };
            let _ = writeln!(out, "\nfrom {}, {then}:", reached.from);
            from = Some(&reached.from);
        }
        let _ = writeln!(out, "  {}", line(reached));
        for grant in &reached.reach.by {
            let _ = writeln!(out, "      by {}", grant_text(grant));
        }
        for grant in &reached.reach.unless {
            let _ = writeln!(out, "      unless {}", grant_text(grant));
        }
    }
    out.push('\n');
    out.push_str(&open(radius));
    out
}

fn open(radius: &Radius) -> String {
    format!("{} pairs of route and method are open to anybody and are not listed\n", radius.open)
}

fn line(reached: &Reached) -> String {
    let reach = &reached.reach;
    let route =
        if reached.point == reach.route { String::new() } else { format!(", route {:?}", reach.route) };
    let free = if reach.by.is_empty() { ", which needs no policy" } else { "" };
    format!("{} {}, enforced at {}{route}{free}", reach.method, reach.service, reached.point)
}

fn grant_text(grant: &Grant) -> String {
    let at = if grant.policy == grant.position { String::new() } else { format!(" ({})", grant.position) };
    match grant.conditions.as_slice() {
        [] => format!("{}{at}, always", grant.policy),
        conditions => format!("{}{at}, when {}", grant.policy, conditions.join(" && ")),
    }
}

/// For scripts.
pub(super) fn to_json(intruder: &Intruder, radius: &Radius) -> Value {
    let (always, when) = radius.counts();
    json!({
        "who": intruder.title,
        "services": radius.services,
        "always": always, "when": when,
        "open_to_anybody": radius.open, "enforcement_points": radius.points,
        "reached": radius.reached.iter().map(reached_json).collect::<Vec<_>>(),
    })
}

fn reached_json(reached: &Reached) -> Value {
    let grants = |list: &[Grant]| -> Vec<Value> {
        let one = |grant: &Grant| json!({ "policy": grant.policy, "position": grant.position, "when": grant.conditions });
        list.iter().map(one).collect()
    };
    let reach = &reached.reach;
    json!({
        "from": reached.from, "hops_before": reached.depth, "enforced_at": reached.point,
        "route": reach.route, "service": reach.service, "method": reach.method,
        "certainty": if reach.certainty == Certainty::Always { "always" } else { "when" },
        "by": grants(&reach.by), "unless": grants(&reach.unless),
    })
}
