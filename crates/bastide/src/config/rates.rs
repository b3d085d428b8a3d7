//! `limit:`: how many requests, for whom.

use std::time::Duration;

use model::suggestion::nearest;

use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};
use super::values::Unfit;

/// How many requests, for whom: `100/minute per user burst 20`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests per period, at least 1.
    pub requests: u32,
    /// The period: a second, a minute, an hour or a day.
    pub period: Duration,
    /// Requests at one instant after rest, at least 1. Any period holds at most
    /// `requests + burst`. Default: `requests`.
    pub burst: u32,
    /// What is counted apart.
    pub by: LimitBy,
}

/// What a limit counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitBy {
    /// The client's address; counted before authentication.
    Address,
    /// The principal.
    Principal,
    /// The credential: the API key; for other credentials the principal.
    Key,
    /// Nothing: all requests of the route together.
    Route,
}

pub(super) const LIMIT: Section = Section {
    path: "routes[].limit",
    about: "A rate limit, exact across cores; or a list of them, all of which have to allow the request.",
    short: "`100/minute per user burst 20`",
    keys: &[
        key("rate", "1 to 1000000000", "", "Requests per period."),
        key("per", "second, minute, hour or day", "", "The period."),
        key(
            "by",
            "address, user, key or route",
            "",
            "What is counted separately: the client's address (before authentication), the principal (`user`, `principal`), the API key, or all requests of the route together.",
        ),
        key(
            "burst",
            "1 to 1000000000",
            "the rate",
            "How many requests may arrive at once after a pause. Any period admits at most rate plus burst.",
        ),
    ],
};

const PERIODS: &[(&str, Duration)] = &[
    ("second", Duration::from_secs(1)),
    ("minute", Duration::from_secs(60)),
    ("hour", Duration::from_secs(3_600)),
    ("day", Duration::from_secs(86_400)),
];

const BY: &[(&str, LimitBy)] = &[
    ("address", LimitBy::Address),
    ("user", LimitBy::Principal),
    ("key", LimitBy::Key),
    ("route", LimitBy::Route),
    ("principal", LimitBy::Principal),
];

const REQUESTS_MAX: u32 = 1_000_000_000;

fn short(text: &str) -> Result<RateLimit, Unfit> {
    const EXPECTED: &str = "a limit such as 100/minute per user or 5/second per address burst 20 (per address, user, key or route)";
    let unfit = |instead: Option<String>| Unfit { expected: EXPECTED, instead };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (rate, by, burst) = match words.as_slice() {
        [rate, "per", by] => (*rate, *by, None),
        [rate, "per", by, "burst", burst] => (*rate, *by, Some(*burst)),
        _ => return Err(unfit(meant(&words))),
    };
    let (requests, period) = rate.split_once('/').ok_or_else(|| unfit(meant(&words)))?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= REQUESTS_MAX);
    let requests = number(requests).filter(|requests| *requests > 0).ok_or(unfit(None))?;
    let burst = match burst {
        Some("0") => {
            let instead = meant(&words);
            return Err(Unfit { expected: NO_BURST, instead });
        }
        Some(burst) => number(burst).ok_or(unfit(None))?,
        None => requests,
    };
    let length = PERIODS.iter().find(|(name, _)| *name == period);
    let counted = BY.iter().find(|(name, _)| *name == by);
    match (length, counted) {
        (Some((_, period)), Some((_, by))) => Ok(RateLimit { requests, period: *period, burst, by: *by }),
        _ => Err(unfit(meant(&words))),
    }
}

const NO_BURST: &str = "a burst of at least 1, which admits one request at a time (0 would admit none)";

/// The limit that was probably meant: `5r/s`, `5 per minute`, `60/min by ip burst 0`.
fn meant(words: &[&str]) -> Option<String> {
    let (rate, mut rest) = match words {
        [requests, "per", period, rest @ ..] if meant_period(period).is_some() => {
            ((*requests, *period), rest)
        }
        [rate, rest @ ..] => (rate.split_once('/')?, rest),
        [] => return None,
    };
    let requests: u32 = rate.0.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).parse().ok()?;
    let mut text = format!("{requests}/{} per ", meant_period(rate.1)?);
    text.push_str(match rest {
        ["per" | "by", by, ..] => {
            rest = rest.get(2..)?;
            meant_subject(by)?
        }
        _ => "user",
    });
    match rest {
        [] => {}
        ["burst", burst] => {
            let burst: u32 = burst.parse().ok()?;
            text.push_str(&format!(" burst {}", burst.max(1)));
        }
        _ => return None,
    }
    short(&text).is_ok().then_some(text)
}

/// The period that a word was probably meant to be, or is.
fn meant_period(word: &str) -> Option<&'static str> {
    match word {
        "s" | "sec" => Some("second"),
        "m" | "min" => Some("minute"),
        "h" => Some("hour"),
        "d" => Some("day"),
        _ => nearest(word, PERIODS.iter().map(|(name, _)| *name)),
    }
}

/// The same of what a limit counts apart.
fn meant_subject(word: &str) -> Option<&'static str> {
    match word {
        "ip" | "client" => Some("address"),
        _ => nearest(word, BY.iter().map(|(name, _)| *name)),
    }
}

impl Decoder<'_> {
    /// `limit:` of a route.
    pub(super) fn rate_limits(&mut self, node: &Node) -> Vec<RateLimit> {
        let mut limits = Vec::new();
        for item in node.items() {
            limits.extend(self.rate_limit(item));
        }
        limits
    }

    fn rate_limit(&mut self, node: &Node) -> Option<RateLimit> {
        if !matches!(node.value, Value::Map(_)) {
            let limit = self.value(node, short)?;
            return self.comes_back(node, limit);
        }
        let table = self.table(node, &LIMIT)?;
        let requests = self.required(&table, "rate").and_then(|node| self.number(node, 1, REQUESTS_MAX));
        let period = self.required(&table, "per").and_then(|node| self.word(node, "period", PERIODS));
        let by = self.required(&table, "by").and_then(|node| self.word(node, "subject of a limit", BY));
        let burst = match table.get("burst") {
            Some(node) if node.text() == Some("0") => {
                let message = format!("expected {NO_BURST}, found {}", node.shown());
                self.advise(node.at, message, "write 1, or remove it: the default is the rate");
                None
            }
            Some(node) => self.number(node, 1, REQUESTS_MAX).map(Some),
            None => Some(None),
        };
        let requests = requests?;
        let limit = RateLimit { requests, period: period?, burst: burst?.unwrap_or(requests), by: by? };
        self.comes_back(node, limit)
    }

    /// A spent burst must come back within a year.
    fn comes_back(&mut self, node: &Node, limit: RateLimit) -> Option<RateLimit> {
        let seconds =
            u64::from(limit.burst).saturating_mul(limit.period.as_secs()) / u64::from(limit.requests);
        if seconds > 365 * 86_400 {
            self.fault(node.at, format!("a burst of {} takes more than a year to come back", limit.burst));
            return None;
        }
        Some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_short_form() {
        let minute = Duration::from_secs(60);
        for (text, limit) in [
            (
                "100/minute per user",
                RateLimit { requests: 100, period: minute, burst: 100, by: LimitBy::Principal },
            ),
            (
                "100/minute per principal",
                RateLimit { requests: 100, period: minute, burst: 100, by: LimitBy::Principal },
            ),
            (
                "5/second per address burst 20",
                RateLimit { requests: 5, period: Duration::from_secs(1), burst: 20, by: LimitBy::Address },
            ),
            (
                "1/day per route",
                RateLimit { requests: 1, period: Duration::from_secs(86_400), burst: 1, by: LimitBy::Route },
            ),
            (
                "9/hour per key",
                RateLimit { requests: 9, period: Duration::from_secs(3_600), burst: 9, by: LimitBy::Key },
            ),
        ] {
            assert_eq!(short(text), Ok(limit), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_was_meant() {
        for (text, instead) in [
            ("100/minute", Some("100/minute per user")),
            ("100/min per user", Some("100/minute per user")),
            ("100/minute per usr", Some("100/minute per user")),
            ("100/minute per ip", Some("100/minute per address")),
            ("60/min per adress", Some("60/minute per address")),
            ("60/min per adress burst 5", Some("60/minute per address burst 5")),
            ("60/min per planet", None),
            ("0/minute per user", None),
            ("-1/minute per user", None),
            ("100 per user", None),
            ("100/minute per user burst", None),
            ("100/minute per user burst many", None),
            ("100/minute per user burst 0", Some("100/minute per user burst 1")),
            ("5r/s", Some("5/second per user")),
            ("5 per minute", Some("5/minute per user")),
            ("5 per min per ip", Some("5/minute per address")),
            ("5/minute by key burst 3", Some("5/minute per key burst 3")),
            ("5/minute burst 3", Some("5/minute per user burst 3")),
            ("0/minute", None),
            ("5/minute per user per key", None),
            ("4294967295/minute per user", None),
            ("", None),
        ] {
            assert_eq!(short(text).unwrap_err().instead.as_deref(), instead, "{text}");
        }
    }
}
