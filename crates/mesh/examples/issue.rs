//! How many identities an authority issues: each with a fresh key, signed, and its serial
//! number durable before it is given out, as the Workload API does it. Counted by the
//! processor's time, all threads of it, and by the clock.
//! `cargo run --release -p mesh --example issue`

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints")]

#[path = "../../model/examples/support/real_clock.rs"]
mod real_clock;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keys::svid::WorkloadKey;
use keys::{Algorithm, LocalSigner, SystemRandom};
use mesh::{Settings, TrustDomain};
use real_clock::RealClock;
use store::{CacheLimits, Store, UnsealKey};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Who asks at once.
const ASKING: usize = 64;
/// How long it is measured.
const SECONDS: u64 = 5;
/// At least so many in a second of one core.
const PER_CORE_MIN: f64 = 1_000.0;
/// Ticks per second of the times in `/proc` (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (per_second, per_core) = runtime.block_on(measure())?;
    println!("{per_core:.0} identities per second of one core, {per_second:.0} per second of the clock");
    println!("each: a fresh P-256 key, a certificate, its serial number durable; {ASKING} ask at once");
    if per_core < PER_CORE_MIN {
        return Err(format!("past its bound: at least {PER_CORE_MIN} per second of one core").into());
    }
    Ok(())
}

async fn measure() -> Outcome<(f64, f64)> {
    // On a disk: the folder for temporary files may be memory.
    let folder = tempfile::tempdir_in(".")?;
    let path = folder.path().join("store.db");
    let key = UnsealKey::generate()?;
    Store::initialise_sqlite(&path, &key)?;
    let store = Store::open_sqlite(&path, key, Arc::new(RealClock(Instant::now())), CacheLimits::default())?;
    let domain =
        TrustDomain::open(Settings::new("bench.example"), store, Arc::new(SystemRandom::new())).await?;
    let (begin, used) = (Instant::now(), ticks()?);
    let until = begin + Duration::from_secs(SECONDS);
    let asking: Vec<_> =
        (0..ASKING).map(|number| tokio::spawn(ask(Arc::clone(&domain), number, until))).collect();
    let mut count = 0.0;
    for one in asking {
        count += one.await??;
    }
    let (took, used) = (begin.elapsed().as_secs_f64(), (ticks()? - used) / TICKS_PER_SECOND);
    Ok((count / took, count / used))
}

async fn ask(domain: Arc<TrustDomain>, number: usize, until: Instant) -> Outcome<f64> {
    let id = format!("spiffe://bench.example/service-{number}").parse()?;
    let mut count = 0.0;
    while Instant::now() < until {
        let (signer, _key) = LocalSigner::generate(Algorithm::Es256, domain.random())?;
        let issued = domain.issue_x509(&id, &WorkloadKey::of(Arc::new(signer))?).await?;
        std::hint::black_box(issued);
        count += 1.0;
    }
    Ok(count)
}

/// User and system time of this process and its threads.
fn ticks() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let field = |number: usize| rest.split_whitespace().nth(number).and_then(|text| text.parse::<f64>().ok());
    // utime and stime, the 14th and 15th of proc_pid_stat(5), counted behind the name.
    Ok(field(11).ok_or("no utime")? + field(12).ok_or("no stime")?)
}
