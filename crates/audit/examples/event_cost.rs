//! What one event costs its core: serialising alone, and reserving and committing with
//! the writer at work. `cargo run --release -p audit --example event_cost`

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints")]

#[path = "../../model/examples/support/real_clock.rs"]
mod real_clock;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::{Settings, open, record};
use model::event::{AccessEvent, DecisionRecord, Outcome, Step};
use model::{Credential, PrincipalKind, RequestId, Timestamp};
use real_clock::RealClock;

const EVENTS: u32 = 1_000_000;
const ROUNDS: u32 = 5;
const BURST: usize = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let decision = DecisionRecord {
        generation: 3,
        snapshot: "ab".repeat(32),
        policies: vec!["owner-reads".to_owned()],
        read: BTreeMap::from([
            ("principal.id".to_owned(), "alice".into()),
            ("resource.params.owner".to_owned(), "alice".into()),
            ("context.hour".to_owned(), 21.into()),
        ]),
        would_deny: None,
    };
    for (name, decision) in [("without a decision", None), ("with a decision", Some(&decision))] {
        let event = event(decision);
        let mut line = Vec::with_capacity(4096);
        let nanos = best(|| {
            for _ in 0..EVENTS {
                line.clear();
                record::append(&mut line, std::hint::black_box(&event));
                std::hint::black_box(&line);
            }
        });
        println!("serialise, {name}: {nanos} ns for {} bytes", line.len());
    }
    queue(&event(Some(&decision)))
}

fn queue(event: &AccessEvent<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("audit-cost-{}", std::process::id()));
    let settings = Settings { keep: 2, ..Settings::new(&folder) };
    let (log, mut queues) = open(settings, 1, Arc::new(RealClock(Instant::now())))?;
    let queue = Rc::new(queues.pop().ok_or("no queue")?);
    // Bursts that fit into the queue: what is measured is the core, not the disk.
    let (mut nanos, mut events) = (0, 0);
    while events < EVENTS {
        while queue.free() < BURST {
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        for _ in 0..BURST {
            queue.reserve(event.id, event.time)?.commit(event);
        }
        nanos += start.elapsed().as_nanos();
        events += BURST as u32;
    }
    println!("reserve and commit: {} ns", nanos / u128::from(events));
    log.close(Duration::from_secs(60))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Nanoseconds for one event, best of the rounds.
fn best(mut round: impl FnMut()) -> u128 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() / u128::from(EVENTS)
        })
        .min()
        .unwrap_or_default()
}

fn event(decision: Option<&DecisionRecord>) -> AccessEvent<'_> {
    AccessEvent {
        duration_nanos: 2_345_678,
        outcome: Outcome::Allowed,
        step: Step::Forward,
        status: 200,
        client_address: "192.0.2.7".into(),
        client_port: 50_123,
        tls: "1.3".into(),
        method: "GET".into(),
        host: "shop.example.org".into(),
        path: "/orders/alice/17".into(),
        version: "1.1".into(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0".into(),
        route: "orders".into(),
        upstream: "10.0.0.5:7001".into(),
        attempts: 1,
        bytes_out: 1024,
        principal_kind: PrincipalKind::User,
        principal: "alice".into(),
        credential: Credential::Jwt,
        issuer: "https://id.example.org".into(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        decision: decision.map(Cow::Borrowed),
        ..AccessEvent::bare(
            RequestId::new(1_795_384_267_123, 7),
            Timestamp::from_unix_nanos(1_795_384_267_123_456_789),
        )
    }
}
