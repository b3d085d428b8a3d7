//! New keys for what is written, and in the background for what was written before.

use crate::barrier::{Plain, StoredKey};
use crate::error::Error;
use crate::store::Store;

/// Records that are put under new keys in one transaction.
const STEP_RECORDS: usize = 256;

impl Store {
    /// Begins a new generation of keys: from now on, everything is written under it, by
    /// every process. What was written before stays readable; [`Store::reencryption`] puts
    /// it under the new keys. Gives the generation that is current then; when two processes
    /// rotate at once, both get the same.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: too many generations wait to be re-encrypted.
    /// [`Error::Unavailable`], [`Error::Corrupt`].
    pub async fn rotate(&self) -> Result<u32, Error> {
        let inner = self.inner();
        let keyring = self.newest_keyring().await?;
        let next = keyring.with_next_generation(inner.barrier.random())?;
        let sealed = inner.barrier.seal_keyring(&next)?;
        if inner.backend.advance(keyring.current(), sealed.clone(), next.current()).await? {
            inner.barrier.take_keyring(&sealed)?;
            return Ok(next.current());
        }
        Ok(self.newest_keyring().await?.current())
    }

    /// Puts what was written under old keys under the current ones, step by step. To go on
    /// after an interruption, begin again: what is done already is passed over.
    pub fn reencryption(&self) -> Reencryption {
        Reencryption { store: self.clone(), after: None }
    }

    /// Generations of keys that the store holds, oldest first; the last is the current one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Corrupt`].
    pub async fn generations(&self) -> Result<Vec<u32>, Error> {
        Ok(self.newest_keyring().await?.numbers())
    }

    async fn newest_keyring(&self) -> Result<std::sync::Arc<crate::barrier::Keyring>, Error> {
        let inner = self.inner();
        inner.barrier.take_keyring(&inner.backend.keyring().await?)
    }
}

/// The work of putting records under the current keys.
pub struct Reencryption {
    store: Store,
    after: Option<StoredKey>,
}

impl Reencryption {
    /// One bounded step; gives how many records it took up. 0: everything is under the
    /// current keys, and the old ones are destroyed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`]: calling again goes on where it was.
    /// [`Error::Corrupt`]: a record does not open; the old keys stay.
    pub async fn step(&mut self) -> Result<usize, Error> {
        let inner = self.store.inner();
        let current = inner.barrier.keyring().current();
        let stale = inner.backend.stale(self.after.clone(), current, STEP_RECORDS).await?;
        let Some(last) = stale.last() else { return self.finish().await };
        let last = last.key.clone();
        let mut resealed = Vec::with_capacity(stale.len());
        for row in &stale {
            // One that is not there any more as it was is under newer keys.
            let Some(opened) = inner.opened(row).await? else { continue };
            let head = crate::barrier::Head { generation: current, ..row.head };
            resealed.push(inner.barrier.seal(&row.key, head, &Plain::new(&opened.key, &opened.value))?);
        }
        let count = stale.len();
        if inner.backend.reseal(current, resealed).await? {
            self.after = Some(last);
        } else {
            // Somebody rotated meanwhile: everything once more.
            self.store.newest_keyring().await?;
            self.after = None;
        }
        Ok(count)
    }

    /// Destroys the old keys, unless something is left under them.
    async fn finish(&mut self) -> Result<usize, Error> {
        let inner = self.store.inner();
        self.after = None;
        let keyring = self.store.newest_keyring().await?;
        if keyring.numbers().len() < 2 {
            return Ok(0);
        }
        let alone = inner.barrier.seal_keyring(&keyring.without_old_generations())?;
        if inner.backend.retire(keyring.current(), alone.clone()).await? {
            inner.barrier.take_keyring(&alone)?;
            return Ok(0);
        }
        // Something was left behind the place that this began at, or somebody rotated.
        Ok(1)
    }
}
