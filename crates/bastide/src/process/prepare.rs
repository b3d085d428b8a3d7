//! The firewall's expressions, compiled on a thread of its own while requests are already
//! judged: a request that is earlier compiles what it needs itself, and nothing waits.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Begins to compile what these rules have not compiled yet. Where the thread cannot be
/// made, the first requests pay for it, and that is all.
pub(super) fn in_background<'r>(
    firewalls: impl Iterator<Item = &'r Arc<waf::RuleSet>>,
) -> Option<JoinHandle<()>> {
    let mut all: Vec<Arc<waf::RuleSet>> = Vec::new();
    for rules in firewalls.filter(|rules| !rules.is_prepared()) {
        if !all.iter().any(|known| known.shares_rules(rules)) {
            all.push(Arc::clone(rules));
        }
    }
    if all.is_empty() {
        return None;
    }
    let thread = Builder::new().name("waf-prepare".to_owned());
    let begun = thread.spawn(move || all.iter().for_each(|rules| rules.prepare()));
    begun
        .inspect_err(|error| tracing::warn!(%error, "the firewall's expressions are compiled as they run"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text;

    impl waf::Sources for Text {
        fn read(&self, _: &str) -> Result<Vec<u8>, waf::SourceFault> {
            Ok(b"SecRule ARGS \"@rx a+b\" \"id:1,phase:2,deny\"\n".to_vec())
        }

        fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, waf::SourceFault> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn expressions_are_compiled_once_before_any_request() {
        let rules = Arc::new(waf::RuleSet::load(&Text, &["a"], &waf::Options::default()).unwrap());
        assert!(!rules.is_prepared());
        in_background([&rules, &rules].into_iter()).unwrap().join().unwrap();
        assert!(rules.is_prepared());
        assert!(in_background(std::iter::once(&rules)).is_none());
    }
}
