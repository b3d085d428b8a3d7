//! Bodies: read by their media type, judged by their schema.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::budget::Validator;
use crate::coerce::{Prefer, primitive};
use crate::contract::{Contract, Promise};
use crate::form::{Pairs, Raw};
use crate::json;
use crate::media::{MediaType, Reading, fit, is_utf8, reading};
use crate::multipart::{self, Part};
use crate::parameter::{Parameter, several};
use crate::pass::Pass;
use crate::shape::{Kinds, Shape};
use crate::violation::{self, Class, Violation, Violations};

/// The field of a form that says in which character set the others are (RFC 7578 §4.6).
const CHARSET_FIELD: &str = "_charset_";

/// What a body of some media type has to be.
#[derive(Debug)]
pub(crate) struct Media {
    /// `application/json`, `image/*`, `*/*`.
    pub(crate) range: String,
    /// None: anything will do.
    pub(crate) validator: Option<Validator>,
    pub(crate) shape: Shape,
    /// The properties of a form that the document says how to read.
    pub(crate) fields: Vec<Parameter>,
    /// Media types that the parts of a multipart body may have, by name.
    pub(crate) part_types: Vec<(String, Vec<String>)>,
}

/// How a body's bytes are read.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) reading: Reading,
    boundary: Option<String>,
    is_ascii: bool,
    numbers: json::Numbers,
}

impl Way {
    /// `numbers` of JSON: those of a service go on as it wrote them.
    pub(crate) fn of(media_type: &MediaType, numbers: json::Numbers) -> Self {
        // Some look for the word wherever it stands (PHP), so nothing else may stand beside it.
        let is_known = |(name, _): &(String, String)| name == "boundary" || name == "charset";
        let boundary =
            media_type.parameter("boundary").filter(|_| media_type.parameters.iter().all(is_known));
        let boundary = boundary.map(str::to_owned);
        Self { reading: media_type.reading(), boundary, is_ascii: media_type.is_ascii(), numbers }
    }
}

/// What is still to be judged of a request: its body. Can be sent to another thread.
#[derive(Debug)]
pub struct BodyCheck {
    pub(crate) contract: Arc<Contract>,
    pub(crate) operation: Option<usize>,
    pub(crate) expected: Expected,
}

/// What a body has to be.
#[derive(Debug)]
pub(crate) enum Expected {
    /// There may be none; if there is one, this is wrong with it.
    None(Box<Violation>),
    /// One of this media.
    One { media: usize, way: Way, required: bool },
}

impl BodyCheck {
    /// The operation that the request asks for.
    pub fn operation(&self) -> Option<usize> {
        self.operation
    }

    /// What is wrong with a body that is longer than what may be held of it.
    pub fn too_large(&self) -> Violations {
        Violation::plain(Class::Size, "body", "longer than the limit for validation").into()
    }

    /// Judges the whole body. Takes time with its length: tens of milliseconds per megabyte
    /// where a schema looks at each value a few times, and up to about a second where it looks as
    /// often as the budget allows. A pattern takes linear time too, and that is seconds where it
    /// may begin anywhere and goes on for hundreds of letters of its own beginning
    /// (`[a-m][a-z ]{200}`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(self, bytes: &[u8]) -> Result<Pass, Violations> {
        let passed = || Pass::earned(&self.contract, self.operation);
        let (media, way, required) = match &self.expected {
            Expected::None(_) if bytes.is_empty() => return Ok(passed()),
            Expected::None(violation) => return Err((**violation).clone().into()),
            Expected::One { media, way, required } => (*media, way, *required),
        };
        if bytes.is_empty() && (!required || way.reading == Reading::Opaque) {
            return Ok(passed());
        }
        let media = match &self.contract.promise {
            Promise::Body(media) => Some(media),
            Promise::Api(api) => self
                .operation
                .and_then(|number| api.operations.get(number))
                .and_then(|operation| operation.body.as_ref()?.media.get(media)),
        };
        let broken = media.map(|media| media.judge(bytes, way)).unwrap_or_default();
        Violations::of(broken).map_or_else(|| Ok(passed()), Err)
    }
}

/// The media that fits best, and its place.
pub(crate) fn best<'m>(media: &'m [Media], essence: &str) -> Option<(usize, &'m Media)> {
    let fits = media.iter().enumerate().map(|(place, media)| (fit(&media.range, essence), place, media));
    // Of equals the first.
    let best = fits.filter(|(fit, ..)| *fit > 0).rev().max_by_key(|(fit, ..)| *fit);
    best.map(|(_, place, media)| (place, media))
}

impl Media {
    /// Whether bodies of an essence can be judged: nothing is to be judged, or they can
    /// be read.
    pub(crate) fn can_judge(&self, essence: &str, opaque: &[String]) -> bool {
        self.validator.is_none()
            || reading(essence) != Reading::Opaque
            || opaque.iter().any(|known| known == essence)
    }

    /// Judges a body.
    pub(crate) fn judge(&self, bytes: &[u8], way: &Way) -> Vec<Violation> {
        if way.is_ascii && way.reading != Reading::Opaque && !bytes.is_ascii() {
            return vec![plain("encoding")];
        }
        let place = || "body".to_owned();
        let Some(validator) = &self.validator else {
            // Also where any JSON will do it has to be JSON.
            return match way.reading {
                Reading::Json => json::read_body(bytes, way.numbers)
                    .err()
                    .map(|(why, ..)| plain(why.keyword()))
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            };
        };
        let read = match way.reading {
            Reading::Json => {
                return match json::read_body(bytes, way.numbers) {
                    Ok(value) => violation::judge(validator, &value, Class::Body, &place),
                    Err((why, ..)) => vec![plain(why.keyword())],
                };
            }
            Reading::Form => self.form(bytes),
            Reading::Multipart => self.multipart(bytes, way.boundary.as_deref().unwrap_or_default()),
            Reading::Text => self.text(bytes),
            // Named as opaque in the settings, or it would not have come so far.
            Reading::Opaque => return Vec::new(),
        };
        let (typed, text) = match read {
            Ok(both) => both,
            Err(violation) => return vec![violation],
        };
        let broken = violation::judge(validator, &typed, Class::Body, &place);
        if broken.is_empty() || typed == text || !violation::holds(validator, &text) {
            broken
        } else {
            Vec::new()
        }
    }

    fn text(&self, bytes: &[u8]) -> Result<(Value, Value), Violation> {
        let text = std::str::from_utf8(bytes).map_err(|_| plain("encoding"))?.to_owned();
        let typed = primitive(text.clone(), &self.shape, Prefer::Typed);
        Ok((typed, primitive(text, &self.shape, Prefer::Text)))
    }

    fn form(&self, bytes: &[u8]) -> Result<(Value, Value), Violation> {
        let text = std::str::from_utf8(bytes).map_err(|_| plain("encoding"))?;
        let pairs = Pairs::read(text).map_err(plain)?;
        for charset in pairs.values(|name| name.eq_ignore_ascii_case(CHARSET_FIELD)) {
            keep_charset(charset.decode().ok_or_else(|| plain("encoding"))?.as_bytes())?;
        }
        let is_told = |name: &str| self.shape.property(name).is_some() || self.shape.is_mistaken(name);
        if pairs.has_behind_semicolon(is_told) {
            return Err(plain("separator"));
        }
        let mut both = Both::default();
        for field in &self.fields {
            let value =
                field.value(&pairs).map_err(|why| Violation::plain(Class::Body, field.place(), why))?;
            if let Some(value) = value {
                both.insert(field.name.clone(), value);
            }
        }
        let mut others: Vec<(String, Vec<Raw<'_>>)> = Vec::new();
        for (name, value) in pairs.take_where(|_| true) {
            group(&mut others, name, value);
        }
        for (name, values) in others {
            // Read already from other names: who reads the one does not see the other.
            if both.typed.contains_key(&name) {
                return Err(plain_at(&name, "duplicate"));
            }
            self.keep_name(&name)?;
            let shape = self.shape.property_or_other(&name);
            let value = several(&values, &shape).map_err(|why| plain_at(&name, why))?;
            both.insert(name, value);
        }
        Ok(both.finish())
    }

    fn multipart(&self, bytes: &[u8], boundary: &str) -> Result<(Value, Value), Violation> {
        let parts = multipart::parts(bytes, boundary).ok_or_else(|| plain("multipart"))?;
        let mut grouped: Vec<(String, Vec<(Value, Value)>)> = Vec::new();
        for part in parts {
            if part.name.eq_ignore_ascii_case(CHARSET_FIELD) {
                keep_charset(part.content)?;
            }
            self.keep_name(&part.name)?;
            let shape = self.shape.property_or_other(&part.name);
            let shape = if shape.kinds.has(Kinds::ARRAY) { shape.item() } else { shape };
            let value = self.part(&part, &shape)?;
            group(&mut grouped, &part.name, value);
        }
        let mut both = Both::default();
        for (name, mut values) in grouped {
            if self.shape.property_or_other(&name).kinds.has(Kinds::ARRAY) {
                let (typed, text) = values.into_iter().unzip();
                both.insert(name, (Value::Array(typed), Value::Array(text)));
            } else if let (Some(value), true) = (values.pop(), values.is_empty()) {
                both.insert(name, value);
            } else {
                return Err(plain_at(&name, "duplicate"));
            }
        }
        Ok(both.finish())
    }

    /// Refuses a name that is not declared and that readers of forms may take for one that is.
    fn keep_name(&self, name: &str) -> Result<(), Violation> {
        let is_declared = self.shape.property(name).is_some();
        if is_declared || !self.shape.is_mistaken(name) { Ok(()) } else { Err(plain_at(name, "name")) }
    }

    fn part(&self, part: &Part<'_>, shape: &Shape) -> Result<(Value, Value), Violation> {
        let media_type = match part.media_type {
            b"" => None,
            text => Some(MediaType::parse(text).ok_or_else(|| plain_at(&part.name, "media type"))?),
        };
        let essence = media_type.as_ref().map_or("text/plain", |media_type| media_type.essence.as_str());
        let allowed = self.part_types.iter().find(|(name, _)| *name == part.name);
        if let Some((_, allowed)) = allowed
            && !allowed.iter().any(|range| fit(range, essence) > 0)
        {
            return Err(plain_at(&part.name, "media type"));
        }
        let json = match &media_type {
            Some(media_type) => media_type.reading() == Reading::Json,
            None => shape.kinds == Kinds::OBJECT,
        };
        // A file goes on as bytes; everything else is decoded by whoever reads the form.
        if let Some(media_type) = media_type.as_ref().filter(|_| json || !part.file) {
            if !media_type.is_utf8() {
                return Err(plain_at(&part.name, "charset"));
            }
            if media_type.is_ascii() && !part.content.is_ascii() {
                return Err(plain_at(&part.name, "encoding"));
            }
        }
        if json {
            let value = json::read(part.content, json::Numbers::Exact)
                .map_err(|(why, ..)| plain_at(&part.name, why.keyword()))?;
            // Where the document does not say that it is JSON, most readers take a field's text as it
            // stands, and its quotes and escapes with it.
            if allowed.is_none() && !part.file && !value.is_array() && !value.is_object() {
                let text = String::from_utf8_lossy(part.content).into_owned();
                if primitive(text, shape, Prefer::Typed) != value {
                    return Err(plain_at(&part.name, "media type"));
                }
            }
            return Ok((value.clone(), value));
        }
        if part.file || shape.binary {
            // A character for each byte, so that lengths are those of the file.
            let text: String = part.content.iter().copied().map(char::from).collect();
            return Ok((Value::String(text.clone()), Value::String(text)));
        }
        let text =
            std::str::from_utf8(part.content).map_err(|_| plain_at(&part.name, "encoding"))?.to_owned();
        let typed = primitive(text.clone(), shape, Prefer::Typed);
        Ok((typed, primitive(text, shape, Prefer::Text)))
    }
}

fn group<T>(grouped: &mut Vec<(String, Vec<T>)>, name: &str, value: T) {
    match grouped.iter_mut().find(|(known, _)| known == name) {
        Some((_, values)) => values.push(value),
        None => grouped.push((name.to_owned(), vec![value])),
    }
}

/// A map that is being read, typed and as text.
#[derive(Default)]
struct Both {
    typed: Map<String, Value>,
    text: Map<String, Value>,
}

impl Both {
    fn insert(&mut self, name: String, (typed, text): (Value, Value)) {
        self.typed.insert(name.clone(), typed);
        self.text.insert(name, text);
    }

    fn finish(self) -> (Value, Value) {
        (Value::Object(self.typed), Value::Object(self.text))
    }
}

/// Refuses a form that says its fields are in another character set than they are judged in.
fn keep_charset(charset: &[u8]) -> Result<(), Violation> {
    let is_kept = std::str::from_utf8(charset.trim_ascii()).is_ok_and(is_utf8);
    if is_kept { Ok(()) } else { Err(plain_at(CHARSET_FIELD, "charset")) }
}

fn plain(why: &str) -> Violation {
    Violation::plain(Class::Body, "body", why)
}

fn plain_at(name: &str, why: &str) -> Violation {
    Violation { pointer: crate::document::step("", name).chars().take(256).collect(), ..plain(why) }
}
