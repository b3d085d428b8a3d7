//! Guessing made slow, without locking anybody out.
//!
//! What is counted, and what it does:
//!
//! | failures of | from | then |
//! |---|---|---|
//! | one account at one address | the sixth | refused for a second, two, four … up to 15 minutes |
//! | one account from everywhere | the fifty-first | one attempt each second, in turn; newcomers in a turn of their own |
//! | one account from one network, in that turn | the eleventh | refused for a second, two, four … up to 15 minutes |
//! | one address, whatever the account | the hundred and first | one attempt each second, in turn |
//! | one known browser | the eleventh | it counts as an unknown one, and is refused as above |
//!
//! A browser is known to an account when its person logged in there before: a cookie that
//! we signed says so (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"). It is
//! counted by itself, so an attacker who fails at an account as often as they like does not
//! keep its person out of their own browser, nor out of any other at another address. Names
//! that do not exist are counted like others.
//!
//! A newcomer is of a network (of IPv6 a /48, of IPv4 the address) that had fewer than three places
//! among the newcomers while the account is tried in turn. A place is counted when it is taken,
//! whatever comes of its turn, also of whoever hangs up or sends a form twice, and forgotten when its
//! attempt succeeds: one subscriber, however many addresses they hold, keeps nobody waiting who is
//! elsewhere. Nor do they fill the turn of those who are no newcomers any more: what one network takes
//! of it is counted when it is taken, like the attempts at one address.
//!
//! Where nobody says which address a request is from (the gateway always does), nothing is
//! counted by it: all of them together would be one address, at which everybody could lock
//! everybody out. The account is counted all the same.
//!
//! For an account and for an address a failure is counted as soon as the password is found to be
//! wrong: whoever hangs up before the answer is counted like whoever waits for it. What is in
//! flight is not, so however many people log in at once they put nobody off; a burst of guesses
//! goes beyond what is free by as many as may wait for their hash, and what it cost is counted.
//! For a browser, and for an account at an address, an attempt is counted before it is judged,
//! and taken back when it succeeds or is not judged at all.
//!
//! Counts stand in the store: they outlive a restart and hold over all processes. They halve
//! every hour and end by themselves, and what counts nothing ends when nobody waits for it, so there
//! are never more of them than there were failures in the last hours, each of which cost a password
//! hash.
//!
//! What else strangers have kept in the store (requests that public clients push or begin for a
//! device, and authorizations that are too long for their name to carry them) is for one network as
//! many at once as [`KEPT_AT_ONCE`], then one each second.

mod browser;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use model::{ClientNetwork, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::call::Call;
use crate::realm::Realm;
use crate::record::{Change, Kind, Stored};
use crate::refusal::{Answer, Code, Refusal};
use crate::text::Notice;
use crate::user::folded;

/// Failures are forgotten by half in this time.
const HALF_LIFE: Duration = Duration::from_secs(3600);
/// More are not counted.
const FAILURES_MAX: u32 = 255;
/// After this many half-lives nothing is left of [`FAILURES_MAX`].
const HALF_LIVES_MAX: u32 = 8;
/// Longest time for which one account is refused at one address.
const REFUSED_MAX: Duration = Duration::from_secs(15 * 60);
/// Between two attempts where attempts go in turn.
const TURN: Duration = Duration::from_secs(1);
/// Longest wait for a turn; whoever would wait longer is told to come again.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest name that is counted as it stands.
const NAME_BYTES_MAX: usize = 255;

/// Failures that cost nothing.
const FREE_AT_ADDRESS: u32 = 5;
const FREE_OF_BROWSER: u32 = 10;
const FREE_OF_ACCOUNT: u32 = 50;
const FREE_OF_NETWORK: u32 = 10;
const FREE_OF_ADDRESS: u32 = 100;
/// Places of one network among the newcomers to an account.
const PLACES_OF_NETWORK: u32 = 3;

/// Messages about recovery that one address may ask for, and that may be asked for in one name.
const RECOVERIES_AT_ADDRESS: u32 = 20;
const RECOVERIES_OF_ACCOUNT: u32 = 3;

/// Records that strangers of one network have kept at once, and how long each counts.
const KEPT_AT_ONCE: u32 = 200;
const KEPT_EVERY: Duration = Duration::from_secs(1);

/// What failed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    failures: u32,
    /// When it was counted last.
    at: Timestamp,
    /// Refused until then; or, where attempts go in turn, when the next turn is.
    next: Timestamp,
}

impl Tally {
    /// The failures that are not forgotten yet.
    fn level(&self, now: Timestamp) -> u32 {
        let halvings = now.since(self.at).as_secs() / HALF_LIFE.as_secs();
        self.failures.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// With one failure more.
    fn counted(&self, now: Timestamp) -> Self {
        Self { failures: (self.level(now) + 1).min(FAILURES_MAX), at: now, next: self.next }
    }

    /// With one failure more, and refused for longer with each behind the `free` ones.
    ///
    /// INVARIANT: one that is free refuses nobody, not even who came a moment before and is counted a
    /// moment after.
    fn refused(&self, free: u32, now: Timestamp) -> Self {
        let counted = self.counted(now);
        let Some(doublings) = counted.failures.saturating_sub(free).checked_sub(1) else { return counted };
        let pause = Duration::from_secs(1 << doublings.min(10)).min(REFUSED_MAX);
        Self { next: now.plus(pause), ..counted }
    }

    /// When the next turn is, where more than the `free` ones failed, and the tally in which
    /// it is taken.
    fn turn(&self, free: u32, now: Timestamp) -> Option<(Timestamp, Self)> {
        (self.level(now) > free).then(|| self.next_turn(now))
    }

    /// The next turn, and the tally in which it is taken.
    fn next_turn(&self, now: Timestamp) -> (Timestamp, Self) {
        let turn = self.next.max(now);
        (turn, Self { next: turn.plus(TURN), ..*self })
    }

    /// Without one that was counted at this time and was none.
    fn taken_back(&self, counted: Timestamp) -> Self {
        // Until when others are refused is of the last that was counted. No moment is before this one.
        let next = if self.at == counted { Timestamp::default() } else { self.next };
        Self { failures: self.failures.saturating_sub(1), next, ..*self }
    }

    /// With one more that is kept for a stranger, or from when on it may be.
    fn kept(&self, now: Timestamp) -> Result<Self, Timestamp> {
        let counted = self.next.max(now);
        let free_from = counted.minus(KEPT_EVERY * (KEPT_AT_ONCE - 1));
        if free_from > now { Err(free_from) } else { Ok(Self { next: counted.plus(KEPT_EVERY), ..*self }) }
    }

    /// From when on it says nothing.
    fn expires(&self, now: Timestamp) -> Timestamp {
        match self.failures {
            0 => self.next.max(now).plus(TURN),
            _ => now.plus(HALF_LIFE * HALF_LIVES_MAX + REFUSED_MAX),
        }
    }
}

/// An attempt that may be judged.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    account: String,
    address: Option<String>,
    /// Of which network it is, where the account is tried in turn.
    network: Option<String>,
    /// Whether it has a place among the newcomers to the account.
    newcomer: bool,
    /// The known browser that it is of.
    browser: Option<String>,
}

/// Whether an attempt at an account may be judged, and when: waits for its turn. `account`:
/// what the person typed.
pub(crate) async fn admit(realm: &Realm, call: &Call, account: &str) -> Answer<Attempt> {
    let account = account_name(account);
    let mut attempt =
        Attempt { account, address: address(call), network: None, newcomer: false, browser: None };
    if let Some(browser) = browser::known(realm, call, &attempt.account)
        && count(realm, &["browser", &browser], FREE_OF_BROWSER, call.now).await?.is_none()
    {
        attempt.browser = Some(browser);
        return Ok(attempt);
    }
    if let Some(here) = attempt.beforehand()
        && let Some(until) = count(realm, &here, FREE_AT_ADDRESS, call.now).await?
    {
        return Err(refused(until, call.now, "an account at an address"));
    }
    match attempt.take_turns(realm, call).await {
        Ok(turn) => tokio::time::sleep(turn.since(call.now)).await,
        Err(refusal) => {
            attempt.never_in_turn(realm, call.now).await;
            return Err(refusal);
        }
    }
    Ok(attempt)
}

impl Attempt {
    /// Where it is counted before it is judged: of the browser, or of the account at the address.
    fn beforehand(&self) -> Option<Vec<&str>> {
        match (&self.browser, &self.address) {
            (Some(browser), _) => Some(vec!["browser", browser]),
            (None, Some(address)) => Some(vec!["here", &self.account, address]),
            (None, None) => None,
        }
    }

    /// Where its place is counted, among the newcomers or among all others.
    fn place(&self) -> Option<[&str; 3]> {
        let kind = if self.newcomer { "network" } else { "turns of network" };
        Some([kind, &self.account, self.network.as_deref()?])
    }

    /// Where the address and the account are counted alone, and how much of each is free. Whoever is
    /// refused for their address takes no place of others at the account.
    fn everywhere(&self) -> impl Iterator<Item = ([&str; 2], u32)> {
        let address = self.address.as_deref().map(|address| (["address", address], FREE_OF_ADDRESS));
        address.into_iter().chain([(["account", self.account.as_str()], FREE_OF_ACCOUNT)])
    }

    /// When its turn is everywhere.
    async fn take_turns(&mut self, realm: &Realm, call: &Call) -> Answer<Timestamp> {
        let now = call.now;
        self.take_place(realm, call).await?;
        let mut latest = now;
        for (path, free) in self.everywhere() {
            let turn = if self.newcomer && path.first() == Some(&"account") {
                take_turn(realm, &["newcomers", &self.account], None, now).await?
            } else {
                take_turn(realm, &path, Some(free), now).await?
            };
            latest = latest.max(turn);
        }
        Ok(latest)
    }

    /// Takes a place for its network, where the account is tried in turn: among the newcomers, or
    /// else among all others.
    async fn take_place(&mut self, realm: &Realm, call: &Call) -> Answer<()> {
        let Some(network) = call.address().map(network) else { return Ok(()) };
        let tally = realm.records.get::<Tally>(Kind::Failures, &["account", &self.account]).await?;
        if tally.is_none_or(|tally| tally.value.level(call.now) <= FREE_OF_ACCOUNT) {
            return Ok(());
        }
        let newcomers = ["network", &self.account, &network];
        self.newcomer = within(realm, &newcomers, PLACES_OF_NETWORK, call.now).await?;
        if !self.newcomer {
            let others = ["turns of network", &self.account, &network];
            if let Some(until) = count(realm, &others, FREE_OF_NETWORK, call.now).await? {
                return Err(refused(until, call.now, "an account from a network"));
            }
        }
        self.network = Some(network);
        Ok(())
    }

    /// It failed. One's own browser slows nobody else down.
    pub(crate) async fn failed(self, realm: Arc<Realm>, now: Timestamp) {
        for (path, _) in self.everywhere().filter(|_| self.browser.is_none()) {
            noted(change(&realm, &path, now, |tally| Some(tally.counted(now))).await);
        }
    }

    /// Nobody looked whether it was good or wrong: it is not counted. Its place is: the turn that it
    /// had is gone.
    pub(crate) async fn never_judged(&self, realm: &Realm, now: Timestamp) {
        take_back(realm, self.beforehand(), now).await;
    }

    /// It took no turn of the account: its place is free again too.
    async fn never_in_turn(&self, realm: &Realm, now: Timestamp) {
        take_back(realm, self.beforehand(), now).await;
        take_back(realm, self.place().map(Vec::from), now).await;
    }

    /// It was the person's own: what failed before it at this place is forgotten. Gives the
    /// cookie by which the browser is known from now on.
    pub(crate) async fn succeeded(&self, realm: &Realm, call: &Call) -> Answer<HeaderValue> {
        let place = self.place().map(Vec::from);
        for path in self.beforehand().into_iter().chain(place) {
            noted(realm.records.remove(Kind::Failures, &path).await);
        }
        Ok(browser::remember(realm, call, &self.account)?)
    }
}

/// Takes back what was counted there.
async fn take_back(realm: &Realm, path: Option<Vec<&str>>, now: Timestamp) {
    if let Some(path) = path {
        noted(change(realm, &path, now, |tally| Some(tally.taken_back(now))).await);
    }
}

/// What is counted after an attempt changes nothing of its answer.
fn noted(counted: Result<(), Error>) {
    if let Err(error) = counted {
        tracing::warn!(%error, "identity: an attempt was not counted as it should be");
    }
}

/// The cookie by which a browser is known to an account whose person it is shown to be of.
pub(crate) fn remember(realm: &Realm, call: &Call, account: &str) -> Result<HeaderValue, Error> {
    browser::remember(realm, call, &account_name(account))
}

/// Counts an attempt beforehand, so that of many at once only the free ones are judged;
/// `Some`: refused until then, and not counted.
async fn count(realm: &Realm, path: &[&str], free: u32, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let mut until = None;
    change(realm, path, now, |tally| {
        until = Some(tally.next).filter(|next| *next > now);
        until.is_none().then(|| tally.refused(free, now))
    })
    .await?;
    Ok(until)
}

/// When the turn of an attempt is: where more than the `free` ones failed, or of everybody.
async fn take_turn(realm: &Realm, path: &[&str], free: Option<u32>, now: Timestamp) -> Answer<Timestamp> {
    let (mut turn, mut late) = (now, None);
    change(realm, path, now, |tally| {
        (turn, late) = (now, None);
        let (next, taken) = match free {
            Some(free) => tally.turn(free, now)?,
            None => tally.next_turn(now),
        };
        if next.since(now) > TURN_WAIT_MAX {
            late = Some(next);
            return None;
        }
        turn = next;
        Some(taken)
    })
    .await?;
    match late {
        Some(until) => Err(refused(until, now, path.first().copied().unwrap_or_default())),
        None => Ok(turn),
    }
}

/// Whether a message about recovery is written to whoever is called this: not where too many
/// were asked for. Whoever asks too often is refused, whomever they name.
pub(crate) async fn recovery(realm: &Realm, call: &Call, typed: &str) -> Answer<bool> {
    if let Some(address) = address(call)
        && !within(realm, &["recovery at", &address], RECOVERIES_AT_ADDRESS, call.now).await?
    {
        return Err(refused(call.now.plus(HALF_LIFE / 2), call.now, "recovery at an address"));
    }
    Ok(within(realm, &["recovery of", &account_name(typed)], RECOVERIES_OF_ACCOUNT, call.now).await?)
}

/// The same for a person, however they were called.
pub(crate) async fn recovery_of_person(
    realm: &Realm,
    user: &str,
    most: u32,
    now: Timestamp,
) -> Result<bool, Error> {
    within(realm, &["recovery to", user], most, now).await
}

/// Counts a record that is kept for somebody who may be anybody; refused where strangers of their
/// network had so many kept.
pub(crate) async fn keep_for_stranger(realm: &Realm, call: &Call) -> Answer<()> {
    let Some(network) = call.address().map(network) else { return Ok(()) };
    let mut late = None;
    change(realm, &["kept", &network], call.now, |tally| {
        let kept = tally.kept(call.now);
        late = kept.err();
        kept.ok()
    })
    .await?;
    match late {
        Some(until) => Err(refused(until, call.now, "what is kept for strangers")),
        None => Ok(()),
    }
}

/// Counts one more, unless there were that many.
async fn within(realm: &Realm, path: &[&str], most: u32, now: Timestamp) -> Result<bool, Error> {
    let mut good = false;
    change(realm, path, now, |tally| {
        good = tally.level(now) < most;
        good.then(|| tally.counted(now))
    })
    .await?;
    Ok(good)
}

/// Changes a tally; `None` leaves it.
async fn change(
    realm: &Realm,
    path: &[&str],
    now: Timestamp,
    mut to: impl FnMut(&Tally) -> Option<Tally>,
) -> Result<(), Error> {
    let decide = |stored: Option<Stored<Tally>>| {
        let changed = to(&stored.map(|stored| stored.value).unwrap_or_default());
        Ok((changed.map(|tally| Change::to(tally, Some(tally.expires(now)))), ()))
    };
    realm.records.change(Kind::Failures, path, "a count of failures", decide).await
}

fn refused(until: Timestamp, now: Timestamp, what: &str) -> Box<Refusal> {
    let seconds = until.since(now).as_secs() + 1;
    tracing::warn!(what, seconds, "identity: attempts are slowed down");
    Refusal::person(Code::AccessDenied, Notice::SlowDown, format!("{what}: refused for {seconds} s"))
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_field(header::RETRY_AFTER, &seconds.to_string())
}

/// What an account is counted under: whatever is typed, whether it exists or not.
fn account_name(typed: &str) -> String {
    let folded = folded(typed);
    if folded.len() > NAME_BYTES_MAX { crate::random::hash(&folded) } else { folded }
}

/// Who may hold many subscribers' addresses (RFC 6177 §2): of IPv6 a /48, of IPv4 nobody.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

/// What an address is counted under.
fn address(call: &Call) -> Option<String> {
    Some(ClientNetwork::of(call.address()?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_795_384_267 + seconds)
    }

    #[test]
    fn refusals_double_up_to_a_quarter_of_an_hour_and_are_forgotten() {
        let mut tally = Tally::default();
        let mut pauses = Vec::new();
        let mut now = at(0);
        for _ in 0..20 {
            tally = tally.refused(FREE_AT_ADDRESS, now);
            pauses.push(tally.next.since(now).as_secs());
            now = now.max(tally.next);
        }
        assert_eq!(pauses[..9], [0, 0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(pauses[15..], [900; 5]);
        let mut level = u32::MAX;
        for hours in 0..=8 {
            let next = tally.level(now.plus(HALF_LIFE * hours));
            assert!(next < level || next == 0, "{hours}");
            level = next;
        }
        let most = Tally { failures: FAILURES_MAX, at: at(0), next: at(0) };
        assert_eq!(most.counted(at(0)).failures, FAILURES_MAX);
        assert_eq!(most.level(at(0).plus(HALF_LIFE * HALF_LIVES_MAX)), 0);
        assert_eq!(most.level(at(0).plus(HALF_LIFE * 100)), 0);
        assert!(most.expires(at(0)) >= at(0).plus(HALF_LIFE * HALF_LIVES_MAX));
    }

    #[test]
    fn what_is_free_refuses_nobody_who_came_a_moment_before() {
        let mut tally = Tally::default();
        for _ in 0..FREE_AT_ADDRESS {
            tally = tally.refused(FREE_AT_ADDRESS, at(1));
            assert!(tally.next <= at(0), "{tally:?}");
        }
        assert_eq!(tally.refused(FREE_AT_ADDRESS, at(1)).next, at(2), "one too many");
        assert!(tally.taken_back(at(1)).next <= at(0));
    }

    #[test]
    fn what_counts_nothing_ends_when_nobody_waits_for_it() {
        let (_, turn) = Tally::default().next_turn(at(5));
        assert!(turn.expires(at(5)) > turn.next && turn.expires(at(5)) <= turn.next.plus(TURN));
        let back = Tally::default().refused(FREE_AT_ADDRESS, at(0)).taken_back(at(0));
        assert!(back.expires(at(0)) <= at(0).plus(TURN), "{back:?}");
    }

    #[test]
    fn strangers_have_so_many_kept_and_then_one_each_second() {
        let mut tally = Tally::default();
        for _ in 0..KEPT_AT_ONCE {
            tally = tally.kept(at(0)).unwrap();
        }
        assert_eq!(tally.kept(at(0)).unwrap_err(), at(1));
        tally = tally.kept(at(1)).unwrap();
        assert_eq!(tally.kept(at(1)).unwrap_err(), at(2));
        let later = at(u64::from(KEPT_AT_ONCE) + 1);
        assert!(tally.expires(at(1)) >= later, "until then it counts");
        for _ in 0..KEPT_AT_ONCE {
            tally = tally.kept(later).unwrap();
        }
        assert!(tally.kept(later).is_err());
    }

    #[test]
    fn attempts_go_in_turn_where_many_failed() {
        let few = Tally { failures: FREE_OF_ACCOUNT, at: at(0), next: at(0) };
        let many = few.counted(at(0));
        assert_eq!(few.turn(FREE_OF_ACCOUNT, at(0)), None);
        let (first, taken) = many.turn(FREE_OF_ACCOUNT, at(0)).unwrap();
        let (second, taken) = taken.turn(FREE_OF_ACCOUNT, at(0)).unwrap();
        let (late, _) = taken.turn(FREE_OF_ACCOUNT, at(60)).unwrap();
        assert_eq!((first, second, late), (at(0), at(1), at(60)));
        assert_eq!(taken.turn(FREE_OF_ACCOUNT, at(3600)), None, "forgotten");
    }

    #[test]
    fn a_network_is_what_one_party_may_hold() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:ffff::7"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:2:2::1"));
        assert_eq!((of("192.0.2.1"), of("::ffff:192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }

    #[test]
    fn what_is_taken_back_refuses_nobody() {
        let mut tally = Tally::default();
        for _ in 0..FREE_AT_ADDRESS {
            tally = tally.refused(FREE_AT_ADDRESS, at(0));
        }
        let refused = tally.refused(FREE_AT_ADDRESS, at(1));
        assert_eq!((refused.failures, refused.next), (FREE_AT_ADDRESS + 1, at(2)));
        let back = refused.taken_back(at(1));
        assert_eq!(back.failures, tally.failures);
        assert!(back.next <= at(0), "at once");
        // Somebody else failed meanwhile: their refusal stands.
        let another = refused.refused(FREE_AT_ADDRESS, at(2));
        let back = another.taken_back(at(1));
        assert_eq!((back.failures, back.next), (FREE_AT_ADDRESS + 1, another.next));
        assert_eq!(Tally::default().taken_back(at(0)).failures, 0);
    }
}
