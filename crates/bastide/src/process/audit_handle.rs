//! The audit log, for the control plane: a place in it is taken before anything is done.
//!
//! A queue of the log belongs to one thread; this one has a thread of its own, which holds
//! the places that were taken until their events come.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};

use audit::{Queue, Slot};
use keys::{SecureRandom as _, SystemRandom};
use model::event::{AccessEvent, AccountEvent};
use model::{RequestId, Timestamp};
use tokio::sync::oneshot;

/// The way to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditHandle(Sender<Message>);

#[derive(Debug)]
enum Message {
    Reserve { id: RequestId, time: Timestamp, taken: oneshot::Sender<bool> },
    Commit(Box<AccessEvent<'static>>),
    CommitAccount(Box<AccountEvent>),
    Abandon(RequestId),
}

/// A place in the log. One event comes of it: the one that is committed, or one that says
/// that the call was abandoned.
#[must_use]
#[derive(Debug)]
pub struct Entry {
    id: RequestId,
    log: Option<Sender<Message>>,
}

impl AuditHandle {
    /// Writes to this queue, on a thread of this name, until the last clone is gone.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn open(queue: Queue, thread_name: &str) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let keep = move || keep(&Rc::new(queue), &receiver);
        std::thread::Builder::new().name(thread_name.to_owned()).spawn(keep)?;
        Ok(Self(sender))
    }

    /// Takes a place for the event of a call; `None`: the log has none, and nothing may be
    /// done. Whoever stops waiting gives their place back, as an abandoned event.
    pub async fn reserve(&self, id: RequestId, time: Timestamp) -> Option<Entry> {
        // Before the wait: the place is given back wherever the wait ends.
        let entry = Entry { id, log: Some(self.0.clone()) };
        let (taken, answer) = oneshot::channel();
        self.0.send(Message::Reserve { id, time, taken }).ok()?;
        answer.await.ok()?.then_some(entry)
    }

    /// The same for what is not named yet. `None`: there is no randomness either.
    pub async fn reserve_new(&self, time: Timestamp, random: &SystemRandom) -> Option<Entry> {
        self.reserve(new_id(time, random)?, time).await
    }
}

/// A name for what happens at this time; `None`: there is no randomness.
pub fn new_id(time: Timestamp, random: &SystemRandom) -> Option<RequestId> {
    let mut number = [0; 16];
    random.fill(&mut number).ok()?;
    Some(RequestId::new(time.unix_millis(), u128::from_be_bytes(number)))
}

impl Entry {
    /// The name of the call.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Writes the event.
    pub fn commit(self, event: AccessEvent<'static>) {
        self.send(Message::Commit(Box::new(event)));
    }

    /// Writes what somebody did at the identity provider.
    pub fn commit_account(self, event: AccountEvent) {
        self.send(Message::CommitAccount(Box::new(event)));
    }

    fn send(mut self, message: Message) {
        if let Some(log) = self.log.take() {
            // Only a thread that has ended takes nothing, and then the log is closed.
            let _ = log.send(message);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            let _ = log.send(Message::Abandon(self.id));
        }
    }
}

fn keep(queue: &Rc<Queue>, messages: &Receiver<Message>) {
    let mut places: HashMap<RequestId, Slot> = HashMap::new();
    while let Ok(message) = messages.recv() {
        match message {
            Message::Reserve { id, time, taken } => {
                let slot = queue.reserve(id, time).ok();
                // Whoever went away in between is heard of next.
                let _ = taken.send(slot.is_some());
                places.extend(slot.map(|slot| (id, slot)));
            }
            Message::Commit(event) => {
                if let Some(slot) = places.remove(&event.id) {
                    slot.commit(&event);
                }
            }
            Message::CommitAccount(event) => {
                if let Some(slot) = places.remove(&event.access.id) {
                    slot.commit_line(|line| audit::record::append_account(line, &event));
                }
            }
            Message::Abandon(id) => drop(places.remove(&id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;
    use crate::process::clock::SystemClock;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1);

    fn id(number: u128) -> RequestId {
        RequestId::new(1, number)
    }

    /// A log with one place, and the way to it.
    fn one_place(folder: &std::path::Path) -> (Queue, audit::Log) {
        let settings = audit::Settings { queue_events: 1, ..audit::Settings::new(folder) };
        let (log, mut queues) = audit::open(settings, 1, Arc::new(SystemClock::start())).unwrap();
        (queues.pop().unwrap(), log)
    }

    fn written(folder: &std::path::Path, log: audit::Log) -> String {
        log.close(Duration::from_secs(60)).unwrap();
        let text = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default()
        };
        std::fs::read_dir(folder).unwrap().map(text).collect()
    }

    /// The place, as soon as the log has written what stood there.
    async fn next_place(handle: &AuditHandle, id: RequestId) -> Option<Entry> {
        for _ in 0..12_000 {
            if let Some(entry) = handle.reserve(id, NOW).await {
                return Some(entry);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    #[tokio::test]
    async fn there_are_only_so_many_places_and_each_leaves_one_event() {
        let folder = tempfile::tempdir().unwrap();
        let (queue, log) = one_place(folder.path());
        let handle = AuditHandle::open(queue, "audit").unwrap();
        let first = handle.reserve(id(1), NOW).await.unwrap();
        assert!(handle.reserve(id(2), NOW).await.is_none(), "no place, no deed");
        drop(first);
        drop(next_place(&handle, id(3)).await.unwrap());
        drop(handle);
        let lines = written(folder.path(), log);
        assert_eq!(lines.matches("\"abandoned\":true").count(), 2, "{lines}");
    }

    #[tokio::test]
    async fn whoever_goes_away_while_they_wait_takes_no_place_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let (queue, log) = one_place(folder.path());
        let (sender, receiver) = channel();
        let handle = AuditHandle(sender);
        let mut waits = Box::pin(handle.reserve(id(1), NOW));
        // Asked once, before anybody answers: its place is taken, and the answer lies there unread.
        assert!(std::future::poll_fn(|context| Poll::Ready(waits.as_mut().poll(context))).await.is_pending());
        std::thread::spawn(move || keep(&Rc::new(queue), &receiver));
        assert!(handle.reserve(id(2), NOW).await.is_none(), "the place is the first one's");
        drop(waits);
        let entry = next_place(&handle, id(3)).await.expect("the place is free again");
        entry.commit(AccessEvent::bare(id(3), NOW));
        drop(handle);
        let lines = written(folder.path(), log);
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert_eq!(lines.matches("\"abandoned\":true").count(), 1, "{lines}");
    }
}
