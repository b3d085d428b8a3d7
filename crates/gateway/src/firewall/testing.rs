//! What the tests here share: rules from a text, and somebody who asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{RequestId, Timestamp};
use tokio::sync::Semaphore;
use waf::{EngineMode, Memory, MemoryLimits, Options, RuleSet, SourceFault, Sources};

use super::{Begin, CompressedRequests, Firewall, Inspection, Mode};

struct Text<'t>(&'t str);

impl Sources for Text<'_> {
    fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
        Ok(self.0.as_bytes().to_vec())
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// Rules that may interfere.
pub(super) fn rules(text: &str) -> Arc<RuleSet> {
    let options = Options { engine: Some(EngineMode::On), ..Options::default() };
    Arc::new(RuleSet::load(&Text(text), &["rules.conf"], &options).unwrap())
}

/// A firewall that blocks.
pub(super) fn firewall(text: &str) -> Arc<Firewall> {
    Arc::new(Firewall {
        rules: rules(text),
        mode: Mode::Block,
        memory: Arc::new(Memory::new(MemoryLimits::default())),
        compressed_requests: CompressedRequests::Refuse,
        unreadable_answers_pass: false,
        on_identity: None,
    })
}

/// Rules of which none matches and each reads all of what it looks at: no literal is needed, and
/// a counted gap makes more states than are kept.
pub(super) fn slow_rules(count: usize, phase: u8) -> String {
    let rule = |number| {
        let gap = 20 + number % 40;
        format!(
            "SecRule ARGS \"@rx (?:[a-f].{{{gap}}}[g-k]){{2}}[l-z][^a-z0-9 ]\" \
             \"id:{number},phase:{phase},deny,t:none,t:lowercase\"\n"
        )
    };
    (1..=count).map(rule).collect()
}

/// An argument that they read to its end.
pub(super) fn slow_argument(bytes: usize) -> String {
    "abc7-ghijk-fed--m-".chars().cycle().take(bytes).collect()
}

/// An inspection that has begun.
pub(super) fn inspection(firewall: &Arc<Firewall>, mode: Mode) -> Inspection {
    let address = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 1);
    let begin = Begin {
        id: RequestId::new(1_000, 7),
        time: Timestamp::from_unix_seconds(1),
        client: address,
        server: address,
        places: &Arc::new(Semaphore::new(1)),
    };
    Inspection::begin(firewall, mode, &begin, None, waf::Spare::default())
}
