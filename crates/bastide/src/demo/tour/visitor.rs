//! One row's visitor: sends a request, looks at the answer and at what the services
//! saw, and writes down a trial.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::RequestId;
use model::event::{Outcome, Step};
use serde::Serialize;
use serde_json::Value;

use crate::demo::client::http1::{self, bytes_of};
use crate::demo::client::{Answer, Endpoint, PATIENCE, Request, http2};
use crate::demo::environment::{DemoEnvironment, HOST};

/// How long the visitor listens for something that must not come.
const SILENCE: Duration = Duration::from_millis(40);

/// Whether a trial must be refused or admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It must not get through.
    Attack,
    /// It must.
    Innocent,
}

/// What was tried, what came back, and what the audit log says about it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    /// Attack or innocent.
    pub(crate) kind: Kind,
    /// What was tried.
    pub(crate) tried: String,
    /// What came back.
    pub(crate) came_back: String,
    /// The request's id, when it got one.
    pub(crate) id: Option<RequestId>,
    /// The step that answered, from the audit log.
    pub(crate) step: String,
    /// Why, from the audit log.
    pub(crate) reason: String,
    /// Why this trial came out wrong; empty when it came out as it must.
    pub(crate) faults: Vec<String>,
    #[serde(skip)]
    pub(super) expected: Expected,
    #[serde(skip)]
    pub(super) reason_names: &'static str,
}

/// What the audit log must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This outcome from this step, for the trial's id.
    Event(Outcome, Step),
    /// Nothing in particular: there was no single request.
    Nothing,
}

/// How an attack must be refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: u16,
    /// The step.
    pub(crate) step: Step,
}

/// A refusal by `step` with `status`.
pub(crate) const fn refusal(status: u16, step: Step) -> Refusal {
    Refusal { status, step }
}

impl Trial {
    pub(super) fn new(kind: Kind, tried: impl Into<String>) -> Self {
        Self {
            kind,
            tried: tried.into(),
            came_back: String::new(),
            id: None,
            step: String::new(),
            reason: String::new(),
            faults: Vec::new(),
            expected: Expected::Nothing,
            reason_names: "",
        }
    }

    /// Something broke that is no trial.
    pub(super) fn broken(what: &str, error: &anyhow::Error) -> Self {
        let mut trial = Self::new(Kind::Innocent, what);
        trial.fault(format!("{error:#}"));
        trial
    }

    /// Whether it came out as it must.
    pub(crate) fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// Notes a fault unless `holds`.
    pub(super) fn require(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.fault(otherwise);
        }
    }
}

/// A request and how it travels.
#[derive(Clone)]
pub(crate) struct Ask {
    /// The request.
    pub(crate) request: Request,
    /// Over HTTP/2 instead of HTTP/1.1.
    pub(crate) http2: bool,
    /// From this local address.
    pub(crate) from: Option<IpAddr>,
    /// At this endpoint instead of the customers'.
    pub(crate) endpoint: Option<Endpoint>,
}

impl Ask {
    pub(super) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(super) fn new(method: &'static str, target: &str) -> Self {
        Self { request: Request::new(method, HOST, target), http2: false, from: None, endpoint: None }
    }

    #[must_use]
    pub(super) fn bearer(mut self, token: &str) -> Self {
        self.request = self.request.bearer(token);
        self
    }

    #[must_use]
    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.field(name, value);
        self
    }

    #[must_use]
    pub(super) fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        self.request.body = body;
        self
    }

    #[must_use]
    pub(super) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// From 127.0.0.`last`: all of 127/8 is ours.
    #[must_use]
    pub(super) fn coming_from(mut self, last: u8) -> Self {
        self.from = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        self
    }

    #[must_use]
    pub(super) fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

/// Sends the requests of one row.
pub(crate) struct Visitor<'t> {
    /// The demo.
    pub(crate) demo: &'t DemoEnvironment,
    trials: Vec<Trial>,
}

impl<'t> Visitor<'t> {
    pub(super) fn new(demo: &'t DemoEnvironment) -> Self {
        Self { demo, trials: Vec::new() }
    }

    pub(super) fn into_trials(self) -> Vec<Trial> {
        self.trials
    }

    pub(super) fn write_down(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    /// Where a request goes.
    pub(super) fn endpoint(&self, ask: &Ask) -> anyhow::Result<Endpoint> {
        let endpoint = match &ask.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => self.demo.endpoint()?,
        };
        Ok(Endpoint { from: ask.from, ..endpoint })
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn ask(&self, ask: &Ask) -> anyhow::Result<Answer> {
        let endpoint = self.endpoint(ask)?;
        Ok(match ask.http2 {
            true => http2::ask(&endpoint, &ask.request).await?,
            false => http1::ask(&endpoint, &ask.request).await?,
        })
    }

    /// The last trial's audited reason must name `word`.
    pub(super) fn because(&mut self, word: &'static str) {
        if let Some(trial) = self.trials.last_mut() {
            trial.reason_names = word;
        }
    }

    /// A request that must be refused, of which no service may see anything.
    pub(super) async fn attack(&mut self, tried: &str, ask: &Ask, refusal: Refusal) -> Option<Answer> {
        let before = self.demo.seen().await;
        let answer = self.ask(ask).await;
        let mut trial = Trial::new(Kind::Attack, tried);
        let answer = self.judge_refusal(&mut trial, answer, refusal);
        self.require_unseen(&mut trial, &before).await;
        self.write_down(trial);
        answer
    }

    /// A call that the administration itself must refuse, behind a gateway that lets it
    /// through: as forbidden, by an event of its own.
    pub(super) async fn attack_administration(&mut self, tried: &str, ask: &Ask) {
        let answer = self.ask(ask).await;
        let mut trial = Trial::new(Kind::Attack, tried);
        if let Some(answer) = note_answer(&mut trial, answer) {
            trial.require(answer.status == 403, "expected 403");
            let told = answer.json();
            let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
            trial
                .require(text("code") == "forbidden", "the administration does not say that it is forbidden");
            trial.id = text("id").parse().ok();
            trial.require(trial.id.is_some(), "the administration names no event of its own");
            trial.expected = Expected::Event(Outcome::Denied, Step::Authorize);
        }
        self.write_down(trial);
    }

    /// Raw bytes that must be refused with one answer, after which the connection must
    /// be closed, and of which no service may see anything.
    pub(super) async fn attack_raw(&mut self, tried: &str, bytes: &[u8], refusal: Refusal) {
        let before = self.demo.seen().await;
        let mut trial = Trial::new(Kind::Attack, tried);
        match self.ask_raw(bytes).await {
            Ok((answer, leftovers, closed)) => {
                self.judge_refusal(&mut trial, Ok(answer), refusal);
                trial.require(leftovers.is_empty(), "a second answer came: two requests were read");
                trial.require(closed, "the connection stayed open after the refusal");
            }
            Err(error) => trial.fault(format!("no answer: {error:#}")),
        }
        self.require_unseen(&mut trial, &before).await;
        self.write_down(trial);
    }

    async fn ask_raw(&self, bytes: &[u8]) -> anyhow::Result<(Answer, Vec<u8>, bool)> {
        let mut connection = http1::Connection::open(&self.demo.endpoint()?).await?;
        connection.send(bytes).await?;
        let answer = connection.answer(false).await?;
        // Until it closes; it must, so this wait is short unless the row turns red.
        let (leftovers, closed) = connection.leftovers(PATIENCE).await;
        Ok((answer, leftovers, closed))
    }

    /// A request that must be answered with `status` by a service.
    pub(super) async fn innocent(&mut self, tried: &str, ask: &Ask, status: u16) -> Option<Answer> {
        let answer = self.ask(ask).await;
        self.judge_innocent(tried, answer, status)
    }

    /// Raw bytes that must be answered with `status` by a service.
    pub(super) async fn innocent_raw(&mut self, tried: &str, bytes: &[u8], status: u16) {
        let answer = async {
            let mut connection = http1::Connection::open(&self.demo.endpoint()?).await?;
            connection.send(bytes).await?;
            anyhow::Ok(connection.answer(false).await?)
        };
        let answer = answer.await;
        self.judge_innocent(tried, answer, status);
    }

    /// The answer to a request that must be answered with `status` by a service.
    pub(super) fn judge_innocent(
        &mut self,
        tried: &str,
        answer: anyhow::Result<Answer>,
        status: u16,
    ) -> Option<Answer> {
        let mut trial = Trial::new(Kind::Innocent, tried);
        let Some(answer) = note_answer(&mut trial, answer) else {
            self.write_down(trial);
            return None;
        };
        trial.require(answer.status == status, format!("expected {status}"));
        trial.expected = Expected::Event(Outcome::Allowed, Step::Forward);
        let good = trial.passed();
        self.write_down(trial);
        good.then_some(answer)
    }

    fn judge_refusal(
        &self,
        trial: &mut Trial,
        answer: anyhow::Result<Answer>,
        refusal: Refusal,
    ) -> Option<Answer> {
        let answer = note_answer(trial, answer)?;
        trial.require(answer.status == refusal.status, format!("expected {}", refusal.status));
        trial.expected = Expected::Event(Outcome::Denied, refusal.step);
        if let Err(fault) = is_bare_problem(&answer) {
            trial.fault(fault);
        }
        Some(answer)
    }

    async fn require_unseen(&self, trial: &mut Trial, before: &BTreeMap<u32, u64>) {
        // A request that slipped through is on its way while we look: give it a moment.
        tokio::time::sleep(SILENCE).await;
        let after = self.demo.seen().await;
        let sum = |counts: &BTreeMap<u32, u64>| counts.values().sum::<u64>();
        trial.require(
            sum(before) == sum(&after),
            format!("the services saw {} requests of it", sum(&after).saturating_sub(sum(before))),
        );
    }
}

/// The bytes of a request, for those who want to change them before they are sent.
pub(super) fn raw(ask: &Ask) -> Vec<u8> {
    bytes_of(&ask.request)
}

/// Writes what came back into the trial; `None` when nothing did.
fn note_answer(trial: &mut Trial, answer: anyhow::Result<Answer>) -> Option<Answer> {
    match answer {
        Ok(answer) => {
            let status = http::StatusCode::from_u16(answer.status).ok();
            let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
            trial.came_back = format!("{} {reason}", answer.status).trim_end().to_owned();
            trial.id = answer.request_id();
            trial.require(trial.id.is_some(), "the answer names no request id");
            Some(answer)
        }
        Err(error) => {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            let closed = kind == Some(io::ErrorKind::UnexpectedEof);
            trial.came_back = if closed { "connection closed".to_owned() } else { format!("{error:#}") };
            trial.fault("no answer");
            None
        }
    }
}

/// Whether an answer is an RFC 9457 problem document with an id and nothing else that
/// could help an attacker.
fn is_bare_problem(answer: &Answer) -> Result<(), String> {
    let kind = answer.field("content-type").unwrap_or("nothing");
    if !kind.starts_with("application/problem+json") {
        return Err(format!("expected a problem document, found {kind}"));
    }
    let body = answer.json();
    let Some(problem) = body.as_object() else {
        return Err("the problem document is no JSON object".to_owned());
    };
    match problem.keys().find(|key| !["type", "title", "status", "id"].contains(&key.as_str())) {
        Some(key) => Err(format!("the problem document tells the client {key:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: &str, body: &str) -> Answer {
        Answer {
            status: 403,
            fields: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_problem_may_name_its_id_and_not_its_reason() {
        let bare = r#"{"type":"about:blank","title":"Forbidden","status":403,"id":"00"}"#;
        assert_eq!(is_bare_problem(&answer("application/problem+json", bare)), Ok(()));
        let chatty = r#"{"title":"Forbidden","detail":"policy own-orders said no"}"#;
        assert!(is_bare_problem(&answer("application/problem+json", chatty)).is_err());
        assert!(is_bare_problem(&answer("text/html", bare)).is_err());
    }
}
