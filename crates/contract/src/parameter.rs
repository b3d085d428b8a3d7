//! One parameter of an operation: how its text is taken apart (OpenAPI 3.0.4 §4.7.12.3,
//! RFC 6570), and whether its value keeps the promise.

use serde_json::{Map, Value};

use crate::budget::Validator;
use crate::coerce::{Prefer, primitive};
use crate::form::{Pairs, Raw, reads_as};
use crate::json;
use crate::shape::{Kinds, Shape};
use crate::violation::{self, Class, Violation};

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Path,
    Query,
    Header,
    Cookie,
    /// A property of a form.
    Form,
}

impl Location {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Form => "form",
        }
    }
}

/// How several values stand in one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    /// `content:` with a JSON media type: the text is JSON.
    Json,
}

impl Style {
    pub(crate) fn named(name: &str, location: Location) -> Option<Self> {
        let fits = |style, places: &[Location]| places.contains(&location).then_some(style);
        let pairs = &[Location::Query, Location::Form];
        match name {
            "simple" => fits(Self::Simple, &[Location::Path, Location::Header]),
            "label" => fits(Self::Label, &[Location::Path]),
            "matrix" => fits(Self::Matrix, &[Location::Path]),
            "form" => fits(Self::Form, &[Location::Query, Location::Form, Location::Cookie]),
            "spaceDelimited" => fits(Self::SpaceDelimited, pairs),
            "pipeDelimited" => fits(Self::PipeDelimited, pairs),
            "deepObject" => fits(Self::DeepObject, pairs),
            _ => None,
        }
    }

    pub(crate) const fn usual(location: Location) -> Self {
        match location {
            Location::Path | Location::Header => Self::Simple,
            Location::Query | Location::Cookie | Location::Form => Self::Form,
        }
    }
}

/// A parameter, ready to judge.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) required: bool,
    pub(crate) allow_empty: bool,
    pub(crate) style: Style,
    pub(crate) explode: bool,
    pub(crate) shape: Shape,
    pub(crate) validator: Option<Validator>,
    /// Names that are declared beside it: no map in pairs of other names takes them.
    pub(crate) reserved: Vec<String>,
}

/// What is wrong with a text before any schema is asked: a word for the log.
pub(crate) type Unread = &'static str;

/// What a text is read as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Primitive,
    List,
    Map,
}

impl Parameter {
    pub(crate) fn place(&self) -> String {
        format!("{} parameter {:?}", self.location.name(), self.name)
    }

    /// Whether its value may be made of pairs with other names: an exploded form object.
    pub(crate) fn is_spread(&self) -> bool {
        self.style == Style::Form && self.explode && self.shape.kinds.has(Kinds::OBJECT)
    }

    /// Whether it takes its value, or a part of it, from pairs of a name.
    pub(crate) fn is_told_by(&self, name: &str) -> bool {
        self.name == name || self.is_spread() && self.shape.property(name).is_some()
    }

    /// Whether it does so where a reader takes a name for another one.
    pub(crate) fn is_mistold_by(&self, name: &str) -> bool {
        reads_as(name, &self.name) || self.is_spread() && self.shape.is_mistaken(name)
    }

    /// Keeps apart what stands in the same pairs: what one declares, no other takes for a
    /// property that its schema does not name. `more` is declared beside them all.
    pub(crate) fn keep_apart(all: &mut [Self], more: &[(String, Shape)]) {
        let declared = |parameter: &Self| {
            let properties = if parameter.is_spread() { parameter.shape.properties.as_slice() } else { &[] };
            let properties = properties.iter().map(|(name, _)| name.clone());
            std::iter::once(parameter.name.clone()).chain(properties).collect::<Vec<_>>()
        };
        let every: Vec<_> = all.iter().map(declared).collect();
        for (at, parameter) in all.iter_mut().enumerate().filter(|(_, parameter)| parameter.is_spread()) {
            let others = every.iter().enumerate().filter(|(other, _)| *other != at);
            let names = others.flat_map(|(_, names)| names).chain(more.iter().map(|(name, _)| name));
            parameter.reserved = names.filter(|name| **name != parameter.name).cloned().collect();
        }
    }

    /// Whether a value that may be a map in pairs of other names stands in one of its own.
    fn is_one(&self, pairs: &Pairs<'_>) -> bool {
        let apart = match self.style {
            Style::DeepObject => true,
            _ => self.is_spread() && self.shape.property(&self.name).is_none(),
        };
        let kinds = self.shape.kinds;
        apart && kinds.has(Kinds::OBJECT) && kinds != Kinds::OBJECT && pairs.has(&self.name)
    }

    /// Whether it does, and a map stands beside it: who reads the one does not see the other.
    fn is_told_twice(&self, pairs: &Pairs<'_>) -> bool {
        let is_part = |name: &str| match self.style {
            Style::DeepObject => self.deep_name(name).is_some(),
            _ => self.shape.property(name).is_some(),
        };
        self.is_one(pairs) && pairs.has_left(is_part)
    }

    /// Judges what stands in pairs: query, cookies.
    pub(crate) fn judge_pairs(&self, pairs: &Pairs<'_>) -> Vec<Violation> {
        if self.is_told_twice(pairs) {
            return self.refuse("duplicate");
        }
        let found = self.readings().map(|reading| self.read_pairs(pairs, reading));
        self.judge(found.collect())
    }

    /// Judges what stands in header fields: several are one list (RFC 9110 §5.3).
    pub(crate) fn judge_fields<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> Vec<Violation> {
        let Some(first) = values.next() else { return self.judge(vec![Ok(None)]) };
        let mut joined = first.to_vec();
        let mut several = false;
        for value in values {
            several = true;
            joined.extend_from_slice(b",");
            joined.extend_from_slice(value);
        }
        let Ok(text) = String::from_utf8(joined) else { return self.refuse("encoding") };
        let read = |reading| match reading {
            Reading::Primitive if several => Err("duplicate"),
            _ => self.read_text(&Raw::plain(&text), reading).map(Some),
        };
        self.judge(self.readings().map(read).collect())
    }

    /// Judges a part of the path, as it stands there.
    pub(crate) fn judge_segment(&self, segment: &Raw<'_>) -> Vec<Violation> {
        let found = self.readings().map(|reading| self.read_text(segment, reading).map(Some));
        self.judge(found.collect())
    }

    /// The value in a form, read as typed and as text, without asking a schema.
    pub(crate) fn value(&self, pairs: &Pairs<'_>) -> Result<Option<(Value, Value)>, Unread> {
        if self.is_told_twice(pairs) {
            return Err("duplicate");
        }
        let mut missing = Ok(None);
        for reading in self.readings() {
            match self.read_pairs(pairs, reading) {
                Ok(Some(found)) => return Ok(Some(found)),
                Err(why) if missing.is_ok() => missing = Err(why),
                Ok(None) | Err(_) => {}
            }
        }
        missing
    }

    fn readings(&self) -> impl Iterator<Item = Reading> + use<> {
        let kinds = self.shape.kinds;
        let list = kinds.has(Kinds::ARRAY).then_some(Reading::List);
        let map = kinds.has(Kinds::OBJECT).then_some(Reading::Map);
        let primitive = kinds.has_primitive().then_some(Reading::Primitive);
        list.into_iter().chain(map).chain(primitive)
    }

    /// It is kept when one way of reading it keeps it.
    fn judge(&self, readings: Vec<Result<Option<(Value, Value)>, Unread>>) -> Vec<Violation> {
        if self.required && readings.iter().all(|read| matches!(read, Ok(None))) {
            return self.refuse("required");
        }
        let mut violations = Vec::new();
        for read in readings {
            let broken = match read {
                // Not there as that: it may be there as something else.
                Ok(None) => continue,
                Ok(Some((typed, text))) => self.judge_value(&typed, &text),
                Err(why) => self.refuse(why),
            };
            if broken.is_empty() {
                return broken;
            }
            if violations.is_empty() {
                violations = broken;
            }
        }
        violations
    }

    fn judge_value(&self, typed: &Value, text: &Value) -> Vec<Violation> {
        if self.allow_empty && text.as_str() == Some("") {
            return Vec::new();
        }
        let Some(validator) = &self.validator else { return Vec::new() };
        let class = self.class();
        let broken = violation::judge(validator, typed, class, &|| self.place());
        if broken.is_empty() || typed == text || !violation::holds(validator, text) {
            broken
        } else {
            Vec::new()
        }
    }

    fn class(&self) -> Class {
        if self.location == Location::Form { Class::Body } else { Class::Parameter }
    }

    fn refuse(&self, why: &str) -> Vec<Violation> {
        vec![Violation::plain(self.class(), self.place(), why)]
    }

    /// The value from pairs, read as typed and as text; `None` when it is not there.
    fn read_pairs(&self, pairs: &Pairs<'_>, reading: Reading) -> Result<Option<(Value, Value)>, Unread> {
        if reading == Reading::Map {
            match self.style {
                Style::DeepObject | Style::Form if self.is_one(pairs) => return Ok(None),
                Style::DeepObject => return self.deep(pairs),
                Style::Form if self.explode => return self.spread(pairs),
                _ => {}
            }
        }
        let mut found = pairs.take(&self.name);
        let Some(first) = found.next() else { return Ok(None) };
        if reading == Reading::List && self.explode && self.style != Style::Json {
            return self.list(std::iter::once(first).chain(found)).map(Some);
        }
        if found.next().is_some() {
            return Err("duplicate");
        }
        self.read_text(&first, reading).map(Some)
    }

    /// The value from one text.
    fn read_text(&self, raw: &Raw<'_>, reading: Reading) -> Result<(Value, Value), Unread> {
        if self.style == Style::Json {
            let text = raw.decode().ok_or("encoding")?;
            let value =
                json::read(text.as_bytes(), json::Numbers::Exact).map_err(|(why, ..)| why.keyword())?;
            return Ok((value.clone(), value));
        }
        let raw = match self.style {
            Style::Label => raw.after(".").ok_or("style")?,
            Style::Matrix => return self.matrix(raw, reading),
            _ => raw.clone(),
        };
        match reading {
            Reading::Primitive => both(&raw, &self.shape),
            Reading::List => self.list(raw.split(self.delimiters())),
            Reading::Map if self.explode => self.equations(raw.split(self.delimiters())),
            Reading::Map => self.alternating(raw.split(self.delimiters())),
        }
    }

    /// What stands between values. Encoded commas are data, encoded spaces and bars
    /// are not: the style is made of them.
    fn delimiters(&self) -> &'static [&'static str] {
        match self.style {
            Style::Label if self.explode => &["."],
            Style::SpaceDelimited => &["%20", "+"],
            Style::PipeDelimited => &["%7C", "%7c", "|"],
            _ => &[","],
        }
    }

    /// `;name=a,b`, exploded `;name=a;name=b` and `;R=100;G=200` (RFC 6570 §3.2.7).
    fn matrix(&self, raw: &Raw<'_>, reading: Reading) -> Result<(Value, Value), Unread> {
        let raw = raw.after(";").ok_or("style")?;
        let prefix = format!("{}=", self.name);
        match reading {
            Reading::Primitive => both(&raw.after(&prefix).ok_or("style")?, &self.shape),
            Reading::List if self.explode => {
                let parts: Result<Vec<_>, _> =
                    raw.split(&[";"]).map(|part| part.after(&prefix).ok_or("style")).collect();
                self.list(parts?.into_iter())
            }
            Reading::Map if self.explode => self.equations(raw.split(&[";"])),
            Reading::List => self.list(raw.after(&prefix).ok_or("style")?.split(&[","])),
            Reading::Map => self.alternating(raw.after(&prefix).ok_or("style")?.split(&[","])),
        }
    }

    fn list<'r>(&self, parts: impl Iterator<Item = Raw<'r>>) -> Result<(Value, Value), Unread> {
        let item = self.shape.item();
        let values: Result<Vec<_>, _> = parts.map(|part| both(&part, &item)).collect();
        let (typed, text) = values?.into_iter().unzip();
        Ok((Value::Array(typed), Value::Array(text)))
    }

    /// `R,100,G,200`
    fn alternating<'r>(&self, parts: impl Iterator<Item = Raw<'r>>) -> Result<(Value, Value), Unread> {
        let mut parts = parts;
        let mut maps = Maps::default();
        while let Some(name) = parts.next() {
            let value = parts.next().ok_or("style")?;
            maps.insert(&name, &value, &self.shape)?;
        }
        Ok(maps.finish())
    }

    /// `R=100,G=200`
    fn equations<'r>(&self, parts: impl Iterator<Item = Raw<'r>>) -> Result<(Value, Value), Unread> {
        let mut maps = Maps::default();
        for part in parts {
            let (name, value) = part.split_once("=").ok_or("style")?;
            maps.insert(&name, &value, &self.shape)?;
        }
        Ok(maps.finish())
    }

    /// `color[R]=100&color[G]=200`
    fn deep(&self, pairs: &Pairs<'_>) -> Result<Option<(Value, Value)>, Unread> {
        let mut grouped: Vec<(String, Vec<Raw<'_>>)> = Vec::new();
        for (name, value) in pairs.take_where(|name| self.deep_name(name).is_some()) {
            let Some(inner) = self.deep_name(name) else { continue };
            match grouped.iter_mut().find(|(known, _)| known == inner) {
                Some((_, values)) => values.push(value),
                None => grouped.push((inner.to_owned(), vec![value])),
            }
        }
        self.grouped(grouped)
    }

    fn deep_name<'n>(&self, name: &'n str) -> Option<&'n str> {
        let inner = name.strip_prefix(self.name.as_str())?.strip_prefix('[')?.strip_suffix(']')?;
        (!inner.contains(['[', ']'])).then_some(inner)
    }

    /// Each property a pair of its own.
    fn spread(&self, pairs: &Pairs<'_>) -> Result<Option<(Value, Value)>, Unread> {
        let open = self.shape.additional.is_some() && self.location != Location::Cookie;
        let mut grouped: Vec<(String, Vec<Raw<'_>>)> = Vec::new();
        let is_reserved =
            |name: &str| self.reserved.iter().any(|reserved| reserved == name || reads_as(name, reserved));
        let is_free = |name: &str| open && !is_reserved(name) && !self.shape.is_mistaken(name);
        for (name, value) in pairs.take_where(|name| self.shape.property(name).is_some() || is_free(name)) {
            match grouped.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value),
                None => grouped.push((name.to_owned(), vec![value])),
            }
        }
        self.grouped(grouped)
    }

    fn grouped(&self, grouped: Vec<(String, Vec<Raw<'_>>)>) -> Result<Option<(Value, Value)>, Unread> {
        if grouped.is_empty() {
            return Ok(None);
        }
        let (mut typed, mut text) = (Map::new(), Map::new());
        for (name, values) in grouped {
            let shape = self.shape.property_or_other(&name);
            let (one, other) = several(&values, &shape)?;
            typed.insert(name.clone(), one);
            text.insert(name, other);
        }
        Ok(Some((Value::Object(typed), Value::Object(text))))
    }
}

/// One or several texts of one name: a list when the schema says so, else exactly one.
pub(crate) fn several(values: &[Raw<'_>], shape: &Shape) -> Result<(Value, Value), Unread> {
    if shape.kinds.has(Kinds::ARRAY) {
        let item = shape.item();
        let pairs: Result<Vec<_>, _> = values.iter().map(|value| both(value, &item)).collect();
        let (typed, text) = pairs?.into_iter().unzip();
        return Ok((Value::Array(typed), Value::Array(text)));
    }
    match values {
        [one] => both(one, shape),
        _ => Err("duplicate"),
    }
}

/// A text read both ways: as the schema knows it, and as a text.
fn both(raw: &Raw<'_>, shape: &Shape) -> Result<(Value, Value), Unread> {
    let text = raw.decode().ok_or("encoding")?;
    let typed = primitive(text.clone(), shape, Prefer::Typed);
    Ok((typed, primitive(text, shape, Prefer::Text)))
}

/// A map that is being read, both ways.
#[derive(Default)]
struct Maps {
    typed: Map<String, Value>,
    text: Map<String, Value>,
}

impl Maps {
    fn insert(&mut self, name: &Raw<'_>, value: &Raw<'_>, shape: &Shape) -> Result<(), Unread> {
        let name = name.decode().ok_or("encoding")?;
        let (typed, text) = both(value, &shape.property_or_other(&name))?;
        if self.typed.insert(name.clone(), typed).is_some() {
            return Err("duplicate");
        }
        self.text.insert(name, text);
        Ok(())
    }

    fn finish(self) -> (Value, Value) {
        (Value::Object(self.typed), Value::Object(self.text))
    }
}

/// `a=1; b=2` (RFC 6265 §4.2.1) as pairs.
///
/// # Errors
/// Something is no UTF-8, there are too many, or blanks stand beside a name that is declared: some
/// readers trim it.
pub(crate) fn cookies<'c>(
    fields: impl Iterator<Item = &'c [u8]>,
    is_declared: impl Fn(&str) -> bool,
) -> Result<Pairs<'c>, Unread> {
    let mut pairs = Pairs::default();
    for field in fields {
        let text = std::str::from_utf8(field).map_err(|_| "encoding")?;
        for pair in text.split(';') {
            let pair = pair.trim_matches([' ', '\t']);
            if let Some((name, value)) = pair.split_once('=') {
                if name.trim() != name && is_declared(name.trim()) {
                    return Err("name");
                }
                pairs.push(name.to_owned(), Raw::cookie(value))?;
            }
        }
    }
    Ok(pairs)
}
