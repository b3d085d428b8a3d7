//! The firewall's log, read back line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use model::ClientNetwork;
use model::event::{FirewallRecord, FirewallSide};
use serde::Deserialize;

/// Longest line that is read, bytes; the gateway writes shorter ones.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Lines between two words about the progress.
const PROGRESS_LINES: u64 = 200_000;

/// One inspected request.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Line {
    /// The request's id.
    pub(super) request: String,
    pub(super) client_address: String,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) route: String,
    /// `User::alice`; empty for nobody in particular.
    pub(super) principal: String,
    /// The step that answered.
    pub(super) step: String,
    pub(super) status: u16,
    #[serde(flatten)]
    pub(super) found: FirewallRecord,
}

impl Line {
    /// Whether block mode stopped it, or would have.
    pub(super) fn is_blocked(&self) -> bool {
        self.found.verdict == "blocked" || (self.found.mode == "detect" && self.found.intended.is_some())
    }

    /// The rule that decided; 0 for a limit of the engine.
    pub(super) fn decider(&self) -> Option<u64> {
        match self.found.verdict.as_str() {
            "blocked" => Some(self.found.rule.unwrap_or(0)),
            _ => self.found.intended.filter(|_| self.found.mode == "detect"),
        }
    }

    /// Whether rules behind the one that decided never ran.
    pub(super) fn is_cut(&self) -> bool {
        self.found.verdict == "blocked"
    }

    /// Whether a step before the firewall, or another one than it, refused the request.
    pub(super) fn is_refused_elsewhere(&self) -> bool {
        match self.step.as_str() {
            "forward" => false,
            "inspect" => !self.is_cut() && self.status >= 400,
            _ => true,
        }
    }

    /// The score of each level.
    pub(super) fn levels(&self, side: FirewallSide) -> [u32; 4] {
        match side {
            FirewallSide::Inbound => self.found.scores.inbound_levels,
            FirewallSide::Outbound => self.found.scores.outbound_levels,
        }
    }

    /// Who asked: the principal, else the network of the address, so that many addresses of
    /// one owner are one.
    pub(super) fn client(&self) -> String {
        if !self.principal.is_empty() {
            return self.principal.clone();
        }
        match self.client_address.parse().map(ClientNetwork::of) {
            Ok(ClientNetwork::V4(address)) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            Ok(network @ ClientNetwork::V6(_)) => network.to_string(),
            Err(_) => self.client_address.clone(),
        }
    }
}

/// What could not be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// How many lines.
    pub(super) lines: u64,
    /// The first: where and why.
    pub(super) first: Option<String>,
}

/// The files that `paths` name: files, `-` for standard input, and folders of a log.
///
/// # Errors
/// A folder cannot be read or holds no log.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inside = Vec::new();
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                inside.push(file);
            }
        }
        anyhow::ensure!(!inside.is_empty(), "{} holds no log (no .jsonl file)", path.display());
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// Reads every line, in the order of the files.
///
/// # Errors
/// A file cannot be read. A line that is no line of the firewall's log is counted.
pub(super) fn read(paths: &[PathBuf], mut each: impl FnMut(Line)) -> anyhow::Result<Unreadable> {
    let mut unreadable = Unreadable::default();
    let mut read = 0_u64;
    for path in files(paths)? {
        let reader: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(std::io::stdin()),
            false => Box::new(File::open(&path).with_context(|| format!("cannot read {}", path.display()))?),
        };
        read_one(&path, BufReader::new(reader), &mut unreadable, |line| {
            read += 1;
            if read.is_multiple_of(PROGRESS_LINES) {
                progress(read);
            }
            each(line);
        })?;
    }
    if read >= PROGRESS_LINES {
        progress(read);
    }
    Ok(unreadable)
}

fn read_one(
    path: &Path,
    mut reader: impl BufRead,
    unreadable: &mut Unreadable,
    mut each: impl FnMut(Line),
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        let count = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if count.with_context(|| format!("cannot read {}", path.display()))? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let is_whole = bytes.last() == Some(&b'\n') || bytes.len() as u64 == LINE_BYTES_MAX;
        match serde_json::from_slice(&bytes) {
            Ok(line) => each(line),
            // What is being written has no end yet.
            Err(_) if !is_whole && number > 1 => break,
            Err(fault) => {
                unreadable.lines += 1;
                unreadable.first.get_or_insert_with(|| {
                    format!("{}:{number}:{}: {fault}", path.display(), fault.column())
                });
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a word about the progress of long work, to a person only")]
fn progress(lines: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{lines} lines read ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"time":1,"request":"r1","client_address":"10.1.2.3","client_port":1,"method":"GET","host":"h","path":"/","route":"a","principal":"","step":"inspect","status":403,"mode":"block","verdict":"blocked","rule":949110,"scores":{"inbound":5,"outbound":0,"inbound_levels":[5, 0, 0, 0]},"paranoia":1,"paranoia_detection":1,"thresholds":{"inbound":5,"outbound":4},"rules":[{"id":942100,"phase":2,"severity":2,"msg":"m","data":"d","variable":"ARGS:q","tags":["t"],"adds":[{"side":"inbound","level":1,"score":5}]}]}"#;

    fn read_text(text: &str) -> (Vec<Line>, Unreadable) {
        let (mut lines, mut unreadable) = (Vec::new(), Unreadable::default());
        read_one(Path::new("log"), text.as_bytes(), &mut unreadable, |line| lines.push(line)).unwrap();
        (lines, unreadable)
    }

    #[test]
    fn lines_are_read_and_broken_ones_counted_with_their_place() {
        let torn = LINE.split_at(300).0;
        let (lines, unreadable) = read_text(&format!("{LINE}\n\n{{\"time\":1}}\nnonsense\n{LINE}\n{torn}"));
        assert_eq!(lines.len(), 2, "the last one has no end yet");
        assert_eq!(unreadable.lines, 2);
        assert!(unreadable.first.unwrap().starts_with("log:3:"));
        let line = &lines[0];
        assert_eq!((line.found.rule, line.found.thresholds.unwrap().inbound), (Some(949_110), 5));
        assert_eq!(line.found.rules[0].adds[0].score, 5);
        assert!(line.is_blocked() && line.is_cut() && !line.is_refused_elsewhere());
    }

    #[test]
    fn a_text_that_is_no_log_is_not_an_empty_one() {
        assert_eq!((read_text("nonsense").1.lines, read_text("").1.lines), (1, 0));
        assert_eq!(read_text(LINE).0.len(), 1, "a copied line may have lost its end");
    }

    proptest::proptest!(
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), cut in 0..500_usize,
        ) {
            let mut unreadable = Unreadable::default();
            let text = [LINE.as_bytes().get(..cut).unwrap_or_default(), &bytes].concat();
            read_one(Path::new("log"), text.as_slice(), &mut unreadable, |_| ()).unwrap();
        }
    );

    #[test]
    fn addresses_of_one_owner_are_one_client() {
        let of = |address: &str, principal: &str| {
            Line { client_address: address.to_owned(), principal: principal.to_owned(), ..Line::default() }
                .client()
        };
        assert_eq!(of("10.1.2.3", ""), of("10.1.2.200", ""));
        assert_ne!(of("10.1.2.3", ""), of("10.1.3.3", ""));
        assert_eq!(of("2001:db8::1", ""), of("2001:db8::ffff", ""));
        assert_eq!(of("10.1.2.3", "User::alice"), "User::alice");
    }

    #[test]
    fn a_refusal_of_another_step_is_not_the_firewalls() {
        let of = |step: &str, status, verdict: &str| {
            let found = FirewallRecord { verdict: verdict.to_owned(), ..FirewallRecord::default() };
            Line { step: step.to_owned(), status, found, ..Line::default() }.is_refused_elsewhere()
        };
        assert!(
            of("authenticate", 401, "detected")
                && of("inspect", 413, "passed")
                && of("admit", 400, "blocked")
        );
        assert!(
            !of("forward", 200, "passed")
                && !of("inspect", 403, "blocked")
                && !of("forward", 502, "detected")
        );
    }
}
