//! The regression tests of the Core Rule Set: what each sends and what it expects.

use super::{Raw, answer::decode};
use std::{collections::BTreeMap, path::Path};

#[derive(Debug, serde::Deserialize)]
struct Document {
    rule_id: u64,
    #[serde(default)]
    tests: Vec<Test>,
}

#[derive(Debug, serde::Deserialize)]
struct Test {
    test_id: u64,
    stages: Vec<Stage>,
}

#[derive(Debug, serde::Deserialize)]
struct Stage {
    input: Input,
    output: Output,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Input {
    method: Option<String>,
    uri: Option<String>,
    version: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    ordered_headers: Option<Vec<Header>>,
    data: Option<String>,
    encoded_data: Option<String>,
    encoded_request: Option<String>,
    autocomplete_headers: Option<bool>,
    stop_magic: Option<bool>,
}

#[derive(Debug, serde::Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct Output {
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    pub(crate) expect_error: bool,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct Log {
    #[serde(default)]
    pub(crate) expect_ids: Vec<u64>,
    #[serde(default)]
    pub(crate) no_expect_ids: Vec<u64>,
    pub(crate) match_regex: Option<String>,
    pub(crate) no_match_regex: Option<String>,
}

/// One request of a test.
pub(crate) struct Case {
    /// `942100-3`, with the stage where there are several.
    pub(crate) id: String,
    pub(crate) rule: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) output: Output,
}

impl Case {
    pub(crate) fn raw(&self) -> Raw {
        Raw::parse(&self.bytes)
    }
}

/// All tests under a folder, by rule and number.
pub(crate) fn cases(folder: &Path) -> Vec<Case> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Some hold tests that are commented out, all of them.
        if !text.lines().any(|line| line.starts_with("tests:")) {
            continue;
        }
        let document: Document =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for test in document.tests {
            let several = test.stages.len() > 1;
            for (number, stage) in test.stages.into_iter().enumerate() {
                let suffix = if several { format!("/{number}") } else { String::new() };
                cases.push(Case {
                    id: format!("{}-{}{suffix}", document.rule_id, test.test_id),
                    rule: document.rule_id,
                    bytes: build(&stage.input),
                    output: stage.output,
                });
            }
        }
    }
    cases
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

/// The bytes of a request, completed as the tests' own runner completes them.
fn build(input: &Input) -> Vec<u8> {
    if let Some(encoded) = &input.encoded_request {
        return decode(encoded);
    }
    let mut headers: Vec<(String, String)> = match (&input.ordered_headers, &input.headers) {
        (Some(ordered), _) => {
            ordered.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
        }
        (None, Some(headers)) => headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        (None, None) => Vec::new(),
    };
    let mut data = match (&input.data, &input.encoded_data) {
        (Some(data), _) => repeat(data).into_bytes(),
        (None, Some(encoded)) => decode(encoded),
        (None, None) => Vec::new(),
    };
    let complete = input.autocomplete_headers.unwrap_or(!input.stop_magic.unwrap_or(false));
    let has = |headers: &[(String, String)], name: &str| {
        headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    const FORM: &str = "application/x-www-form-urlencoded";
    let method = input.method.as_deref().unwrap_or("GET");
    if !data.is_empty() && complete {
        if !has(&headers, "content-type") {
            headers.push(("Content-Type".to_owned(), FORM.to_owned()));
        }
        let is_form = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("content-type") && value.eq_ignore_ascii_case(FORM)
        };
        if headers.iter().any(is_form) {
            data = encode_form(&data);
        }
    }
    let is_multipart = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("content-type")
            && value.to_ascii_lowercase().contains("multipart/form-data;")
    };
    if headers.iter().any(is_multipart) {
        data = data
            .iter()
            .flat_map(|byte| if *byte == b'\n' { b"\r\n".to_vec() } else { vec![*byte] })
            .collect();
    }
    if complete {
        if !has(&headers, "connection") {
            headers.push(("Connection".to_owned(), "close".to_owned()));
        }
        let with_body = method.starts_with("POST")
            || method.contains("PUT")
            || method.contains("PATCH")
            || method.ends_with("DELETE");
        if !has(&headers, "content-length") && (!data.is_empty() || with_body) {
            headers.push(("Content-Length".to_owned(), data.len().to_string()));
        }
    }
    let uri = input.uri.as_deref().unwrap_or("/");
    let version = input.version.as_deref().unwrap_or("HTTP/1.1");
    let mut bytes = format!("{method} {uri} {version}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&data);
    bytes
}

/// `{{ "x" | repeat 3 }}`; any other template makes the data empty.
fn repeat(text: &str) -> String {
    let pattern = regex::Regex::new(r#"\{\{\s*"((?:[^"\\]|\\.)*)"\s*\|\s*repeat\s+(\d+)\s*\}\}"#).unwrap();
    let out =
        pattern.replace_all(text, |found: &regex::Captures<'_>| found[1].repeat(found[2].parse().unwrap()));
    if out.contains("{{") { String::new() } else { out.into_owned() }
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let pair = [*rest.next()?, *rest.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
            }
            b'+' => out.push(b' '),
            other => out.push(*other),
        }
    }
    Some(out)
}

fn encode_form(data: &[u8]) -> Vec<u8> {
    if unescape(data).unwrap_or_default() != data {
        return data.to_vec();
    }
    let quote = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| match byte {
                b' ' => b"+".to_vec(),
                byte if byte.is_ascii_alphanumeric() || b"_.-~".contains(byte) => vec![*byte],
                byte => format!("%{byte:02X}").into_bytes(),
            })
            .collect()
    };
    let mut pairs: Vec<Vec<u8>> = data
        .split(|byte| *byte == b'&')
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = quote(halves.next().unwrap_or_default());
            let value = quote(halves.next().unwrap_or_default());
            [name, b"=".to_vec(), value].concat()
        })
        .collect();
    if data.ends_with(b"&") {
        pairs.pop();
    }
    pairs.join(&b'&')
}
