//! Address lists, rate limits and concurrency: first by what is known of anybody, then
//! by who they are.

use std::time::Duration;

use http::StatusCode;
use model::event::Step;
use model::{Principal, Switch};
use proxy::address::{AddressRules, Admission};
use proxy::forwarded::client_address;
use proxy::rate::{Charge, Grant, Refused, Rule, Standing, Subject, header};
use proxy::{Additions, Known, RequestHead};
use smallvec::SmallVec;

use crate::core::Core;
use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::{LimitBy, RateLimit, Route};

type Charges<'a> = SmallVec<[Charge<'a>; 4]>;

/// Whose address it is: the socket's, or what trusted proxies vouched for.
///
/// # Errors
/// A trusted proxy vouched for something that is no address.
pub fn know_address(gateway: &Gateway, journey: &mut Journey<'_>, head: &RequestHead) -> Result<(), Stop> {
    if Switch::Forwarded.is_off()
        && let Some(said) = head.fields.get(Known::XForwardedFor)
        && let Some(address) = std::str::from_utf8(said).ok().and_then(|text| text.parse().ok())
    {
        journey.address = address;
        return Ok(());
    }
    let Some(trusted) = gateway.snapshot().trusted_proxies.of(journey.connection()) else { return Ok(()) };
    let forwarded: SmallVec<[&[u8]; 4]> = head.fields.values(Known::Forwarded).collect();
    let x_forwarded_for: SmallVec<[&[u8]; 4]> = head.fields.values(Known::XForwardedFor).collect();
    let socket = journey.connection().peer.ip();
    journey.address = client_address(socket, trusted, forwarded.into_iter(), x_forwarded_for.into_iter())
        .map_err(|why| {
            Refusal::new(Step::LimitAddress, "unknown_client", StatusCode::BAD_REQUEST, why.to_string())
        })?;
    Ok(())
}

/// Address lists and the limits that need no principal.
///
/// # Errors
/// The address is not welcome (403), or a limit refuses (429).
pub fn by_address(gateway: &Gateway, journey: &mut Journey<'_>, route: &Route) -> Result<Grant, Stop> {
    journey.step = Step::LimitAddress;
    let snapshot = gateway.snapshot();
    address_lists(gateway, journey, route)?;
    let limits = if Switch::LimitAddress.is_off() { &[] } else { route.limits_by_address.as_slice() };
    let charges = charges(limits, |by| match by {
        LimitBy::Route => Subject::Route(&route.name),
        _ => Subject::Address(journey.address),
    });
    let concurrency: SmallVec<[_; 1]> = route.concurrency.iter().collect();
    snapshot
        .process
        .limiter
        .grant_with(&charges, &concurrency, journey.begun())
        .map_err(|refused| refuse(gateway, Step::LimitAddress, &refused, &route.limits_by_address))
}

/// Whether the address may come near this route.
///
/// # Errors
/// It may not (403).
pub fn address_lists(gateway: &Gateway, journey: &Journey<'_>, route: &Route) -> Result<(), Stop> {
    everywhere(gateway, journey)?;
    welcome(&route.addresses, journey, "the route's addresses")
}

/// Whether the address may come near at all.
///
/// # Errors
/// It may not (403).
pub fn everywhere(gateway: &Gateway, journey: &Journey<'_>) -> Result<(), Stop> {
    welcome(&gateway.snapshot().addresses, journey, "addresses")
}

/// The limits that need the principal.
///
/// # Errors
/// A limit refuses (429).
pub fn by_principal(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    principal: &Principal,
    grant: &mut Grant,
) -> Result<(), Stop> {
    journey.step = Step::LimitPrincipal;
    if route.limits_by_principal.is_empty() || Switch::LimitPrincipal.is_off() {
        return Ok(());
    }
    let anonymous = principal.kind == model::PrincipalKind::Anonymous;
    let charges = charges(&route.limits_by_principal, |by| match by {
        // Nobody in particular is told apart by where they come from.
        _ if anonymous => Subject::Address(journey.address),
        LimitBy::Key if principal.kind == model::PrincipalKind::ApiKey => Subject::ApiKey(&principal.id),
        _ => Subject::Principal(principal.kind, &principal.id),
    });
    gateway
        .snapshot()
        .process
        .limiter
        .extend(grant, &charges, &[], journey.begun())
        .map_err(|refused| refuse(gateway, Step::LimitPrincipal, &refused, &route.limits_by_principal))
}

fn charges<'a>(limits: &'a [RateLimit], subject: impl Fn(LimitBy) -> Subject<'a>) -> Charges<'a> {
    limits.iter().map(|limit| Charge { rule: &limit.rule, subject: subject(limit.by) }).collect()
}

fn welcome(rules: &AddressRules, journey: &Journey<'_>, place: &str) -> Result<(), Stop> {
    let why = match rules.admit(journey.address) {
        Admission::Allowed => return Ok(()),
        _ if Switch::AddressLists.is_off() => return Ok(()),
        Admission::Denied(range) => format!("{} is in {range} of {place}.deny", journey.address),
        Admission::NotAllowed => format!("{} is not in {place}.allow", journey.address),
    };
    Err(Refusal::new(Step::LimitAddress, "address", StatusCode::FORBIDDEN, why).into())
}

/// A wait as people read it, never a shorter one: to the millisecond, from ten seconds on to the second.
fn readable(wait: Duration) -> Duration {
    let unit = if wait < Duration::from_secs(10) { Duration::from_millis(1) } else { Duration::from_secs(1) };
    let units = wait.as_nanos().div_ceil(unit.as_nanos());
    unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX))
}

fn refuse(gateway: &Gateway, step: Step, refused: &Refused, limits: &[RateLimit]) -> Stop {
    let mut retry = Vec::new();
    header::append_retry_after(&mut retry, refused.retry_after());
    let retry = String::from_utf8(retry).unwrap_or_default();
    let (class, why) = match refused {
        Refused::Rate { charge, .. } => {
            let name = limits.get(*charge).map_or("", |limit| limit.rule.name());
            (
                "rate",
                format!("over the limit {name:?}; one more fits in {:?}", readable(refused.retry_after())),
            )
        }
        Refused::Concurrency { .. } => {
            ("concurrency", "the route serves as many requests as it may".to_owned())
        }
    };
    let mut refusal =
        Refusal::new(step, class, StatusCode::TOO_MANY_REQUESTS, why).with(header::RETRY_AFTER, retry);
    if let Refused::Rate { charge, decision } = refused
        && let Some(limit) = limits.get(*charge)
    {
        if let Some(metrics) = &gateway.core().metrics {
            metrics.limit_hit(limit.label);
        }
        let standing = Standing {
            rule: limit.rule.id(),
            remaining: 0,
            reset_seconds: header::seconds_up(decision.reset_after),
        };
        let (mut policy, mut state) = (Vec::new(), Vec::new());
        header::append_policy(&mut policy, &limit.rule);
        header::append_limit(&mut state, &limit.rule, standing);
        refusal = refusal
            .with(header::RATE_LIMIT_POLICY, String::from_utf8(policy).unwrap_or_default())
            .with(header::RATE_LIMIT, String::from_utf8(state).unwrap_or_default());
    }
    refusal.into()
}

/// What clients are told of a rule, as far as no request changes it.
pub(crate) struct Told {
    /// Its item of `RateLimit-Policy`.
    policy: Vec<u8>,
    /// Its item of `RateLimit` up to the first number.
    state: Vec<u8>,
}

impl Told {
    pub(crate) fn of(rule: &Rule) -> Self {
        let (mut policy, mut state) = (Vec::new(), Vec::new());
        header::append_policy(&mut policy, rule);
        let nothing = Standing { rule: rule.id(), remaining: 0, reset_seconds: 0 };
        header::append_limit(&mut state, rule, nothing);
        state.truncate(state.len().saturating_sub(b"0;t=0".len()));
        Self { policy, state }
    }

    /// Writes both items behind those of other rules: what [`header`] writes.
    fn append(&self, standing: Standing, policy: &mut Vec<u8>, state: &mut Vec<u8>) {
        if !policy.is_empty() {
            policy.extend_from_slice(b", ");
            state.extend_from_slice(b", ");
        }
        policy.extend_from_slice(&self.policy);
        state.extend_from_slice(&self.state);
        state.extend_from_slice(itoa::Buffer::new().format(standing.remaining).as_bytes());
        state.extend_from_slice(b";t=");
        state.extend_from_slice(itoa::Buffer::new().format(standing.reset_seconds).as_bytes());
    }
}

/// Tells the client how it stands with each limit that it was charged to.
pub(crate) fn mark(core: &Core, route: &Route, grant: &Grant, response: &mut Additions) {
    if grant.standings().is_empty() {
        return;
    }
    let (mut policy, mut state) = (core.spare_text(), core.spare_text());
    for standing in grant.standings() {
        let mut limits = route.limits_by_address.iter().chain(&route.limits_by_principal);
        if let Some(limit) = limits.find(|limit| limit.rule.id() == standing.rule) {
            limit.told.append(*standing, &mut policy, &mut state);
        }
    }
    let _ = response.push(header::RATE_LIMIT_POLICY, &policy);
    let _ = response.push(header::RATE_LIMIT, &state);
    for text in [policy, state] {
        core.keep_text(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_as_people_read_it_and_never_shorter() {
        for (nanos, said) in [
            (1, "1ms"),
            (702_307_172, "703ms"),
            (9_999_000_001, "10s"),
            (10_000_000_001, "11s"),
            (36_000_000_000, "36s"),
            (u64::MAX, "4294967295s"),
        ] {
            assert_eq!(format!("{:?}", readable(Duration::from_nanos(nanos))), said);
        }
    }

    #[test]
    fn what_is_told_of_limits_is_what_the_limiter_writes_of_them() {
        let (mut policy, mut state) = (Vec::new(), Vec::new());
        let (mut expected_policy, mut expected_state) = (Vec::new(), Vec::new());
        for (name, count, remaining, reset_seconds) in
            [("orders", 100, 99, 1), ("a \"b\\c\" é", 1, 0, 86_400), ("", u32::MAX, u32::MAX, u32::MAX)]
        {
            let rule = Rule::new(7, name, count, Duration::from_secs(60), 5).unwrap();
            let standing = Standing { rule: 7, remaining, reset_seconds };
            Told::of(&rule).append(standing, &mut policy, &mut state);
            header::append_policy(&mut expected_policy, &rule);
            header::append_limit(&mut expected_state, &rule, standing);
        }
        assert_eq!(String::from_utf8(policy), String::from_utf8(expected_policy));
        assert_eq!(String::from_utf8(state), String::from_utf8(expected_state));
    }
}
