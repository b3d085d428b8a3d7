//! A request's head against the contract.

use std::sync::Arc;

use crate::body::{BodyCheck, Expected, Media, Way, best};
use crate::contract::{Api, Body, Contract, Operation, Promise};
use crate::form::{Pairs, Raw};
use crate::json::Numbers;
use crate::media::MediaType;
use crate::parameter::{Parameter, cookies};
use crate::pass::Pass;
use crate::violation::{Class, VIOLATIONS_MAX, Violation, Violations};

/// Most pairs in a query, a form or the cookies of a request.
pub const QUERY_PAIRS_MAX: usize = 1024;

/// Header fields as the other side will see them.
pub trait Fields {
    /// The values of the field with this lower-case name.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

/// A request's head.
pub trait Head: Fields {
    /// The method, upper case.
    fn method(&self) -> &str;

    /// The normalised path, percent-encoded.
    fn path(&self) -> &[u8];

    /// The query without `?`.
    fn query(&self) -> Option<&[u8]>;
}

/// Whether a message has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasBody {
    /// It has none.
    No,
    /// It has one of at least a byte.
    Yes,
    /// Only reading tells.
    Perhaps,
}

/// A head that keeps the promise.
#[derive(Debug)]
pub enum Opened {
    /// And there is no body.
    Done(Pass),
    /// The body is still to be judged.
    Body(BodyCheck),
}

/// A head that does not.
#[derive(Debug)]
pub struct Unmet {
    /// What is wrong.
    pub violations: Violations,
    /// The operation, when there is one.
    pub operation: Option<usize>,
}

impl Contract {
    /// Judges a request's head, and says what its body has to be.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(self: &Arc<Self>, head: &impl Head, body: HasBody) -> Result<Opened, Unmet> {
        match &self.promise {
            Promise::Body(media) => {
                let required = matches!(head.method(), "POST" | "PUT" | "PATCH");
                let expected = expect(self, Some((required, std::slice::from_ref(media))), head, body);
                self.opened(None, expected, body)
            }
            Promise::Api(api) => self.open_api(api, head, body),
        }
    }

    fn open_api(self: &Arc<Self>, api: &Api, head: &impl Head, body: HasBody) -> Result<Opened, Unmet> {
        let (number, values) = api.find(head).map_err(|violations| Unmet { violations, operation: None })?;
        let unmet = |violations| Unmet { violations, operation: Some(number) };
        let Some(operation) = api.operations.get(number) else {
            return Err(unmet(Violation::plain(Class::Path, "path", "undocumented").into()));
        };
        let mut broken = operation.judge_head(head, &values, self.settings().undeclared_query);
        broken.truncate(VIOLATIONS_MAX);
        if let Some(violations) = Violations::of(broken) {
            return Err(unmet(violations));
        }
        let promised = operation.body.as_ref().map(|Body { required, media }| (*required, media.as_slice()));
        let expected = expect(self, promised, head, body);
        self.opened(Some(number), expected, body)
    }

    fn opened(
        self: &Arc<Self>,
        operation: Option<usize>,
        expected: Expected,
        body: HasBody,
    ) -> Result<Opened, Unmet> {
        let unmet = |violation: Violation| Unmet { violations: violation.into(), operation };
        match (body, expected) {
            (HasBody::No, Expected::One { required: true, .. }) => {
                Err(unmet(Violation::plain(Class::Body, "body", "required")))
            }
            (HasBody::No, _) => Ok(Opened::Done(Pass::earned(self, operation))),
            (HasBody::Yes, Expected::None(violation)) => Err(unmet(*violation)),
            (_, expected) => Ok(Opened::Body(BodyCheck { contract: Arc::clone(self), operation, expected })),
        }
    }
}

/// What the body has to be, by what is promised and what the head says about it.
fn expect(
    contract: &Contract,
    promised: Option<(bool, &[Media])>,
    head: &impl Head,
    body: HasBody,
) -> Expected {
    let wrong = |class, place: &str, why: &str| Expected::None(Box::new(Violation::plain(class, place, why)));
    let Some((required, media)) = promised else { return wrong(Class::Body, "body", "undeclared") };
    let empty = Expected::One {
        media: 0,
        way: Way::of(&MediaType { essence: String::new(), parameters: Vec::new() }, Numbers::Exact),
        required,
    };
    if body == HasBody::No {
        return empty;
    }
    // What is encoded cannot be looked into.
    if head.values("content-encoding").any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return wrong(Class::MediaType, "header \"content-encoding\"", "encoding");
    }
    let mut types = head.values("content-type");
    let media_type = match (types.next(), types.next()) {
        (Some(one), None) => MediaType::parse(one),
        _ => None,
    };
    let place = "header \"content-type\"";
    let Some(media_type) = media_type else { return wrong(Class::MediaType, place, "media type") };
    let found = match &contract.promise {
        // A schema stands for everything that is JSON.
        Promise::Body(_) if media_type.reading() == crate::media::Reading::Json => {
            media.first().map(|m| (0, m))
        }
        Promise::Body(_) => None,
        Promise::Api(_) => best(media, &media_type.essence),
    };
    match found {
        Some((_, media)) if !media.can_judge(&media_type.essence, &contract.settings().opaque) => {
            wrong(Class::MediaType, place, "media type that cannot be looked into")
        }
        Some(_) if !media_type.is_utf8() => wrong(Class::MediaType, place, "charset"),
        Some((number, _)) => {
            Expected::One { media: number, way: Way::of(&media_type, Numbers::Exact), required }
        }
        None => wrong(Class::MediaType, place, "media type"),
    }
}

impl Api {
    /// The operation that a request asks for, and the values in its path.
    fn find<'h>(&self, head: &'h impl Head) -> Result<(usize, Vec<Raw<'h>>), Violations> {
        let unknown = || Violations::from(Violation::plain(Class::Path, "path", "undocumented"));
        let path = std::str::from_utf8(head.path()).map_err(|_| unknown())?;
        let path = path.strip_prefix(self.base.as_str()).ok_or_else(unknown)?;
        let (item, values) = self.paths.find(if path.is_empty() { "/" } else { path }).ok_or_else(unknown)?;
        let item = self.items.get(item).ok_or_else(unknown)?;
        let method = head.method();
        // HEAD is GET without the body (RFC 9110 §9.3.2).
        let found = item.get(method).or_else(|| item.get("GET").filter(|_| method == "HEAD"));
        let number = *found.ok_or_else(|| {
            let mut allow: Vec<&str> = item.keys().map(String::as_str).collect();
            allow.sort_unstable();
            let mut violations = Violations::from(Violation::plain(Class::Method, "method", "undocumented"));
            violations.allow = allow.join(", ");
            violations
        })?;
        Ok((number, values))
    }
}

impl Operation {
    fn judge_head(&self, head: &impl Head, values: &[Raw<'_>], undeclared_query: bool) -> Vec<Violation> {
        let mut broken = Vec::new();
        for (parameter, value) in self.path.iter().zip(values) {
            broken.extend(parameter.judge_segment(value));
        }
        broken.extend(self.judge_query(head.query().unwrap_or_default(), undeclared_query));
        for parameter in &self.headers {
            broken.extend(parameter.judge_fields(head.values(&parameter.name)));
        }
        if !self.cookies.is_empty() {
            let is_declared = |name: &str| self.cookies.iter().any(|cookie| cookie.is_told_by(name));
            match cookies(head.values("cookie"), is_declared) {
                Ok(pairs) => broken.extend(self.cookies.iter().flat_map(|cookie| cookie.judge_pairs(&pairs))),
                Err(why) => broken.push(Violation::plain(Class::Parameter, "cookies", why)),
            }
        }
        broken
    }

    fn judge_query(&self, query: &[u8], undeclared: bool) -> Vec<Violation> {
        let refuse = |why| vec![Violation::plain(Class::Parameter, "query", why)];
        if query.is_empty() && !self.query.iter().any(|parameter| parameter.required) {
            return Vec::new();
        }
        if self.query.is_empty() && undeclared {
            return Vec::new();
        }
        let Ok(text) = std::str::from_utf8(query) else { return refuse("encoding") };
        let pairs = match Pairs::read(text) {
            Ok(pairs) => pairs,
            Err(why) => return refuse(why),
        };
        let is_told = |name: &str| self.query.iter().any(|parameter| parameter.is_told_by(name));
        let is_mistold = |name: &str| self.query.iter().any(|parameter| parameter.is_mistold_by(name));
        if pairs.has_behind_semicolon(|name| is_told(name) || is_mistold(name)) {
            return refuse("separator");
        }
        let judge = |parameter: &Parameter| parameter.judge_pairs(&pairs);
        let mut broken: Vec<Violation> = self.query.iter().flat_map(judge).collect();
        if pairs.has_left(|name| !undeclared || is_mistold(name)) {
            broken.push(Violation::plain(Class::Parameter, "query", "undeclared parameter"));
        }
        broken
    }
}
