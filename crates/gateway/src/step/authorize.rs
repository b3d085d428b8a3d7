//! May they: one question to policy, answered by a permit that carries the request.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use model::event::Step;
use model::{Principal, Timestamp};
use policy::{Circumstances, Permit, Reason};
use proxy::{ConnectionInfo, Routed};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::{Route, Snapshot};
use crate::step::authenticate::challenge;
use crate::step::{inspect, step_up, user};

impl Gateway {
    /// What policies can read of connection and time.
    pub(crate) fn circumstances(
        &self,
        connection: &ConnectionInfo,
        snapshot: &Snapshot,
        address: IpAddr,
        now: Timestamp,
        user: Option<Arc<Principal>>,
    ) -> Circumstances {
        let tls = connection.tls.as_ref();
        Circumstances {
            now,
            address,
            tls_version: tls.map(|tls| tls.version.name()),
            certificate: self
                .read_certificate(connection, snapshot, now)
                .and_then(|known| known.as_ref().as_ref().ok().map(|known| Arc::clone(&known.facts))),
            user,
        }
    }
}

/// Asks policy.
///
/// # Errors
/// It does not permit (403, or 401 where a credential could change that).
pub async fn authorize(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    principal: &Arc<Principal>,
    routed: Routed,
) -> Result<Permit<Routed>, Stop> {
    journey.step = Step::Authorize;
    let snapshot = gateway.snapshot();
    let user = user::carried(gateway, journey, routed.head(), principal)?;
    let circumstances =
        gateway.circumstances(journey.connection(), snapshot, journey.address, journey.time, user);
    let policies = &gateway.snapshot().policies;
    let decided = {
        let mut cache = gateway.core().decisions.borrow_mut();
        let decided = policy::decide_cached(&mut cache, policies, principal, &circumstances, routed);
        if let Some(metrics) = &gateway.core().metrics {
            metrics.decision_cache(cache.counts());
        }
        decided
    };
    match decided {
        Ok(permit) => {
            permit.append_record(policies, &mut journey.decision);
            if let Some(reason) = permit.would_deny() {
                journey.would_deny(reason);
                if let Some(metrics) = &gateway.core().metrics {
                    metrics.would_deny(route.label);
                }
            }
            Ok(permit)
        }
        Err(denied) => {
            denied.append_record(policies, &mut journey.decision);
            let class = match denied.reason() {
                Reason::Default => "default_deny",
                Reason::Forbidden(_) => "forbidden",
                Reason::Error { .. } => "policy_error",
                Reason::Unauthenticated => "unauthenticated",
                Reason::Expired => "expired",
                Reason::UnknownRoute => "unknown_route",
            };
            inspect::unwelcome(gateway, journey, route, denied.subject().head()).await;
            if let Some(stop) = step_up::ask(gateway, journey, principal, &circumstances, &denied) {
                return Err(stop);
            }
            let asks = denied.asks_for_credentials() && !route.authenticate.is_empty();
            let status = if asks { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            let refusal = Refusal::new(Step::Authorize, class, status, denied.reason().to_string());
            Err(if asks { challenge(route, refusal) } else { refusal }.into())
        }
    }
}
