//! Questions that wait to be asked: of each network of clients one in its turn. Whoever invents tokens
//! has a question asked for each of them, and keeps nobody else's from being asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use model::ClientNetwork;
use tokio::sync::Notify;

use super::INTROSPECTIONS_WAITING_MAX;

/// What waits, by whom it is for.
pub(super) struct Turns<T> {
    waiting: Mutex<Waiting<T>>,
    come: Notify,
}

struct Waiting<T> {
    /// What waits of each network that has something waiting.
    lines: HashMap<ClientNetwork, VecDeque<T>, RandomState>,
    /// These networks, whoever is next first.
    turns: VecDeque<ClientNetwork>,
    count: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        let waiting = Waiting { lines: HashMap::default(), turns: VecDeque::new(), count: 0 };
        Self { waiting: Mutex::new(waiting), come: Notify::new() }
    }
}

impl<T> Turns<T> {
    /// Takes a place for one more; `false`: there is none.
    ///
    /// INVARIANT: a network has no more places than it leaves free, so that there is one for others.
    pub(super) fn enter(&self, network: ClientNetwork, one: T) -> bool {
        let mut waiting = self.waiting();
        let own = waiting.lines.get(&network).map_or(0, VecDeque::len);
        if own >= INTROSPECTIONS_WAITING_MAX.saturating_sub(waiting.count) {
            return false;
        }
        if own == 0 {
            waiting.turns.push_back(network);
        }
        waiting.lines.entry(network).or_default().push_back(one);
        waiting.count += 1;
        drop(waiting);
        self.come.notify_one();
        true
    }

    /// The next one. For one task: of two who wait only one would be woken.
    pub(super) async fn next(&self) -> T {
        loop {
            if let Some(one) = self.take() {
                return one;
            }
            self.come.notified().await;
        }
    }

    fn take(&self) -> Option<T> {
        let mut waiting = self.waiting();
        let network = waiting.turns.pop_front()?;
        let line = waiting.lines.get_mut(&network)?;
        let one = line.pop_front();
        match line.is_empty() {
            true => drop(waiting.lines.remove(&network)),
            false => waiting.turns.push_back(network),
        }
        waiting.count -= 1;
        one
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(host: u8) -> ClientNetwork {
        ClientNetwork::of([192, 0, 2, host].into())
    }

    #[test]
    fn each_network_has_its_turn() {
        let turns = Turns::default();
        for one in 0..3 {
            assert!(turns.enter(network(1), (1, one)));
        }
        assert!(turns.enter(network(2), (2, 0)) && turns.enter(network(3), (3, 0)));
        assert!(turns.enter(network(2), (2, 1)));
        let order: Vec<_> = std::iter::from_fn(|| turns.take()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2)]);
        assert!(turns.waiting().lines.is_empty() && turns.waiting().turns.is_empty());
    }

    #[test]
    fn one_network_leaves_as_many_places_as_it_has_and_there_are_so_many() {
        let turns = Turns::default();
        let fill = |host| (0..).take_while(|one| turns.enter(network(host), *one)).count();
        let most = INTROSPECTIONS_WAITING_MAX;
        assert_eq!((fill(1), fill(2), fill(3)), (most / 2, most / 4, most / 8));
        assert!(turns.enter(network(4), 0), "another has a place");
        let taken: usize = (5..=255).map(fill).sum();
        assert!(taken > 0 && turns.waiting().count <= most);
        while turns.take().is_some() {}
        assert_eq!(turns.waiting().count, 0);
        assert_eq!(fill(1), most / 2);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_what_comes() {
        let turns = std::sync::Arc::new(Turns::default());
        let waits = tokio::spawn({
            let turns = std::sync::Arc::clone(&turns);
            async move { [turns.next().await, turns.next().await] }
        });
        tokio::task::yield_now().await;
        assert!(turns.enter(network(1), "a") && turns.enter(network(1), "b"));
        assert_eq!(waits.await.unwrap(), ["a", "b"]);
    }
}
