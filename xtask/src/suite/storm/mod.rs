//! A storm of rotations: certificates of seconds, authorities of half a minute, while requests go
//! through two hops of mutual TLS without a pause. Not one may fail.
//!
//! ```text
//! clients ─ outbound ═ orders ─ program ─ outbound ═ payments ─ program
//! ```
//! Halfway the control plane is killed without a word and started again: what is still good has to
//! carry the requests between the services over that.

use super::Counts;
use crate::clock::Stopwatch;
use crate::process::{Process, free_port, listens};
use crate::{built, command};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long, unless said.
const SECONDS: u64 = 600;
/// Clients at the same time.
const CLIENTS: u64 = 8;
/// Everything is rotated this often: authorities, and certificates at half of theirs.
const LIFETIMES: &str = "  lifetimes: { authority: 36s, x509_svid: 6s, jwt_svid: 6s }\n";
/// For how long the control plane is away, besides the time that it takes to start: together less than
/// what is left of a certificate at its renewal.
const AWAY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "Examples:
  cargo xtask suite storm                  ten minutes
  cargo xtask suite storm --seconds 30";

/// How long.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// How long requests are made, seconds
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
}

/// Runs it and counts requests that failed.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let program = built::bastide()?;
    let folder = tempfile::tempdir()?;
    let (orders, payments) = (free_port()?, free_port()?);
    write(folder.path(), orders, payments)?;
    let mut init = Command::new(&program);
    command::run(init.arg("init").current_dir(folder.path()).stdout(std::process::Stdio::null()))?;
    let serve = |log| {
        let mut serve = Command::new(&program);
        serve.args(["serve", "--config", "bastide.yaml"]).current_dir(folder.path());
        Process::start(log, folder.path(), &mut serve)
    };
    let mut control = serve("control")?;
    control.wait(|| folder.path().join("api.sock").exists().then_some(()))?;
    let mut services = Vec::new();
    for (name, port) in [("payments", payments), ("orders", orders)] {
        let mut service = Command::new(&program);
        service
            .args(["run", "--service", name, "--listen", &format!("127.0.0.1:{port}"), "--"])
            .args(["python3", "program.py", "serve", name])
            .current_dir(folder.path());
        let mut service = Process::start(name, folder.path(), &mut service)?;
        service.wait(|| listens(port))?;
        services.push(service);
    }
    let mut clients = Command::new(&program);
    clients
        .args(["run", "--service", "clients", "--listen", "127.0.0.1:0", "--"])
        .args(["python3", "program.py", "ask"])
        .args([options.seconds.to_string(), CLIENTS.to_string()])
        .current_dir(folder.path());
    let began = Stopwatch::start();
    let mut asking = Process::start("clients", folder.path(), &mut clients)?;
    let mut kills = 0;
    let half = Duration::from_secs(options.seconds / 2);
    let verdict = loop {
        if kills == 0 && began.elapsed() > half {
            control.kill()?;
            std::thread::sleep(AWAY);
            control = serve("control-again")?;
            kills += 1;
        }
        if let Some(line) = verdict(folder.path()) {
            break line;
        }
        if began.elapsed() > Duration::from_secs(options.seconds + 120) {
            bail!("the clients do not end; {}", said(folder.path()));
        }
        if let Err(gone) = asking.check() {
            // It ends when it has written down what came of it.
            break verdict(folder.path()).ok_or(gone)?;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    println!("{verdict}; the control plane was killed {kills} times");
    let number = |word: &str| -> Result<usize> {
        let text = verdict.split(' ').skip_while(|found| *found != word).nth(1);
        text.and_then(|text| text.parse().ok()).context("the clients say how many")
    };
    let (good, bad) = (number("answered")?, number("failed")?);
    if bad > 0 || good == 0 {
        println!("FAIL {}", said(folder.path()));
    }
    Ok(Counts { passed: good, failed: if good == 0 { 1 } else { bad }, skipped: Vec::new() })
}

/// What the clients said at their end.
fn verdict(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("verdict")).ok()?;
    text.ends_with('\n').then(|| text.trim().to_owned())
}

/// The last lines of every log.
fn said(folder: &Path) -> String {
    let tail = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().fold(format!("{name}:\n"), |all, line| all + "  " + line + "\n")
    };
    ["clients", "orders", "payments", "control", "control-again"].map(tail).concat()
}

fn write(folder: &Path, orders: u16, payments: u16) -> Result<()> {
    let uid = command::read(Command::new("id").arg("-u"))?;
    let uid = uid.trim();
    let mesh = format!(
        "mesh:\n  trust_domain: storm.example\n  socket: api.sock\n{LIFETIMES}  services:\n    orders: 127.0.0.1:{orders}\n    \
         payments: 127.0.0.1:{payments}\n  workloads:\n    orders: {{ uid: {uid} }}\n    payments: {{ uid: {uid} }}\n    \
         clients: {{ uid: {uid} }}\npolicies: storm.cedar\n"
    );
    std::fs::write(folder.join("mesh.yaml"), mesh)?;
    let policies = "permit (principal == Service::\"spiffe://storm.example/clients\", action, resource)\n\
                    when { resource.service == \"orders\" };\n\
                    permit (principal == Service::\"spiffe://storm.example/orders\", action, resource)\n\
                    when { resource.service == \"payments\" };\n";
    std::fs::write(folder.join("storm.cedar"), policies)?;
    let control = "include: mesh.yaml\nstate: state\nadmin: 127.0.0.1:0\n\
                   listen: [ { address: \"127.0.0.1:0\" } ]\nroutes: []\n";
    std::fs::write(folder.join("bastide.yaml"), control)?;
    Ok(std::fs::write(folder.join("program.py"), include_str!("program.py"))?)
}
