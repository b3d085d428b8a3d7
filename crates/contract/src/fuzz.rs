//! What the fuzzer calls.

use std::sync::Arc;

use crate::contract::{Mode, Settings, load_openapi, load_schema};
use crate::request::{Fields, HasBody, Head, Opened};

/// A document, a target, a media type and a body, with NUL between them. Must never
/// panic.
pub fn fuzz(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |&byte| byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (document, asked, media_type, body) = (next(), next(), next(), next());
    let settings = Settings {
        mode: Mode::Enforce,
        undocumented: Mode::Enforce,
        base: None,
        undeclared_query: false,
        opaque: Vec::new(),
    };
    let asked = Asked { target: asked, media_type };
    for load in [load_openapi, load_schema] {
        let Ok(contract) = load(document, settings.clone()) else { continue };
        let contract = Arc::new(contract);
        if let Ok(Opened::Body(check)) = contract.open(&asked, HasBody::Perhaps) {
            let _ = check.judge(body);
        }
    }
}

struct Asked<'b> {
    target: &'b [u8],
    media_type: &'b [u8],
}

impl Fields for Asked<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (name == "content-type").then_some(self.media_type).into_iter()
    }
}

impl Head for Asked<'_> {
    fn method(&self) -> &str {
        "POST"
    }

    fn path(&self) -> &[u8] {
        self.target.split(|&byte| byte == b'?').next().unwrap_or_default()
    }

    fn query(&self) -> Option<&[u8]> {
        self.target.splitn(2, |&byte| byte == b'?').nth(1)
    }
}
