//! What a realm has taken back, followed: read whole once, and from then on only what changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys::Revocation;
use store::{Event, Key, Watch};

use super::LISTING_MAX;
use crate::Error;
use crate::realm::Realm;
use crate::record::{Kind, read};

/// The list of a realm, as it was when [`RevocationFeed::changed`] returned last.
pub struct RevocationFeed {
    realm: Arc<Realm>,
    watch: Watch,
    held: BTreeMap<Key, Revocation>,
    /// Some change is not known: everything is read before anything is told.
    has_gap: bool,
    records_read: u64,
}

impl Realm {
    /// Begins to follow [`Realm::revocations`].
    ///
    /// # Errors
    /// The store fails.
    pub async fn follow_revocations(self: &Arc<Self>) -> Result<RevocationFeed, Error> {
        // The watch first, so that nothing falls between it and the list.
        let watch = self.records.watch(Kind::Revoked);
        let (realm, held) = (Arc::clone(self), BTreeMap::new());
        let mut feed = RevocationFeed { realm, watch, held, has_gap: true, records_read: 0 };
        feed.read_whole().await?;
        Ok(feed)
    }
}

impl RevocationFeed {
    /// Everything that is revoked; what is over by now may be among it.
    pub fn list(&self) -> Vec<Revocation> {
        self.held.values().cloned().collect()
    }

    /// How many records were read so far: each once where the list was read whole, and each
    /// that changed since.
    pub fn records_read(&self) -> u64 {
        self.records_read
    }

    /// Waits for a change, and takes in all that came with it. Can be dropped and called again
    /// without losing one.
    ///
    /// # Errors
    /// The store fails; calling again goes on where it was. [`store::Error::Closed`]: there
    /// will be no more.
    pub async fn changed(&mut self) -> Result<(), Error> {
        if !self.has_gap {
            let event = self.watch.next().await?;
            self.take(event);
            self.take_what_is_there().await;
        }
        if self.has_gap {
            self.read_whole().await?;
        }
        Ok(())
    }

    /// One transaction is told as one change.
    async fn take_what_is_there(&mut self) {
        loop {
            let event = tokio::select! {
                biased;
                event = self.watch.next() => event,
                () = std::future::ready(()) => return,
            };
            match event {
                Ok(event) => self.take(event),
                // It comes again at the next call; what is known by now is told first.
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Put(record) => {
                self.records_read += 1;
                match read(Kind::Revoked, &record.value) {
                    Ok(entry) => drop(self.held.insert(record.key, entry)),
                    // Reading everything says what is wrong, until it is right.
                    Err(_) => self.has_gap = true,
                }
            }
            Event::Deleted { key, .. } => drop(self.held.remove(&key)),
            Event::Resync { .. } => self.has_gap = true,
        }
    }

    async fn read_whole(&mut self) -> Result<(), Error> {
        let found = self.realm.records.all(Kind::Revoked, LISTING_MAX).await?;
        self.records_read += found.len() as u64;
        self.held = found.into_iter().collect();
        self.has_gap = false;
        Ok(())
    }
}
