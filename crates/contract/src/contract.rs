//! A document that was loaded: what it promises, and how it is held.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::body::Media;
use crate::compile;
use crate::document::Document;
use crate::fault::Fault;
use crate::keywords::misspelt_alone;
use crate::openapi;
use crate::parameter::Parameter;
use crate::paths::Paths;
use crate::shape::Shape;

/// What happens to a request that breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It goes on; the log says what is broken.
    Report,
}

/// How a contract is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What happens to a request that breaks it.
    pub mode: Mode,
    /// What happens to a request for an endpoint that the document does not describe.
    pub undocumented: Mode,
    /// The path under which the document's paths stand, without `/` at the end; `None`:
    /// the one that its `servers` name.
    pub base: Option<String>,
    /// Whether a query may hold parameters that the document does not declare.
    pub undeclared_query: bool,
    /// Media types that are taken without looking into them, lower case.
    pub opaque: Vec<String>,
}

/// A document that was loaded, with everything in it compiled.
#[derive(Debug)]
pub struct Contract {
    digest: u64,
    settings: Settings,
    pub(crate) promise: Promise,
}

/// What a document promises.
#[derive(Debug)]
pub(crate) enum Promise {
    /// An OpenAPI document.
    Api(Api),
    /// A JSON Schema for JSON bodies.
    Body(Media),
}

/// The endpoints of an OpenAPI document.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) base: String,
    pub(crate) paths: Paths,
    /// By the number of the path: methods and their operations.
    pub(crate) items: Vec<HashMap<String, usize>>,
    pub(crate) operations: Vec<Operation>,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In the order of the template.
    pub(crate) path: Vec<Parameter>,
    /// Exploded objects last: they take what nobody else has taken.
    pub(crate) query: Vec<Parameter>,
    pub(crate) headers: Vec<Parameter>,
    pub(crate) cookies: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    /// By status: `200`, `2XX`, `default`.
    pub(crate) answers: HashMap<String, Promised>,
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) required: bool,
    pub(crate) media: Vec<Media>,
}

/// One answer.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    pub(crate) headers: Vec<Parameter>,
    /// Empty: no body.
    pub(crate) media: Vec<Media>,
}

impl Contract {
    /// What tells it from other contracts: the same for the same text and settings.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How it is held.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many operations it knows; 0 for a mere schema.
    pub fn operations(&self) -> usize {
        match &self.promise {
            Promise::Api(api) => api.operations.len(),
            Promise::Body(_) => 0,
        }
    }
}

impl PartialEq for Contract {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// Loads an OpenAPI 3.0 or 3.1 document, YAML or JSON.
///
/// # Errors
/// Everything in it that is wrong, or that could not be held in full.
pub fn load_openapi(text: &[u8], settings: Settings) -> Result<Contract, Vec<Fault>> {
    let document = Document::read(text).map_err(|fault| vec![fault])?;
    let api = openapi::load(&document, &settings)?;
    Ok(Contract { digest: digest(text, &settings), settings, promise: Promise::Api(api) })
}

/// Loads a JSON Schema that every JSON body has to keep.
///
/// # Errors
/// What is wrong with it.
pub fn load_schema(text: &[u8], settings: Settings) -> Result<Contract, Vec<Fault>> {
    let document = Document::read(text).map_err(|fault| vec![fault])?;
    if !matches!(document.root, serde_json::Value::Object(_) | serde_json::Value::Bool(_)) {
        return Err(vec![document.fault("", "a JSON Schema is an object")]);
    }
    let misspelt = misspelt_alone(&document);
    if !misspelt.is_empty() {
        return Err(misspelt);
    }
    let validator = compile::alone(&document).map_err(|fault| vec![fault])?;
    let media = Media {
        range: "application/json".to_owned(),
        validator: Some(validator),
        shape: Shape::default(),
        fields: Vec::new(),
        part_types: Vec::new(),
    };
    Ok(Contract { digest: digest(text, &settings), settings, promise: Promise::Body(media) })
}

/// Never 0: that stands for no contract.
fn digest(text: &[u8], settings: &Settings) -> u64 {
    let mut hasher = DefaultHasher::new();
    (text, settings).hash(&mut hasher);
    hasher.finish().max(1)
}
