//! sqlmap against the firewall. What it finds in a search that is open on purpose, it must
//! not find through the gateway; and nothing in the demo's own search.

use super::{Counts, CrsPlaces, servers};
use crate::clock::Stopwatch;
use crate::process::{Process, free_port, listens};
use crate::test::tools;
use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The search that is open.
const INJECTABLE: &str = include_str!("injectable.py");
/// The demo's rules.
const OWN_RULES: &str = "crates/bastide/src/demo/environment/*.conf";
/// Without those that sleep or let the database work hard: what they would find, these do.
const TECHNIQUES: &str = "BEUQ";

const EXAMPLES: &str = "Examples:
  cargo xtask suite sqlmap
  cargo xtask suite sqlmap --level 5 --risk 3 --seconds 1800 --requests 100000";

/// How much is tried.
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// sqlmap's --level, 1 to 5: how many tests and places
    #[arg(long, default_value_t = 3)]
    level: u8,
    /// sqlmap's --risk, 1 to 3
    #[arg(long, default_value_t = 2)]
    risk: u8,
    /// Longest time of one run, seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Most requests of one run
    #[arg(long, default_value_t = 20_000)]
    requests: usize,
    /// The binary under test; the one of the tests when left out
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Options {
    /// The bounded part that is a check of every run.
    pub(crate) fn bounded() -> Self {
        Self { level: 1, risk: 1, seconds: 180, requests: 2000, binary: None }
    }
}

/// What sqlmap came to.
struct Ran {
    found: bool,
    requests: usize,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Counts> {
    if let Err(missing) = tools::ensure(tools::FOR_SQLMAP) {
        return Ok(Counts { passed: 0, failed: 0, skipped: vec![missing.to_string()] });
    }
    let binary = servers::binary(options.binary.as_deref())?.canonicalize()?;
    let folder = tempfile::tempdir()?;
    let mut counts = Counts { passed: 0, failed: 0, skipped: Vec::new() };
    let port = free_port()?;
    let script = folder.path().join("injectable.py");
    std::fs::write(&script, INJECTABLE)?;
    let mut search =
        Process::start("search", folder.path(), Command::new("python3").arg(&script).arg(port.to_string()))?;
    search.wait(|| listens(port))?;
    let direct = options.attack(folder.path(), "direct", &[&format!("http://127.0.0.1:{port}/?q=cup")])?;
    counts.judge("the open search, with nothing before it", &direct, true);

    let own = workspace::root()?.join(OWN_RULES);
    let mut sets = vec![("own", own)];
    match CrsPlaces::usual(&workspace::root()?) {
        Ok(places) => sets.push(("crs", places.release()?)),
        Err(missing) => counts.skipped.push(format!("the Core Rule Set's part: {missing:#}")),
    }
    for (name, rules) in sets {
        let place = folder.path().join(name);
        let gateway = servers::Server::bastide(&binary, &place, &configuration(port, &rules))?;
        let target = format!("http://{}/?q=cup", gateway.address);
        let honest = command::read(Command::new("python3").args(["-c", ASK, &target]))?;
        if !honest.contains("cup") {
            bail!("an honest search through the gateway gave {honest:?}");
        }
        let ran = options.attack(folder.path(), name, &[&target])?;
        counts.judge(&format!("the open search behind the firewall, rules {}", rules.display()), &ran, false);
    }
    drop(search);
    let demo = Demo::start(&binary, folder.path())?;
    let (target, host) = (format!("https://127.0.0.1:{}/products?q=oil", demo.port), "--host=shop.localhost");
    let ran = options.attack(folder.path(), "demo", &[&target, host])?;
    counts.judge("the demo's search", &ran, false);
    Ok(counts)
}

/// Asks as a client that is honest.
const ASK: &str =
    "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())";

impl Counts {
    fn judge(&mut self, what: &str, ran: &Ran, expected: bool) {
        let found = if ran.found { "an injection" } else { "nothing" };
        println!("{what}: sqlmap found {found} with {} requests", ran.requests);
        if ran.found == expected { self.passed += 1 } else { self.failed += 1 }
    }
}

impl Options {
    /// Lets sqlmap try one address, within the bounds.
    fn attack(&self, folder: &Path, name: &str, target: &[&str]) -> Result<Ran> {
        let said = folder.join(format!("sqlmap-{name}.log"));
        let traffic = folder.join(format!("sqlmap-{name}.traffic"));
        let output = std::fs::File::create(&said)?;
        let mut sqlmap = Command::new("sqlmap");
        sqlmap.arg("-u").args(target);
        sqlmap.args(["--batch", "--disable-coloring", "--flush-session"]);
        sqlmap.args(["--technique", TECHNIQUES, "--threads", "4", "--timeout", "20", "--retries", "1"]);
        sqlmap.args(["--level", &self.level.to_string(), "--risk", &self.risk.to_string()]);
        sqlmap.arg("--output-dir").arg(folder.join(format!("sqlmap-{name}"))).arg("-t").arg(&traffic);
        let child = sqlmap.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let within = self.wait(child, &traffic);
        let text = std::fs::read_to_string(&said)?;
        within.with_context(|| format!("sqlmap ({name}): {}", last_lines(&text)))?;
        let found = text.contains("identified the following injection point");
        if !found && !text.contains("do not appear to be injectable") {
            bail!("sqlmap ({name}) came to no end of its own: {}", last_lines(&text));
        }
        Ok(Ran { found, requests: requests(&traffic) })
    }

    fn wait(&self, mut child: Child, traffic: &Path) -> Result<()> {
        let watch = Stopwatch::start();
        let over = loop {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            if watch.elapsed() > Duration::from_secs(self.seconds) {
                break format!("not done after {} s", self.seconds);
            }
            if requests(traffic) > self.requests {
                break format!("not done after {} requests", self.requests);
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        child.kill()?;
        child.wait()?;
        bail!(over)
    }
}

/// How many requests sqlmap has written down.
fn requests(traffic: &Path) -> usize {
    let bytes = std::fs::read(traffic).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter(|line| line.starts_with("HTTP request [#")).count()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

fn configuration(upstream: u16, rules: &Path) -> String {
    format!(
        "workers: 1
listen: [ 127.0.0.1:0 ]
services: {{ search: [ http://127.0.0.1:{upstream} ] }}
routes:
  - match: /**
    to: search
    allow: anyone
waf: \"{}\"
",
        rules.display()
    )
}

/// The demo, with the port of its shop.
struct Demo {
    _demo: Process,
    port: u16,
}

impl Demo {
    fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let mut demo = Process::start("demo", folder, Command::new(binary).arg("demo"))?;
        let log = folder.join("demo.log");
        let port = demo.wait(|| {
            let said = std::fs::read_to_string(&log).ok()?;
            let (_, rest) = said.split_once("https://shop.localhost:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })?;
        Ok(Self { _demo: demo, port })
    }
}
