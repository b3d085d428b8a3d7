//! When something is done next. Pure: time and chance are arguments.

use std::time::Duration;

use model::Timestamp;

/// First and longest pause while the server cannot be reached or talks nonsense.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));
/// First and longest pause after it refused: each try counts against its limits.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 3600));
/// Longest pause that a server may ask for.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long until a server is asked again whether to renew sooner, at least and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// Why an order failed, as far as it decides when the next one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody answered, or nothing that makes sense.
    Unreachable,
    /// The server understood and said no.
    Refused,
}

/// How long until the next order after `failures` in a row, at least one. `chance` is
/// from 0 to 1: half of the pause is left to it, so that many that failed together do
/// not come back together.
pub(super) fn backoff(cause: Cause, failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let (first, longest) = match cause {
        Cause::Unreachable => UNREACHABLE,
        Cause::Refused => REFUSED,
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    let pause = doubled.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0);
    pause.max(asked.unwrap_or_default().min(WAIT_MAX))
}

/// When a certificate is due: so long before its end, or when two thirds of its life are
/// over, give or take a fiftieth. A time before the end that is longer than the life
/// cannot be meant.
pub(super) fn due(
    not_before: Timestamp,
    not_after: Timestamp,
    renew_before: Option<Duration>,
    chance: f64,
) -> Timestamp {
    let life = not_after.since(not_before);
    match renew_before.filter(|before| *before < life) {
        Some(before) => not_after.minus(before),
        None => not_before.plus(life.mul_f64(2.0 / 3.0 - chance.clamp(0.0, 1.0) / 50.0)),
    }
}

/// A moment of a window, for all the clients of a server evenly (RFC 9773 §4.2).
pub(super) fn within(start: Timestamp, end: Timestamp, chance: f64) -> Timestamp {
    start.plus(end.since(start).mul_f64(chance.clamp(0.0, 1.0)))
}

/// How long until a server is asked again, which said when (RFC 9773 §4.3).
pub(super) fn ask_again(said: Duration) -> Duration {
    said.clamp(ASK_AGAIN.0, ASK_AGAIN.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn pauses_double_to_their_end_and_never_undercut_what_the_server_asked_for() {
        let seconds = |cause, failures, asked: Option<u64>, chance| {
            backoff(cause, failures, asked.map(Duration::from_secs), chance).as_secs_f64()
        };
        let table = [
            (Cause::Unreachable, 1, None, 0.5, 2.0),
            (Cause::Unreachable, 1, None, 0.0, 1.5),
            (Cause::Unreachable, 1, None, 1.0, 2.5),
            (Cause::Unreachable, 4, None, 0.5, 16.0),
            (Cause::Unreachable, 99, None, 0.5, 600.0),
            (Cause::Refused, 1, None, 0.5, 60.0),
            (Cause::Refused, 3, None, 0.5, 240.0),
            (Cause::Refused, u32::MAX, None, 0.5, 21_600.0),
            (Cause::Refused, 1, Some(30), 0.5, 60.0),
            (Cause::Refused, 1, Some(3_600), 0.5, 3_600.0),
            (Cause::Unreachable, 1, Some(120), 0.0, 120.0),
            (Cause::Refused, 1, Some(u64::MAX / 2), 0.5, 604_800.0),
        ];
        for (cause, failures, asked, chance, wanted) in table {
            let found = seconds(cause, failures, asked, chance);
            assert!((found - wanted).abs() < 1e-6, "{cause:?} {failures} {asked:?} {chance}: {found}");
        }
    }

    #[test]
    fn a_certificate_is_due_at_two_thirds_or_when_configured() {
        let day = 86_400;
        let (start, end) = (at(1_000 * day), at(1_090 * day));
        let due_in_days = |before: Option<u64>, chance| {
            let before = before.map(|days| Duration::from_secs(days * day));
            due(start, end, before, chance).since(start).as_secs_f64() / day as f64
        };
        let table = [
            (None, 0.0, 60.0),
            (None, 1.0, 58.2),
            (Some(30), 1.0, 60.0),
            (Some(80), 0.0, 10.0),
            // Longer than its life: that would be to order without end.
            (Some(90), 0.0, 60.0),
            (Some(900), 0.0, 60.0),
        ];
        for (before, chance, wanted) in table {
            let found = due_in_days(before, chance);
            assert!((found - wanted).abs() < 1e-6, "{before:?} {chance}: {found}");
        }
    }

    #[test]
    fn windows_and_questions_are_bounded() {
        assert_eq!(within(at(100), at(200), 0.0), at(100));
        assert_eq!(within(at(100), at(200), 0.5), at(150));
        assert_eq!(within(at(200), at(100), 1.0), at(200));
        assert_eq!(ask_again(Duration::ZERO), Duration::from_secs(60));
        assert_eq!(ask_again(Duration::from_secs(7_200)), Duration::from_secs(7_200));
        assert_eq!(ask_again(Duration::MAX), Duration::from_secs(86_400));
    }
}
