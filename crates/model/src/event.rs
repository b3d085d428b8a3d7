//! What the audit log holds: one event per request, with the names of OCSF 1.x HTTP
//! Activity (class 4002) where OCSF has one and an `unmapped`-style `bastide` object
//! where it has none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::principal::{Credential, PrincipalKind};
use crate::request_id::RequestId;

/// The step of the request's way that answered. Declared in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The socket and TLS.
    Accept,
    /// Framing, path, headers.
    Admit,
    /// Which route.
    Route,
    /// Address lists and limits before anybody is known.
    LimitAddress,
    /// Who is it.
    Authenticate,
    /// May they.
    Authorize,
    /// Limits by principal.
    LimitPrincipal,
    /// Body limits and, with the firewall, its verdict.
    Inspect,
    /// The upstream.
    Forward,
    /// The audit log itself.
    Audit,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 10] = [
        Self::Accept,
        Self::Admit,
        Self::Route,
        Self::LimitAddress,
        Self::Authenticate,
        Self::Authorize,
        Self::LimitPrincipal,
        Self::Inspect,
        Self::Forward,
        Self::Audit,
    ];

    /// The name in events, metrics and `explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Admit => "admit",
            Self::Route => "route",
            Self::LimitAddress => "limit_address",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::LimitPrincipal => "limit_principal",
            Self::Inspect => "inspect",
            Self::Forward => "forward",
            Self::Audit => "audit",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An upstream or a page of ours answered.
    Allowed,
    /// A step refused.
    Denied,
    /// It was allowed, and then something broke: an upstream, the client.
    Failed,
}

impl Outcome {
    /// The name in events, spans and `explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// What the decision read and which policies decided, so that it can be made again
/// after a restart or reload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The generation of the policies.
    pub generation: u64,
    /// SHA-256 of everything that the decision depends on besides the request, hex.
    pub snapshot: String,
    /// The policies that determined the decision, by id.
    pub policies: Vec<String>,
    /// The attributes that the slice's policies can read, with the values they had:
    /// `context.hour`, `principal.roles`, `resource.params.owner` ….
    pub read: BTreeMap<String, serde_json::Value>,
    /// Why it would have been denied, on a route whose policies are tried and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<String>,
}

/// What the firewall found in a request or its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirewallRecord {
    /// `block` or `detect`.
    pub mode: String,
    /// `passed`, `detected` or `blocked`.
    pub verdict: String,
    /// The rule that decided, when it was blocked by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u64>,
    /// The rule that would have decided in block mode, when nothing was blocked; 0 for a limit
    /// of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<u64>,
    /// The body that the rules could not read, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<FirewallUnread>,
    /// Whether it ended before it was judged: because the request was refused anyway, or
    /// somebody went away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// The anomaly scores.
    pub scores: FirewallScores,
    /// The paranoia level up to which scores block, where the rules keep scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paranoia: Option<u8>,
    /// The paranoia level up to which rules ran, where the rules keep scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paranoia_detection: Option<u8>,
    /// What the scores were held against, where the rules keep scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<FirewallThresholds>,
    /// The rules that matched, in the order in which they did.
    pub rules: Vec<FirewallMatch>,
    /// How many more matched.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further: u64,
}

/// A body that the rules could not read, or not to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallUnread {
    /// `request` or `response`.
    pub body: String,
    /// Why not.
    pub why: String,
}

/// The anomaly scores that the rules of the OWASP Core Rule Set keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallScores {
    /// Of the request: the sum of the levels that block.
    pub inbound: u32,
    /// Of the answer, alike.
    pub outbound: u32,
    /// Of the request, for each paranoia level from 1.
    #[serde(default, skip_serializing_if = "is_all_zero")]
    pub inbound_levels: [u32; 4],
    /// Of the answer, for each paranoia level from 1.
    #[serde(default, skip_serializing_if = "is_all_zero")]
    pub outbound_levels: [u32; 4],
}

/// The anomaly scores at which a message is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallThresholds {
    /// A request.
    pub inbound: u32,
    /// An answer.
    pub outbound: u32,
}

/// Which half of an exchange a score is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirewallSide {
    /// The request.
    Inbound,
    /// The answer.
    Outbound,
}

/// What a match added to an anomaly score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRaise {
    /// Which score.
    pub side: FirewallSide,
    /// Of which paranoia level, 1 to 4.
    pub level: u8,
    /// How much.
    pub score: u32,
}

/// A rule of the firewall that matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallMatch {
    /// Its id.
    pub id: u64,
    /// The phase, 1 to 5.
    pub phase: u8,
    /// From 0 (emergency) to 7 (debug).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    /// Its message.
    pub msg: String,
    /// What it says of the match; secrets are masked.
    pub data: String,
    /// Where it matched: `ARGS:q`.
    pub variable: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it added to the anomaly scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<FirewallRaise>,
    /// The score that it holds against its threshold, where that is what the rule does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judges: Option<FirewallSide>,
    /// Whether it does so last: no rule behind it could stop that half of the exchange or add to
    /// its score.
    #[serde(default, skip_serializing_if = "is_false")]
    pub settles: bool,
    /// Whether its action is to stop the message.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disruptive: bool,
    /// Whether it is a chain of conditions, of which `variable` is what the last looked at.
    #[serde(default, skip_serializing_if = "is_false")]
    pub chain: bool,
    /// Whether it changed more than scores: something that other rules may read.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(is: &bool) -> bool {
    !*is
}

fn is_all_zero(levels: &[u32; 4]) -> bool {
    *levels == [0; 4]
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One request, as the audit log tells it. Borrowed while it is written, owned when
/// it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessEvent<'a> {
    /// The request's name.
    pub id: RequestId,
    /// When the head had arrived.
    pub time: Timestamp,
    /// Nanoseconds from then to the last byte of the answer.
    pub duration_nanos: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The step that answered; [`Step::Forward`] when all allowed.
    pub step: Step,
    /// Why, in one line, for the operator; empty when allowed.
    pub reason: Cow<'a, str>,
    /// Status sent to the client; 0 when the connection ended before one was sent.
    pub status: u16,
    /// The client's address.
    pub client_address: Cow<'a, str>,
    /// The client's port.
    pub client_port: u16,
    /// `"1.2"`, `"1.3"`, or empty for cleartext.
    pub tls: Cow<'a, str>,
    /// Request method.
    pub method: Cow<'a, str>,
    /// Host that was asked for, lower case.
    pub host: Cow<'a, str>,
    /// The path as it was sent, without the query (a query can hold credentials).
    pub path: Cow<'a, str>,
    /// `"1.0"`, `"1.1"` or `"2"`.
    pub version: Cow<'a, str>,
    /// The `User-Agent`, cut at 256 bytes.
    pub user_agent: Cow<'a, str>,
    /// The route's name; empty when none matched.
    pub route: Cow<'a, str>,
    /// The upstream endpoint that answered; empty when none did.
    pub upstream: Cow<'a, str>,
    /// How many upstream attempts were made.
    pub attempts: u32,
    /// Bytes of body from the client.
    pub bytes_in: u64,
    /// Bytes of body to the client.
    pub bytes_out: u64,
    /// Kind of principal.
    pub principal_kind: PrincipalKind,
    /// The principal's id.
    pub principal: Cow<'a, str>,
    /// How it proved that.
    pub credential: Credential,
    /// The issuer of its token; empty without one.
    pub issuer: Cow<'a, str>,
    /// W3C trace id (hex), empty without one.
    pub trace_id: Cow<'a, str>,
    /// What policy said, when it was asked.
    pub decision: Option<Cow<'a, DecisionRecord>>,
    /// The same already written, as the JSON of a [`DecisionRecord`]: what the way of a
    /// request hands over, so that nothing is built only to be written. Empty: see
    /// `decision`.
    #[serde(skip)]
    pub decision_json: Cow<'a, [u8]>,
    /// What the firewall found, when it looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Cow<'a, FirewallRecord>>,
    /// The same already written, as the JSON of a [`FirewallRecord`]. Empty: see
    /// `firewall`.
    #[serde(skip)]
    pub firewall_json: Cow<'a, [u8]>,
}

impl AccessEvent<'_> {
    /// An event of which no more is known than its name and its time: by nobody, and not said
    /// to have been allowed. Whoever writes one down fills in what they know.
    pub const fn bare(id: RequestId, time: Timestamp) -> Self {
        Self {
            id,
            time,
            duration_nanos: 0,
            outcome: Outcome::Failed,
            step: Step::Audit,
            reason: Cow::Borrowed(""),
            status: 0,
            client_address: Cow::Borrowed(""),
            client_port: 0,
            tls: Cow::Borrowed(""),
            method: Cow::Borrowed(""),
            host: Cow::Borrowed(""),
            path: Cow::Borrowed(""),
            version: Cow::Borrowed(""),
            user_agent: Cow::Borrowed(""),
            route: Cow::Borrowed(""),
            upstream: Cow::Borrowed(""),
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            principal_kind: PrincipalKind::Anonymous,
            principal: Cow::Borrowed(""),
            credential: Credential::None,
            issuer: Cow::Borrowed(""),
            trace_id: Cow::Borrowed(""),
            decision: None,
            decision_json: Cow::Borrowed(&[]),
            firewall: None,
            firewall_json: Cow::Borrowed(&[]),
        }
    }
}

/// What somebody did at the identity provider. Its numbers are those of OCSF 1.3: Authentication
/// (class 3002) for logins and logouts, Account Change (class 3001) for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountActivity {
    /// A login, or an attempt at one.
    LogOn,
    /// The end of a session.
    LogOff,
    /// Another password, by whoever knew the one before.
    ChangePassword,
    /// Another password, by a link in a message.
    ResetPassword,
    /// Another factor to log in with.
    AddFactor,
    /// One less.
    RemoveFactor,
}

impl AccountActivity {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LogOn,
        Self::LogOff,
        Self::ChangePassword,
        Self::ResetPassword,
        Self::AddFactor,
        Self::RemoveFactor,
    ];

    /// OCSF `class_uid` and `activity_id`.
    pub const fn number(self) -> (u32, u32) {
        match self {
            Self::LogOn => (3002, 1),
            Self::LogOff => (3002, 2),
            Self::ChangePassword => (3001, 3),
            Self::ResetPassword => (3001, 4),
            Self::AddFactor => (3001, 10),
            Self::RemoveFactor => (3001, 11),
        }
    }

    /// What the log calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogOn => "login",
            Self::LogOff => "logout",
            Self::ChangePassword => "password change",
            Self::ResetPassword => "password reset",
            Self::AddFactor => "factor enrolled",
            Self::RemoveFactor => "factor removed",
        }
    }
}

/// What somebody did at the identity provider, as the audit log tells it. It is read back as its
/// `access` alone.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountEvent {
    /// Who, from where, and what became of it; its `reason` says why it failed or ended.
    pub access: AccessEvent<'static>,
    /// What they did.
    pub activity: AccountActivity,
    /// The user's id, which stays when they are renamed; empty: nobody whom the realm knows.
    pub user_id: String,
    /// The realm.
    pub realm: String,
    /// The client that they logged in for; empty without one.
    pub client: String,
    /// The session; empty without one.
    pub session: String,
    /// The request's name at the gateway; empty without one.
    pub request: String,
    /// How they showed who they are (`amr`, RFC 8176), or which kind of factor it is about.
    pub methods: Vec<String>,
}
