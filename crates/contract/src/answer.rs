//! A response against the contract.

use std::sync::Arc;

use crate::body::{Way, best};
use crate::contract::{Contract, Promise, Promised};
use crate::json::Numbers;
use crate::media::MediaType;
use crate::request::{Fields, HasBody};
use crate::violation::{Class, Violation, Violations};

/// A response's head that keeps the promise.
#[derive(Debug)]
pub enum Answer {
    /// And nothing more is to be judged.
    Done,
    /// The body is still to be judged.
    Body(AnswerCheck),
}

/// What is still to be judged of a response: its body. Can be sent to another thread.
#[derive(Clone, Debug)]
pub struct AnswerCheck {
    contract: Arc<Contract>,
    operation: usize,
    status: String,
    media: usize,
    way: Way,
}

impl Contract {
    /// Judges a response's head. Without an operation nothing is promised about it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn answer(
        self: &Arc<Self>,
        operation: Option<usize>,
        status: u16,
        fields: &impl Fields,
        body: HasBody,
    ) -> Result<Answer, Violations> {
        let Some(number) = operation else { return Ok(Answer::Done) };
        let Promise::Api(api) = &self.promise else { return Ok(Answer::Done) };
        let promised = api.operations.get(number).and_then(|operation| {
            let keys = [status.to_string(), format!("{}XX", status / 100), "default".to_owned()];
            keys.into_iter().find_map(|key| operation.answers.get_key_value(&key))
        });
        let Some((key, promised)) = promised else {
            return Err(Violation::plain(Class::Status, format!("status {status}"), "undocumented").into());
        };
        let broken = promised.headers.iter().flat_map(|header| {
            header.judge_fields(fields.values(&header.name)).into_iter().map(|violation| Violation {
                class: Class::Header,
                place: format!("response header {:?}", header.name),
                ..violation
            })
        });
        if let Some(violations) = Violations::of(broken.collect()) {
            return Err(violations);
        }
        if body == HasBody::No {
            return Ok(Answer::Done);
        }
        let Some((media, way)) = media_of(promised, fields, &self.settings().opaque)? else {
            return Ok(Answer::Done);
        };
        let check =
            AnswerCheck { contract: Arc::clone(self), operation: number, status: key.clone(), media, way };
        Ok(Answer::Body(check))
    }
}

fn media_of(
    promised: &Promised,
    fields: &impl Fields,
    opaque: &[String],
) -> Result<Option<(usize, Way)>, Violations> {
    let wrong = |place: &str, why: &str| Violation::plain(Class::MediaType, place, why).into();
    if promised.media.is_empty() {
        return Err(Violation::plain(Class::Body, "response body", "undeclared").into());
    }
    if fields.values("content-encoding").any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return Err(wrong("response header \"content-encoding\"", "encoding"));
    }
    let place = "response header \"content-type\"";
    let mut types = fields.values("content-type");
    let media_type = match (types.next(), types.next()) {
        (Some(one), None) => MediaType::parse(one),
        _ => None,
    };
    let media_type = media_type.ok_or_else(|| wrong(place, "media type"))?;
    let (number, media) =
        best(&promised.media, &media_type.essence).ok_or_else(|| wrong(place, "media type"))?;
    if !media.can_judge(&media_type.essence, opaque) {
        return Err(wrong(place, "media type that cannot be looked into"));
    }
    Ok(Some((number, Way::of(&media_type, Numbers::Rounded))))
}

impl AnswerCheck {
    /// What is wrong with a body that is longer than what may be held of it.
    pub fn too_large(&self) -> Violations {
        Violation::plain(Class::Size, "response body", "longer than the limit for validation").into()
    }

    /// What is wrong with a body that nobody had the time to judge.
    pub fn unjudged(&self) -> Violations {
        Violation::plain(Class::Complexity, "response body", "could not be judged on another thread").into()
    }

    /// Judges the whole body.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, bytes: &[u8]) -> Result<(), Violations> {
        let Promise::Api(api) = &self.contract.promise else { return Ok(()) };
        let promised = api.operations.get(self.operation).and_then(|one| one.answers.get(&self.status));
        let media = promised.and_then(|promised| promised.media.get(self.media));
        let broken = media.map(|media| media.judge(bytes, &self.way)).unwrap_or_default();
        let broken =
            broken.into_iter().map(|violation| Violation { place: "response body".to_owned(), ..violation });
        Violations::of(broken.collect()).map_or(Ok(()), Err)
    }
}
