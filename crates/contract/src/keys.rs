//! The keys of every object of an OpenAPI document (3.0.4 §4.7, 3.1.1 §4.8). A key that is not
//! known holds nothing; where it may have been meant to hold something, the document is refused.

use std::collections::HashSet;

use serde_json::Value;

use crate::document::{Document, step};
use crate::fault::Fault;
use crate::keywords::near;

/// The objects, schemas apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Object {
    Document,
    Info,
    Contact,
    License,
    Server,
    Variable,
    Components,
    PathItem,
    Operation,
    Parameter,
    RequestBody,
    Response,
    Header,
    MediaType,
    Encoding,
    Callback,
    Example,
    Link,
    SecurityScheme,
    Flows,
    Flow,
    Tag,
    ExternalDocs,
}

/// What stands under a key.
#[derive(Clone, Copy, Debug)]
enum Holds {
    /// Nothing that is looked at here.
    Anything,
    Flag,
    Text,
    One(Object),
    List(Object),
    /// A map from names to these.
    Named(Object),
    /// The same, with names that begin with `x-` free for extensions.
    Patterned(Object),
}

use Holds::{Anything, Flag, List, Named, One, Patterned, Text};

impl Object {
    const fn name(self) -> &'static str {
        match self {
            Self::Document => "the document",
            Self::Info => "info",
            Self::Contact => "contact",
            Self::License => "license",
            Self::Server => "a server",
            Self::Variable => "a server variable",
            Self::Components => "components",
            Self::PathItem => "a path",
            Self::Operation => "an operation",
            Self::Parameter => "a parameter",
            Self::RequestBody => "a request body",
            Self::Response => "a response",
            Self::Header => "a header",
            Self::MediaType => "a media type",
            Self::Encoding => "an encoding",
            Self::Callback => "a callback",
            Self::Example => "an example",
            Self::Link => "a link",
            Self::SecurityScheme => "a security scheme",
            Self::Flows => "flows",
            Self::Flow => "a flow",
            Self::Tag => "a tag",
            Self::ExternalDocs => "externalDocs",
        }
    }

    /// Whether a message is judged by it, so that a key that nobody knows may open the contract.
    const fn judges(self) -> bool {
        matches!(
            self,
            Self::Document
                | Self::Components
                | Self::PathItem
                | Self::Operation
                | Self::Parameter
                | Self::RequestBody
                | Self::Response
                | Self::Header
                | Self::MediaType
                | Self::Encoding
        )
    }

    /// Whether a reference may stand in its place. What is beside it is ignored (OpenAPI 3.1.1
    /// §4.8.23), except in a path.
    const fn may_refer(self) -> bool {
        matches!(
            self,
            Self::PathItem
                | Self::Parameter
                | Self::RequestBody
                | Self::Response
                | Self::Header
                | Self::Callback
                | Self::Example
                | Self::Link
                | Self::SecurityScheme
        )
    }

    /// What 3.0 or 3.1 knows.
    const fn keys(self) -> &'static [(&'static str, Holds)] {
        match self {
            Self::Document => &[
                ("openapi", Anything),
                ("info", One(Self::Info)),
                ("jsonSchemaDialect", Text),
                ("servers", List(Self::Server)),
                ("paths", Patterned(Self::PathItem)),
                ("webhooks", Named(Self::PathItem)),
                ("components", One(Self::Components)),
                ("security", Anything),
                ("tags", List(Self::Tag)),
                ("externalDocs", One(Self::ExternalDocs)),
            ],
            Self::Info => &[
                ("title", Anything),
                ("summary", Anything),
                ("description", Anything),
                ("termsOfService", Anything),
                ("contact", One(Self::Contact)),
                ("license", One(Self::License)),
                ("version", Anything),
            ],
            Self::Contact => &[("name", Anything), ("url", Anything), ("email", Anything)],
            Self::License => &[("name", Anything), ("identifier", Anything), ("url", Anything)],
            Self::Server => &[("url", Text), ("description", Anything), ("variables", Named(Self::Variable))],
            Self::Variable => &[("enum", Anything), ("default", Anything), ("description", Anything)],
            Self::Components => &[
                ("schemas", Anything),
                ("responses", Named(Self::Response)),
                ("parameters", Named(Self::Parameter)),
                ("examples", Named(Self::Example)),
                ("requestBodies", Named(Self::RequestBody)),
                ("headers", Named(Self::Header)),
                ("securitySchemes", Named(Self::SecurityScheme)),
                ("links", Named(Self::Link)),
                ("callbacks", Named(Self::Callback)),
                ("pathItems", Named(Self::PathItem)),
            ],
            Self::PathItem => &[
                ("summary", Anything),
                ("description", Anything),
                ("get", One(Self::Operation)),
                ("put", One(Self::Operation)),
                ("post", One(Self::Operation)),
                ("delete", One(Self::Operation)),
                ("options", One(Self::Operation)),
                ("head", One(Self::Operation)),
                ("patch", One(Self::Operation)),
                ("trace", One(Self::Operation)),
                ("servers", List(Self::Server)),
                ("parameters", List(Self::Parameter)),
            ],
            Self::Operation => &[
                ("tags", Anything),
                ("summary", Anything),
                ("description", Anything),
                ("externalDocs", One(Self::ExternalDocs)),
                ("operationId", Anything),
                ("parameters", List(Self::Parameter)),
                ("requestBody", One(Self::RequestBody)),
                ("responses", Patterned(Self::Response)),
                ("callbacks", Named(Self::Callback)),
                ("deprecated", Anything),
                ("security", Anything),
                ("servers", List(Self::Server)),
            ],
            Self::Parameter => &[
                ("name", Anything),
                ("in", Text),
                ("description", Anything),
                ("required", Flag),
                ("deprecated", Anything),
                ("allowEmptyValue", Flag),
                ("style", Text),
                ("explode", Flag),
                ("allowReserved", Anything),
                ("schema", Anything),
                ("example", Anything),
                ("examples", Named(Self::Example)),
                ("content", Named(Self::MediaType)),
            ],
            Self::Header => &[
                ("description", Anything),
                ("required", Flag),
                ("deprecated", Anything),
                ("allowEmptyValue", Anything),
                ("style", Text),
                ("explode", Flag),
                ("allowReserved", Anything),
                ("schema", Anything),
                ("example", Anything),
                ("examples", Named(Self::Example)),
                ("content", Named(Self::MediaType)),
            ],
            Self::RequestBody => {
                &[("description", Anything), ("content", Named(Self::MediaType)), ("required", Flag)]
            }
            Self::Response => &[
                ("description", Anything),
                ("headers", Named(Self::Header)),
                ("content", Named(Self::MediaType)),
                ("links", Named(Self::Link)),
            ],
            Self::MediaType => &[
                ("schema", Anything),
                ("example", Anything),
                ("examples", Named(Self::Example)),
                ("encoding", Named(Self::Encoding)),
            ],
            Self::Encoding => &[
                ("contentType", Text),
                ("headers", Named(Self::Header)),
                ("style", Text),
                ("explode", Flag),
                ("allowReserved", Anything),
            ],
            // Paths by expressions, which nobody here requests.
            Self::Callback => &[],
            Self::Example => &[
                ("summary", Anything),
                ("description", Anything),
                ("value", Anything),
                ("externalValue", Anything),
            ],
            Self::Link => &[
                ("operationRef", Anything),
                ("operationId", Anything),
                ("parameters", Anything),
                ("requestBody", Anything),
                ("description", Anything),
                ("server", One(Self::Server)),
            ],
            Self::SecurityScheme => &[
                ("type", Anything),
                ("description", Anything),
                ("name", Anything),
                ("in", Anything),
                ("scheme", Anything),
                ("bearerFormat", Anything),
                ("flows", One(Self::Flows)),
                ("openIdConnectUrl", Anything),
            ],
            Self::Flows => &[
                ("implicit", One(Self::Flow)),
                ("password", One(Self::Flow)),
                ("clientCredentials", One(Self::Flow)),
                ("authorizationCode", One(Self::Flow)),
            ],
            Self::Flow => &[
                ("authorizationUrl", Anything),
                ("tokenUrl", Anything),
                ("refreshUrl", Anything),
                ("scopes", Anything),
            ],
            Self::Tag => {
                &[("name", Anything), ("description", Anything), ("externalDocs", One(Self::ExternalDocs))]
            }
            Self::ExternalDocs => &[("description", Anything), ("url", Anything)],
        }
    }
}

/// Every key that is not known, or holds something else than it can. Objects are judged where
/// they stand and where a reference takes them from.
pub(crate) fn faults(document: &Document, faults: &mut Vec<Fault>) {
    let mut judge =
        Judge { document, faults, waiting: vec![(String::new(), Object::Document)], done: HashSet::new() };
    while let Some((at, object)) = judge.waiting.pop() {
        if judge.done.insert((at.clone(), object)) {
            judge.object(&at, object);
        }
    }
}

struct Judge<'d, 'f> {
    document: &'d Document,
    faults: &'f mut Vec<Fault>,
    waiting: Vec<(String, Object)>,
    done: HashSet<(String, Object)>,
}

impl<'d> Judge<'d, '_> {
    fn object(&mut self, at: &str, object: Object) {
        let document: &'d Document = self.document;
        // Where a reference leads to nothing, whoever follows it says so.
        let Some(value) = document.root.pointer(at) else { return };
        let Value::Object(map) = value else {
            return self.expected(at, "a map", value);
        };
        if let Some(target) = map.get("$ref").and_then(Value::as_str).filter(|_| object.may_refer()) {
            if let Ok(target) = document.local(at, target) {
                self.waiting.push((target, object));
            }
            if object != Object::PathItem {
                return;
            }
        }
        for (key, value) in map {
            let place = step(at, key);
            let is_reference = key == "$ref" && object.may_refer();
            if is_extension(key) || is_reference || object == Object::Callback {
                continue;
            }
            match object.keys().iter().find(|(known, _)| known == key) {
                Some((_, holds)) => self.value(place, value, *holds),
                None => self.unknown(&place, key, object),
            }
        }
    }

    fn unknown(&mut self, place: &str, key: &str, object: Object) {
        let known =
            || object.keys().iter().map(|(known, _)| *known).chain(object.may_refer().then_some("$ref"));
        let meant = match object.judges() {
            true => model::suggestion::nearest(key, known()),
            false => near(key, known()),
        };
        let what = match meant {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if object.judges() => format!("remove it, or write x-{key} if it is an extension"),
            None => return,
        };
        let message = format!("unknown key {key:?} of {}", object.name());
        self.faults.push(self.document.advise(place, message, what));
    }

    fn value(&mut self, at: String, value: &Value, holds: Holds) {
        match (holds, value) {
            // An empty line of YAML means to say something here: it is not taken for "no".
            (Flag, Value::Null) => self.expected(&at, "true or false", value),
            (_, Value::Null) => {}
            (Anything, _) | (Flag, Value::Bool(_)) | (Text, Value::String(_)) => {}
            (Flag, Value::String(text)) => {
                let instead = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => "write true",
                    "no" | "off" | "n" | "false" => "write false",
                    _ => return self.expected(&at, "true or false", value),
                };
                let message = format!("expected true or false, found {text:?}");
                self.faults.push(self.document.advise(&at, message, instead));
            }
            (Flag, _) => self.expected(&at, "true or false", value),
            (Text, _) => self.expected(&at, "a text", value),
            (One(object), _) => self.waiting.push((at, object)),
            (List(object), Value::Array(list)) => {
                self.waiting.extend((0..list.len()).map(|index| (format!("{at}/{index}"), object)));
            }
            (List(_), _) => self.expected(&at, "a list", value),
            (Named(object) | Patterned(object), Value::Object(map)) => {
                let free = matches!(holds, Patterned(_));
                let keys = map.keys().filter(|key| !(free && is_extension(key)));
                self.waiting.extend(keys.map(|key| (step(&at, key), object)));
            }
            (Named(_) | Patterned(_), _) => self.expected(&at, "a map", value),
        }
    }

    fn expected(&mut self, at: &str, what: &str, found: &Value) {
        let found = match found {
            Value::Null => "nothing".to_owned(),
            Value::Bool(_) | Value::Number(_) => found.to_string(),
            Value::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
        };
        self.faults.push(self.document.fault(at, format!("expected {what}, found {found}")));
    }
}

/// Specification extensions are free (OpenAPI 3.1.1 §4.9).
fn is_extension(key: &str) -> bool {
    key.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"))
}
