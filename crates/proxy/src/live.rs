//! Exchanges that are under way, judged again: a permit holds for as long as what it
//! rests on. When the world changes, every open exchange asks its [`Judge`] whether the
//! same request would still be let through, and is cut when it would not; it is cut too
//! when its credential ends.
//!
//! Nothing is registered anywhere: the exchange keeps its own [`Cleared`], a change moves
//! a number and wakes the core's waiting tasks, and each compares that number with the
//! one that it was judged under.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use model::event::Step;

use crate::deadline::Ticker;
use crate::upstream::UpstreamPeer;
use crate::way::Cleared;

/// Judges an exchange again while it is under way.
pub trait Judge {
    /// The epoch in which the request was cleared.
    fn cleared_in(&self) -> u64;

    /// The epoch now. It moves with every change after which a request might no longer
    /// be let through.
    fn epoch(&self) -> u64;

    /// How long the permit still holds by itself; `None`: for ever, zero: it is over.
    fn holds_for(&self, cleared: &Cleared) -> Option<Duration>;

    /// Whether the request would be let through now.
    fn judge_again(&self, cleared: &Cleared) -> Standing;

    /// Whether the upstream would still be taken for who it is.
    fn trusts(&self, peer: &UpstreamPeer) -> bool;
}

/// What judging again came to.
#[derive(Debug)]
pub enum Standing {
    /// It would be let through.
    Stands,
    /// Not known yet: it is asked again at the next occasion.
    Undecided,
    /// It would not.
    Falls(Box<Cut>),
}

/// Why an exchange was cut.
#[derive(Debug)]
pub struct Cut {
    /// The step that would refuse it now.
    pub step: Step,
    /// A short stable name of the reason.
    pub class: &'static str,
    /// What a client is told that has not got a head yet.
    pub status: StatusCode,
    /// The reason in one line, for the operator.
    pub reason: String,
    /// What policy says now, as JSON for the audit log; empty when it was not asked.
    pub decision: Vec<u8>,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut: {}", self.reason)
    }
}

/// One exchange under its judge.
pub(crate) struct Watched<'a> {
    judge: &'a dyn Judge,
    cleared: &'a Cleared,
    /// The epoch up to which it stands.
    seen: Cell<u64>,
    /// When the permit ends by itself, as a moment of the ticker; 0: never.
    until_ms: u64,
    ticker: Rc<Ticker>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(judge: &'a dyn Judge, cleared: &'a Cleared, ticker: &Rc<Ticker>) -> Self {
        let until_ms = match judge.holds_for(cleared) {
            None => 0,
            // What is over gets no tick of grace.
            Some(Duration::ZERO) => ticker.now_ms(),
            Some(left) => ticker.moment(left),
        };
        let (seen, ticker) = (Cell::new(judge.cleared_in()), Rc::clone(ticker));
        Self { judge, cleared, seen, until_ms, ticker }
    }

    /// When the permit ends by itself; 0: never.
    pub(crate) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Whether the exchange may go on, with who is at the other end, if anybody is yet. Costs a
    /// comparison while nothing has changed.
    pub(crate) fn check(&self, peer: Option<&UpstreamPeer>) -> Result<(), Box<Cut>> {
        if self.until_ms != 0 && self.ticker.now_ms() >= self.until_ms {
            return Err(Box::new(Cut {
                step: Step::Authenticate,
                class: "expired",
                status: StatusCode::UNAUTHORIZED,
                reason: "the credential ended while the exchange was under way".to_owned(),
                decision: Vec::new(),
            }));
        }
        let epoch = self.judge.epoch();
        if epoch == self.seen.get() {
            return Ok(());
        }
        let standing = self.judge.judge_again(self.cleared);
        if let Standing::Falls(cut) = standing {
            return Err(cut);
        }
        if peer.is_some_and(|peer| !self.judge.trusts(peer)) {
            return Err(Box::new(Cut {
                step: Step::Forward,
                class: "upstream_certificate",
                status: StatusCode::BAD_GATEWAY,
                reason: "the upstream's certificate is not accepted any more".to_owned(),
                decision: Vec::new(),
            }));
        }
        if matches!(standing, Standing::Stands) {
            self.seen.set(epoch);
        }
        Ok(())
    }
}
