//! What becomes of transactions that share one commit: a pure judgement, the same for both
//! databases.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use model::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::barrier::{Barrier, Head, Keyring, Plain, Row, StoredKey};
use crate::cache::Known;
use crate::error::Error;
use crate::record::Version;
use crate::transaction::{Action, Expect, Operation};

/// What happens to one record.
pub(crate) enum Change {
    /// Nothing: the expectation alone counts.
    Require,
    Put {
        plain: Plain,
        expires: Option<u64>,
    },
    /// What stays in its place remembers the key, so that watchers can be told.
    Delete {
        plain: Plain,
    },
    /// As `Delete`, if the record still has this version and is past its end.
    Expire {
        plain: Plain,
        version: u64,
    },
}

/// One operation, ready to be judged.
pub(crate) struct Prepared {
    pub(crate) key: StoredKey,
    pub(crate) expect: Expect,
    pub(crate) change: Change,
}

impl Prepared {
    pub(crate) fn new(operation: Operation, keyring: &Keyring) -> Self {
        let Operation { key, expect, action } = operation;
        let stored = keyring.stored_key(&key);
        let change = match action {
            Action::Require => Change::Require,
            Action::Put { value, expires } => {
                let expires = expires.map(|end| end.unix_nanos().min(i64::MAX.unsigned_abs()));
                Change::Put { plain: Plain::new(&key, &value), expires }
            }
            Action::Delete => Change::Delete { plain: Plain::new(&key, &[]) },
        };
        Self { key: stored, expect, change }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.change {
            Change::Require => 0,
            Change::Put { plain, .. } | Change::Delete { plain } | Change::Expire { plain, .. } => {
                plain.len()
            }
        }
    }

    /// Whether the judgement depends on what stands there.
    pub(crate) fn looks(&self) -> bool {
        self.expect != Expect::Any || !matches!(self.change, Change::Put { .. })
    }
}

/// A transaction that waits for its commit.
pub(crate) struct Job {
    pub(crate) operations: Vec<Prepared>,
    pub(crate) reply: oneshot::Sender<Result<Version, Error>>,
    /// Its place among those that wait.
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn bytes(&self) -> usize {
        self.operations.iter().map(Prepared::bytes).sum()
    }
}

/// The transactions of one commit, judged one after the other.
pub(crate) struct Group {
    now: Timestamp,
    /// The number of the last transaction that changed something.
    revision: u64,
    generation: u32,
    standing: HashMap<StoredKey, Option<Head>, RandomState>,
    /// The last write of each key: which job, which operation, what head.
    writes: HashMap<StoredKey, (usize, usize, Head), RandomState>,
}

impl Group {
    pub(crate) fn new(revision: u64, generation: u32, now: Timestamp) -> Self {
        Self { now, revision, generation, standing: HashMap::default(), writes: HashMap::default() }
    }

    /// Judges the transaction number `job`: all of it happens or nothing. `look` finds what
    /// stands in the database.
    pub(crate) fn judge(
        &mut self,
        job: usize,
        operations: &[Prepared],
        mut look: impl FnMut(&StoredKey) -> Result<Option<Head>, Error>,
    ) -> Result<Version, Error> {
        for (place, operation) in operations.iter().enumerate() {
            if !operation.looks() {
                continue;
            }
            let head = match self.standing.get(&operation.key) {
                Some(head) => *head,
                None => {
                    let head = look(&operation.key)?;
                    self.standing.insert(operation.key.clone(), head);
                    head
                }
            };
            let present = head.filter(|head| head.is_present(self.now));
            let found = present.map(|head| Version::from_number(head.version));
            let holds = match operation.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::Version(version) => found == Some(version),
            };
            if !holds {
                return Err(Error::Conflict { operation: place, found });
            }
        }
        let version = self.revision + 1;
        let mut changed = false;
        for (place, operation) in operations.iter().enumerate() {
            if let Some(head) = self.head_after(operation, version) {
                self.standing.insert(operation.key.clone(), Some(head));
                self.writes.insert(operation.key.clone(), (job, place, head));
                changed = true;
            }
        }
        if changed {
            self.revision = version;
        }
        Ok(Version::from_number(self.revision))
    }

    /// What the row is after the operation; `None`: it stays.
    fn head_after(&self, operation: &Prepared, version: u64) -> Option<Head> {
        let stands = self.standing.get(&operation.key).copied().flatten().filter(|head| head.live);
        let head = Head { version, expires: None, generation: self.generation, live: false };
        match &operation.change {
            Change::Require => None,
            Change::Put { expires, .. } => Some(Head { expires: *expires, live: true, ..head }),
            Change::Delete { .. } => stands.map(|_| head),
            Change::Expire { version, .. } => {
                stands.filter(|head| head.version == *version && !head.is_present(self.now)).map(|_| head)
            }
        }
    }

    /// The number of the last transaction, after all that were judged.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The keys that change.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &StoredKey> {
        self.writes.keys()
    }

    /// What is known of the keys that change, once all of it is committed.
    pub(crate) fn outcome(&self, jobs: &[Job]) -> impl Iterator<Item = (StoredKey, Known)> {
        self.writes.iter().filter_map(|(key, (job, place, head))| {
            let known = match &jobs.get(*job)?.operations.get(*place)?.change {
                Change::Put { plain, .. } => Known::Record(plain.record(key, *head)?),
                Change::Delete { .. } | Change::Expire { .. } => Known::Absent,
                Change::Require => return None,
            };
            Some((key.clone(), known))
        })
    }

    /// The rows to write, sealed: each key once.
    pub(crate) fn rows(&self, jobs: &[Job], barrier: &Barrier) -> Result<Vec<Row>, Error> {
        let rows = self.writes.iter().filter_map(|(key, (job, place, head))| {
            let operation = jobs.get(*job)?.operations.get(*place)?;
            let plain = match &operation.change {
                Change::Put { plain, .. } | Change::Delete { plain } | Change::Expire { plain, .. } => plain,
                Change::Require => return None,
            };
            Some(barrier.seal(key, *head, plain))
        });
        rows.collect()
    }
}

/// Answers the transactions of a commit: with their outcomes, or all with its fault.
pub(crate) fn answer(jobs: Vec<Job>, outcomes: Vec<Result<Version, Error>>, committed: &Result<(), Error>) {
    let mut outcomes = outcomes.into_iter();
    for job in jobs {
        let outcome = outcomes.next().unwrap_or(Err(Error::Closed));
        // Nobody waits any more when the caller was dropped: it is committed all the same.
        let _ = job.reply.send(match committed {
            Ok(()) => outcome,
            Err(fault) => Err(again(fault)),
        });
    }
}

/// The same fault once more, for each who waited.
fn again(fault: &Error) -> Error {
    match fault {
        Error::Full(text) => Error::Full(text.clone()),
        Error::Corrupt(text) => Error::Corrupt(text.clone()),
        Error::Unknown(text) => Error::Unknown(text.clone()),
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        Error::WrongKey => Error::WrongKey,
        Error::Uninitialised => Error::Uninitialised,
        Error::Closed => Error::Closed,
        Error::Cryptography(what) => Error::Cryptography(what),
        other => Error::Unavailable(other.to_string()),
    }
}
