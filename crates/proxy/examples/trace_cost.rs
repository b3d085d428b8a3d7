//! What tracing costs a core per request: nothing decided (no `traceparent`), a caller's
//! `traceparent` read and not sampled, and the spans of a sampled request made and left
//! for the exporter; then what the exporter spends on encoding them.
//! `cargo run --release -p proxy --example trace_cost`

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints")]

use std::hint::black_box;
use std::time::Instant;

use model::Timestamp;
use proxy::telemetry::{
    Event, Parent, Sampling, Span, SpanId, SpanKind, Trace, TraceId, TraceReceiver, Value, otlp,
};

const TIMES: u32 = 1_000_000;
const ROUNDS: u32 = 5;
const FIELD: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn main() {
    let sampling = Sampling::new(0.01);
    let id = TraceId(*b"0123456789abcde\0");
    println!(
        "decide by the ratio: {} ns",
        best(|| {
            black_box(sampling.samples(None, black_box(id)));
        })
    );
    println!(
        "read a traceparent and decide: {} ns",
        best(|| {
            let parent = Parent::parse(black_box(FIELD));
            black_box(sampling.samples(parent.as_ref(), id));
        })
    );
    let (mut receiver, cores) = TraceReceiver::new(1, 1024);
    let mut drained = Vec::new();
    let mut left = 0;
    let nanos = best(|| {
        for sender in &cores {
            sender.send(Box::new(trace(id)));
        }
        left += 1;
        if left % 1000 == 0 {
            receiver.drain(&mut drained, usize::MAX);
            drained.clear();
        }
    });
    println!("make and leave the five spans of a sampled request, freeing included: {nanos} ns");
    let traces: Vec<Trace> = (0..100).map(|_| trace(id)).collect();
    let resource = [("service.name".to_owned(), "bastide".to_owned())];
    let start = Instant::now();
    for _ in 0..100 {
        black_box(otlp::traces(&resource, "0", &traces));
    }
    let bytes = otlp::traces(&resource, "0", &traces).len() / 100;
    println!(
        "encode, per request, on the control plane: {} ns for {bytes} bytes",
        start.elapsed().as_nanos() / 10_000
    );
}

/// Nanoseconds for one, best of the rounds.
fn best(mut once: impl FnMut()) -> u128 {
    let round = |_| {
        let start = Instant::now();
        (0..TIMES).for_each(|_| once());
        start.elapsed().as_nanos() / u128::from(TIMES)
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

/// What an ordinary request leaves.
fn trace(id: TraceId) -> Trace {
    let span = |n: u32, kind, attributes: usize| Span {
        id: SpanId::nth(7, n),
        parent: (n > 0).then(|| SpanId::nth(7, 0)),
        remote_parent: false,
        name: "GET /orders/**".into(),
        kind,
        start: Timestamp::from_unix_seconds(1),
        end: Timestamp::from_unix_seconds(2),
        attributes: (0..attributes).map(|n| ("http.request.header", text(n))).collect(),
        events: Vec::new(),
        failed: false,
    };
    let event = Event {
        name: "bastide.decision",
        time: Timestamp::from_unix_seconds(2),
        attributes: vec![("a", text(0)), ("b", text(1))],
    };
    let server = Span { events: vec![event], ..span(0, SpanKind::Server, 18) };
    let steps = (1..4).map(|n| span(n, SpanKind::Internal, 0));
    let spans = std::iter::once(server).chain(steps).chain([span(4, SpanKind::Client, 6)]).collect();
    Trace { id, state: "".into(), flags: 1, spans }
}

/// Half of them are texts of the request's own.
fn text(n: usize) -> Value {
    if n.is_multiple_of(2) { "a name of ours".into() } else { String::from("shop.example.org").into() }
}
