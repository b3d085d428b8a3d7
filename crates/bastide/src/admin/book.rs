//! The audit log, for the control plane: a place in it is taken before anything is done.
//!
//! A queue of the log belongs to one thread; this one has a thread of its own, which holds
//! the places that were taken until their events come.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};

use audit::{Queue, Slot};
use model::event::AccessEvent;
use model::{RequestId, Timestamp};
use tokio::sync::oneshot;

/// The way to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Book(Sender<Message>);

#[derive(Debug)]
enum Message {
    Reserve { id: RequestId, time: Timestamp, taken: oneshot::Sender<bool> },
    Commit(Box<AccessEvent<'static>>),
    Abandon(RequestId),
}

/// A place in the log. One event comes of it: the one that is committed, or one that says
/// that the call was abandoned.
#[must_use]
#[derive(Debug)]
pub struct Entry {
    id: RequestId,
    book: Option<Sender<Message>>,
}

impl Book {
    /// Writes to this queue until the last clone is gone.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn open(queue: Queue) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let keep = move || keep(&Rc::new(queue), &receiver);
        std::thread::Builder::new().name("administration".to_owned()).spawn(keep)?;
        Ok(Self(sender))
    }

    /// Takes a place for the event of a call; `None`: the log has none, and nothing may be
    /// done.
    pub async fn reserve(&self, id: RequestId, time: Timestamp) -> Option<Entry> {
        let (taken, answer) = oneshot::channel();
        self.0.send(Message::Reserve { id, time, taken }).ok()?;
        answer.await.ok()?.then(|| Entry { id, book: Some(self.0.clone()) })
    }
}

impl Entry {
    /// The name of the call.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Writes the event.
    pub fn commit(mut self, event: AccessEvent<'static>) {
        if let Some(book) = self.book.take() {
            // Only a thread that has ended takes nothing, and then the log is closed.
            let _ = book.send(Message::Commit(Box::new(event)));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(book) = self.book.take() {
            let _ = book.send(Message::Abandon(self.id));
        }
    }
}

fn keep(queue: &Rc<Queue>, messages: &Receiver<Message>) {
    let mut places: HashMap<RequestId, Slot> = HashMap::new();
    while let Ok(message) = messages.recv() {
        match message {
            Message::Reserve { id, time, taken } => {
                let slot = queue.reserve(id, time).ok();
                // Whoever went away in between leaves an abandoned place behind.
                if taken.send(slot.is_some()).is_ok()
                    && let Some(slot) = slot
                {
                    places.insert(id, slot);
                }
            }
            Message::Commit(event) => {
                if let Some(slot) = places.remove(&event.id) {
                    slot.commit(&event);
                }
            }
            Message::Abandon(id) => drop(places.remove(&id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::process::clock::SystemClock;

    fn id(number: u128) -> RequestId {
        RequestId::new(1, number)
    }

    #[tokio::test]
    async fn there_are_only_so_many_places_and_each_leaves_one_event() {
        let folder = tempfile::tempdir().unwrap();
        let settings = audit::Settings { queue_events: 1, ..audit::Settings::new(folder.path()) };
        let (log, mut queues) = audit::open(settings, 1, Arc::new(SystemClock::start())).unwrap();
        let book = Book::open(queues.pop().unwrap()).unwrap();
        let now = Timestamp::from_unix_seconds(1);
        let first = book.reserve(id(1), now).await.unwrap();
        assert!(book.reserve(id(2), now).await.is_none(), "no place, no deed");
        drop(first);
        let place = async {
            loop {
                if let Some(entry) = book.reserve(id(3), now).await {
                    return entry;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        drop(place.await);
        drop(book);
        log.close(std::time::Duration::from_secs(5)).unwrap();
        let lines: String = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default())
            .collect();
        assert_eq!(lines.matches("\"abandoned\":true").count(), 2, "{lines}");
    }
}
