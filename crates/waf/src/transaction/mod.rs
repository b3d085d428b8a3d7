//! One HTTP transaction: fed piece by piece, judged in five phases.

use std::net::IpAddr;

/// The two ends of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The client's address.
    pub client_address: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The server's address.
    pub server_address: IpAddr,
    /// The server's port.
    pub server_port: u16,
}

/// A request's head as it came in.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The request line without its line end; for HTTP/2 put together as HTTP/1 would say it.
    pub line: &'a [u8],
    /// `GET`, …
    pub method: &'a [u8],
    /// The request target as sent.
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, …
    pub protocol: &'a [u8],
    /// Header fields in order, names as sent.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// A response's head as it goes out.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status code.
    pub status: u16,
    /// `HTTP/1.1`, …
    pub protocol: &'a [u8],
    /// Header fields in order.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// How much work one call may do before it yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Units of work left: one for each rule looked at and one for each 16 bytes inspected.
    pub work_max: u64,
}

impl Budget {
    /// No limit.
    pub const UNLIMITED: Self = Self { work_max: u64::MAX };
}

/// What a call that runs rules came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The phase is done.
    Done(Verdict),
    /// The budget is used up: call [`Transaction::resume`].
    Yield,
}

/// What to do with the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing against it.
    Pass,
    /// Answer with `status`.
    Deny {
        /// The status that the rule names, 403 where it names none.
        status: u16,
        /// The deciding rule; 0 for a limit of the engine.
        rule: u64,
    },
    /// Close the connection without an answer.
    Drop {
        /// The deciding rule.
        rule: u64,
    },
    /// Send the client elsewhere.
    Redirect {
        /// 302 where the rule names none.
        status: u16,
        /// The expanded target.
        location: Vec<u8>,
        /// The deciding rule.
        rule: u64,
    },
}

/// What became of a piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Intake {
    /// Taken; go on.
    More,
    /// No further bytes of this body are wanted; they may pass.
    Enough,
    /// Over a limit whose action is to reject.
    Refused(Verdict),
}

/// One match of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The rule's id; a chain's is its first rule's.
    pub rule: u64,
    /// Phase, 1 to 5.
    pub phase: u8,
    /// `msg`, expanded.
    pub message: String,
    /// `logdata`, expanded, not masked.
    pub log_data: String,
    /// `severity`, 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// `tag`s, expanded.
    pub tags: Vec<String>,
    /// What matched, e.g. `ARGS:q`.
    pub variable: String,
    /// Whether the rule asks to be logged (`log`, not `nolog`).
    pub log: bool,
    /// Whether the rule asks for an audit entry (`auditlog`, not `noauditlog`).
    pub audit: bool,
    /// Whether the rule's action was to stop the transaction (in detection mode it did not).
    pub disruptive: bool,
}

/// One HTTP transaction over a shared rule set.
#[derive(Debug)]
pub struct Transaction {
    matches: Vec<Match>,
}

impl Transaction {
    /// All matches so far.
    #[must_use]
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }
}
