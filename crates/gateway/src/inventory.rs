//! Endpoints that clients ask for and no document describes: what an operator should
//! either document or close.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::Timestamp;
use serde::Serialize;

/// Most endpoints that one core remembers; later ones are only counted.
pub const ENDPOINTS_MAX: usize = 1_000;
/// Longest method that is remembered, in bytes.
const METHOD_BYTES_MAX: usize = 16;
/// Longest path that is remembered, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// An endpoint that no document describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The route that took the request.
    pub route: String,
    /// The method.
    pub method: String,
    /// The path, with `{}` for segments that look like identifiers.
    pub path: String,
    /// How often it was asked for.
    pub requests: u64,
    /// When first.
    pub first_seen: Timestamp,
    /// When last.
    pub last_seen: Timestamp,
}

/// What all cores have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The most asked for first.
    pub endpoints: Vec<Endpoint>,
    /// Requests to endpoints past [`ENDPOINTS_MAX`].
    pub requests_to_others: u64,
}

/// The inventory: a shard for each core, so that none waits for another.
#[derive(Debug, Default)]
pub struct Inventory {
    shards: Vec<Mutex<Shard>>,
    reports: AtomicU64,
}

type Key = (String, String, String);

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<Key, Seen>,
    others: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    requests: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Inventory {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        Self { shards: (0..cores.max(1)).map(|_| Mutex::default()).collect(), reports: AtomicU64::new(0) }
    }

    /// Notes a request that a core has seen.
    pub fn note(&self, core: usize, route: &str, method: &str, path: &[u8], now: Timestamp) {
        let Some(shard) = self.shards.get(core % self.shards.len().max(1)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.to_owned(), cut(method, METHOD_BYTES_MAX), shape(path));
        if let Some(seen) = shard.known.get_mut(&key) {
            seen.requests += 1;
            seen.last = now;
        } else if shard.known.len() < ENDPOINTS_MAX {
            shard.known.insert(key, Seen { requests: 1, first: now, last: now });
        } else {
            shard.others += 1;
        }
    }

    /// Counts a message that breaks a contract and went on.
    pub fn count_report(&self) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages broke a contract and went on.
    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    /// What all cores have seen.
    pub fn report(&self) -> Report {
        let mut all: HashMap<Key, Seen> = HashMap::new();
        let mut others = 0;
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            others += shard.others;
            for (key, seen) in &shard.known {
                let whole = all.entry(key.clone()).or_insert(Seen { requests: 0, ..*seen });
                whole.requests += seen.requests;
                whole.first = whole.first.min(seen.first);
                whole.last = whole.last.max(seen.last);
            }
        }
        let mut endpoints: Vec<Endpoint> = all
            .into_iter()
            .map(|((route, method, path), seen)| Endpoint {
                route,
                method,
                path,
                requests: seen.requests,
                first_seen: seen.first,
                last_seen: seen.last,
            })
            .collect();
        endpoints.sort_by(|a, b| {
            let key =
                |e: &Endpoint| (u64::MAX - e.requests, e.route.clone(), e.path.clone(), e.method.clone());
            key(a).cmp(&key(b))
        });
        Report { endpoints, requests_to_others: others }
    }
}

/// A path without what only names one of many things.
fn shape(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let segments = text.split('/').map(|segment| if is_identifier(segment) { "{}" } else { segment });
    cut(&segments.collect::<Vec<_>>().join("/"), PATH_BYTES_MAX)
}

/// Numbers, UUIDs, hashes and other long texts with digits in them.
fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits > 0 && (digits == segment.len() || (hexadecimal && segment.len() >= 8) || segment.len() >= 20)
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_do_not_make_endpoints() {
        for (path, shaped) in [
            ("/orders/17", "/orders/{}"),
            ("/orders/3f2b8c1e-0a4d-4b6f-9d1e-2c3a4b5c6d7e/lines", "/orders/{}/lines"),
            ("/files/0123456789abcdef", "/files/{}"),
            ("/v2/orders", "/v2/orders"),
            ("/cafe/added", "/cafe/added"),
            ("/", "/"),
        ] {
            assert_eq!(shape(path.as_bytes()), shaped);
        }
        assert_eq!(shape(&[b'a'; PATH_BYTES_MAX + 1]).len(), PATH_BYTES_MAX);
    }

    #[test]
    fn each_core_remembers_so_many_and_counts_the_rest() {
        let inventory = Inventory::new(2);
        let at = Timestamp::from_unix_seconds;
        for number in 0..=ENDPOINTS_MAX {
            let name: String =
                number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
            inventory.note(0, "r", "GET", format!("/{name}").as_bytes(), at(5));
        }
        inventory.note(0, "r", "GET", b"/a", at(9));
        inventory.note(1, "r", "GET", b"/a", at(3));
        let report = inventory.report();
        assert_eq!((report.endpoints.len(), report.requests_to_others), (ENDPOINTS_MAX, 1));
        let first = &report.endpoints[0];
        assert_eq!((first.path.as_str(), first.requests), ("/a", 3));
        assert_eq!((first.first_seen, first.last_seen), (at(3), at(9)));
    }
}
