//! What the cores tell each other of one endpoint while somebody waits for it: the connections are
//! bounded over all of them, so one core's may have to be given up for another's.
//!
//! Only those who wait come here, and the cores that hear of them: no request that finds a connection.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use super::connection_limiter::Waiting;
use super::fairness::Network;

/// What a core has said is of no use after so long, in milliseconds.
const FRESH_MS: u64 = 200;
/// Requests that ask the other cores for a place to wait, at the same time.
const WISHES_MAX: usize = 64;

/// What a network has on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) network: Network,
    pub(crate) connections: usize,
    /// What may be ended first: whether it is a tunnel, and since when it has its connection.
    pub(crate) oldest: Option<(bool, u64)>,
}

/// A request of a network wants the place of one of another network that waits.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) core: u64,
    pub(crate) network: Network,
    /// How many of the network have one on its core.
    pub(crate) own: usize,
    pub(crate) give: oneshot::Sender<Waiting>,
}

/// What the cores tell each other of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    cores: Vec<Core>,
    joined: u64,
    wishes: VecDeque<Wish>,
}

#[derive(Debug)]
struct Core {
    name: u64,
    told_ms: u64,
    shares: Vec<Share>,
    /// Exchanges that are ended and have not given up their connections yet.
    leaving: usize,
    /// Whose exchanges others have asked it to end.
    asked: Vec<Network>,
}

impl Board {
    /// The name of one more core; it is not 0.
    pub(crate) fn join(&self) -> u64 {
        let mut lists = self.lists();
        lists.joined += 1;
        let name = lists.joined;
        lists.cores.push(Core { name, told_ms: 0, shares: Vec::new(), leaving: 0, asked: Vec::new() });
        name
    }

    /// A core has nothing to do with the endpoint any more.
    pub(crate) fn leave(&self, name: u64) {
        let mut lists = self.lists();
        lists.cores.retain(|core| core.name != name);
        lists.wishes.retain(|wish| wish.core != name);
    }

    /// A core says what it has.
    pub(crate) fn tell(&self, name: u64, shares: Vec<Share>, leaving: usize, now_ms: u64) {
        if let Some(core) = self.lists().cores.iter_mut().find(|core| core.name == name) {
            (core.shares, core.leaving, core.told_ms) = (shares, leaving, now_ms);
        }
    }

    /// Whose exchanges a core is asked to end.
    pub(crate) fn asked(&self, name: u64) -> Vec<Network> {
        let mut lists = self.lists();
        let core = lists.cores.iter_mut().find(|core| core.name == name);
        core.map_or(Vec::new(), |core| {
            core.leaving += core.asked.len();
            std::mem::take(&mut core.asked)
        })
    }

    /// Asks for up to `most` exchanges to be ended in favour of networks that wait, of those first
    /// that have least on all cores.
    pub(crate) fn ask(&self, waiting: &[Network], now_ms: u64, most: usize) {
        let mut lists = self.lists();
        let fresh = |core: &&mut Core| core.told_ms.saturating_add(FRESH_MS) >= now_ms;
        let mut cores: Vec<&mut Core> = lists.cores.iter_mut().filter(fresh).collect();
        let mut sums = HashMap::<Network, usize, RandomState>::default();
        for share in cores.iter().flat_map(|core| &core.shares) {
            *sums.entry(share.network).or_default() += share.connections;
        }
        let of = |sums: &HashMap<_, _, _>, network: &Network| sums.get(network).copied().unwrap_or(0);
        let mut own: Vec<usize> = waiting.iter().map(|network| of(&sums, network)).collect();
        own.sort_unstable();
        // What is given up already is enough for as many.
        let given_up = cores.iter().map(|core| core.leaving + core.asked.len()).sum();
        for own in own.into_iter().skip(given_up).take(most) {
            // With one more and one less they would only have changed places.
            let found = cores.iter().enumerate().flat_map(|(at, core)| {
                let shares = core.shares.iter().enumerate();
                shares.filter_map(move |(place, share)| Some((at, place, share.network, share.oldest?)))
            });
            let more = found.filter(|(_, _, network, _)| of(&sums, network) > own + 1);
            let key = |(_, _, network, oldest): &(usize, usize, Network, (bool, u64))| {
                (of(&sums, network), std::cmp::Reverse(*oldest))
            };
            let Some((at, place, network, _)) = more.max_by_key(key) else { return };
            if let Some(core) = cores.get_mut(at)
                && let Some(share) = core.shares.get_mut(place)
            {
                share.connections = share.connections.saturating_sub(1);
                // Which one is next its core will say.
                share.oldest = None;
                core.asked.push(network);
            }
            if let Some(sum) = sums.get_mut(&network) {
                *sum = sum.saturating_sub(1);
            }
        }
    }

    /// Puts up a wish for a place: one of each network and core at a time.
    pub(crate) fn wish(&self, wish: Wish) -> bool {
        let mut lists = self.lists();
        lists.wishes.retain(is_waited_for);
        let is_twin = |other: &Wish| (other.core, other.network) == (wish.core, wish.network);
        if lists.wishes.len() >= WISHES_MAX || lists.wishes.iter().any(is_twin) {
            return false;
        }
        lists.wishes.push_back(wish);
        true
    }

    /// Gives what a core can give to those who wish for a place.
    pub(crate) fn grant(&self, mut place: impl FnMut(Network, usize) -> Option<Waiting>) {
        let mut lists = self.lists();
        lists.wishes.retain(is_waited_for);
        for wish in std::mem::take(&mut lists.wishes) {
            match place(wish.network, wish.own) {
                // Who has gone leaves it to the next one.
                Some(place) => drop(wish.give.send(place)),
                None => lists.wishes.push_back(wish),
            }
        }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody still waits for what is wished.
fn is_waited_for(wish: &Wish) -> bool {
    !wish.give.is_closed()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use model::ClientNetwork;

    use super::*;

    fn network(host: u8) -> Network {
        Some(ClientNetwork::V4(Ipv4Addr::new(10, 0, 0, host)))
    }

    fn share(host: u8, connections: usize, since_ms: Option<u64>) -> Share {
        Share { network: network(host), connections, oldest: since_ms.map(|since| (false, since)) }
    }

    #[test]
    fn who_has_most_over_all_cores_gives_up_its_oldest_wherever_that_is() {
        let board = Board::default();
        let [one, two] = [board.join(), board.join()];
        let told = |now_ms| {
            // One each of network 1, which on no core has more than the other.
            board.tell(one, vec![share(1, 1, Some(10)), share(2, 1, Some(0))], 0, now_ms);
            board.tell(two, vec![share(1, 1, Some(5)), share(3, 1, Some(0))], 0, now_ms);
        };
        told(1_000);
        board.ask(&[network(4)], 1_000, 8);
        assert_eq!(board.asked(one), []);
        assert_eq!(board.asked(two), [network(1)]);
        // Who has one already would only change places, and one that has two is the one itself.
        for waiting in [2, 3, 1] {
            told(1_000);
            board.ask(&[network(waiting)], 1_000, 8);
            assert_eq!([one, two].map(|core| board.asked(core).len()), [0, 0]);
        }
        // What is given up already is enough for one.
        told(1_000);
        board.tell(two, vec![share(1, 1, Some(5))], 1, 1_000);
        board.ask(&[network(4)], 1_000, 8);
        assert_eq!([one, two].map(|core| board.asked(core).len()), [0, 0]);
        board.ask(&[network(4), network(5)], 1_000, 8);
        assert_eq!([one, two].map(|core| board.asked(core).len()), [0, 1]);
        // What was said long ago is not believed.
        told(1_000);
        board.ask(&[network(4)], 1_000 + FRESH_MS + 1, 8);
        assert_eq!([one, two].map(|core| board.asked(core).len()), [0, 0]);
        // A core that has gone has nothing.
        told(1_000);
        board.leave(two);
        board.ask(&[network(4)], 1_000, 8);
        assert_eq!(board.asked(one), []);
    }

    #[test]
    fn wishes_are_bounded_and_of_each_network_there_is_one() {
        let board = Board::default();
        let wish = |host| {
            let (give, given) = oneshot::channel();
            (board.wish(Wish { core: 1, network: network(host), own: 0, give }), given)
        };
        let waiting: Vec<_> = (0..64).map(&wish).collect();
        assert!(waiting.iter().all(|(taken, _)| *taken));
        assert!(!wish(1).0 && !wish(100).0);
        let mut asked = Vec::new();
        board.grant(|network, own| {
            asked.push((network, own));
            None
        });
        assert_eq!(asked.len(), 64);
        drop(waiting);
        asked.clear();
        board.grant(|network, own| {
            asked.push((network, own));
            None
        });
        assert_eq!(asked, [], "nobody loses a place to one who has gone");
        assert!(wish(100).0, "those who have gone make room");
    }
}
