//! What several tests share: rule files from disk, the rule set where it is present, its
//! regression tests, and an upstream that answers as they ask.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

pub(crate) mod answer;
pub(crate) mod corpus;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use waf::{
    Budget, Connection, Intake, Memory, MemoryLimits, Options, RequestHead, ResponseHead, RuleSet,
    SourceFault, Sources, Spare, Step, Transaction, Verdict,
};

/// Rule files from disk, and texts under names of their own.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) texts: Vec<(String, String)>,
}

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        if let Some((_, text)) = self.texts.iter().find(|(name, _)| name == path) {
            return Ok(text.clone().into_bytes());
        }
        std::fs::read(path).map_err(|error| SourceFault(error.to_string()))
    }

    fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault> {
        let pattern = waf::resolve(from, pattern);
        let (folder, name) = pattern.rsplit_once('/').unwrap_or((".", &pattern));
        let (before, after) = name.split_once('*').unwrap_or((name, ""));
        let entries = std::fs::read_dir(folder).map_err(|error| SourceFault(error.to_string()))?;
        let mut found: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(before) && name.ends_with(after))
            .map(|name| format!("{folder}/{name}"))
            .collect();
        found.sort();
        Ok(found)
    }
}

/// The folder `shared` beside the repository's own, where there is one.
pub(crate) fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let candidates = [root.join("../shared"), root.join("../../shared")];
    candidates.into_iter().find(|folder| folder.join("crs/rules").is_dir())
}

/// The Core Rule Set as its regression tests want it: paranoia level 4, detection only.
pub(crate) fn core_rule_set(options: &Options, settings: &str) -> Option<Arc<RuleSet>> {
    let shared = shared()?;
    let path = |name: &str| shared.join(name).to_str().unwrap().to_owned();
    let files = Files { texts: vec![("settings".to_owned(), settings.to_owned())] };
    let entries = [
        path("waf-conformance/engine.conf"),
        path("crs/crs-setup.conf.example"),
        "settings".to_owned(),
        path("crs/rules/*.conf"),
    ];
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    match RuleSet::load(&files, &entries, options) {
        Ok(set) => Some(Arc::new(set)),
        Err(faults) => panic!("{faults}"),
    }
}

/// The settings of the regression tests.
pub(crate) fn test_settings() -> String {
    let path = shared().unwrap().join("waf-conformance/crs-test.conf");
    std::fs::read_to_string(path).unwrap()
}

/// A rule set of one text.
pub(crate) fn rules(text: &str, options: &Options) -> Arc<RuleSet> {
    let files = Files { texts: vec![("test.conf".to_owned(), text.to_owned())] };
    match RuleSet::load(&files, &["test.conf"], options) {
        Ok(set) => Arc::new(set),
        Err(faults) => panic!("{faults}"),
    }
}

pub(crate) fn connection() -> Connection {
    Connection {
        client_address: "203.0.113.9".parse().unwrap(),
        client_port: 40_000,
        server_address: "192.0.2.1".parse().unwrap(),
        server_port: 80,
    }
}

pub(crate) fn memory() -> Arc<Memory> {
    Arc::new(Memory::new(MemoryLimits::default()))
}

/// A request as bytes, taken apart as leniently as can be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raw {
    pub(crate) line: Vec<u8>,
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    /// Its head, as the engine takes it.
    pub(crate) fn head<T>(&self, take: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        take(&RequestHead {
            line: &self.line,
            method: &self.method,
            target: &self.target,
            protocol: &self.protocol,
            headers: &headers,
        })
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = match end {
            Some(at) => (&bytes[..at], &bytes[at + 4..]),
            None => (bytes, &b""[..]),
        };
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = lines.next().unwrap_or_default().to_vec();
        let first = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let last = line.iter().rposition(|byte| *byte == b' ').filter(|at| *at > first);
        let protocol_at = last.filter(|at| line[at + 1..].starts_with(b"HTTP/") || line[at + 1..].is_empty());
        let target_end = protocol_at.unwrap_or(line.len());
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for line in lines {
            if line.first().is_some_and(|byte| *byte == b' ' || *byte == b'\t') {
                if let Some((_, value)) = headers.last_mut() {
                    value.push(b' ');
                    value.extend_from_slice(line.trim_ascii());
                }
            } else if let Some(at) = line.iter().position(|byte| *byte == b':') {
                headers.push((line[..at].to_vec(), line[at + 1..].trim_ascii().to_vec()));
            }
        }
        let mut raw = Self {
            method: line[..first].to_vec(),
            target: line.get(first + 1..target_end).unwrap_or_default().to_vec(),
            protocol: protocol_at
                .map(|at| line[at + 1..].to_vec())
                .filter(|found| !found.is_empty())
                .unwrap_or(b"HTTP/0.9".to_vec()),
            line,
            headers,
            body: Vec::new(),
        };
        raw.body = raw.body_of(body);
        raw
    }

    fn body_of(&self, bytes: &[u8]) -> Vec<u8> {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().ends_with(b"chunked"))
        {
            return unchunk(bytes);
        }
        let length =
            self.header("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        bytes[..length.unwrap_or(0).min(bytes.len())].to_vec()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let size = usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let rest = &bytes[at + 2..];
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        body.extend_from_slice(&rest[..size]);
        bytes = &rest[size + 2..];
    }
    body
}

/// Runs all five phases over a request and the answer that an upstream gives to it.
pub(crate) fn run(set: &Arc<RuleSet>, raw: &Raw) -> (Transaction, Verdict) {
    run_with(set, raw, &memory(), 1_700_000_000_000)
}

pub(crate) fn run_with(
    set: &Arc<RuleSet>,
    raw: &Raw,
    memory: &Arc<Memory>,
    now_ms: i64,
) -> (Transaction, Verdict) {
    run_in(Spare::default(), set, raw, memory, now_ms)
}

/// In memory that a transaction before it used.
pub(crate) fn run_in(
    spare: Spare,
    set: &Arc<RuleSet>,
    raw: &Raw,
    memory: &Arc<Memory>,
    now_ms: i64,
) -> (Transaction, Verdict) {
    let (id, set, memory) = ("f3b0c8a1d2e4", Arc::clone(set), Arc::clone(memory));
    let mut transaction = Transaction::in_spare(spare, set, memory, connection(), id, now_ms);
    let verdict = phases(&mut transaction, raw);
    let _ = transaction.logging(now_ms, Budget::UNLIMITED);
    (transaction, verdict)
}

fn phases(transaction: &mut Transaction, raw: &Raw) -> Verdict {
    let passes = |step: Step| match step {
        Step::Done(Verdict::Pass) => None,
        Step::Done(verdict) => Some(verdict),
        Step::Yield => panic!("an unlimited budget is never used up"),
    };
    if let Some(verdict) = passes(raw.head(|head| transaction.request_headers(head, Budget::UNLIMITED))) {
        return verdict;
    }
    if transaction.needs_request_body() {
        for piece in raw.body.chunks(4_096) {
            if let Intake::Refused(verdict) = transaction.request_body_chunk(piece) {
                return verdict;
            }
        }
    }
    if let Some(verdict) = passes(transaction.request_body_end(Budget::UNLIMITED)) {
        return verdict;
    }
    let answer = answer::answer(raw);
    let headers: Vec<(&[u8], &[u8])> =
        answer.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let head = ResponseHead { status: answer.status, protocol: b"HTTP/1.1", headers: &headers };
    if let Some(verdict) = passes(transaction.response_headers(&head, Budget::UNLIMITED)) {
        return verdict;
    }
    if transaction.needs_response_body() {
        for piece in answer.body.chunks(4_096) {
            if let Intake::Refused(verdict) = transaction.response_body_chunk(piece) {
                return verdict;
            }
        }
    }
    passes(transaction.response_body_end(Budget::UNLIMITED)).unwrap_or(Verdict::Pass)
}
