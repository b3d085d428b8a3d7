//! Ways of a login: what a flow of Keycloak's demands of people, as far as there is something like it here.
//!
//! INVARIANT: a step that is not known here is never taken for a password: it is named, and whoever
//! has to take it is closed.

use std::collections::{BTreeMap, BTreeSet};

use super::{items, text};
use crate::config::node::Node;

/// How deep flows may stand in flows.
const DEPTH_MAX: usize = 16;
/// The class of two factors.
pub(super) const TWO_FACTORS: &str = "2";

/// What a login demands beside a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Demands {
    /// A second factor, of everybody.
    pub(super) second: bool,
    /// A second factor, of those who have one of these roles, as Keycloak writes them.
    pub(super) roles: BTreeSet<String>,
    /// Steps that are not known here.
    pub(super) unknown: BTreeSet<String>,
    /// What is demanded from a level of authentication on.
    levels: BTreeMap<u32, Demands>,
}

impl Demands {
    fn second() -> Self {
        Self { second: true, ..Self::default() }
    }

    fn unknown(step: impl Into<String>) -> Self {
        Self { unknown: [step.into()].into(), ..Self::default() }
    }

    /// Both.
    fn and(mut self, other: Self) -> Self {
        self.second |= other.second;
        self.roles.extend(other.roles);
        self.unknown.extend(other.unknown);
        for (level, demands) in other.levels {
            let known = self.levels.remove(&level).unwrap_or_default();
            self.levels.insert(level, known.and(demands));
        }
        self
    }

    /// Either.
    fn or(self, other: Self) -> Self {
        // A way that cannot be gone here does not make the other one easier.
        match (self.unknown.is_empty(), other.unknown.is_empty()) {
            (true, false) => return self,
            (false, true) => return other,
            (true, true) | (false, false) => {}
        }
        let asks = |one: &Self, role: &str| one.second || one.roles.contains(role);
        let both = self.roles.union(&other.roles).filter(|role| asks(&self, role) && asks(&other, role));
        let roles = both.cloned().collect();
        let mut unknown: BTreeSet<String> = self.unknown.union(&other.unknown).cloned().collect();
        if self.levels != other.levels {
            unknown.insert("levels of authentication in one of several ways".to_owned());
        }
        Self { second: self.second && other.second, roles, unknown, levels: self.levels }
    }

    /// What is demanded of a login that asks for no level: the lowest.
    fn at_least(mut self) -> Self {
        let lowest = self.levels.values().next().cloned().unwrap_or_default();
        self = self.and(lowest);
        self
    }

    /// What a login of this level demands; `None`: no login reaches it.
    pub(super) fn at(&self, level: u32) -> Option<Self> {
        let highest = self.levels.keys().next_back().copied().unwrap_or(1);
        let below = self.levels.range(..=level).map(|(_, demands)| demands.clone());
        (level <= highest).then(|| below.fold(self.clone(), Self::and))
    }
}

/// What the flow of this alias or id demands of whoever logs in by it.
pub(super) fn demands(realm: &Node, name: &str) -> Demands {
    let known = items(realm, "authenticationFlows");
    let is_it = |flow: &&Node| text(flow, "alias") == Some(name) || text(flow, "id") == Some(name);
    match known.iter().find(is_it) {
        Some(flow) => {
            let nobody = || Demands::unknown("no step by which somebody could log in here");
            of_flow(realm, flow, 0).unwrap_or_else(nobody).at_least()
        }
        // Realms that were written by hand have Keycloak's own.
        None if name == "browser" => Demands::default(),
        None => Demands::unknown(format!("the flow {name:?}, which is not in the export")),
    }
}

/// What a flow demands; `None`: nobody logs in here by it.
fn of_flow(realm: &Node, flow: &Node, depth: usize) -> Option<Demands> {
    if depth > DEPTH_MAX {
        return Some(Demands::unknown("flows in flows without end"));
    }
    let is_alternative = |step: &&Node| text(step, "requirement") == Some("ALTERNATIVE");
    let required: Vec<&Node> = steps(flow).filter(|step| !is_alternative(step)).collect();
    // Beside what is required, alternatives count for nothing.
    if required.is_empty() {
        return steps(flow).filter_map(|step| of_step(realm, step, depth)).reduce(Demands::or);
    }
    required.into_iter().filter_map(|step| of_step(realm, step, depth)).reduce(Demands::and)
}

/// The steps of a flow that are gone, but for its conditions.
fn steps(flow: &Node) -> impl Iterator<Item = &Node> {
    let is_gone =
        |step: &&Node| matches!(text(step, "requirement"), Some("REQUIRED" | "CONDITIONAL" | "ALTERNATIVE"));
    items(flow, "authenticationExecutions").iter().filter(|step| !is_condition(step)).filter(is_gone)
}

fn is_condition(step: &Node) -> bool {
    text(step, "authenticator").is_some_and(|name| name.starts_with("conditional-"))
}

fn of_step(realm: &Node, step: &Node, depth: usize) -> Option<Demands> {
    if let Some(alias) = text(step, "flowAlias") {
        let flow = items(realm, "authenticationFlows").iter().find(|flow| text(flow, "alias") == Some(alias));
        let Some(flow) = flow else { return Some(Demands::unknown(format!("the flow {alias:?}"))) };
        let inner = of_flow(realm, flow, depth + 1);
        return match text(step, "requirement") {
            Some("CONDITIONAL") => conditional(realm, flow, depth + 1, inner?),
            _ => inner,
        };
    }
    let name = text(step, "authenticator").unwrap_or_default();
    match name {
        // A session, or a login somewhere else.
        "auth-cookie" | "auth-spnego" | "identity-provider-redirector" | "organization" => None,
        "auth-username-password-form" | "auth-username-form" | "auth-password-form" => {
            Some(Demands::default())
        }
        "auth-otp-form"
        | "webauthn-authenticator"
        | "webauthn-authenticator-passwordless"
        | "auth-recovery-authn-code-form" => Some(Demands::second()),
        "auth-conditional-otp-form" => Some(conditional_otp(realm, step)),
        other => Some(Demands::unknown(format!("{other:?}"))),
    }
}

/// What a flow demands that is gone only under its conditions.
fn conditional(realm: &Node, flow: &Node, depth: usize, inner: Demands) -> Option<Demands> {
    let all = items(flow, "authenticationExecutions").iter();
    let conditions: Vec<&Node> =
        all.filter(|step| is_condition(step) && text(step, "requirement") != Some("DISABLED")).collect();
    // Without a condition it is never gone.
    if conditions.is_empty() {
        return None;
    }
    let names: Vec<&str> = conditions.iter().filter_map(|step| text(step, "authenticator")).collect();
    // Whoever has a factor is asked for it here too, whoever they are. Who has one that is not known
    // here, the export need not say: a telephone number is an attribute.
    if names.contains(&"conditional-user-configured") {
        let demands = steps(flow).filter_map(|step| of_step(realm, step, depth));
        let unknown = demands.flat_map(|demands| demands.unknown).collect();
        return Some(Demands { unknown, ..Demands::default() });
    }
    let config = conditions.first().map(|step| config(realm, step)).unwrap_or_default();
    let set = |key: &str| config.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    match names.as_slice() {
        ["conditional-user-role"] if set("negate") != Some("true") => {
            let role = set("condUserRole").filter(|_| inner.second);
            let roles = role.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
            let unread = inner.second && roles.is_empty();
            let demands = Demands { roles, unknown: inner.unknown, ..Demands::default() };
            Some(if unread { demands.and(Demands::unknown("a role that is not named")) } else { demands })
        }
        ["conditional-level-of-authentication"] => {
            let level = set("loa-condition-level").and_then(|level| level.parse().ok());
            Some(match level {
                Some(level) => Demands { levels: [(level, inner)].into(), ..Demands::default() },
                None => Demands::unknown("a level of authentication that is no number"),
            })
        }
        _ if inner == Demands::default() => Some(inner),
        _ => Some(Demands::unknown(format!("a flow under the condition {}", names.join(", ")))),
    }
}

/// The old step that asks some for a code.
fn conditional_otp(realm: &Node, step: &Node) -> Demands {
    let config = config(realm, step);
    let set = |key: &str| {
        config.iter().find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| *value)
    };
    // Where nothing says that it is left out, everybody is asked.
    if set("defaultOtpOutcome") != Some("skip") {
        return Demands::second();
    }
    if set("otpControlAttribute").is_some() || set("forceOtpForHeaderPattern").is_some() {
        return Demands::unknown("\"auth-conditional-otp-form\" by attributes or headers");
    }
    Demands { roles: set("forceOtpRole").map(str::to_owned).into_iter().collect(), ..Demands::default() }
}

/// How a step is configured.
fn config<'n>(realm: &'n Node, step: &Node) -> Vec<(&'n str, &'n str)> {
    let Some(alias) = text(step, "authenticatorConfig") else { return Vec::new() };
    let mut known = items(realm, "authenticatorConfig").iter();
    let Some(found) = known.find(|one| text(one, "alias") == Some(alias)) else { return Vec::new() };
    super::entries(found, "config")
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.text()?)))
        .collect()
}
