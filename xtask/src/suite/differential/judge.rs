//! The rules: what came of one pair must not be read differently by anyone.

use super::corpus::{Expect, Honest, Pair, Side};
use super::front::{Front, Request, Seen, disagreement};
use super::paths;
use super::readers::{self, Kind, MODELS, Message};
use super::recorder::{SENTINEL_BODY, Script};
use anyhow::{Context, Result};

/// Bastide and its peers, which share nothing with those of other lanes.
pub(super) struct Lane {
    pub(super) bastide: Front,
    pub(super) peers: Vec<Front>,
}

/// What came of one pair.
pub(super) struct Verdict {
    /// What is wrong; empty when nothing is.
    pub(super) faults: Vec<String>,
    /// How Bastide and the peers took the attack, for the report: name and outcome.
    pub(super) outcomes: Vec<(&'static str, String)>,
    /// Whether two peers understood different requests.
    pub(super) peers_disagree: bool,
}

impl Lane {
    pub(super) fn judge(&self, pair: &Pair) -> Result<Verdict> {
        match &pair.side {
            Side::Client => self.judge_requests(pair),
            Side::Upstream { method, then_close } => self.judge_answer(pair, method, *then_close),
        }
    }

    /// Sends the same thing to all of them at once; Bastide's is the first.
    fn everywhere(&self, send: impl Fn(&Front) -> Result<Seen> + Sync) -> Result<(Seen, Vec<Seen>)> {
        let fronts: Vec<&Front> = std::iter::once(&self.bastide).chain(&self.peers).collect();
        let mut all = among(&fronts, send)?.into_iter();
        Ok((all.next().context("Bastide is the first of them")?, all.collect()))
    }

    /// Sends what Bastide wrote through the peers: each must read it as it is meant.
    fn replay(&self, send: impl Fn(&Front) -> Result<Seen> + Sync) -> Result<Vec<Seen>> {
        among(&self.peers.iter().collect::<Vec<_>>(), send)
    }

    fn judge_requests(&self, pair: &Pair) -> Result<Verdict> {
        let (bastide, _) = self.everywhere(|front| front.send_requests(&pair.honest.bytes))?;
        let mut faults = honest_request(&bastide, &pair.honest);
        faults.extend(self.replay_requests(&bastide, "the honest neighbour")?);

        let (bastide, peers) = self.everywhere(|front| front.send_requests(&pair.attack))?;
        let ours = bastide.understood();
        if let Some(why) = bastide.disagreement() {
            faults.push(format!("readers of what reached the upstream disagree: {why}"));
        }
        faults.extend(ours.requests.iter().filter_map(|request| paths::disagreement(&request.target)));
        let statuses = bastide.statuses();
        let refused = statuses.first().is_none_or(|status| status.starts_with(['4', '5']));
        if pair.expect == Expect::Refused && (!refused || !ours.requests.is_empty()) {
            faults.push(format!(
                "expected a refusal, found {} and {}",
                statuses.join(" "),
                show(&ours.requests)
            ));
        }
        // Where a refused request ends is known only when every reader says the same.
        let goes_on = refused && ours.requests.is_empty() && (ours.sentinel || statuses.len() > 1);
        if let Some(why) = disagreement(&pair.attack, Kind::Requests).filter(|_| goes_on) {
            faults.push(format!("reads on behind a refusal: {}, although {why}", statuses.join(" ")));
        }
        let split = split(&peers);
        if split.is_some_and(|agreed| ours.requests.len() > agreed) {
            faults.push(format!("passed what peers read differently: {}", show(&ours.requests)));
        }
        faults.extend(self.replay_requests(&bastide, "the attack")?);
        let outcome = |seen: &Seen| {
            let understood = seen.understood();
            let sentinel = if understood.sentinel { "" } else { ", and swallows or ends what follows" };
            format!("{} {}{sentinel}", seen.statuses().join(" "), show(&understood.requests))
        };
        Ok(self.verdict(faults, &bastide, &peers, split.is_some(), outcome))
    }

    fn verdict(
        &self,
        faults: Vec<String>,
        bastide: &Seen,
        peers: &[Seen],
        peers_disagree: bool,
        outcome: impl Fn(&Seen) -> String,
    ) -> Verdict {
        let mut outcomes = vec![(self.bastide.name, outcome(bastide))];
        outcomes.extend(self.peers.iter().map(|front| front.name).zip(peers.iter().map(outcome)));
        Verdict { faults, outcomes, peers_disagree }
    }

    fn replay_requests(&self, bastide: &Seen, what: &str) -> Result<Vec<String>> {
        let meant = bastide.understood();
        if meant.requests.is_empty() {
            return Ok(Vec::new());
        }
        // Whole requests alone: what was cut off is not a message.
        let mut bytes = Vec::new();
        for connection in &bastide.upstream {
            let reading = readers::read(connection, readers::LENIENT, Kind::Requests);
            let whole = reading.complete().filter(|message| !message.second.ends_with(b"/sentinel"));
            let mut start = 0;
            for message in whole {
                bytes.extend_from_slice(connection.get(start..message.end).unwrap_or_default());
                start = message.end;
            }
        }
        let seen = self.replay(|front| front.send_requests(&bytes))?;
        // varnish answers 503 to every request that has trailers.
        let trailers = bytes.windows(4).any(|part| part == b"\n0\r\n") && !bytes.ends_with(b"\n0\r\n\r\n");
        let wrong = self.peers.iter().zip(seen).filter_map(|(front, seen)| {
            if trailers && front.name == "varnish" {
                return None;
            }
            // nginx answers 400 to every method with a letter in lower case.
            let lower = meant.requests.iter().any(|request| request.method.contains(char::is_lowercase));
            if lower && front.name == "nginx" {
                return None;
            }
            let understood = seen.understood();
            let same = understood.requests == meant.requests && understood.sentinel;
            (!same).then(|| {
                let (found, meant) = (show(&understood.requests), show(&meant.requests));
                let statuses = seen.statuses().join(" ");
                format!("{} reads what Bastide made of {what} as {statuses} {found}, not {meant}", front.name)
            })
        });
        Ok(wrong.collect())
    }

    fn judge_answer(&self, pair: &Pair, method: &'static str, then_close: bool) -> Result<Verdict> {
        let script = |bytes: &[u8]| Script { answer: bytes.to_vec(), then_close };
        let methods = [method, "GET"];
        let (bastide, _) =
            self.everywhere(|front| front.send_response(method, script(&pair.honest.bytes)))?;
        let mut faults = Vec::new();
        let answers = Answers::of(&bastide, &methods);
        if answers.first() != Some(pair.honest.body.as_slice()) || !answers.ends_with_sentinel() {
            faults.push(format!("the honest neighbour comes as {}", answers.show()));
        }
        faults.extend(self.replay_answer(&answers, method)?);

        let (bastide, peers) = self.everywhere(|front| front.send_response(method, script(&pair.attack)))?;
        let kind = Kind::Responses { methods: &methods, closed: bastide.closed };
        if let Some(why) = disagreement(&bastide.client, kind) {
            faults.push(format!("readers of what reached the client disagree: {why}"));
        }
        let answers = Answers::of(&bastide, &methods);
        let refused = answers.finals.first().is_some_and(|answer| answer.second == b"502");
        if pair.expect == Expect::Refused && !refused {
            faults.push(format!("expected 502, found {}", answers.show()));
        }
        if answers.finals.len() > 2 || (answers.finals.len() == 2 && !answers.ends_with_sentinel()) {
            faults.push(format!("another answer than the sentinel's own: {}", answers.show()));
        }
        let theirs: Vec<Answers> = peers.iter().map(|seen| Answers::of(seen, &methods)).collect();
        let delivered: Vec<&Message> = theirs.iter().filter_map(Answers::delivered).collect();
        let disagree = delivered
            .iter()
            .zip(delivered.iter().skip(1))
            .any(|(one, other)| (&one.second, &one.body) != (&other.second, &other.body));
        if disagree && answers.delivered().is_some() {
            faults.push(format!("passed what peers read differently: {}", answers.show()));
        }
        faults.extend(self.replay_answer(&answers, method)?);
        Ok(self.verdict(faults, &bastide, &peers, disagree, |seen| Answers::of(seen, &methods).show()))
    }

    fn replay_answer(&self, answers: &Answers, method: &'static str) -> Result<Vec<String>> {
        let Some(meant) = answers.delivered() else { return Ok(Vec::new()) };
        let script = Script { answer: answers.first_bytes.clone(), then_close: false };
        let seen = self.replay(|front| front.send_response(method, script.clone()))?;
        let wrong = self.peers.iter().zip(seen).filter_map(|(front, seen)| {
            let found = Answers::of(&seen, &[method, "GET"]);
            let same = found.delivered().is_some_and(|first| {
                first.second == meant.second && first.body == meant.body && found.ends_with_sentinel()
            });
            (!same).then(|| format!("{} reads what Bastide passed as {}", front.name, found.show()))
        });
        Ok(wrong.collect())
    }
}

fn among(fronts: &[&Front], send: impl Fn(&Front) -> Result<Seen> + Sync) -> Result<Vec<Seen>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = fronts.iter().map(|front| scope.spawn(|| send(front))).collect();
        running
            .into_iter()
            .zip(fronts)
            .map(|(thread, front)| {
                let sent =
                    thread.join().map_err(|_| anyhow::anyhow!("the client of {} panicked", front.name))?;
                sent.with_context(|| format!("asking {}", front.name))
            })
            .collect()
    })
}

fn honest_request(seen: &Seen, honest: &Honest) -> Vec<String> {
    let understood = seen.understood();
    let mut faults = Vec::new();
    let arrived = matches!(understood.requests.as_slice(), [one] if one.body == honest.body);
    if !arrived || !understood.sentinel {
        let statuses = seen.statuses().join(" ");
        let shown = String::from_utf8_lossy(&honest.bytes);
        let requests = show(&understood.requests);
        faults.push(format!("the honest neighbour comes as {statuses} {requests}: {shown:?}"));
    }
    if let Some(why) = seen.disagreement() {
        faults.push(format!("readers of the honest neighbour disagree: {why}"));
    }
    faults.extend(understood.requests.iter().filter_map(|request| paths::disagreement(&request.target)));
    faults
}

/// So many requests were understood alike by all peers that passed the input on, before
/// two of them differ; `None` when they do not.
fn split(peers: &[Seen]) -> Option<usize> {
    // One that waits for more bytes has taken the sentinel for a part of the message;
    // one that answers with an error has refused what it may have passed on in part.
    let passed: Vec<_> = peers
        .iter()
        .map(|seen| {
            let mut understood = seen.understood();
            let is_good = |status: &&String| status.starts_with('2');
            understood.requests.truncate(seen.statuses().iter().take_while(is_good).count());
            (understood, !seen.closed)
        })
        .filter(|(understood, waits)| !understood.requests.is_empty() || *waits)
        .collect();
    let pairs = passed
        .iter()
        .enumerate()
        .flat_map(|(at, one)| passed.iter().skip(at + 1).map(move |other| (one, other)));
    pairs
        .filter_map(|((one, one_waits), (other, other_waits))| {
            let alike = one.requests.iter().zip(&other.requests).take_while(|(a, b)| a == b).count();
            let longest = one.requests.len().max(other.requests.len());
            let shortest = one.requests.len().min(other.requests.len());
            // Ending early is a refusal of the rest, not another reading of it.
            let differ = alike < shortest
                || (longest > shortest && (*one_waits || *other_waits))
                || (one.sentinel && *other_waits)
                || (other.sentinel && *one_waits);
            differ.then_some(alike)
        })
        .min()
}

fn show(requests: &[Request]) -> String {
    if requests.is_empty() {
        return "nothing".to_owned();
    }
    let all: Vec<_> = requests
        .iter()
        .map(|request| {
            let host = request.host.escape_debug();
            format!(
                "{} {} at {host} with {} bytes",
                request.method.escape_debug(),
                request.target.escape_debug(),
                request.body.len()
            )
        })
        .collect();
    all.join("; ")
}

/// The final answers that a client got.
struct Answers {
    finals: Vec<Message>,
    /// The first of them as it was written.
    first_bytes: Vec<u8>,
}

impl Answers {
    fn of(seen: &Seen, methods: &[&str]) -> Self {
        let [strict, ..] = MODELS;
        let kind = Kind::Responses { methods, closed: seen.closed };
        let reading = readers::read(&seen.client, strict, kind);
        let (mut finals, mut first_bytes, mut start) = (Vec::new(), Vec::new(), 0);
        for message in reading.messages {
            let interim = message.second.starts_with(b"1") && message.second != b"101";
            if !interim && finals.is_empty() {
                first_bytes = seen.client.get(start..message.end).unwrap_or_default().to_vec();
            }
            start = message.end;
            if !interim {
                finals.push(message);
            }
        }
        Self { finals, first_bytes }
    }

    fn first(&self) -> Option<&[u8]> {
        self.finals.first().filter(|answer| answer.complete).map(|answer| answer.body.as_slice())
    }

    /// The first answer, when it is whole and the upstream's.
    fn delivered(&self) -> Option<&Message> {
        self.finals.first().filter(|answer| answer.complete && !answer.second.starts_with(b"5"))
    }

    fn ends_with_sentinel(&self) -> bool {
        let is_whole = |answer: &Message| answer.complete && answer.body == SENTINEL_BODY;
        self.finals.len() == 2 && self.finals.last().is_some_and(is_whole)
    }

    fn show(&self) -> String {
        let one = |answer: &Message| {
            let body = String::from_utf8_lossy(&answer.body).chars().take(40).collect::<String>();
            let cut = if answer.complete { "" } else { " (cut off)" };
            format!("{} {body:?}{cut}", String::from_utf8_lossy(&answer.second))
        };
        let all: Vec<_> = self.finals.iter().map(one).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join("; ") }
    }
}
