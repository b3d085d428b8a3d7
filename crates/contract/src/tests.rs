//! The whole crate from outside: documents that load, requests that keep and break them.

mod documents;
mod messages;
mod parameters;

use std::sync::Arc;

use proptest::prelude::*;

use crate::*;

/// A request as a test writes it.
pub(super) struct Ask<'t> {
    pub(super) method: &'t str,
    pub(super) target: &'t str,
    pub(super) headers: &'t [(&'t str, &'t str)],
    pub(super) body: Option<&'t str>,
}

impl Fields for Ask<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    }
}

impl Head for Ask<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &[u8] {
        self.target.split('?').next().unwrap_or_default().as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.target.split_once('?').map(|(_, query)| query.as_bytes())
    }
}

pub(super) fn settings() -> Settings {
    let strict = Mode::Enforce;
    Settings { mode: strict, undocumented: strict, base: None, undeclared_query: false, opaque: Vec::new() }
}

/// What is wrong with a request; empty when nothing is.
pub(super) fn wrong(contract: &Arc<Contract>, ask: &Ask<'_>) -> String {
    let body = if ask.body.is_some() { HasBody::Perhaps } else { HasBody::No };
    match contract.open(ask, body) {
        Err(unmet) => unmet.violations.to_string(),
        Ok(Opened::Done(_)) => String::new(),
        Ok(Opened::Body(check)) => check
            .judge(ask.body.unwrap_or_default().as_bytes())
            .err()
            .map(|v| v.to_string())
            .unwrap_or_default(),
    }
}

/// The same for a mere target.
pub(super) fn get(contract: &Arc<Contract>, target: &str) -> String {
    wrong(contract, &Ask { method: "GET", target, headers: &[], body: None })
}

/// The same for a body.
pub(super) fn post(contract: &Arc<Contract>, target: &str, media_type: &str, body: &str) -> String {
    wrong(
        contract,
        &Ask { method: "POST", target, headers: &[("content-type", media_type)], body: Some(body) },
    )
}

/// Asserts that what was found says what is expected; with nothing expected, that nothing was.
#[track_caller]
pub(super) fn assert_says(found: &str, expected: &str, what: impl std::fmt::Display) {
    let says = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
    assert!(says, "{what}: {found}");
}

pub(super) fn api(text: &str) -> Arc<Contract> {
    Arc::new(load_openapi(text.as_bytes(), settings()).unwrap_or_else(|faults| panic!("{faults:#?}")))
}

pub(super) const SHOP: &str = include_str!("tests/shop.yaml");

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever a document holds, loading it ends with a contract or with faults.
    #[test]
    fn fuzz_smoke_documents(bytes in prop::collection::vec(any::<u8>(), 0..512), at in 0usize..4096, cut in 0usize..64) {
        let _ = load_openapi(&bytes, settings());
        let _ = load_schema(&bytes, settings());
        let mut shop = SHOP.as_bytes().to_vec();
        let at = at % shop.len();
        let end = (at + cut).min(shop.len());
        shop.splice(at..end, bytes.into_iter().take(8));
        let _ = load_openapi(&shop, settings());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever a request holds, it is judged and nothing panics.
    #[test]
    fn fuzz_smoke_requests(
        target in "/(orders|items|upload|form|search)(/[ -~é%]{0,12})?(\\?[!-~%&=\\[\\],|;+]{0,40})?",
        media in "(application/json|multipart/form-data; boundary=x|application/x-www-form-urlencoded|text/plain|[ -~]{0,20})",
        body in prop::collection::vec(any::<u8>(), 0..200),
        cookie in "[ -~]{0,30}",
    ) {
        let shop = SHARED.with(Arc::clone);
        let body = String::from_utf8_lossy(&body).into_owned();
        let headers = [("content-type", media.as_str()), ("cookie", cookie.as_str()), ("x-tags", cookie.as_str())];
        for method in ["GET", "POST"] {
            wrong(&shop, &Ask { method, target: &target, headers: &headers, body: Some(&body) });
        }
    }
}

thread_local! {
    static SHARED: Arc<Contract> = api(SHOP);
}
