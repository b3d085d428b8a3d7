//! Schemas of a document as validators: each is compiled once, at load.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Registry};
use serde_json::{Value, json};

use crate::budget::{Budgeted, Validator};
use crate::document::Document;
use crate::fault::Fault;
use crate::percent::fragment;
use crate::translate::{Dialect, Direction, translate};

/// The name under which the document stands in the registry. Nothing is fetched by it.
const NAME: &str = "bastide-contract:document";
/// Largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Longest pattern that a client may send where `format: regex` asks for one, in bytes. To read
/// one takes hundreds of times its memory.
const SENT_PATTERN_BYTES_MAX: usize = 4 * 1024;

/// Compiles the schemas of one OpenAPI document.
pub(crate) struct Compiler<'d> {
    document: &'d Document,
    draft: Draft,
    registries: [Registry<'static>; 2],
    known: HashMap<(String, Direction), Validator>,
}

impl<'d> Compiler<'d> {
    /// Prepares both directions. `schemas` are the places of all schemas.
    ///
    /// # Errors
    /// The document cannot be a resource of references.
    pub(crate) fn new(document: &'d Document, dialect: Dialect, schemas: &[String]) -> Result<Self, Fault> {
        let draft = match dialect {
            Dialect::OpenApi30 => Draft::Draft4,
            Dialect::OpenApi31 => Draft::Draft202012,
        };
        let registry = |way| {
            let mut copy = document.root.clone();
            for at in schemas {
                translate(document, &mut copy, at, dialect, way);
            }
            Registry::new()
                .draft(draft)
                .add(NAME, draft.create_resource(copy))
                .and_then(jsonschema::RegistryBuilder::prepare)
                .map_err(|error| document.fault("", format!("the references cannot be read: {error}")))
        };
        let registries = [registry(Direction::Request)?, registry(Direction::Response)?];
        Ok(Self { document, draft, registries, known: HashMap::new() })
    }

    /// The validator of the schema at a place.
    ///
    /// # Errors
    /// Something in it, or in what it refers to, cannot be compiled.
    pub(crate) fn validator(&mut self, at: &str, way: Direction) -> Result<Validator, Fault> {
        let key = (at.to_owned(), way);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let [request, response] = &self.registries;
        let registry = if way == Direction::Request { request } else { response };
        let reference = json!({ "$ref": format!("{NAME}#{}", fragment(at)) });
        let options = options().with_draft(self.draft).with_registry(registry);
        let built = options.build(&reference).map_err(|error| self.document.fault(at, explain(&error)))?;
        self.known.insert(key, built.clone());
        Ok(built)
    }
}

/// Holds a schema against the schema of schemas.
pub(crate) fn meta_faults(document: &Document, at: &str, draft: Draft, faults: &mut Vec<Fault>) {
    let Some(schema) = document.root.pointer(at) else { return };
    let validator = match draft {
        Draft::Draft4 => jsonschema::draft4::meta::validator(),
        _ => jsonschema::draft202012::meta::validator(),
    };
    for error in validator.iter_errors(schema) {
        let place = format!("{at}{}", error.instance_path().as_str());
        faults.push(document.fault(&place, format!("this is no schema: {error}")));
    }
}

/// A schema that stands alone, in the dialect that its `$schema` names.
///
/// # Errors
/// It is no schema, refers to other documents, or holds a pattern that takes more than
/// linear time.
pub(crate) fn alone(document: &Document) -> Result<Validator, Fault> {
    options().build(&document.root).map_err(|error| {
        let place = error.instance_path().as_str().to_owned();
        document.fault(&place, explain(&error))
    })
}

fn options<'r>() -> jsonschema::ValidationOptions<'r, Arc<dyn jsonschema::Retrieve>, Budgeted> {
    let regex = jsonschema::options().should_validate_formats(true).build(&json!({ "format": "regex" })).ok();
    let is_regex = move |text: &str| {
        text.len() <= SENT_PATTERN_BYTES_MAX
            && regex.as_ref().is_some_and(|regex| regex.is_valid(&Value::from(text)))
    };
    jsonschema::options_for()
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .with_format("byte", is_base64)
        .with_format("regex", is_regex)
}

/// `format: byte` (OpenAPI 3.0): base64 (RFC 4648 §4).
fn is_base64(text: &str) -> bool {
    let bytes = text.trim_end_matches('=');
    let padding = text.len() - bytes.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && bytes.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

fn explain(error: &jsonschema::ValidationError<'_>) -> String {
    match error.kind() {
        jsonschema::error::ValidationErrorKind::Referencing(error) => {
            format!("$ref cannot be followed: {error}")
        }
        jsonschema::error::ValidationErrorKind::Format { format } if format == "regex" => {
            "this pattern cannot be held in linear time: look-around and back references are refused"
                .to_owned()
        }
        _ => format!("this is no schema: {error}"),
    }
}

/// A schema's value that says nothing: absent, `true` or `{}`.
pub(crate) fn says_nothing(schema: Option<&Value>) -> bool {
    match schema {
        None | Some(Value::Bool(true)) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}
