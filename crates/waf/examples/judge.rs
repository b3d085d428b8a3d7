//! Loads a few rules and judges two requests: the whole of the interface in one page.
//!
//! `cargo run -p waf --example judge`
#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::{net::IpAddr, sync::Arc};
use waf::{
    Budget, Connection, Memory, MemoryLimits, Options, RequestHead, RuleSet, SourceFault, Sources, Step,
    Transaction, Verdict,
};

const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecRule ARGS "@detectSQLi" \
    "id:1001,phase:2,deny,status:403,log,capture,\
    msg:'SQL injection',logdata:'%{TX.0} in %{MATCHED_VAR_NAME}',severity:CRITICAL"
"#;

/// Rule files are read by the caller; here there is one, in memory.
struct InMemory;

impl Sources for InMemory {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        match path {
            "rules.conf" => Ok(RULES.as_bytes().to_vec()),
            _ => Err(SourceFault("no such file".to_owned())),
        }
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

fn main() -> Result<(), waf::LoadFaults> {
    let rules = Arc::new(RuleSet::load(&InMemory, &["rules.conf"], &Options::default())?);
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    for target in ["/search?q=plain+words", "/search?q=1'+OR+'1'='1"] {
        let connection = Connection {
            client_address: IpAddr::from([203, 0, 113, 9]),
            client_port: 40_000,
            server_address: IpAddr::from([192, 0, 2, 1]),
            server_port: 443,
        };
        // The clock is the caller's: milliseconds since 1970.
        let mut transaction = Transaction::new(
            Arc::clone(&rules),
            Arc::clone(&memory),
            connection,
            "request-1",
            1_700_000_000_000,
        );
        let line = format!("GET {target} HTTP/1.1");
        let head = RequestHead {
            line: line.as_bytes(),
            method: b"GET",
            target: target.as_bytes(),
            protocol: b"HTTP/1.1",
            headers: &[(b"Host", b"shop.example")],
        };
        let mut step = transaction.request_headers(&head, Budget::UNLIMITED);
        if step == Step::Done(Verdict::Pass) {
            // A body would be fed here, piece by piece, by `request_body_chunk`.
            step = transaction.request_body_end(Budget::UNLIMITED);
        }
        println!("{target}: {step:?}");
        for found in transaction.matches() {
            println!("  rule {}: {} ({})", found.rule, found.message, found.log_data);
        }
    }
    Ok(())
}
