//! An event as a line of JSON: the names of OCSF 1.3 HTTP Activity (class 4002) where
//! OCSF has one, `unmapped` for the rest.
//!
//! | ours | OCSF |
//! |---|---|
//! | id | `metadata.uid`, `http_request.uid` |
//! | time, duration | `time`, `duration` (milliseconds); exact in `unmapped` |
//! | outcome | `status_id` 1 success, 2 failure; `action_id` 1 allowed, 2 denied; `severity_id` 1 informational, 2 low (denied), 3 medium (failed) |
//! | reason | `status_detail` |
//! | method, host, path, version, user agent | `http_request` |
//! | status | `http_response.code` |
//! | client | `src_endpoint` |
//! | principal | `actor.user.name`, `actor.user.type`; its issuer is `actor.idp.name` |
//! | TLS version | `tls.version` |
//! | bytes | `traffic.bytes_in`, `traffic.bytes_out` |
//! | step, route, upstream, attempts, credential, trace id, decision, firewall | `unmapped` |
//!
//! What somebody did at the identity provider is of the classes 3001 and 3002: [`append_account`].

use std::borrow::Cow;

use model::event::{AccessEvent, AccountEvent, DecisionRecord, FirewallRecord, Outcome, Step};
use model::{Credential, PrincipalKind, RequestId, Timestamp};
use serde::Deserialize;

use crate::json;

/// HTTP Activity of OCSF 1.3.
const CLASS: u32 = 4002;
/// Longest path that is kept, bytes. Longer ones are cut, and `unmapped.cut` is true.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest other text that is kept, bytes.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest decision that is kept, bytes of JSON. A longer one is kept without what it
/// read.
pub const DECISION_BYTES_MAX: usize = 32 * 1024;
/// Longest record of the firewall that is kept, bytes of JSON. Of a longer one the rules
/// at its end are left out.
pub const FIREWALL_BYTES_MAX: usize = 64 * 1024;

/// Appends the event as one line, newline included.
pub fn append(line: &mut Vec<u8>, event: &AccessEvent<'_>) {
    Writer { line, cut: false }.event(event, false);
}

/// Appends the line of what somebody did at the identity provider, newline included: OCSF 1.3
/// Authentication (class 3002) or Account Change (class 3001). [`parse`] reads the part of it that
/// every event has.
pub fn append_account(line: &mut Vec<u8>, event: &AccountEvent) {
    Writer { line, cut: false }.account_event(event);
}

/// Appends the line for a slot that was dropped without its event.
pub(crate) fn append_abandoned(line: &mut Vec<u8>, id: RequestId, time: Timestamp) {
    let event = AccessEvent {
        outcome: Outcome::Failed,
        step: Step::Audit,
        reason: Cow::Borrowed("abandoned: the request ended without reporting what became of it"),
        ..AccessEvent::bare(id, time)
    };
    Writer { line, cut: false }.event(&event, true);
}

struct Writer<'a> {
    line: &'a mut Vec<u8>,
    cut: bool,
}

impl Writer<'_> {
    /// Here and below: where the text is a constant of ours, so is its length.
    #[inline]
    fn raw(&mut self, json: &str) {
        self.line.extend_from_slice(json.as_bytes());
    }

    /// `before` is the JSON that leads up to the value: `,"name":`.
    #[inline]
    fn number(&mut self, before: &str, number: u64) {
        self.raw(before);
        json::number(self.line, number);
    }

    #[inline]
    fn text(&mut self, before: &str, text: &str, bytes_max: usize) {
        self.raw(before);
        self.cut |= json::text_up_to(self.line, text, bytes_max);
    }

    /// A name out of a closed set of ours, which needs no escape. `before` ends with the
    /// opening quote.
    #[inline]
    fn name(&mut self, before: &str, name: &'static str) {
        self.raw(before);
        self.raw(name);
        self.raw("\"");
    }

    fn event(&mut self, event: &AccessEvent<'_>, abandoned: bool) {
        let id = event.id.to_ascii();
        let (activity, other_name) = activity(&event.method);
        let (severity_and_status, action) = match event.outcome {
            Outcome::Allowed => (r#","severity_id":1,"status_id":1,"status_detail":"#, r#","action_id":1"#),
            Outcome::Denied => (r#","severity_id":2,"status_id":2,"status_detail":"#, r#","action_id":2"#),
            Outcome::Failed => (r#","severity_id":3,"status_id":2,"status_detail":"#, r#","action_id":1"#),
        };
        self.number(r#"{"time":"#, event.time.unix_millis());
        self.raw(r#","class_uid":4002,"category_uid":4,"metadata":{"version":"1.3.0","uid":""#);
        self.line.extend_from_slice(&id);
        self.raw(
            r#"","product":{"name":"Bastide","vendor_name":"Bastide"},"profiles":["security_control"]}"#,
        );
        self.raw(activity);
        if let Some(name) = other_name {
            self.text(r#","activity_name":"#, name, TEXT_BYTES_MAX);
        }
        self.text(severity_and_status, &event.reason, TEXT_BYTES_MAX);
        self.raw(action);
        self.number(r#","duration":"#, event.duration_nanos / 1_000_000);
        self.request(event, &id);
        self.actor(event);
        self.unmapped(event, abandoned);
        self.raw("}\n");
    }

    fn account_event(&mut self, account: &AccountEvent) {
        let (event, (class, activity)) = (&account.access, account.activity.number());
        self.number(r#"{"time":"#, event.time.unix_millis());
        self.number(r#","class_uid":"#, class.into());
        self.raw(r#","category_uid":3,"metadata":{"version":"1.3.0","uid":""#);
        self.line.extend_from_slice(&event.id.to_ascii());
        self.raw(r#"","product":{"name":"Bastide","vendor_name":"Bastide"}}"#);
        self.number(r#","type_uid":"#, (class * 100 + activity).into());
        self.number(r#","activity_id":"#, activity.into());
        // A refusal here may be somebody's password that is guessed: not informational.
        self.raw(match event.outcome {
            Outcome::Allowed => r#","severity_id":1,"status_id":1"#,
            Outcome::Denied => r#","severity_id":2,"status_id":2"#,
            Outcome::Failed => r#","severity_id":3,"status_id":2"#,
        });
        self.text(r#","status_detail":"#, &event.reason, TEXT_BYTES_MAX);
        self.text(r#","http_request":{"uid":"#, &account.request, TEXT_BYTES_MAX);
        self.text(r#","http_method":"#, &event.method, TEXT_BYTES_MAX);
        self.text(r#","url":{"hostname":"#, &event.host, TEXT_BYTES_MAX);
        self.text(r#","path":"#, &event.path, PATH_BYTES_MAX);
        self.text(r#"},"user_agent":"#, &event.user_agent, TEXT_BYTES_MAX);
        self.raw("}");
        if !event.client_address.is_empty() {
            self.text(r#","src_endpoint":{"ip":"#, &event.client_address, TEXT_BYTES_MAX);
            self.raw("}");
        }
        self.text(r#","user":{"name":"#, &event.principal, TEXT_BYTES_MAX);
        self.text(r#","uid":"#, &account.user_id, TEXT_BYTES_MAX);
        self.raw("}");
        self.actor(event);
        if !account.session.is_empty() {
            self.text(r#","session":{"uid":"#, &account.session, TEXT_BYTES_MAX);
            self.raw("}");
        }
        self.raw(if account.methods.iter().any(|method| method == "mfa") {
            r#","is_mfa":true"#
        } else {
            r#","is_mfa":false"#
        });
        self.number(r#","unmapped":{"time_nanos":"#, event.time.unix_nanos());
        self.name(r#","outcome":""#, event.outcome.name());
        self.name(r#","step":""#, event.step.name());
        self.text(r#","route":"#, &event.route, TEXT_BYTES_MAX);
        self.number(r#","status":"#, event.status.into());
        self.name(r#","credential":""#, event.credential.name());
        self.text(r#","realm":"#, &account.realm, TEXT_BYTES_MAX);
        self.text(r#","client_id":"#, &account.client, TEXT_BYTES_MAX);
        self.raw(r#","amr":["#);
        for (at, method) in account.methods.iter().enumerate() {
            self.text(if at == 0 { "" } else { "," }, method, TEXT_BYTES_MAX);
        }
        self.raw("]");
        if self.cut {
            self.raw(r#","cut":true"#);
        }
        self.raw("}}\n");
    }

    fn request(&mut self, event: &AccessEvent<'_>, id: &[u8]) {
        self.raw(r#","http_request":{"uid":""#);
        self.line.extend_from_slice(id);
        self.text(r#"","http_method":"#, &event.method, TEXT_BYTES_MAX);
        self.text(r#","url":{"hostname":"#, &event.host, TEXT_BYTES_MAX);
        self.text(r#","path":"#, &event.path, PATH_BYTES_MAX);
        self.text(r#"},"version":"#, &event.version, TEXT_BYTES_MAX);
        self.text(r#","user_agent":"#, &event.user_agent, TEXT_BYTES_MAX);
        self.number(r#"},"http_response":{"code":"#, event.status.into());
        self.text(r#"},"src_endpoint":{"ip":"#, &event.client_address, TEXT_BYTES_MAX);
        self.number(r#","port":"#, event.client_port.into());
        if !event.tls.is_empty() {
            self.text(r#"},"tls":{"version":"#, &event.tls, TEXT_BYTES_MAX);
        }
        self.number(r#"},"traffic":{"bytes_in":"#, event.bytes_in);
        self.number(r#","bytes_out":"#, event.bytes_out);
        self.raw("}");
    }

    fn actor(&mut self, event: &AccessEvent<'_>) {
        self.text(r#","actor":{"user":{"name":"#, &event.principal, TEXT_BYTES_MAX);
        self.name(r#","type":""#, event.principal_kind.name());
        if !event.issuer.is_empty() {
            self.text(r#"},"idp":{"name":"#, &event.issuer, TEXT_BYTES_MAX);
        }
        self.raw("}}");
    }

    fn unmapped(&mut self, event: &AccessEvent<'_>, abandoned: bool) {
        self.number(r#","unmapped":{"time_nanos":"#, event.time.unix_nanos());
        self.number(r#","duration_nanos":"#, event.duration_nanos);
        self.name(r#","outcome":""#, event.outcome.name());
        self.name(r#","step":""#, event.step.name());
        self.text(r#","route":"#, &event.route, TEXT_BYTES_MAX);
        self.text(r#","upstream":"#, &event.upstream, TEXT_BYTES_MAX);
        self.number(r#","attempts":"#, event.attempts.into());
        self.name(r#","credential":""#, event.credential.name());
        if !event.trace_id.is_empty() {
            self.text(r#","trace_id":"#, &event.trace_id, TEXT_BYTES_MAX);
        }
        match &event.decision {
            Some(decision) => self.decision(decision),
            None if event.decision_json.is_empty() => {}
            None if event.decision_json.len() <= DECISION_BYTES_MAX => {
                self.raw(r#","decision":"#);
                self.line.extend_from_slice(&event.decision_json);
            }
            None => {
                if let Ok(decision) = serde_json::from_slice(&event.decision_json) {
                    self.decision(&decision);
                }
            }
        }
        self.firewall(event);
        if abandoned {
            self.raw(r#","abandoned":true"#);
        }
        if self.cut {
            self.raw(r#","cut":true"#);
        }
        self.raw("}");
    }

    fn firewall(&mut self, event: &AccessEvent<'_>) {
        if event.firewall_json.len() > FIREWALL_BYTES_MAX {
            if let Ok(record) = serde_json::from_slice(&event.firewall_json) {
                self.firewall_record(record);
            }
        } else if !event.firewall_json.is_empty() {
            self.raw(r#","firewall":"#);
            self.line.extend_from_slice(&event.firewall_json);
        } else if let Some(record) = &event.firewall {
            self.firewall_record(record.clone().into_owned());
        }
    }

    fn firewall_record(&mut self, mut record: FirewallRecord) {
        let start = self.line.len();
        loop {
            self.raw(r#","firewall":"#);
            let written = serde_json::to_writer(&mut *self.line, &record).is_ok();
            if written && self.line.len() - start <= FIREWALL_BYTES_MAX {
                return;
            }
            self.cut = true;
            self.line.truncate(start);
            if !written || record.rules.is_empty() {
                return;
            }
            let kept = record.rules.len() / 2;
            record.further += (record.rules.len() - kept) as u64;
            record.rules.truncate(kept);
        }
    }

    fn decision(&mut self, decision: &DecisionRecord) {
        let start = self.line.len();
        self.decision_with(decision, true);
        if self.line.len() - start > DECISION_BYTES_MAX {
            self.line.truncate(start);
            self.cut = true;
            self.decision_with(decision, false);
        }
    }

    fn decision_with(&mut self, decision: &DecisionRecord, read: bool) {
        self.number(r#","decision":{"generation":"#, decision.generation);
        self.text(r#","snapshot":"#, &decision.snapshot, TEXT_BYTES_MAX);
        self.raw(r#","policies":["#);
        let policies_max = if read { usize::MAX } else { 16 };
        for (at, policy) in decision.policies.iter().take(policies_max).enumerate() {
            self.text(if at == 0 { "" } else { "," }, policy, TEXT_BYTES_MAX);
        }
        self.raw(r#"],"read":{"#);
        if read {
            for (at, (name, value)) in decision.read.iter().enumerate() {
                self.text(if at == 0 { "" } else { "," }, name, TEXT_BYTES_MAX);
                self.raw(":");
                let start = self.line.len();
                if serde_json::to_writer(&mut *self.line, value).is_err() {
                    // A value is always JSON; should it not be, the line must still be.
                    self.line.truncate(start);
                    self.raw("null");
                }
            }
        }
        self.raw("}");
        if let Some(reason) = &decision.would_deny {
            self.text(r#","would_deny":"#, reason, TEXT_BYTES_MAX);
        }
        self.raw("}");
    }
}

/// OCSF `type_uid` and `activity_id` of a method, and its name when OCSF has no number for it.
fn activity(method: &str) -> (&'static str, Option<&str>) {
    match method {
        "GET" => (r#","type_uid":400203,"activity_id":3"#, None),
        "POST" => (r#","type_uid":400206,"activity_id":6"#, None),
        "PUT" => (r#","type_uid":400207,"activity_id":7"#, None),
        "DELETE" => (r#","type_uid":400202,"activity_id":2"#, None),
        "HEAD" => (r#","type_uid":400204,"activity_id":4"#, None),
        "OPTIONS" => (r#","type_uid":400205,"activity_id":5"#, None),
        "CONNECT" => (r#","type_uid":400201,"activity_id":1"#, None),
        "TRACE" => (r#","type_uid":400208,"activity_id":8"#, None),
        "" => (r#","type_uid":400200,"activity_id":0"#, None),
        other => (r#","type_uid":400299,"activity_id":99"#, Some(other)),
    }
}

/// An event as it was found in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// The event.
    pub event: AccessEvent<'static>,
    /// Whether it is about a request (class 4002), not about what somebody did at the identity provider.
    pub is_request: bool,
    /// Whether it stands for a request that ended without reporting.
    pub abandoned: bool,
    /// Whether a text in it was too long and was cut, or what its decision read was
    /// left out.
    pub cut: bool,
}

/// Why a line is not an event.
#[derive(Debug, thiserror::Error)]
#[error("not an audit event: {0}")]
pub struct NotAnEvent(#[from] serde_json::Error);

/// Reads a line back.
///
/// # Errors
/// The line is torn, or was not written by [`append`].
pub fn parse(line: &[u8]) -> Result<StoredEvent, NotAnEvent> {
    let line: Line = serde_json::from_slice(line)?;
    let unmapped = line.unmapped;
    let credential = unmapped.credential.0;
    let event = AccessEvent {
        id: line.metadata.uid,
        time: Timestamp::from_unix_nanos(unmapped.time_nanos),
        duration_nanos: unmapped.duration_nanos,
        outcome: unmapped.outcome,
        step: unmapped.step,
        reason: line.status_detail.into(),
        status: unmapped.status.unwrap_or(line.http_response.code),
        client_address: line.src_endpoint.ip.into(),
        client_port: line.src_endpoint.port,
        tls: line.tls.version.into(),
        method: line.http_request.http_method.into(),
        host: line.http_request.url.hostname.into(),
        path: line.http_request.url.path.into(),
        version: line.http_request.version.into(),
        user_agent: line.http_request.user_agent.into(),
        route: unmapped.route.into(),
        upstream: unmapped.upstream.into(),
        attempts: unmapped.attempts,
        bytes_in: line.traffic.bytes_in,
        bytes_out: line.traffic.bytes_out,
        principal_kind: line.actor.user.kind,
        principal: line.actor.user.name.into(),
        credential,
        issuer: line.actor.idp.name.into(),
        trace_id: unmapped.trace_id.into(),
        decision: unmapped.decision.map(Cow::Owned),
        decision_json: Cow::Borrowed(&[]),
        firewall: unmapped.firewall.map(Cow::Owned),
        firewall_json: Cow::Borrowed(&[]),
    };
    let is_request = line.class_uid == CLASS;
    Ok(StoredEvent { event, is_request, abandoned: unmapped.abandoned, cut: unmapped.cut })
}

#[derive(Deserialize)]
struct Line {
    class_uid: u32,
    metadata: Metadata,
    status_detail: String,
    http_request: HttpRequest,
    // From here on what only requests have, not what somebody did at the identity provider.
    #[serde(default)]
    http_response: HttpResponse,
    #[serde(default)]
    src_endpoint: Endpoint,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    traffic: Traffic,
    actor: Actor,
    unmapped: Unmapped,
}

#[derive(Deserialize)]
struct Metadata {
    uid: RequestId,
}

#[derive(Deserialize)]
struct HttpRequest {
    http_method: String,
    url: Url,
    #[serde(default)]
    version: String,
    user_agent: String,
}

#[derive(Deserialize)]
struct Url {
    hostname: String,
    path: String,
}

#[derive(Deserialize, Default)]
struct HttpResponse {
    code: u16,
}

#[derive(Deserialize, Default)]
struct Endpoint {
    ip: String,
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize, Default)]
struct Tls {
    version: String,
}

#[derive(Deserialize, Default)]
struct Traffic {
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Deserialize)]
struct Actor {
    user: User,
    #[serde(default)]
    idp: Idp,
}

#[derive(Deserialize)]
struct User {
    name: String,
    #[serde(rename = "type")]
    kind: PrincipalKind,
}

#[derive(Deserialize, Default)]
struct Idp {
    name: String,
}

#[derive(Deserialize)]
struct Unmapped {
    time_nanos: u64,
    #[serde(default)]
    duration_nanos: u64,
    outcome: Outcome,
    step: Step,
    route: String,
    #[serde(default)]
    upstream: String,
    #[serde(default)]
    attempts: u32,
    status: Option<u16>,
    credential: CredentialName,
    #[serde(default)]
    trace_id: String,
    decision: Option<DecisionRecord>,
    #[serde(default)]
    firewall: Option<FirewallRecord>,
    #[serde(default)]
    abandoned: bool,
    #[serde(default)]
    cut: bool,
}

/// A credential by the configuration's word for it.
struct CredentialName(Credential);

impl<'de> Deserialize<'de> for CredentialName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Credential::ALL
            .into_iter()
            .find(|credential| credential.name() == name)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown credential {name:?}")))
    }
}

#[cfg(test)]
pub(crate) mod tests;
