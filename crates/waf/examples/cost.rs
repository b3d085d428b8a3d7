//! What loading a rule set costs, and what a transaction costs over it.
//!
//! `cargo run --release -p waf --example cost -- FOLDER [PARANOIA [REQUEST]]`, where
//! `FOLDER` holds `crs-setup.conf.example` and `rules/`; `REQUEST` is `GET` or `POST`,
//! both when left out. One core, response rules on, blocking. Prints processor time, the
//! median of several rounds.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/thread_time.rs"]
mod thread_time;

use std::{fmt::Write as _, net::IpAddr, sync::Arc, time::Instant};
use thread_time::thread_time;
use waf::{
    Budget, Connection, Memory, MemoryLimits, Options, RequestHead, ResponseHead, RuleSet, SourceFault,
    Sources, Spare, Step, Transaction, Verdict,
};

const ENGINE: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecRequestBodyJsonDepthLimit 512
SecRule REQUEST_HEADERS:Content-Type "^application/json" \
    "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
"#;

struct Disk(String);

impl Sources for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        match path {
            "engine" => Ok(self.0.clone().into_bytes()),
            _ => std::fs::read(path).map_err(|error| SourceFault(error.to_string())),
        }
    }

    fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault> {
        let pattern = waf::resolve(from, pattern);
        let folder = pattern.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let entries = std::fs::read_dir(folder).map_err(|error| SourceFault(error.to_string()))?;
        let paths = entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_owned());
        let mut found: Vec<_> = paths.filter(|path| path.ends_with(".conf")).collect();
        found.sort();
        Ok(found)
    }
}

struct Request {
    name: &'static str,
    line: String,
    headers: Vec<(&'static [u8], &'static [u8])>,
    body: Vec<u8>,
    answer: Vec<u8>,
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn requests() -> Vec<Request> {
    let browser: Vec<(&[u8], &[u8])> = vec![
        (b"Host", b"shop.example"),
        (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"Accept-Language", b"en-US,en;q=0.5"),
        (b"Accept-Encoding", b"gzip, deflate, br"),
        (b"Cookie", b"session=3f2a9c0d71be4e55; theme=dark"),
        (b"Referer", b"https://shop.example/products"),
    ];
    let mut json = "{\"order\":{".to_owned();
    for leaf in 0..46 {
        let _ = write!(json, "\"field{leaf}\":\"value {leaf}\",");
    }
    json.push_str("\"total\":\"1299\"}}");
    let mut with_json = browser.clone();
    with_json.push((b"Content-Type", b"application/json"));
    let answer =
        "<!DOCTYPE html><html><body><p>Nothing to see here.</p></body></html>".repeat(15).into_bytes();
    vec![
        Request {
            name: "GET, two arguments",
            line: "GET /products/list?category=shoes&page=2 HTTP/1.1".to_owned(),
            headers: browser,
            body: Vec::new(),
            answer: answer.clone(),
        },
        Request {
            name: "POST, JSON of 47 leaves",
            line: "POST /orders HTTP/1.1".to_owned(),
            headers: with_json,
            body: json.into_bytes(),
            answer,
        },
    ]
}

fn cpu_us() -> f64 {
    thread_time().as_secs_f64() * 1e6
}

fn done(step: Step) -> bool {
    matches!(step, Step::Done(Verdict::Pass))
}

fn judge(spare: Spare, set: &Arc<RuleSet>, memory: &Arc<Memory>, request: &Request) -> Option<Transaction> {
    let connection = Connection {
        client_address: IpAddr::from([203, 0, 113, 9]),
        client_port: 40_000,
        server_address: IpAddr::from([192, 0, 2, 1]),
        server_port: 443,
    };
    let (rules, memory) = (Arc::clone(set), Arc::clone(memory));
    let mut transaction = Transaction::in_spare(spare, rules, memory, connection, "3f2a9c0d", 0);
    let mut words = request.line.split(' ');
    let length = request.body.len().to_string();
    let mut headers = request.headers.clone();
    let length: &[u8] = length.as_bytes();
    let mut with_length: Vec<(&[u8], &[u8])> = std::mem::take(&mut headers);
    if !request.body.is_empty() {
        with_length.push((b"Content-Length", length));
    }
    let head = RequestHead {
        line: request.line.as_bytes(),
        method: words.next()?.as_bytes(),
        target: words.next()?.as_bytes(),
        protocol: words.next()?.as_bytes(),
        headers: &with_length,
    };
    let mut passed = done(transaction.request_headers(&head, Budget::UNLIMITED));
    if transaction.needs_request_body() && !request.body.is_empty() {
        let _ = transaction.request_body_chunk(&request.body);
    }
    passed &= done(transaction.request_body_end(Budget::UNLIMITED));
    let answered =
        ResponseHead { status: 200, protocol: b"HTTP/1.1", headers: &[(b"Content-Type", b"text/html")] };
    passed &= done(transaction.response_headers(&answered, Budget::UNLIMITED));
    if transaction.needs_response_body() {
        let _ = transaction.response_body_chunk(&request.answer);
    }
    passed &= done(transaction.response_body_end(Budget::UNLIMITED));
    passed &= done(transaction.logging(1, Budget::UNLIMITED));
    passed.then_some(transaction)
}

/// Transactions of one round.
const ROUND: u32 = 200;

/// One round; a function of its own so that a profiler can tell it from the load.
#[inline(never)]
fn round(set: &Arc<RuleSet>, memory: &Arc<Memory>, request: &Request) {
    // As a server does: in the memory of the transaction before.
    let mut spare = Spare::default();
    for _ in 0..ROUND {
        let judged = std::hint::black_box(judge(spare, set, memory, request));
        spare = judged.and_then(Transaction::into_spare).unwrap_or_default();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "/usr/share/modsecurity-crs".to_owned());
    let paranoia: u32 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let only = arguments.next();
    let engine = format!(
        "{ENGINE}SecAction \"id:900000,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level={paranoia}\"\n"
    );
    let entries =
        ["engine".to_owned(), format!("{folder}/crs-setup.conf.example"), format!("{folder}/rules/*.conf")];
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let before = resident_kib();
    let (start, cpu) = (Instant::now(), cpu_us());
    let set = Arc::new(RuleSet::load(&Disk(engine), &entries, &Options::default()).unwrap());
    let loaded = start.elapsed();
    println!("{:?}", set.statistics());
    let cpu_ms = (cpu_us() - cpu) / 1e3;
    println!(
        "load: {:.0} ms, {cpu_ms:.0} ms of processor, {} KiB",
        loaded.as_secs_f64() * 1e3,
        resident_kib() - before
    );
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    for request in requests() {
        if only.as_ref().is_some_and(|only| !request.name.starts_with(only.as_str())) {
            continue;
        }
        let start = Instant::now();
        match judge(Spare::default(), &set, &memory, &request) {
            Some(transaction) => {
                println!(
                    "{}: first {:.0} µs, work {}",
                    request.name,
                    start.elapsed().as_secs_f64() * 1e6,
                    transaction.work_done()
                );
            }
            None => println!("{}: blocked", request.name),
        }
        let mut rounds: Vec<f64> = (0..15)
            .map(|_| {
                let start = cpu_us();
                round(&set, &memory, &request);
                (cpu_us() - start) / f64::from(ROUND)
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!("{}: median {:.1} µs, least {:.1} µs", request.name, rounds[rounds.len() / 2], rounds[0]);
    }
    println!("afterwards: {} KiB", resident_kib() - before);
}
