//! What the process holds in memory when its realm has many people.

use super::job;
use super::stage::{Home, clients, first_token};
use crate::clock::Stopwatch;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The number of people that the bound is for.
pub(super) const PEOPLE: u32 = 100_000;
/// Requests about tokens before memory is read.
const REQUESTS: u32 = 2_000;
/// How long the process is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// A hash as Keycloak has them, of 600,000 rounds of PBKDF2; nobody logs in with it here.
const HASH: &str =
    "$pbkdf2-sha256$i=600000,l=32$c29tZS1zYWx0LW9mLWtleWNsb2Fr$q6u7q6u7q6u7q6u7q6u7q6u7q6u7q6u7q6u7q6u7q6s";

/// What was found.
#[derive(Clone, Copy)]
pub(super) struct Crowd {
    pub(super) people: u32,
    /// Taking them in, seconds.
    pub(super) apply_seconds: f64,
    /// From the start to the first token with all of them there, milliseconds.
    pub(super) start_ms: f64,
    /// Megabytes (10⁶ bytes) with the first token, and when everybody was looked at.
    pub(super) fresh_mb: f64,
    pub(super) used_mb: f64,
}

/// Fills a realm, starts the process anew and looks at everybody.
pub(super) fn measure(folder: &Path, binary: &Path, people: u32) -> Result<Crowd> {
    let home = Home::make(&folder.join("crowd"), binary)?;
    let users: serde_json::Map<String, Value> = (0..people).map(person).collect();
    let document = json!({ "realm": "bench", "clients": clients(), "users": users });
    std::fs::write(home.folder.join("crowd.json"), document.to_string())?;
    drop(document);
    println!("taking in {people} people");
    let watch = Stopwatch::start();
    home.run(&["apply", "-f", "crowd.json"])?;
    let apply_seconds = watch.elapsed().as_secs_f64();
    let watch = Stopwatch::start();
    let mut server = home.spawn()?;
    first_token(&mut server, home.port)?;
    let start_ms = watch.elapsed().as_secs_f64() * 1e3;
    let read = || {
        std::thread::sleep(SETTLE);
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        server.resident_kib().map(|kib| kib as f64 * 1_024.0 / 1e6)
    };
    let fresh_mb = read()?;
    let listed: Vec<Value> = serde_json::from_str(&home.run(&["user", "list", "--output", "json"])?)?;
    if listed.len() != usize::try_from(people)? {
        bail!("{} people are listed, expected {people}", listed.len());
    }
    let form = job::credentials(true);
    for _ in 0..REQUESTS {
        job::post(home.port, "/token", &form)?;
    }
    let used_mb = read()?;
    println!(
        "people: taken in within {apply_seconds:.0} s, first token after {start_ms:.0} ms, {fresh_mb:.1} MB, \
         {used_mb:.1} MB when all were listed"
    );
    Ok(Crowd { people, apply_seconds, start_ms, fresh_mb, used_mb })
}

fn person(number: u32) -> (String, Value) {
    let name = format!("person-{number:06}");
    let about = json!({
        "name": format!("Person {number}"), "email": format!("{name}@example.org"), "email_verified": true,
        "groups": [format!("group-{}", number % 50)],
        "attributes": { "department": format!("department {}", number % 20) }, "password_hash": HASH,
    });
    (name, about)
}
