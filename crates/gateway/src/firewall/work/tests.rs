use std::fmt::Write as _;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use waf::{
    Connection, EngineMode, Memory, MemoryLimits, Options, RequestHead, RuleSet, SourceFault, Sources,
    Verdict,
};

use super::*;

const PLACES: usize = 2;

struct Text(String);

impl Sources for Text {
    fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// A transaction at the beginning of phase 1, with so many rules and an argument so long.
fn begun(rules: usize, bytes: usize) -> (Work, Arc<Semaphore>) {
    let mut text = String::new();
    for number in 1..=rules {
        let gap = 20 + number % 40;
        writeln!(
            text,
            "SecRule ARGS \"@rx (?:[a-f].{{{gap}}}[g-k]){{2}}[l-z][^a-z0-9 ]\" \"id:{number},phase:1,deny,t:none,t:lowercase\""
        )
        .unwrap();
    }
    let options = Options { engine: Some(EngineMode::On), ..Options::default() };
    let set = Arc::new(RuleSet::load(&Text(text), &["rules.conf"], &options).unwrap());
    let address = IpAddr::from([192, 0, 2, 1]);
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 2 };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let mut transaction = Transaction::new(set, memory, connection, "id", 0);
    let argument: String = "abc7-ghijk-fed--m-".chars().cycle().take(bytes).collect();
    let target = format!("/?q={argument}");
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
    assert!(!stays(&mut begun(1, over).0).await, "values of {} bytes", held(over));
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
    let (mut works, places): (Vec<_>, Vec<_>) = (0..3).map(|_| begun(40, 100_000)).unzip();
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
