//! The one thread that writes. Whoever waits while it commits shares the next commit.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use model::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::{Shared, schema};
use crate::barrier::Head;
use crate::cache::Standing;
use crate::error::Error;
use crate::group::{Group, Job, answer};
use crate::limits::{GROUP_BYTES_MAX, GROUP_TRANSACTIONS_MAX};
use crate::record::Version;
use crate::rows::State;

/// How often the writer looks whether another process wrote: until then, what the cache
/// gives may be that old.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) enum Message {
    Commit(Job),
    Task(WriterTask),
}

/// Something to do on the connection that writes. What it gives is called when the cache knows
/// what was done: only then may anybody hear of it.
pub(super) type WriterTask = Box<dyn FnOnce(&mut Connection) -> Box<dyn FnOnce() + Send> + Send>;

pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Message>,
    /// What was taken from the inbox beside a group that was full or at its end.
    next: Option<Message>,
    /// The last revision that this thread wrote or saw.
    revision: u64,
}

impl Writer {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>, inbox: mpsc::Receiver<Message>) -> Self {
        let revision = *shared.revision.borrow();
        Self { connection, shared, inbox, next: None, revision }
    }

    /// Until the store is dropped and everything that waited is done.
    pub(super) fn run(mut self) {
        loop {
            let message = match self.next.take() {
                Some(message) => Ok(message),
                None => self.inbox.recv_timeout(LOOK_EVERY),
            };
            match message {
                Ok(Message::Commit(job)) => {
                    let jobs = self.gather(job);
                    self.commit(jobs);
                }
                Ok(Message::Task(task)) => {
                    let tell = task(&mut self.connection);
                    self.look();
                    tell();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The job and those that wait already, as far as one commit takes them.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.bytes();
        let mut jobs = vec![first];
        while jobs.len() < GROUP_TRANSACTIONS_MAX {
            match self.inbox.try_recv() {
                Ok(Message::Commit(job)) if bytes + job.bytes() <= GROUP_BYTES_MAX => {
                    bytes += job.bytes();
                    jobs.push(job);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        jobs
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        match self.try_commit(&jobs) {
            Ok(outcomes) => answer(jobs, outcomes, &Ok(())),
            Err(fault) => {
                tracing::warn!(%fault, transactions = jobs.len(), "a commit of the store failed");
                answer(jobs, Vec::new(), &Err(fault));
            }
        }
    }

    fn try_commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<Version, Error>>, Error> {
        let Self { connection, shared, revision: seen, .. } = self;
        let barrier = &shared.barrier;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(schema::fault)?;
        let state = schema::state(&transaction)?;
        if state.revision != *seen {
            shared.cache.clear(state.revision);
        }
        // INVARIANT: under the lock of the transaction, what is written is sealed under the
        // generation that the database names, so that no old one comes back after it ended.
        if barrier.keyring().current() != state.generation {
            barrier.take_keyring(&schema::keyring(&transaction)?)?;
        }
        let mut group = Group::new(state.revision, state.generation, shared.clock.now());
        let outcomes = jobs
            .iter()
            .enumerate()
            .map(|(number, job)| {
                group.judge(number, &job.operations, |key| {
                    // Under the lock of the transaction nobody else has written since the cache was
                    // right: what it knows is what stands there.
                    if let Some(standing) = shared.cache.standing(key) {
                        return Ok(head(standing, state.generation));
                    }
                    let row = schema::get(&transaction, key.as_bytes())?;
                    // What decides is what was sealed, not what a column says.
                    row.map(|row| barrier.open(&row).map(|_| row.head)).transpose().map_err(Error::from)
                })
            })
            .collect();
        if group.revision() > state.revision {
            for row in group.rows(jobs, barrier)? {
                schema::put(&transaction, &row)?;
            }
            schema::set_revision(&transaction, group.revision())?;
            shared.cache.writing(group.keys(), group.revision());
        }
        transaction.commit().map_err(schema::commit_fault)?;
        // What is written is mostly read again soon. One thread writes, so nothing newer of
        // this process stands there; what another one writes now is seen when it is looked for.
        for (key, known) in group.outcome(jobs) {
            shared.cache.keep(key, known, group.revision());
        }
        self.publish(State { revision: group.revision(), ..state });
        Ok(outcomes)
    }

    /// Whether somebody else wrote.
    fn look(&mut self) {
        let Ok(state) = schema::state(&self.connection) else { return };
        if state.revision != self.revision {
            self.shared.cache.clear(state.revision);
            self.publish(state);
        }
    }

    fn publish(&mut self, state: State) {
        self.revision = state.revision;
        self.shared.revision.send_if_modified(|revision| {
            let newer = state.revision > *revision;
            *revision = state.revision.max(*revision);
            newer
        });
    }
}

/// What a judgement sees of what stands at a key.
fn head(standing: Standing, generation: u32) -> Option<Head> {
    match standing {
        Standing::Absent => None,
        Standing::Record { version, expires } => {
            let expires = expires.map(Timestamp::unix_nanos);
            Some(Head { version: version.number(), expires, generation, live: true })
        }
    }
}
