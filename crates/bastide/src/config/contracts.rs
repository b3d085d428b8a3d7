//! `validate:` of a route: the contract that its requests, and perhaps its answers,
//! are held against.

use std::path::PathBuf;
use std::sync::Arc;

use contract::{Contract, DOCUMENT_BYTES_MAX, Mode, Settings, load_openapi, load_schema};

use super::decoder::{Decoder, Table};
use super::node::{At, Node};
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// A route's contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// The document, loaded.
    pub contract: Arc<Contract>,
    /// Where it stands.
    pub file: PathBuf,
    /// Most bytes of a request's body that are held to be judged.
    pub body_max: u64,
    /// What becomes of an answer that breaks it; `None`: answers are not judged.
    pub responses: Option<Mode>,
    /// Most bytes of an answer's body that are held to be judged.
    pub response_max: u64,
}

/// Bytes of a body that are held to be judged unless something else is written.
const BODY_BYTES_DEFAULT: u64 = 1 << 20;
/// The most that can be written.
const BODY_BYTES_MAX: u64 = 64 << 20;

pub(super) const VALIDATE: Section = Section {
    path: "routes[].validate",
    about: "What requests, and optionally responses, are validated against before any part of them is forwarded. Nothing is fetched: every `$ref` stays inside the document.",
    short: "the path of an OpenAPI document: `validate: shop.openapi.yaml`",
    keys: &[
        key(
            "openapi",
            "path",
            "one of `openapi` and `body`",
            "An OpenAPI 3.0 or 3.1 document, YAML or JSON: paths, methods, parameters, bodies.",
        ),
        key(
            "body",
            "path",
            "one of `openapi` and `body`",
            "A JSON Schema for JSON bodies, of the draft that its `$schema` names, else 2020-12.",
        ),
        key(
            "mode",
            "enforce or report",
            "enforce",
            "Whether a request that violates the document is refused, or passes and the audit event says what is wrong.",
        ),
        key(
            "undocumented",
            "enforce or report",
            "what `mode` says",
            "The same for paths and methods that the document does not describe. `bastide undocumented` lists them.",
        ),
        key(
            "undeclared_query",
            "refuse or allow",
            "refuse",
            "Whether a query may contain parameters that the document does not declare.",
        ),
        key(
            "base",
            "path",
            "the path of the document's `servers`",
            "The path below which the document's paths are, as clients request it.",
        ),
        key(
            "opaque",
            "media type or list of these",
            "none",
            "Media types whose bodies are accepted uninspected although the document has a schema for them: `application/xml`.",
        ),
        key(
            "body_max",
            "size up to 64MiB",
            "1MiB",
            "Longest request body that is buffered for validation; a longer one is refused.",
        ),
        key(
            "responses",
            "off, enforce or report",
            "off",
            "Whether responses are validated too. `enforce` buffers each response until it is validated, and replaces one that violates the document by 502.",
        ),
        key(
            "response_max",
            "size up to 64MiB",
            "1MiB",
            "Longest response that is buffered for validation; with `enforce` a longer one is refused.",
        ),
    ],
};

const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("report", Mode::Report)];
const RESPONSES: &[(&str, Option<Mode>)] =
    &[("off", None), ("enforce", Some(Mode::Enforce)), ("report", Some(Mode::Report))];

/// Documents that this load has read, so that several routes share one.
#[derive(Default)]
pub(super) struct Contracts {
    known: Vec<(PathBuf, bool, Settings, Option<Arc<Contract>>)>,
}

fn media_type(text: &str) -> Result<String, Unfit> {
    let folded = text.to_ascii_lowercase();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._!#$&^".contains(&b))
    };
    match folded.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) => Ok(folded),
        _ => Err(Unfit { expected: "a media type such as application/xml", instead: None }),
    }
}

fn base_path(text: &str) -> Result<String, Unfit> {
    let path = super::matching::path_pattern(text)?;
    if path.contains(['{', '*']) {
        return Err(Unfit { expected: "a literal path such as /api", instead: None });
    }
    Ok(path.trim_end_matches('/').to_owned())
}

impl Decoder<'_> {
    /// `validate:`
    pub(super) fn validation(&mut self, node: &Node) -> Option<Validation> {
        let usual = Settings {
            mode: Mode::Enforce,
            undocumented: Mode::Enforce,
            base: None,
            undeclared_query: false,
            opaque: Vec::new(),
        };
        if node.text().is_some() {
            let (file, contract) = self.contract(node, true, usual)?;
            let max = BODY_BYTES_DEFAULT;
            return Some(Validation { contract, file, body_max: max, responses: None, response_max: max });
        }
        let table = self.table(node, &VALIDATE)?;
        let before = self.count();
        let settings = self.contract_settings(&table, usual);
        let body_max = self.held_size(&table, "body_max");
        let response_max = self.held_size(&table, "response_max");
        let responses = table
            .get("responses")
            .and_then(|node| self.word(node, "answer to responses", RESPONSES))
            .flatten();
        let (source, openapi) = match (table.get("openapi"), table.get("body")) {
            (Some(node), None) => (node, true),
            (None, Some(node)) => (node, false),
            _ => {
                self.advise(table.at, "validate needs one document", "write openapi: FILE, or body: FILE");
                return None;
            }
        };
        if !openapi {
            for key in ["undocumented", "undeclared_query", "base", "opaque", "responses", "response_max"] {
                if table.get(key).is_some() {
                    self.fault(table.key_at(key), format!("{key} has a meaning only with openapi"));
                }
            }
        }
        if responses.is_none() && table.get("response_max").is_some() {
            let message = "response_max has a meaning only when answers are judged";
            self.advise(table.key_at("response_max"), message, "add responses: enforce");
        }
        if self.count() > before {
            return None;
        }
        let (file, contract) = self.contract(source, openapi, settings)?;
        Some(Validation { contract, file, body_max, responses, response_max })
    }

    fn contract_settings(&mut self, table: &Table<'_>, usual: Settings) -> Settings {
        let mode = table.get("mode").and_then(|node| self.word(node, "mode", MODES)).unwrap_or(usual.mode);
        let undocumented = table.get("undocumented").and_then(|node| self.word(node, "mode", MODES));
        let query = [("refuse", false), ("allow", true)];
        let undeclared_query = table
            .get("undeclared_query")
            .and_then(|node| self.word(node, "answer to undeclared_query", &query));
        Settings {
            mode,
            undocumented: undocumented.unwrap_or(mode),
            base: table.get("base").and_then(|node| self.value(node, base_path)),
            undeclared_query: undeclared_query.unwrap_or(usual.undeclared_query),
            opaque: table.get("opaque").map_or(Vec::new(), |node| self.values(node, media_type)),
        }
    }

    fn held_size(&mut self, table: &Table<'_>, key: &str) -> u64 {
        let Some(node) = table.get(key) else { return BODY_BYTES_DEFAULT };
        let size = self.value(node, values::size).unwrap_or(BODY_BYTES_DEFAULT);
        if size > BODY_BYTES_MAX {
            self.expected(node, "a size of at most 64MiB");
        }
        size
    }

    /// Loads a document, once for all routes that hold it the same way. Its faults stand
    /// in its own file.
    fn contract(
        &mut self,
        node: &Node,
        openapi: bool,
        settings: Settings,
    ) -> Option<(PathBuf, Arc<Contract>)> {
        let path = self.path(node)?;
        let same = |(known, kind, with, _): &&(PathBuf, bool, Settings, Option<Arc<Contract>>)| {
            *known == path && *kind == openapi && *with == settings
        };
        if let Some((.., contract)) = self.contracts.known.iter().find(same) {
            return contract.clone().map(|contract| (path, contract));
        }
        let (path, bytes) = self.file(node, DOCUMENT_BYTES_MAX)?;
        let load = if openapi { load_openapi } else { load_schema };
        let loaded = match load(&bytes, settings.clone()) {
            Ok(contract) => Some(Arc::new(contract)),
            Err(faults) => {
                let file = self.sources.number(&path);
                for fault in faults {
                    let at = At { file, line: fault.line, column: fault.column };
                    let place = if fault.pointer.is_empty() {
                        String::new()
                    } else {
                        format!(" at #{}", fault.pointer)
                    };
                    let message = format!("{}{place}", fault.message);
                    match fault.suggestion {
                        Some(suggestion) => self.advise(at, message, suggestion),
                        None => self.fault(at, message),
                    }
                }
                None
            }
        };
        self.contracts.known.push((path.clone(), openapi, settings, loaded.clone()));
        loaded.map(|contract| (path, contract))
    }
}
