//! The gateway as judge of exchanges that are under way: the same steps as for a new
//! request, under the newest snapshot, with the same proof of identity.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use keys::{Look, Refusal as Unproven, Verdict};
use model::event::Step;
use model::{ClientNetwork, Principal, Timestamp};
use policy::{Circumstances, Reason};
use proxy::address::{AddressRules, Admission};
use proxy::upstream::UpstreamPeer;
use proxy::{Cleared, ConnectionInfo, Cut, Judge, Routed, Standing};

use crate::core::Core;
use crate::serve::Gateway;
use crate::snapshot::{Route, Snapshot};
use crate::step::authenticate::{Proof, api_key, token};
use crate::step::{opaque, possession, session, user};

/// Judges the exchanges of one connection's request.
pub(crate) struct GatewayJudge<'g> {
    pub(crate) gateway: &'g Gateway,
    pub(crate) connection: &'g ConnectionInfo,
    pub(crate) address: IpAddr,
}

/// Why a request would not be let through now.
enum Fallen {
    /// It would not.
    Cut(Box<Cut>),
    /// An issuer's keys are being fetched.
    Undecided,
}

impl From<Cut> for Fallen {
    fn from(cut: Cut) -> Self {
        Self::Cut(Box::new(cut))
    }
}

impl Judge for GatewayJudge<'_> {
    fn cleared_in(&self) -> u64 {
        self.gateway.epoch()
    }

    fn epoch(&self) -> u64 {
        self.gateway.core().epoch()
    }

    fn holds_for(&self, cleared: &Cleared) -> Option<Duration> {
        let end = cleared.permit().expires()?;
        let now = self.gateway.snapshot().process.clock.now();
        Some(Duration::from_nanos(end.unix_nanos().saturating_sub(now.unix_nanos())))
    }

    fn trusts(&self, peer: &UpstreamPeer) -> bool {
        self.gateway.core().newest().upstreams.trusts(peer)
    }

    fn judge_again(&self, cleared: &Cleared) -> Standing {
        match self.judge(cleared) {
            Ok(()) => Standing::Stands,
            Err(Fallen::Undecided) => Standing::Undecided,
            Err(Fallen::Cut(cut)) => {
                if let Some(metrics) = &self.gateway.core().metrics {
                    metrics.cut();
                }
                Standing::Falls(cut)
            }
        }
    }
}

impl GatewayJudge<'_> {
    /// The way once more, as far as it can be walked again: connection, route,
    /// addresses, proof, policy. Limits are not charged twice.
    fn judge(&self, cleared: &Cleared) -> Result<(), Fallen> {
        let core = self.gateway.core();
        let snapshot = core.newest();
        let now = snapshot.process.clock.now();
        let now_ms = core.ticker.now_ms();
        if !self.connection.is_still_trusted(&snapshot.listeners, now_ms) {
            let why = "the client certificate is not accepted any more";
            return Err(cut(Step::Accept, "certificate", StatusCode::UNAUTHORIZED, why).into());
        }
        let (routed, route) = self.reroute(&snapshot, cleared.routed())?;
        self.welcome(&snapshot.addresses, "addresses")?;
        self.welcome(&route.addresses, "the route's addresses")?;
        let principal = self.prove(core, &snapshot, route, &routed, cleared.permit().principal(), now)?;
        let user = user::carried_still(core, self.connection, routed.head(), cleared.permit().user(), now);
        let user = user.map_err(|unproven| {
            let why = format!("the token about the end user is refused: {unproven}");
            cut(Step::Authenticate, "user_token", StatusCode::UNAUTHORIZED, why)
        })?;
        self.decide(core, &snapshot, &principal, routed, (now, user))
    }

    /// An open exchange cannot move to another upstream.
    fn reroute<'s>(&self, snapshot: &'s Snapshot, old: &Routed) -> Result<(Routed, &'s Route), Fallen> {
        let was = self.gateway.snapshot().routes.get(old.route().0 as usize);
        let gone = |why: &str| cut(Step::Route, "route", StatusCode::MISDIRECTED_REQUEST, why);
        let routed = snapshot.router.reroute(old).map_err(|_| gone("its route is gone"))?;
        let route =
            snapshot.routes.get(routed.route().0 as usize).ok_or_else(|| gone("its route is gone"))?;
        if was.is_none_or(|was| was.service != route.service) {
            return Err(gone("its route leads to another service now").into());
        }
        if let Err(refusal) = opaque::stays(snapshot, self.connection, route) {
            return Err(gone(&refusal.reason).into());
        }
        Ok((routed, route))
    }

    fn welcome(&self, rules: &AddressRules, place: &str) -> Result<(), Fallen> {
        let why = match rules.admit(self.address) {
            Admission::Allowed => return Ok(()),
            Admission::Denied(range) => format!("{} is in {range} of {place}.deny", self.address),
            Admission::NotAllowed => format!("{} is not in {place}.allow", self.address),
        };
        Err(cut(Step::LimitAddress, "address", StatusCode::FORBIDDEN, why).into())
    }

    /// Proves again who asks, with what the request brought.
    fn prove(
        &self,
        core: &Rc<Core>,
        snapshot: &Snapshot,
        route: &Route,
        routed: &Routed,
        before: &Arc<Principal>,
        now: Timestamp,
    ) -> Result<Arc<Principal>, Fallen> {
        let refused = |unproven: &Unproven| {
            cut(Step::Authenticate, unproven.code(), StatusCode::UNAUTHORIZED, unproven.to_string())
        };
        for proof in &route.authenticate {
            let found = match proof {
                Proof::Certificate => self.gateway.certificate(self.connection, snapshot, now),
                Proof::Session => session::prove_again(snapshot, self.connection, routed.head(), now),
                Proof::ApiKey => {
                    api_key(routed.head()).ok().flatten().map(|key| snapshot.api_keys.verify(key, now))
                }
                Proof::Jwt => match token(routed.head()) {
                    Ok(Some((_, token))) if route.reads_as_jwt(token) => {
                        Some(self.judge_token(core, token, now)?)
                    }
                    _ => None,
                },
                Proof::Opaque => match token(routed.head()) {
                    Ok(Some((_, token))) if !route.reads_as_jwt(token) => {
                        Some(self.judge_opaque(core, snapshot, token, now)?)
                    }
                    _ => None,
                },
            };
            let Some(found) = found else { continue };
            return match found {
                Ok(principal) => Ok(principal),
                // The issuer is out of reach: that is no word against this token.
                Err(unproven) if unproven.is_temporary() => Ok(Arc::clone(before)),
                Err(unproven) => Err(refused(&unproven).into()),
            };
        }
        if route.anonymous || snapshot.came_in_clear(self.connection) {
            return Ok(Arc::clone(self.gateway.anonymous()));
        }
        let why = "the route does not accept its proof of identity any more";
        Err(cut(Step::Authenticate, "no_credential", StatusCode::UNAUTHORIZED, why).into())
    }

    /// A token of an exchange under way. That its key is in the client's hands was shown
    /// when the exchange began; its certificate is asked again.
    fn judge_token(
        &self,
        core: &Rc<Core>,
        token: &[u8],
        now: Timestamp,
    ) -> Result<Result<Arc<Principal>, Unproven>, Fallen> {
        let verdict = core.verifier.borrow_mut().verify(token, now);
        self.settle(core, verdict)
    }

    /// The same for an opaque token: what is remembered of it, or its issuer's word anew.
    fn judge_opaque(
        &self,
        core: &Rc<Core>,
        snapshot: &Snapshot,
        token: &[u8],
        now: Timestamp,
    ) -> Result<Result<Arc<Principal>, Unproven>, Fallen> {
        let nobody = || {
            let why = "no issuer is configured to be asked".to_owned();
            Look::Verdict(Verdict::Refused(Unproven::IntrospectionUnavailable { why }))
        };
        let network = ClientNetwork::of(self.address);
        match snapshot.introspector.as_ref().map_or_else(nobody, |asked| asked.look(token, network, now)) {
            Look::Verdict(verdict) => self.settle(core, verdict),
            Look::Wait(wait) => {
                self.ask_later(core, async move { drop(wait.ended(now).await) });
                Err(Fallen::Undecided)
            }
        }
    }

    fn settle(&self, core: &Rc<Core>, verdict: Verdict) -> Result<Result<Arc<Principal>, Unproven>, Fallen> {
        Ok(match verdict {
            Verdict::Accepted(principal) => Ok(principal),
            Verdict::Bound(bound) => bound.prove_again(possession::leaf(self.connection)),
            Verdict::Refused(unproven) => Err(unproven),
            Verdict::NeedsKey(wait) => {
                self.ask_later(core, async move {
                    let _ = wait.ended().await;
                });
                return Err(Fallen::Undecided);
            }
        })
    }

    /// Wakes the core's exchanges when the answer has come, one time for all who wait.
    fn ask_later(&self, core: &Rc<Core>, answered: impl Future<Output = ()> + 'static) {
        if core.waits_for_keys.replace(true) {
            return;
        }
        let (core, ticker) = (Rc::clone(core), Rc::clone(&core.ticker));
        tokio::task::spawn_local(async move {
            answered.await;
            core.waits_for_keys.set(false);
            ticker.wake_all();
        });
    }

    fn decide(
        &self,
        core: &Core,
        snapshot: &Snapshot,
        principal: &Arc<Principal>,
        routed: Routed,
        (now, user): (Timestamp, Option<Arc<Principal>>),
    ) -> Result<(), Fallen> {
        let circumstances: Circumstances =
            self.gateway.circumstances(self.connection, snapshot, self.address, now, user);
        let policies = &snapshot.policies;
        let mut cache = core.decisions.borrow_mut();
        let Err(denied) = policy::decide_cached(&mut cache, policies, principal, &circumstances, routed)
        else {
            return Ok(());
        };
        let class = match denied.reason() {
            Reason::Expired => "expired",
            _ => "policy",
        };
        let mut cut = cut(Step::Authorize, class, StatusCode::FORBIDDEN, denied.reason().to_string());
        denied.append_record(policies, &mut cut.decision);
        Err(cut.into())
    }
}

fn cut(step: Step, class: &'static str, status: StatusCode, reason: impl Into<String>) -> Cut {
    Cut { step, class, status, reason: reason.into(), decision: Vec::new() }
}
