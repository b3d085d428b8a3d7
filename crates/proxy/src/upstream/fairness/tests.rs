use std::future::Future;
use std::pin::pin;

use super::*;

const STALLED: Duration = Duration::from_millis(500);

fn network(host: u8) -> Network {
    Some(ClientNetwork::of([10, 0, 0, host].into()))
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
    let relieve = |waiting, now_ms| holders.relieve(network(waiting), now_ms, STALLED);
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
        assert_eq!(holders.relieve(network(2), now_ms, STALLED), ended);
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
    assert!(holders.relieve(network(2), 10_000, STALLED));
    assert!(is_ended(&third, true) && !is_ended(&first, true));
    drop((first, third));
    assert!(!holders.relieve(network(2), 10_000, STALLED));
    let again = holders.enter(network(1), 3);
    assert!(!is_ended(&again, true), "a place is used again, and what was known of it is not");
    assert_eq!(holders.list.borrow().len(), 3);
}

/// Whether a request is the first one of its network; `None`: it was displaced.
fn place<T>(standing: &Standing<'_, Network, T>) -> Option<bool> {
    match pin!(standing.first()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Some(true),
        Poll::Ready(Err(Displaced)) => None,
        Poll::Pending => Some(false),
    }
}

#[test]
fn one_of_each_network_is_first_and_the_next_one_when_it_has_gone() {
    let queues = Queues::default();
    let mut mine: VecDeque<_> = (0..3).map(|_| queues.stand(network(1), ())).collect();
    let other = queues.stand(network(2), ());
    let places = |mine: &VecDeque<Standing<'_, Network, ()>>| mine.iter().map(place).collect::<Vec<_>>();
    assert_eq!(places(&mine), [Some(true), Some(false), Some(false)]);
    assert_eq!(place(&other), Some(true));
    // One that gives up in the middle changes nothing.
    drop(mine.remove(1));
    assert_eq!(places(&mine), [Some(true), Some(false)]);
    mine.pop_front();
    assert_eq!(places(&mine), [Some(true)]);
    assert!(queues.has(network(1)));
    mine.clear();
    assert!(!queues.has(network(1)) && queues.has(network(2)));
}

#[tokio::test]
async fn the_next_one_is_woken() {
    let queues = Queues::default();
    let [first, second] = [(); 2].map(|()| queues.stand(network(1), ()));
    let (woken, ()) = tokio::join!(second.first(), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    assert_eq!(woken, Ok(()));
}

#[test]
fn whose_network_has_most_that_wait_makes_room_and_not_for_its_own() {
    let queues = Queues::default();
    let mine: Vec<_> = (0..3).map(|number| queues.stand(network(1), number)).collect();
    assert_eq!(queues.displace(network(1)), None);
    assert_eq!(queues.displace(network(2)), Some(2));
    let other = queues.stand(network(2), 2);
    // Two against one would be one against two.
    assert_eq!(queues.displace(network(2)), None);
    assert_eq!(queues.displace(network(3)), Some(1));
    // The first ones stay.
    assert_eq!(queues.displace(network(3)), None);
    assert_eq!(mine.iter().map(place).collect::<Vec<_>>(), [Some(true), None, None]);
    assert_eq!(place(&other), Some(true));
    drop(mine);
    assert!(!queues.has(network(1)));
}
