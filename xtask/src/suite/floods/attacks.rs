//! The table of attacks.

use super::field::Field;
use crate::clock::Stopwatch;
use crate::command;
use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The program of the attacks in Python.
const ATTACK: &str = include_str!("attack.py");
/// Connections of one slow attack: fewer than one address may have.
const SLOW_CONNECTIONS: &str = "400";
/// Seconds that a slow attack lasts at least: longer than the field's limits of time.
const SLOW_SECONDS_LEAST: u32 = 8;
/// Connections that one address may have open: the default of its limit.
const CONNECTIONS_PER_ADDRESS: u64 = 512;
/// Fetches of an issuer's keys at once, and the seconds until one more.
const FETCH_BURST: u64 = 4;
const FETCH_EVERY_SECONDS: u64 = 10;
/// Requests that are written at once.
const PIPELINED: u64 = 200;
/// What 10,000 logins at once may cost, MiB: their connections on both sides of the gateway,
/// and two hashes.
const LOGINS_MEMORY_MIB_MAX: u64 = 256;
/// An authorization request of the field's client; the challenge is that of RFC 7636 §B.
const AUTHORIZATION: &str = "/id/authorize?client_id=web&response_type=code&redirect_uri=https%3A%2F%2Fapp.floods%2Fcb\
    &scope=openid&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

/// What an attack was and what came of it.
pub(super) struct Report {
    pub(super) sent: String,
    pub(super) did: String,
    /// Why the server did not do what its limits say.
    pub(super) fault: Option<String>,
}

/// One attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// The program that drives it, beside Python.
    needs: Needs,
    /// Memory that the gateway may have held at most, MiB.
    pub(super) memory_mib_max: u64,
    /// Whether the gateway has a realm of people.
    pub(super) realm: bool,
    pub(super) run: fn(&Field) -> Result<Report>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Python,
    Program(&'static str),
}

impl Attack {
    /// What is not here and would be needed.
    pub(super) fn lacks(&self, python: bool) -> Option<&'static str> {
        match self.needs {
            Needs::Python if !python => Some("PyPI's h2"),
            Needs::Program(name) if command::find(name).is_none() => Some(name),
            _ => None,
        }
    }
}

/// What an attack on the hop may cost at most, MiB.
const MEMORY_MIB_MAX: u64 = 128;

/// All attacks.
pub(super) const ATTACKS: &[Attack] = &[
    frames("rapid-reset", |field| cut(field, "rapid-reset", "streams opened and reset")),
    frames("continuation", |field| cut(field, "continuation", "CONTINUATION frames")),
    frames("settings", |field| cut(field, "settings", "SETTINGS frames")),
    frames("ping", |field| cut(field, "ping", "PING frames")),
    frames("empty-data", |field| cut(field, "empty-data", "empty DATA frames")),
    frames("header-bomb", header_bomb),
    program("slow-heads", "slowhttptest", |field| slow(field, "-H")),
    program("slow-bodies", "slowhttptest", |field| slow(field, "-B")),
    program("slow-readers", "slowhttptest", |field| slow(field, "-X")),
    frames("connections", connections),
    frames("key-ids", key_ids),
    frames("compressed", compressed),
    Attack { name: "limit-keys", needs: Needs::Nothing, memory_mib_max: 256, realm: false, run: limit_keys },
    program("http2-requests", "h2load", http2_requests),
    Attack {
        name: "logins",
        needs: Needs::Python,
        memory_mib_max: LOGINS_MEMORY_MIB_MAX,
        realm: true,
        run: logins,
    },
];

const fn frames(name: &'static str, run: fn(&Field) -> Result<Report>) -> Attack {
    Attack { name, needs: Needs::Python, memory_mib_max: MEMORY_MIB_MAX, realm: false, run }
}

const fn program(name: &'static str, program: &'static str, run: fn(&Field) -> Result<Report>) -> Attack {
    Attack { name, needs: Needs::Program(program), memory_mib_max: MEMORY_MIB_MAX, realm: false, run }
}

/// What the Python program counted.
#[derive(serde::Deserialize)]
struct Counted {
    sent: u64,
    connections: u64,
    cut: u64,
    open: u64,
    answers: std::collections::BTreeMap<String, u64>,
}

fn python(field: &Field, kind: &str, more: &[&str]) -> Result<Counted> {
    let python = field.python.as_ref().context("chosen only when Python is here")?;
    let address = field.address();
    let words =
        [kind.to_owned(), address.ip().to_string(), address.port().to_string(), field.seconds.to_string()];
    let program = field.folder.join("attack.py");
    std::fs::write(&program, ATTACK)?;
    // At the lowest priority: its own hunger for the processor is not what is measured.
    let mut attack = Command::new("nice");
    attack.args(["-n", "19"]).arg(python).arg(&program).args(&words).args(more);
    let printed = command::read(&mut attack)?;
    serde_json::from_str(printed.trim()).with_context(|| format!("the attack printed {printed:?}"))
}

/// A flood of frames after which the server must cut the connection.
fn cut(field: &Field, kind: &str, what: &str) -> Result<Report> {
    let counted = python(field, kind, &[])?;
    // One may still be open when the time is over.
    let held = counted.cut > 0 && counted.cut + 1 >= counted.connections;
    Ok(Report {
        sent: format!("{} {what}", counted.sent),
        did: format!("cut {} of {} connections", counted.cut, counted.connections),
        fault: (!held).then(|| "connections were not cut".to_owned()),
    })
}

fn header_bomb(field: &Field) -> Result<Report> {
    let counted = python(field, "header-bomb", &[])?;
    let passed = field.bombs.load(Ordering::Relaxed);
    Ok(Report {
        sent: format!("{} heads of 58 MB each in 15 KB", counted.sent),
        did: format!("cut {} of {} connections, forwarded {passed}", counted.cut, counted.connections),
        fault: (passed > 0).then(|| "a bomb reached the upstream".to_owned()),
    })
}

fn slow(field: &Field, kind: &str) -> Result<Report> {
    let url = format!("http://{}/open/slow", field.address());
    let seconds = field.seconds.max(SLOW_SECONDS_LEAST).to_string();
    let mut command = Command::new("nice");
    command.args([
        "-n",
        "19",
        "slowhttptest",
        kind,
        "-c",
        SLOW_CONNECTIONS,
        "-r",
        "400",
        "-i",
        "1",
        "-x",
        "24",
        "-p",
        "50",
    ]);
    command.args(["-l", &seconds, "-u", &url]).current_dir(&field.folder);
    if kind == "-X" {
        command.args(["-w", "1", "-y", "2", "-n", "1", "-z", "1", "-k", "1"]);
    }
    let printed = command::read(&mut command)?;
    // The last report counts; the terminal's colours are in between.
    let plain: String =
        printed.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
    let value = |name: &str| {
        let line = plain.lines().rev().find(|line| line.trim_start().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let available = value("service available").context("slowhttptest reports no availability")?;
    // It ends by itself once the server has closed them all.
    let closed = if plain.contains("No open connections left") {
        "all".to_owned()
    } else {
        value("closed").unwrap_or_default()
    };
    let fault = if !available.starts_with("YES") {
        Some("slowhttptest finds the service not available".to_owned())
    } else {
        // Whoever reads slowly gets a short answer all the same.
        (kind != "-X" && closed == "0").then(|| "no slow connection was closed".to_owned())
    };
    Ok(Report {
        sent: format!("{SLOW_CONNECTIONS} connections that trickle"),
        did: format!("closed {closed}; available: {available}"),
        fault,
    })
}

fn connections(field: &Field) -> Result<Report> {
    let counted = python(field, "connections", &[&CONNECTIONS_PER_ADDRESS.to_string()])?;
    let held = counted.open <= CONNECTIONS_PER_ADDRESS;
    Ok(Report {
        sent: format!("{} silent connections from one address", counted.connections),
        did: format!("closed {}, kept {}", counted.cut, counted.open),
        fault: (!held).then(|| format!("kept more than {CONNECTIONS_PER_ADDRESS}")),
    })
}

fn key_ids(field: &Field) -> Result<Report> {
    let (before, watch) = (field.fetches.load(Ordering::Relaxed), Stopwatch::start());
    let counted = python(field, "key-ids", &[])?;
    let fetches = field.fetches.load(Ordering::Relaxed) - before;
    // Of the time that it took, which may be more than it was to take.
    let most = FETCH_BURST + watch.elapsed().as_secs() / FETCH_EVERY_SECONDS + 1;
    let refused: u64 =
        counted.answers.iter().filter(|(status, _)| *status == "401").map(|(_, count)| count).sum();
    let answered: u64 = counted.answers.values().sum();
    let fault = if fetches > most {
        Some(format!("more than {most} fetches of keys"))
    } else {
        (refused != answered || answered == 0).then(|| "an answer other than 401".to_owned())
    };
    Ok(Report {
        sent: format!("{} tokens with a kid each", counted.sent),
        did: format!("answered {:?}, fetched keys {fetches} times", counted.answers),
        fault,
    })
}

fn compressed(field: &Field) -> Result<Report> {
    let counted = python(field, "compressed", &[])?;
    let answers: Vec<_> =
        counted.answers.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    Ok(Report {
        sent: format!("{} bodies of 1 GiB in 1 MiB of gzip", counted.sent),
        did: format!("passed on without decompressing ({})", answers.join(", ")),
        fault: (counted.sent == 0).then(|| "nothing was answered".to_owned()),
    })
}

/// All at the same time, each of another name and from another address, so that nothing but
/// the bound of password hashes stands between them and the processor.
fn logins(field: &Field) -> Result<Report> {
    let number = field.logins.to_string();
    let counted = python(field, "logins", &[&number, AUTHORIZATION])?;
    let of = |status: &str| counted.answers.get(status).copied().unwrap_or(0);
    // Judged and refused, or told that too many wait, or given up after the field's time.
    let (judged, busy) = (of("401"), of("503") + of("504"));
    let fault = if judged == 0 {
        Some("no login was judged".to_owned())
    } else if judged + busy != counted.sent {
        Some(format!("{} logins have another answer, {} none", counted.sent - judged - busy, counted.open))
    } else {
        None
    };
    Ok(Report {
        sent: format!("{} logins at once", counted.sent),
        did: format!("judged {judged}, told {busy} that too many wait"),
        fault,
    })
}

/// One address after the other through a proxy that is trusted to name them, each a key
/// of the address limit of its own.
fn limit_keys(field: &Field) -> Result<Report> {
    let from = SocketAddr::from(([127, 0, 0, 5], 0));
    let mut next = 0_u64;
    let mut answers = Answers::default();
    while next < field.keys {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect(&field.address().into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        // Less than one connection may carry.
        for _ in 0..400 {
            if next >= field.keys {
                break;
            }
            batch(&mut stream, &mut next, field.keys, &mut answers)?;
        }
    }
    // A request that comes faster than its event can be written is refused with 503.
    let Answers { unauthorized, unavailable, others } = answers;
    Ok(Report {
        sent: format!("{next} requests from as many addresses"),
        did: format!("401 to {unauthorized}, 503 to {unavailable}"),
        fault: (others > 0 || unauthorized == 0).then(|| format!("{others} answers other than 401 and 503")),
    })
}

/// Statuses of answers.
#[derive(Default)]
struct Answers {
    unauthorized: u64,
    unavailable: u64,
    others: u64,
}

impl Answers {
    fn total(&self) -> u64 {
        self.unauthorized + self.unavailable + self.others
    }
}

fn batch(stream: &mut TcpStream, next: &mut u64, end: u64, answers: &mut Answers) -> Result<()> {
    const MARK: &[u8] = b"HTTP/1.1 ";
    let count = PIPELINED.min(end - *next);
    let mut text = String::new();
    for _ in 0..count {
        let address = Ipv4Addr::from(0x0b00_0000 + u32::try_from(*next).unwrap_or(u32::MAX - 0x0b00_0000));
        text.push_str(&format!(
            "GET /limited/x HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\n\r\n"
        ));
        *next += 1;
    }
    stream.write_all(text.as_bytes())?;
    let (mut seen, mut piece) = (Vec::new(), [0; 64 * 1024]);
    let until = answers.total() + count;
    while answers.total() < until {
        let got = stream.read(&mut piece)?;
        anyhow::ensure!(got > 0, "the connection ended");
        seen.extend_from_slice(piece.get(..got).unwrap_or_default());
        let mut at = 0;
        while let Some(place) =
            seen.get(at..).and_then(|rest| rest.windows(MARK.len()).position(|part| part == MARK))
        {
            let start = at + place + MARK.len();
            let Some(status) = seen.get(start..start + 3) else { break };
            match status {
                b"401" => answers.unauthorized += 1,
                b"503" => answers.unavailable += 1,
                _ => answers.others += 1,
            }
            at = start + 3;
        }
        // A mark that is cut in two must be found with the next piece.
        let keep = at.max(seen.len().saturating_sub(MARK.len() + 2));
        drop(seen.drain(..keep.min(seen.len())));
    }
    Ok(())
}

fn http2_requests(field: &Field) -> Result<Report> {
    let url = format!("http://{}/limited/x", field.address());
    let mut command = Command::new("nice");
    command.args([
        "-n",
        "19",
        "h2load",
        "-t1",
        "-c20",
        "-m32",
        "--rps=50",
        &format!("-D{}", field.seconds),
        &url,
    ]);
    let printed = command::read(&mut command)?;
    let line = printed
        .lines()
        .find(|line| line.starts_with("status codes:"))
        .context("h2load reports no status codes")?;
    let refused = line.contains(" 0 2xx") && !line.contains(" 0 4xx") && line.contains(" 0 5xx");
    Ok(Report {
        sent: "1000 requests a second on 20 HTTP/2 connections".to_owned(),
        did: line.trim_start_matches("status codes: ").to_owned(),
        fault: (!refused).then(|| "expected refusals alone".to_owned()),
    })
}
