//! The regression tests of the OWASP Core Rule Set: the gateway with the rules at
//! paranoia level 4, detecting only; the harness's backend behind it; the harness reads
//! what the firewall's log says of each request.

use super::blocking;
use crate::process::{Process, free_port, listens};
use crate::{built, command, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tests at the same time.
pub(super) const JOBS: usize = 4;

const EXAMPLES: &str = "Examples:
  cargo xtask suite crs --rules ../shared/crs --tests ../shared/crs/tests --harness ../shared/waf-conformance
  cargo xtask suite crs --rules $BASTIDE_CRS --tests $BASTIDE_CRS/tests --harness HARNESS --block
  cargo xtask suite crs --include '^942' --json /tmp/942.json";

/// Where everything lies, and how it is run.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// A release of the Core Rule Set, or its folder of rules; default: $BASTIDE_CRS, ../shared/crs
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Its tests; default: `tests` beside the rules
    #[arg(long, value_name = "DIR")]
    tests: Option<PathBuf>,
    /// run_crs.py, backend.py, engine.conf and crs-test.conf; default: ../shared/waf-conformance
    #[arg(long, value_name = "DIR")]
    harness: Option<PathBuf>,
    /// Also run the tests with the firewall blocking, at each rule's own paranoia level
    #[arg(long)]
    block: bool,
    /// Only tests whose RULE-TEST id matches this expression
    #[arg(long, value_name = "REGEX")]
    include: Option<String>,
    /// Write each test's result here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tests at the same time
    #[arg(long, default_value_t = JOBS)]
    jobs: usize,
    /// Measure the release build
    #[arg(long)]
    release: bool,
}

/// What a run came to.
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// Where rules, tests and harness lie.
pub(crate) struct Places {
    /// The folder with the rule files.
    pub(crate) rules: PathBuf,
    /// The setup file.
    pub(crate) setup: PathBuf,
    pub(crate) tests: PathBuf,
    pub(crate) harness: PathBuf,
}

/// How the tests are run.
pub(super) struct How {
    pub(super) block: bool,
    pub(super) jobs: usize,
    pub(super) include: Option<String>,
    pub(super) release: bool,
}

/// What the harness writes of a run.
#[derive(Deserialize)]
pub(super) struct Results {
    passed: usize,
    failed: usize,
    skipped: usize,
    pub(super) results: Vec<TestResult>,
}

/// What became of one test.
#[derive(Deserialize)]
pub(super) struct TestResult {
    pub(super) id: String,
    pub(super) result: String,
    pub(super) stages: Vec<StageResult>,
}

/// One request of a test.
#[derive(Deserialize)]
pub(super) struct StageResult {
    pub(super) status: Option<u16>,
    pub(super) ids: Vec<u64>,
}

impl Places {
    /// Where they are by default; an error says what is missing where.
    pub(crate) fn usual(root: &Path) -> Result<Self> {
        Self::find(root, None, None, None)
    }

    /// The folder of the release: what `waf:` names.
    pub(crate) fn release(&self) -> Result<PathBuf> {
        let release = self.rules.parent().filter(|folder| self.rules == folder.join("rules"));
        release.map(Path::to_path_buf).context("the rules lie in no folder `rules` of a release")
    }

    fn find(
        root: &Path,
        rules: Option<PathBuf>,
        tests: Option<PathBuf>,
        harness: Option<PathBuf>,
    ) -> Result<Self> {
        let named = std::env::var_os("BASTIDE_CRS").map(PathBuf::from);
        let shared = root.join("../shared");
        let release = rules.or(named).unwrap_or_else(|| shared.join("crs"));
        let inner = release.join("rules");
        let rules = if inner.is_dir() { inner } else { release.clone() };
        let mark = rules.join("REQUEST-901-INITIALIZATION.conf");
        if !mark.is_file() {
            bail!("no Core Rule Set in {} (name it with --rules or $BASTIDE_CRS)", release.display());
        }
        let outer = rules.parent().unwrap_or(&rules).to_path_buf();
        let setups = [&release, &outer].map(|folder| folder.join("crs-setup.conf.example"));
        let setup = setups.into_iter().find(|file| file.is_file());
        let places = Self {
            setup: setup.with_context(|| format!("no crs-setup.conf.example in {}", release.display()))?,
            tests: tests.unwrap_or_else(|| outer.join("tests")),
            harness: harness.unwrap_or_else(|| shared.join("waf-conformance")),
            rules,
        };
        let harness = ["run_crs.py", "backend.py", "engine.conf", "crs-test.conf"];
        if let Some(missing) = harness.iter().find(|name| !places.harness.join(name).is_file()) {
            bail!("no {missing} in {} (name it with --harness)", places.harness.display());
        }
        if !places.tests.is_dir() {
            bail!("no tests in {} (name them with --tests)", places.tests.display());
        }
        let absolute = |path: PathBuf| path.canonicalize().with_context(|| path.display().to_string());
        Ok(Self {
            rules: absolute(places.rules)?,
            setup: absolute(places.setup)?,
            tests: absolute(places.tests)?,
            harness: absolute(places.harness)?,
        })
    }
}

pub(super) fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let (rules, tests) = (options.rules.clone(), options.tests.clone());
    let places = Places::find(&root, rules, tests, options.harness.clone())?;
    let how = How {
        block: options.block,
        jobs: options.jobs,
        include: options.include.clone(),
        release: options.release,
    };
    let tally = measure_to(&places, &how, options.json.as_deref())?;
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed > 0 {
        bail!("{} tests of the Core Rule Set failed", tally.failed);
    }
    Ok(())
}

pub(super) fn measure(places: &Places, how: &How) -> Result<Tally> {
    measure_to(places, how, None)
}

fn measure_to(places: &Places, how: &How, json: Option<&Path>) -> Result<Tally> {
    let yaml = Command::new("python3").args(["-c", "import yaml"]).output();
    if !yaml.is_ok_and(|output| output.status.success()) {
        bail!("the harness needs python3 with PyYAML (package python3-yaml)");
    }
    let binary = if how.release { built::released()? } else { built::bastide()? };
    let folder = tempfile::Builder::new().prefix("bastide-crs-").tempdir()?;
    let detect = Gateway::start(&binary, places, folder.path(), &Setting::detecting(places))?;
    let mut results = detect.test(places, how, how.include.as_deref(), "detect")?;
    if (1..=MISTAKEN_MAX).contains(&results.failed) {
        results.take(detect.test(places, how, Some(&results.failed_ones()), "again")?);
    }
    drop(detect);
    if let Some(path) = json {
        std::fs::copy(folder.path().join("detect.json"), path)?;
    }
    let mut tally = Tally { passed: results.passed, failed: results.failed, skipped: results.skipped };
    if how.block {
        println!("detecting: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
        let blocked = blocking::run(&binary, places, folder.path(), how, &results)?;
        println!(
            "blocking: {} passed, {} failed, {} skipped",
            blocked.passed, blocked.failed, blocked.skipped
        );
        tally.passed += blocked.passed;
        tally.failed += blocked.failed;
        tally.skipped += blocked.skipped;
    }
    Ok(tally)
}

/// The harness knows what the firewall said of a request by its client's port, and the system may
/// give that to a later connection while a line of an earlier one was not asked for: so many failed
/// tests are run once more, by themselves.
const MISTAKEN_MAX: usize = 3;

impl Results {
    /// An expression for the names of those that failed.
    fn failed_ones(&self) -> String {
        let failed = self.results.iter().filter(|test| test.result == "failed");
        let names: Vec<&str> = failed.map(|test| test.id.as_str()).collect();
        println!("run again by themselves: {}", names.join(", "));
        format!("^({})$", names.join("|"))
    }

    /// Takes what became of those that were run again.
    fn take(&mut self, again: Self) {
        self.passed += again.passed;
        self.failed = self.failed.saturating_sub(again.passed);
        for test in again.results {
            if let Some(before) = self.results.iter_mut().find(|before| before.id == test.id) {
                *before = test;
            }
        }
    }
}

/// What differs between runs.
pub(super) struct Setting {
    name: String,
    mode: &'static str,
    rules: Vec<PathBuf>,
}

impl Setting {
    fn detecting(places: &Places) -> Self {
        Self {
            name: "detect".to_owned(),
            mode: "detect",
            rules: vec![
                places.harness.join("engine.conf"),
                places.setup.clone(),
                places.harness.join("crs-test.conf"),
                places.rules.join("*.conf"),
            ],
        }
    }

    pub(super) fn blocking(name: String, rules: Vec<PathBuf>) -> Self {
        Self { name, mode: "block", rules }
    }
}

/// A running gateway with the harness's backend behind it.
pub(super) struct Gateway {
    _gateway: Process,
    _backend: Process,
    port: u16,
    log: PathBuf,
    folder: PathBuf,
}

impl Gateway {
    pub(super) fn start(binary: &Path, places: &Places, folder: &Path, setting: &Setting) -> Result<Self> {
        let own = folder.join(&setting.name);
        std::fs::create_dir_all(&own)?;
        let port = free_port()?;
        let mut backend = Process::start(
            "backend",
            &own,
            Command::new("python3")
                .arg(places.harness.join("backend.py"))
                .args(["--port", &port.to_string()]),
        )?;
        backend.wait(|| listens(port))?;
        let file = own.join("bastide.yaml");
        std::fs::write(&file, configuration(port, &own, setting))?;
        let mut gateway = Process::start(
            "gateway",
            &own,
            Command::new(binary).arg("serve").arg("--config").arg(&file).env("BASTIDE_LOG", "warn"),
        )?;
        let ready = own.join("state/ready.json");
        let port = gateway.wait(|| {
            let ready: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()?;
            ready.pointer("/listen/0")?.as_str()?.rsplit(':').next()?.parse().ok()
        })?;
        let log = gateway.wait(|| first_file(&own.join("state/firewall")))?;
        Ok(Self { _gateway: gateway, _backend: backend, port, log, folder: folder.to_owned() })
    }

    /// Runs the harness; gives what it wrote.
    pub(super) fn test(
        &self,
        places: &Places,
        how: &How,
        include: Option<&str>,
        name: &str,
    ) -> Result<Results> {
        let json = self.folder.join(format!("{name}.json"));
        let mut harness = Command::new("python3");
        harness
            .arg(places.harness.join("run_crs.py"))
            .args(["--target", &format!("127.0.0.1:{}", self.port)])
            .arg("--log")
            .arg(&self.log)
            .arg("--tests")
            .arg(&places.tests)
            .args(["--correlate", "port", "--jobs", &how.jobs.to_string()])
            .arg("--json")
            .arg(&json);
        if let Some(include) = include {
            harness.args(["--include", include]);
        }
        let output = command::run_seeing(&mut harness, |_| {});
        let text =
            std::fs::read(&json).with_context(|| format!("the harness left no result ({output:?})"))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "jsonl"))
}

fn configuration(backend: u16, own: &Path, setting: &Setting) -> String {
    let rules: String = setting.rules.iter().map(|path| format!("    - \"{}\"\n", path.display())).collect();
    format!(
        "state: \"{}\"
workers: 2
listen: [ 127.0.0.1:0 ]
admin: 127.0.0.1:0
audit: {{ rotate_bytes: 16GiB }}
danger_lenient_heads: true
services:
  backend: [ http://127.0.0.1:{backend} ]
routes:
  - match: /**
    to: backend
    allow: anyone
    encoded_slashes: true
    body_max: 16MiB
waf:
  mode: {}
  rules:
{rules}",
        own.join("state").display(),
        setting.mode
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(of: &[(&str, &str)]) -> Results {
        let count = |what: &str| of.iter().filter(|(_, result)| *result == what).count();
        let one = |(id, result): &(&str, &str)| TestResult {
            id: (*id).to_owned(),
            result: (*result).to_owned(),
            stages: Vec::new(),
        };
        let results = of.iter().map(one).collect();
        Results { passed: count("passed"), failed: count("failed"), skipped: 0, results }
    }

    #[test]
    fn what_fails_by_itself_too_has_failed() {
        let mut all = results(&[("1-1", "passed"), ("1-2", "failed"), ("2-1", "failed")]);
        assert_eq!(all.failed_ones(), "^(1-2|2-1)$");
        all.take(results(&[("1-2", "passed"), ("2-1", "failed")]));
        assert_eq!((all.passed, all.failed), (2, 1));
        assert_eq!(all.failed_ones(), "^(2-1)$");
        // What was not run again has failed all the same.
        all.take(results(&[]));
        assert_eq!((all.passed, all.failed), (2, 1));
    }
}
