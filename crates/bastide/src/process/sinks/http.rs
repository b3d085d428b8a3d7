//! Splunk's HTTP Event Collector and the bulk interface of Elasticsearch.

use audit::sink::{elastic, splunk};
use model::Secret;
use proxy::fetch::{FetchRules, Reply};

use super::{Delivery, Fate};
use crate::config::{Outward, Sink, SinkKind};
use crate::process::outward::{self, post, retry_after};

/// Longest answer that is read: one line per event, and reasons.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

pub(super) struct Sender {
    url: String,
    authorization: Option<Secret<String>>,
    outward: Outward,
    rules: FetchRules,
    form: Form,
}

enum Form {
    Splunk(splunk::Beside),
    Elastic { index: String },
}

impl Sender {
    pub(super) fn new(sink: &Sink) -> anyhow::Result<Self> {
        let (url, authorization, form) = match &sink.kind {
            SinkKind::Splunk { url, token, index } => {
                let beside = splunk::Beside { host: super::syslog::hostname(), index: index.clone() };
                let authorization = Secret::new(format!("Splunk {}", token.expose()));
                (format!("{url}{}", splunk::PATH), Some(authorization), Form::Splunk(beside))
            }
            SinkKind::Elastic { url, index, api_key } => {
                let key = api_key.as_ref().map(|key| Secret::new(format!("ApiKey {}", key.expose())));
                (format!("{url}{}", elastic::PATH), key, Form::Elastic { index: index.clone() })
            }
            other => anyhow::bail!("not sent over HTTP: {other:?}"),
        };
        let rules = outward::rules(&sink.outward, ANSWER_BYTES_MAX)?;
        Ok(Self { url, authorization, outward: sink.outward.clone(), rules, form })
    }

    pub(super) async fn deliver(&mut self, lines: &[Vec<u8>]) -> Delivery {
        let authorization = self.authorization.as_ref().map(|value| value.expose().as_str());
        let (content_type, body) = match &self.form {
            Form::Splunk(beside) => (splunk::CONTENT_TYPE, splunk::body(lines, beside)),
            Form::Elastic { index } => (elastic::CONTENT_TYPE, elastic::body(lines, index)),
        };
        match post(&self.url, (content_type, &body), &self.outward, authorization, &self.rules).await {
            Ok(answer) => Delivery { after: retry_after(&answer), ..self.judge(&answer, lines.len()) },
            Err(error) => Delivery::all(lines.len(), Fate::Later, Some(error.to_string())),
        }
    }

    fn judge(&self, answer: &Reply, events: usize) -> Delivery {
        let status = answer.status.as_u16();
        let whole = |fate, why| Delivery::all(events, fate, Some(why));
        let smaller = |why| Delivery { smaller: true, ..whole(Fate::Refused, why) };
        match &self.form {
            Form::Splunk(_) => match splunk::verdict(status, &answer.body) {
                splunk::Verdict::Taken => Delivery::all(events, Fate::Taken, None),
                splunk::Verdict::Later(why) => whole(Fate::Later, why),
                splunk::Verdict::Refused(why) => smaller(why),
                splunk::Verdict::Invalid(place) if place >= events => {
                    smaller(format!("status {status}: event {place} of {events} is invalid"))
                }
                splunk::Verdict::Invalid(place) => {
                    let fate = |at: usize| match at.cmp(&place) {
                        std::cmp::Ordering::Less => Fate::Taken,
                        std::cmp::Ordering::Equal => Fate::Refused,
                        std::cmp::Ordering::Greater => Fate::Later,
                    };
                    let why = Some(format!("status {status}: event {place} is invalid"));
                    Delivery {
                        fates: (0..events).map(fate).collect(),
                        fault: why,
                        after: None,
                        smaller: false,
                    }
                }
            },
            Form::Elastic { .. } => match elastic::verdict(status, &answer.body, events) {
                elastic::Verdict::Later(why) => whole(Fate::Later, why),
                elastic::Verdict::Refused(why) => smaller(why),
                elastic::Verdict::Each(fates, why) => {
                    let fate = |fate: elastic::Fate| match fate {
                        elastic::Fate::Taken => Fate::Taken,
                        elastic::Fate::Later => Fate::Later,
                        elastic::Fate::Refused => Fate::Refused,
                    };
                    let fates = fates.into_iter().map(fate).collect();
                    Delivery { fates, fault: why, after: None, smaller: false }
                }
            },
        }
    }
}
