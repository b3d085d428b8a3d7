use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use waf::{Connection, Memory, MemoryLimits, RequestHead, RuleSet, Verdict};

use super::super::testing::{rules as load, slow_argument, slow_rules};
use super::*;

const PLACES: usize = 2;

/// A transaction at the beginning of phase 1, with so many rules and an argument so long.
fn begun(rules: usize, bytes: usize) -> (Work, Arc<Semaphore>) {
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    begun_by(load(&slow_rules(rules, 1)), &memory, bytes)
}

fn begun_by(set: Arc<RuleSet>, memory: &Arc<Memory>, bytes: usize) -> (Work, Arc<Semaphore>) {
    let address = IpAddr::from([192, 0, 2, 1]);
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 2 };
    let mut transaction = Transaction::new(set, Arc::clone(memory), connection, "id", 0);
    let target = format!("/?q={}", slow_argument(bytes));
    let head = RequestHead {
        line: b"GET / HTTP/1.1",
        method: b"GET",
        target: target.as_bytes(),
        protocol: b"HTTP/1.1",
        headers: &[],
    };
    assert_eq!(transaction.request_headers(&head, NOTHING), Step::Yield);
    let places = Arc::new(Semaphore::new(PLACES));
    (Work::new(transaction, &places), places)
}

/// Polls once; whether it is still here.
async fn stays(work: &mut Work) -> bool {
    poll_fn(|cx| {
        let _ = work.poll(cx);
        Poll::Ready(())
    })
    .await;
    work.here().is_some()
}

#[tokio::test]
async fn the_core_keeps_what_is_short() {
    let held = |bytes| begun(1, bytes).0.here().unwrap().bytes_held();
    let (mut fits, mut over) = (1_000, HELD_BYTES_MAX);
    while over - fits > 1 {
        let middle = fits.midpoint(over);
        *if held(middle) <= HELD_BYTES_MAX { &mut fits } else { &mut over } = middle;
    }
    assert!(stays(&mut begun(1, fits).0).await, "values of {} bytes", held(fits));
    let (mut work, places) = begun(1, over);
    // Whoever would work on it elsewhere waits for a place, and is not done at once.
    let _taken = places.try_acquire_many(PLACES as u32).unwrap();
    assert!(!stays(&mut work).await, "values of {} bytes", held(over));
}

#[tokio::test]
async fn what_is_long_comes_back_judged() {
    for (bytes, mut polls) in [(1_000, 0), (100_000, 0)] {
        let (mut work, places) = begun(4, bytes);
        loop {
            match poll_fn(|cx| work.poll(cx)).await {
                Some(Step::Yield) => polls += 1,
                Some(step) => break assert_eq!(step, Step::Done(Verdict::Pass), "{bytes}"),
                None => panic!("{bytes}: it did not come back"),
            }
        }
        assert!(work.here().is_some() && places.available_permits() == PLACES, "{bytes} {polls}");
    }
}

#[tokio::test]
async fn so_many_are_worked_on_elsewhere_and_no_more() {
    // Minutes of work: nobody is done meanwhile, however long this side is held up.
    let (mut works, places): (Vec<_>, Vec<_>) = (0..3).map(|_| begun(1_000, 200_000)).unzip();
    let shared = &places[0];
    for work in &mut works {
        work.places = Arc::clone(shared);
        assert!(!stays(work).await);
    }
    assert_eq!(shared.available_permits(), 0);
    let waits = tokio::time::timeout(Duration::from_millis(50), shared.acquire()).await;
    assert!(waits.is_err(), "a place is left while two work and one waits");
}

#[tokio::test]
async fn nobody_works_for_who_has_gone() {
    // Minutes of work.
    let (mut work, places) = begun(1_000, 200_000);
    assert!(!stays(&mut work).await);
    assert_eq!(places.available_permits(), PLACES - 1);
    drop(work);
    let all = tokio::time::timeout(Duration::from_secs(20), places.acquire_many(PLACES as u32)).await;
    assert!(all.is_ok(), "the thread goes on");
}

#[tokio::test]
async fn what_was_counted_is_kept_when_nobody_waits_any_more() {
    let counting = "SecAction \"id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.seen=1\"\n";
    let rules = counting.to_owned() + &slow_rules(1_000, 1).replace("id:", "id:1");
    // It counts before the work that nobody waits for; how long before, the machine says.
    for pause in [50, 500, 5_000] {
        let memory = Arc::new(Memory::new(MemoryLimits::default()));
        let (mut work, places) = begun_by(load(&rules), &memory, 200_000);
        assert!(!stays(&mut work).await);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        drop(work);
        let all = tokio::time::timeout(Duration::from_secs(20), places.acquire_many(PLACES as u32)).await;
        assert!(all.is_ok(), "the thread goes on");
        if memory.len() == 1 {
            return;
        }
    }
    panic!("nothing that was counted is kept");
}
