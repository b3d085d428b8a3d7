use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::upstream::dial::Load;

const STALLED: Duration = Duration::from_millis(500);

fn network(host: u8) -> Network {
    Some(ClientNetwork::of([10, 0, 0, host].into()))
}

/// Somebody of a network waits.
fn relieve(holders: &Holders, waiting: Network, now_ms: u64) -> bool {
    holders.relieve(holders.connections(waiting), now_ms, STALLED)
}

fn is_ended(holding: &Holding<'_>, waits: bool) -> bool {
    holding.poll_ended(waits, &Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn the_oldest_that_waits_for_its_client_is_ended_and_no_other() {
    let holders = Holders::default();
    let mine: Vec<_> = [3, 2, 1, 0].map(|since| holders.enter(network(1), since)).into();
    let other = holders.enter(network(2), 0);
    // The very oldest waits for the service.
    let ended = || mine.iter().enumerate().map(|(place, one)| is_ended(one, place != 3)).collect::<Vec<_>>();
    assert_eq!(ended(), [false; 4]);
    assert!(!is_ended(&other, true));
    let relieve = |waiting, now_ms| relieve(&holders, network(waiting), now_ms);
    // Nobody has had a connection for so long.
    assert!(!relieve(3, 500));
    // The network that has the connections waits for itself.
    assert!(!relieve(1, 10_000));
    assert!(relieve(3, 501));
    assert_eq!(ended(), [false, false, true, false]);
    // Three against one: with the next it is two each.
    assert!(relieve(2, 10_000));
    assert_eq!(ended(), [false, true, true, false]);
    assert!(!relieve(2, 10_000));
    assert!(relieve(3, 10_000));
    assert_eq!(ended(), [true, true, true, false]);
    // Each has one, and one is what a network may have.
    assert!(!relieve(3, 10_000));
    assert!(!is_ended(&other, true));
}

#[test]
fn boundary_stalled_ms_max() {
    for (now_ms, ended) in [(1_499, false), (1_500, true)] {
        let holders = Holders::default();
        let [old, young] = [1_000, 1_001].map(|since| holders.enter(network(1), since));
        assert!(!is_ended(&old, true) && !is_ended(&young, true));
        assert_eq!(relieve(&holders, network(2), now_ms), ended);
        assert_eq!(is_ended(&old, true), ended);
        assert!(!is_ended(&young, true));
    }
}

#[test]
fn whoever_waits_for_its_client_no_more_or_has_gone_is_not_ended() {
    let holders = Holders::default();
    let [first, second, third] = [0, 1, 2].map(|since| holders.enter(network(1), since));
    assert!(!is_ended(&first, true) && !is_ended(&second, true) && !is_ended(&third, true));
    // Its client has sent the rest.
    assert!(!is_ended(&first, false));
    drop(second);
    assert!(relieve(&holders, network(2), 10_000));
    assert!(is_ended(&third, true) && !is_ended(&first, true));
    drop((first, third));
    assert!(!relieve(&holders, network(2), 10_000));
    let again = holders.enter(network(1), 3);
    assert!(!is_ended(&again, true), "a place is used again, and what was known of it is not");
    assert_eq!(holders.places(), (3, 1));
}

#[test]
fn connections_are_counted_as_they_come_and_go() {
    let holders = Holders::default();
    let mut all: Vec<_> = (0..9).map(|number| holders.enter(network(number % 3), 0)).collect();
    let counts = || [0, 1, 2, 3].map(|host| holders.connections(network(host)));
    assert_eq!(counts(), [3, 3, 3, 0]);
    all.truncate(4);
    assert_eq!(counts(), [2, 1, 1, 0]);
    // One that is ended is given up already, and counted once.
    assert!(all.iter().all(|one| !is_ended(one, true)));
    assert!(relieve(&holders, network(3), 10_000));
    assert_eq!((counts(), holders.leaving()), ([1, 1, 1, 0], 1));
    all.clear();
    assert_eq!((counts(), holders.leaving()), ([0; 4], 0));
    let again = (0..9).map(|number| holders.enter(network(number), 0)).collect::<Vec<_>>();
    assert_eq!(holders.places(), (9, 9));
    drop(again);
    // Those who come once are forgotten, and who has something is not.
    let kept = holders.enter(network(9), 0);
    for number in 0..10_000_u64 {
        drop(holders.enter(Some(ClientNetwork::V6(number)), 0));
    }
    assert_eq!(holders.connections(network(9)), 1);
    drop(kept);
    assert!(holders.places().1 < 100, "{:?}", holders.places());
}

#[test]
fn a_tunnel_is_ended_where_its_network_has_nothing_else_to_give() {
    let holders = Holders::default();
    let [tunnel, young, stalled] = [0, 9_999, 5].map(|since| holders.enter(network(1), since));
    tunnel.becomes_tunnel();
    let ended = || [&tunnel, &young, &stalled].map(|one| is_ended(one, true));
    assert_eq!(ended(), [false; 3]);
    assert!(relieve(&holders, network(2), 10_000));
    assert_eq!(ended(), [false, false, true]);
    // The other one is not old enough yet.
    assert!(relieve(&holders, network(2), 10_000));
    assert_eq!(ended(), [true, false, true]);
}

type Waits<'q> = Standing<'q, usize>;

fn any(_: Load) -> bool {
    true
}

fn stand(queues: &Queues<usize>, host: u8, load: Load) -> Waits<'_> {
    queues.stand(network(host), load, None, usize::from(host))
}

/// Whether something changed for one that waits; `None`: it was displaced.
fn change(waits: &Waits<'_>) -> Option<bool> {
    match pin!(waits.changed()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Some(true),
        Poll::Ready(Err(Displaced)) => None,
        Poll::Pending => Some(false),
    }
}

#[test]
fn networks_take_turns_and_their_requests_stand_behind_each_other() {
    let queues = Queues::default();
    // Five of a network came first, then three and one of others.
    let mut waiting: VecDeque<_> =
        [1, 1, 1, 1, 1, 2, 2, 2, 3].map(|host| (host, stand(&queues, host, Load::Requests))).into();
    let mut served = Vec::new();
    while !queues.is_empty() {
        let is_next: Vec<usize> = (0..waiting.len()).filter(|at| waiting[*at].1.is_next(any)).collect();
        let [next] = is_next[..] else { panic!("{is_next:?}") };
        let (host, waits) = waiting.remove(next).unwrap();
        served.push(host);
        waits.served();
    }
    assert_eq!(served, [1, 2, 3, 1, 2, 1, 2, 1, 1]);
}

#[test]
fn who_gives_up_leaves_the_turn_to_its_network() {
    let queues = Queues::default();
    let [first, second, other] = [1, 1, 2].map(|host| stand(&queues, host, Load::Requests));
    drop(first);
    assert!(second.is_next(any) && !other.is_next(any));
    assert_eq!(change(&second), Some(true), "the next one is told");
    drop(second);
    assert!(other.is_next(any));
    assert_eq!(change(&other), Some(true));
    drop(other);
    assert!(queues.is_empty() && queues.networks().is_empty());
}

#[test]
fn what_only_some_can_use_goes_to_the_next_one_of_them() {
    let queues = Queues::default();
    let apart = stand(&queues, 1, Load::Upgrade);
    let [behind, other] = [1, 2].map(|host| stand(&queues, host, Load::Requests));
    let shared = |load: Load| load == Load::Requests;
    assert!(apart.is_next(any) && !behind.is_next(any) && !other.is_next(any));
    assert!(behind.is_next(shared) && !other.is_next(shared) && !apart.is_next(shared));
    queues.wake(shared);
    assert_eq!([&apart, &behind, &other].map(change), [Some(false), Some(true), Some(false)]);
    queues.wake_next();
    assert_eq!([&apart, &behind, &other].map(change), [Some(true), Some(true), Some(false)]);
    // It has had its network's turn.
    behind.served();
    assert!(other.is_next(any) && !apart.is_next(any));
}

#[test]
fn whose_network_has_most_that_wait_makes_room_and_not_for_its_own() {
    let queues = Queues::default();
    // However they are needed: what counts is the network.
    let loads = [Load::Requests, Load::Upgrade, Load::Requests];
    let mine: Vec<_> = loads.into_iter().map(|load| stand(&queues, 1, load)).collect();
    let displace = |host| queues.displace(queues.of(network(host)));
    assert_eq!(displace(1), None);
    assert_eq!(displace(2), Some(1));
    let other = stand(&queues, 2, Load::Requests);
    // Two against one would be one against two.
    assert_eq!(displace(2), None);
    assert_eq!(displace(3), Some(1));
    // The first ones stay.
    assert_eq!(displace(3), None);
    assert_eq!(mine.iter().map(change).collect::<Vec<_>>(), [Some(false), None, None]);
    assert_eq!(change(&other), Some(false));
    assert_eq!(queues.len(), 2);
    drop(mine);
    assert_eq!(queues.networks(), [network(2)]);
}
