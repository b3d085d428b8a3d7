//! An OpenAPI document as endpoints: everything in it is found and compiled at load, or
//! refused with its place.

use std::collections::{HashMap, HashSet};

use jsonschema::Draft;
use serde_json::Value;

use crate::body::Media;
use crate::budget::Validator;
use crate::compile::{Compiler, meta_faults, says_nothing};
use crate::contract::{Api, Body, Operation, Promised, Settings};
use crate::document::{Document, step};
use crate::fault::Fault;
use crate::keys;
use crate::media::{Reading, reading};
use crate::parameter::{Location, Parameter, Style};
use crate::paths::{Segment, template};
use crate::shape::{Kinds, Shape};
use crate::translate::{self, Dialect, Direction};
use crate::walk::{METHODS, schemas};

/// Most operations of one document.
pub(crate) const OPERATIONS_MAX: usize = 10_000;

/// Loads a document.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load(document: &Document, settings: &Settings) -> Result<Api, Vec<Fault>> {
    let dialect = dialect(document).map_err(|fault| vec![fault])?;
    let schemas = schemas(&document.root);
    let mut faults = Vec::new();
    keys::faults(document, &mut faults);
    let draft = if dialect == Dialect::OpenApi30 { Draft::Draft4 } else { Draft::Draft202012 };
    let mut done = HashSet::new();
    for at in &schemas {
        translate::faults(document, at, dialect, &mut faults);
        translate::circles(document, at, &mut done, &mut faults);
        meta_faults(document, at, draft, &mut faults);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let compiler = Compiler::new(document, dialect, &schemas).map_err(|fault| vec![fault])?;
    let mut loader = Loader { document, settings, compiler, faults };
    let api = loader.api();
    if loader.faults.is_empty() { Ok(api) } else { Err(loader.faults) }
}

fn dialect(document: &Document) -> Result<Dialect, Fault> {
    let text = match document.root.get("openapi") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ if document.root.get("swagger").is_some() => {
            let what = "convert it to OpenAPI 3.0 or 3.1";
            return Err(document.advise("/swagger", "Swagger 2.0 documents are not read", what));
        }
        _ => return Err(document.fault("", "this is no OpenAPI document: it has no key openapi")),
    };
    let base = "https://spec.openapis.org/oas/3.1/dialect/";
    match document.root.get("jsonSchemaDialect").and_then(Value::as_str) {
        Some(name) if !name.starts_with(base) && name != "https://json-schema.org/draft/2020-12/schema" => {
            return Err(document.fault("/jsonSchemaDialect", format!("unknown dialect {name:?}")));
        }
        _ => {}
    }
    if text == "3.0" || text.starts_with("3.0.") {
        Ok(Dialect::OpenApi30)
    } else if text == "3.1" || text.starts_with("3.1.") {
        Ok(Dialect::OpenApi31)
    } else {
        Err(document.fault("/openapi", format!("expected OpenAPI 3.0 or 3.1, found {text:?}")))
    }
}

struct Loader<'d> {
    document: &'d Document,
    settings: &'d Settings,
    compiler: Compiler<'d>,
    faults: Vec<Fault>,
}

impl Loader<'_> {
    fn fault(&mut self, at: &str, message: impl Into<String>) {
        self.faults.push(self.document.fault(at, message));
    }

    /// What stands at a place, references followed, and where that is.
    fn follow(&mut self, at: &str) -> Option<(Value, String)> {
        match self.document.follow(at) {
            Ok((value, place)) => Some((value.clone(), place)),
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    /// The keys of the map at a place.
    fn keys(&self, at: &str) -> Vec<String> {
        let map = self.document.root.pointer(at).and_then(Value::as_object);
        map.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    }

    fn api(&mut self) -> Api {
        let mut api = Api { base: self.base(), ..Api::default() };
        if !self.document.root.get("paths").is_some_and(Value::is_object) {
            self.fault("", "the document has no paths");
        }
        for path in self.keys("/paths") {
            if path.starts_with("x-") {
                continue;
            }
            let at = step("/paths", &path);
            let Some(segments) = template(&path) else {
                self.fault(
                    &at,
                    "expected a path such as /orders/{id}, with one parameter in a segment at most",
                );
                continue;
            };
            if api.paths.add(&segments, api.items.len()).is_err() {
                self.fault(&at, "another path of the document has the same shape");
            }
            let item = self.path_item(&at, &segments, &mut api.operations);
            api.items.push(item);
        }
        if api.operations.len() > OPERATIONS_MAX {
            self.fault("/paths", format!("more than {OPERATIONS_MAX} operations"));
        }
        api
    }

    /// The path under which all paths stand.
    fn base(&mut self) -> String {
        if let Some(base) = &self.settings.base {
            return base.clone();
        }
        let mut bases: Vec<String> = Vec::new();
        let servers =
            self.document.root.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
        for server in servers {
            let url = server.get("url").and_then(Value::as_str).unwrap_or_default();
            let path = match url.split_once("://") {
                Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default(),
                None => url,
            };
            let path = path.trim_end_matches('/').to_owned();
            if !bases.contains(&path) {
                bases.push(path);
            }
        }
        match bases.as_slice() {
            [] => String::new(),
            [one] if !one.contains(['{', '?', '#']) && (one.is_empty() || one.starts_with('/')) => {
                one.clone()
            }
            _ => {
                let what = "say under which path the document's paths stand: base: /api";
                self.faults.push(self.document.advise("/servers", "the servers do not name one path", what));
                String::new()
            }
        }
    }

    fn path_item(
        &mut self,
        at: &str,
        segments: &[Segment],
        operations: &mut Vec<Operation>,
    ) -> HashMap<String, usize> {
        let mut item = HashMap::new();
        let Some((value, at)) = self.follow(at) else { return item };
        let shared = self.parameters(&format!("{at}/parameters"));
        for method in METHODS {
            if value.get(method).is_none() {
                continue;
            }
            let name = method.to_ascii_uppercase();
            let place = step(&at, method);
            if let Some(operation) = self.operation(&place, segments, &shared) {
                item.insert(name, operations.len());
                operations.push(operation);
            }
        }
        for key in ["servers"] {
            if value.get(key).is_some() {
                self.fault(&step(&at, key), "servers of a single path are not supported");
            }
        }
        item
    }

    fn operation(&mut self, at: &str, segments: &[Segment], shared: &[String]) -> Option<Operation> {
        // An operation's own parameters stand in the place of the path's.
        let own = self.parameters(&format!("{at}/parameters"));
        let mut parameters: Vec<Parameter> = Vec::new();
        for place in own.iter().chain(shared) {
            let Some(parameter) = self.parameter(place) else { continue };
            let same = |p: &Parameter| p.name == parameter.name && p.location == parameter.location;
            if !parameters.iter().any(same) {
                parameters.push(parameter);
            }
        }
        let mut operation = Operation {
            path: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            cookies: Vec::new(),
            body: self.request_body(&format!("{at}/requestBody")),
            answers: self.answers(&format!("{at}/responses")),
        };
        let mut in_path = Vec::new();
        for parameter in parameters {
            match parameter.location {
                Location::Path => in_path.push(parameter),
                Location::Query | Location::Form => operation.query.push(parameter),
                Location::Header => operation.headers.push(parameter),
                Location::Cookie => operation.cookies.push(parameter),
            }
        }
        operation.query.sort_by_key(Parameter::is_spread);
        Parameter::keep_apart(&mut operation.query, &[]);
        for segment in segments {
            let Segment::Parameter { name, before, behind } = segment else { continue };
            let Some(found) = in_path.iter().position(|parameter| parameter.name == *name) else {
                self.fault(at, format!("path parameter {name:?} is not declared"));
                continue;
            };
            let parameter = in_path.swap_remove(found);
            if !(before.is_empty() && behind.is_empty())
                && parameter.shape.kinds.has(Kinds::ARRAY.and(Kinds::OBJECT))
            {
                self.fault(
                    at,
                    format!("path parameter {name:?} shares its segment and cannot hold several values"),
                );
            }
            operation.path.push(parameter);
        }
        for parameter in in_path {
            self.fault(at, format!("path parameter {:?} is not in the path", parameter.name));
        }
        Some(operation)
    }

    /// The places of a list of parameters, references followed. None may be there twice (OpenAPI
    /// 3.1.1 §4.8.9.1): readers do not agree which counts.
    fn parameters(&mut self, at: &str) -> Vec<String> {
        let length = self.document.root.pointer(at).and_then(Value::as_array).map_or(0, Vec::len);
        let (mut places, mut known) = (Vec::new(), HashSet::new());
        for index in 0..length {
            let here = format!("{at}/{index}");
            let Some((value, place)) = self.follow(&here) else { continue };
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            let (mut name, location) = (text("name").to_owned(), text("in").to_owned());
            if location == "header" {
                name.make_ascii_lowercase();
            }
            let message = format!("{location} parameter {name:?} is there twice");
            if !known.insert((name, location)) {
                self.fault(&here, message);
            }
            places.push(place);
        }
        places
    }

    fn parameter(&mut self, at: &str) -> Option<Parameter> {
        let (value, at) = self.follow(at)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let Some(name) = text("name").filter(|name| !name.is_empty()) else {
            self.fault(&at, "a parameter needs a name");
            return None;
        };
        let location = match text("in") {
            Some("path") => Location::Path,
            Some("query") => Location::Query,
            Some("header") => Location::Header,
            Some("cookie") => Location::Cookie,
            _ => {
                self.fault(&at, "a parameter is in: path, query, header or cookie");
                return None;
            }
        };
        if location == Location::Header
            && ["accept", "content-type", "authorization"].contains(&name.to_ascii_lowercase().as_str())
        {
            // Ignored by the standard (OpenAPI 3.0.4 §4.7.12.1).
            return None;
        }
        let name = if location == Location::Header { name.to_ascii_lowercase() } else { name.to_owned() };
        let required = location == Location::Path || value.get("required") == Some(&Value::Bool(true));
        self.typed(&value, &at, name, location, required, Direction::Request)
    }

    /// What parameters and headers share: style, schema, content.
    fn typed(
        &mut self,
        value: &Value,
        at: &str,
        name: String,
        location: Location,
        required: bool,
        way: Direction,
    ) -> Option<Parameter> {
        let mut style = Style::usual(location);
        if let Some(written) = value.get("style").and_then(Value::as_str) {
            match Style::named(written, location) {
                Some(known) => style = known,
                None => {
                    let message = format!("style {written:?} is not for a {} parameter", location.name());
                    self.fault(&format!("{at}/style"), message);
                }
            }
        }
        let explode = value.get("explode").and_then(Value::as_bool).unwrap_or(style == Style::Form);
        if style == Style::DeepObject && !explode && value.get("explode").is_some() {
            self.fault(&format!("{at}/explode"), "deepObject is only defined with explode: true");
        }
        let mut schema = format!("{at}/schema");
        let contents = self.keys(&format!("{at}/content"));
        if let [media] = contents.as_slice() {
            if reading(media) != Reading::Json {
                self.fault(&format!("{at}/content"), "a parameter's content can only be JSON");
            }
            style = Style::Json;
            schema = format!("{}/schema", step(&format!("{at}/content"), media));
        } else if !contents.is_empty() {
            self.fault(&format!("{at}/content"), "a parameter's content has one media type");
        } else if self.document.root.pointer(&schema).is_none() {
            self.fault(at, format!("{} parameter {name:?} has neither schema nor content", location.name()));
            return None;
        }
        let validator = self.validator(&schema, way);
        let shape = Shape::of(self.document, &schema);
        let allow_empty =
            value.get("allowEmptyValue") == Some(&Value::Bool(true)) && location == Location::Query;
        let reserved = Vec::new();
        Some(Parameter { name, location, required, allow_empty, style, explode, shape, validator, reserved })
    }

    fn validator(&mut self, at: &str, way: Direction) -> Option<Validator> {
        if says_nothing(self.document.root.pointer(at)) {
            return None;
        }
        match self.compiler.validator(at, way) {
            Ok(validator) => Some(validator),
            Err(fault) => {
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
                None
            }
        }
    }

    fn request_body(&mut self, at: &str) -> Option<Body> {
        self.document.root.pointer(at)?;
        let (value, at) = self.follow(at)?;
        let media = self.content(&at, Direction::Request);
        if media.is_empty() {
            self.fault(&at, "a request body needs content");
        }
        Some(Body { required: value.get("required") == Some(&Value::Bool(true)), media })
    }

    fn answers(&mut self, at: &str) -> HashMap<String, Promised> {
        let mut answers = HashMap::new();
        for status in self.keys(at) {
            let place = step(at, &status);
            if status.starts_with("x-") {
                continue;
            }
            let exact = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
            let range =
                status.len() == 3 && status.ends_with("XX") && status.starts_with(['1', '2', '3', '4', '5']);
            if !exact && !range && status != "default" {
                self.fault(&place, "expected a status such as 200, 2XX or default");
                continue;
            }
            let Some((_, place)) = self.follow(&place) else { continue };
            let promised = Promised {
                headers: self.headers(&format!("{place}/headers")),
                media: self.content(&place, Direction::Response),
            };
            answers.insert(status, promised);
        }
        answers
    }

    fn headers(&mut self, at: &str) -> Vec<Parameter> {
        let mut headers = Vec::new();
        for name in self.keys(at) {
            let Some((value, place)) = self.follow(&step(at, &name)) else { continue };
            let name = name.to_ascii_lowercase();
            if name == "content-type" {
                continue;
            }
            let required = value.get("required") == Some(&Value::Bool(true));
            headers.extend(self.typed(&value, &place, name, Location::Header, required, Direction::Response));
        }
        headers
    }

    fn content(&mut self, at: &str, way: Direction) -> Vec<Media> {
        let at = format!("{at}/content");
        let mut all = Vec::new();
        for written in self.keys(&at) {
            let place = step(&at, &written);
            let range = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let known =
                range.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty());
            if !known || (range.starts_with('*') && range != "*/*") {
                self.fault(&place, "expected a media type such as application/json or image/*");
                continue;
            }
            let schema = format!("{place}/schema");
            let shape = Shape::of(self.document, &schema);
            // Bytes: there is nothing to look into.
            let bytes = shape.binary
                && !matches!(reading(&range), Reading::Json | Reading::Form | Reading::Multipart);
            let validator = if bytes { None } else { self.validator(&schema, way) };
            let mut media = Media { range, validator, shape, fields: Vec::new(), part_types: Vec::new() };
            let exact = !media.range.ends_with("/*");
            if exact && !media.can_judge(&media.range, &self.settings.opaque) {
                let message =
                    format!("a body of {} cannot be looked into, but its schema asks for more", media.range);
                let what = format!("leave the schema out, or take it unseen: opaque: [ {} ]", media.range);
                self.faults.push(self.document.advise(&place, message, what));
            }
            self.encoding(&place, &schema, &mut media, way);
            all.push(media);
        }
        all
    }

    /// `encoding:`, which says how the properties of a form are written.
    fn encoding(&mut self, at: &str, schema: &str, media: &mut Media, way: Direction) {
        let kind = reading(&media.range);
        if !matches!(kind, Reading::Form | Reading::Multipart) {
            return;
        }
        let Ok((_, schema)) = self.document.follow(schema) else { return };
        for name in self.keys(&format!("{at}/encoding")) {
            let place = step(&format!("{at}/encoding"), &name);
            let Some(value) = self.document.root.pointer(&place).cloned() else { continue };
            if let (Reading::Multipart, Some(types)) =
                (kind, value.get("contentType").and_then(Value::as_str))
            {
                let types = types.split(',').map(|one| one.trim().to_ascii_lowercase()).collect();
                media.part_types.push((name.clone(), types));
            }
            if kind == Reading::Form {
                let mut value = value;
                let property = step(&format!("{schema}/properties"), &name);
                let json =
                    value.get("contentType").and_then(Value::as_str).map(reading) == Some(Reading::Json);
                if let Some(map) = value.as_object_mut() {
                    map.remove("contentType");
                }
                let shape = media.shape.property_or_other(&name);
                let field = self.typed_form(&value, &place, &property, name, shape, way);
                media.fields.extend(
                    field.map(|field| if json { Parameter { style: Style::Json, ..field } } else { field }),
                );
            }
        }
        media.fields.sort_by_key(Parameter::is_spread);
        Parameter::keep_apart(&mut media.fields, &media.shape.properties);
    }

    fn typed_form(
        &mut self,
        value: &Value,
        at: &str,
        property: &str,
        name: String,
        shape: Shape,
        _: Direction,
    ) -> Option<Parameter> {
        if self.document.root.pointer(property).is_none() {
            self.fault(at, format!("encoding names {name:?}, which is no property of the schema"));
            return None;
        }
        let written = value.get("style").and_then(Value::as_str).unwrap_or("form");
        let Some(style) = Style::named(written, Location::Form) else {
            self.fault(&format!("{at}/style"), format!("style {written:?} is not for a form"));
            return None;
        };
        let explode = value.get("explode").and_then(Value::as_bool).unwrap_or(style == Style::Form);
        // The whole form is judged by its schema; the field is only read.
        Some(Parameter {
            name,
            location: Location::Form,
            required: false,
            allow_empty: false,
            style,
            explode,
            shape,
            validator: None,
            reserved: Vec::new(),
        })
    }
}
