//! The task that writes. Whoever waits while it commits shares the next commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;

use super::schema::{self, signed};
use super::session::{self, ANSWER_WITHIN, LOCKED_ANSWER_WITHIN, Session};
use super::{PostgresSettings, Shared};
use crate::barrier::Row;
use crate::error::Error;
use crate::group::{Group, Job, answer};
use crate::limits::{GROUP_BYTES_MAX, GROUP_TRANSACTIONS_MAX};
use crate::record::Version;

/// How long it is tried to find out what became of a commit whose connection broke.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Rows of a group that are looked for to find that out.
const RESOLVED_BY: usize = 64;

pub(super) struct Writer {
    settings: PostgresSettings,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Job>,
    session: Option<Session>,
    /// A job that had no room in the group before.
    next: Option<Job>,
}

/// How a commit failed.
enum Failure {
    /// Nothing was done.
    Undone(Error),
    /// Nothing was done, and the connection is gone.
    Broken(Error),
    /// The connection broke while these rows, some of the group's, were being committed.
    Open { rows: Vec<Row>, why: Error, done: Done },
    /// The same, and what became of it cannot be found out.
    Unknown(Error),
}

/// What callers are told when it was committed.
struct Done {
    outcomes: Vec<Result<Version, Error>>,
    revision: u64,
}

impl Writer {
    pub(super) fn new(
        settings: PostgresSettings,
        shared: Arc<Shared>,
        inbox: mpsc::UnboundedReceiver<Job>,
        session: Session,
    ) -> Self {
        Self { settings, shared, inbox, session: Some(session), next: None }
    }

    /// Until the store is dropped and everything that waited is done.
    pub(super) async fn run(mut self) {
        loop {
            let first = match self.next.take() {
                Some(job) => Some(job),
                None => self.inbox.recv().await,
            };
            let Some(first) = first else { return };
            let jobs = self.gather(first);
            self.commit(jobs).await;
        }
    }

    /// The job and those that wait already, as far as one commit takes them.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.bytes();
        let mut jobs = vec![first];
        while jobs.len() < GROUP_TRANSACTIONS_MAX {
            match self.inbox.try_recv() {
                Ok(job) if bytes + job.bytes() <= GROUP_BYTES_MAX => {
                    bytes += job.bytes();
                    jobs.push(job);
                }
                Ok(job) => {
                    self.next = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        jobs
    }

    async fn commit(&mut self, jobs: Vec<Job>) {
        let mut tried = self.settle(&jobs).await;
        if let Err(Failure::Broken(error)) = tried {
            tracing::debug!(%error, "the connection to the database broke before a commit; it is reopened");
            tried = self.settle(&jobs).await;
        }
        match tried {
            Ok(Done { outcomes, revision }) => {
                self.shared.publish(revision);
                answer(jobs, outcomes, &Ok(()));
            }
            Err(
                Failure::Undone(fault)
                | Failure::Broken(fault)
                | Failure::Unknown(fault)
                | Failure::Open { why: fault, .. },
            ) => {
                tracing::warn!(%fault, transactions = jobs.len(), "a commit of the store failed");
                answer(jobs, Vec::new(), &Err(fault));
            }
        }
    }

    /// Tries, and finds out what became of it.
    async fn settle(&mut self, jobs: &[Job]) -> Result<Done, Failure> {
        match self.try_commit(jobs).await {
            Err(Failure::Open { rows, why, done }) => {
                self.resolve(&rows, done.revision, why).await.map(|()| done)
            }
            tried => tried,
        }
    }

    async fn try_commit(&mut self, jobs: &[Job]) -> Result<Done, Failure> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            self.session = Some(Session::start(&self.settings).await.map_err(Failure::Undone)?);
        }
        let Some(session) = &self.session else { return Err(Failure::Undone(Error::Closed)) };
        let judged = match session::within(LOCKED_ANSWER_WITHIN, self.judge(session, jobs)).await {
            Ok(judged) => judged,
            // The server has not been asked to commit: what it began ends with the connection.
            Err(silent) => {
                self.session = None;
                return Err(Failure::Undone(silent));
            }
        };
        let written = match judged {
            Ok(begun) if begun.rows.is_empty() => Ok(begun.done),
            Ok(begun) => match write(session, begun).await {
                Ok(done) => return Ok(done),
                failed => failed,
            },
            Err(error) => Err(Failure::Undone(error)),
        };
        if let Err(Failure::Open { .. }) = written {
            return written;
        }
        match session::within(ANSWER_WITHIN, session.client.batch_execute("ROLLBACK")).await {
            Ok(Ok(())) => written,
            Err(silent) => {
                self.session = None;
                Err(Failure::Undone(silent))
            }
            // Whether or not the client has seen yet that it is closed.
            Ok(Err(error)) => {
                self.session = None;
                Err(Failure::Broken(match written {
                    Err(Failure::Undone(why)) => why,
                    _ => schema::fault(&error),
                }))
            }
        }
    }

    /// Begins the transaction, takes its turn and judges the jobs.
    async fn judge(&self, session: &Session, jobs: &[Job]) -> Result<Begun, Error> {
        let wrong = |error: tokio_postgres::Error| schema::fault(&error);
        let (client, statements) = (&session.client, &session.statements);
        let looked: Vec<&[u8]> = jobs
            .iter()
            .flat_map(|job| &job.operations)
            .filter(|operation| operation.looks())
            .map(|operation| operation.key.as_bytes())
            .collect();
        // All three are on their way before the first is answered. What is read is read
        // after the lock was had: each statement sees what was committed before it began.
        let (begun, locked, found) =
            tokio::join!(client.batch_execute("BEGIN"), client.query_opt(&statements.lock, &[]), async {
                match looked.is_empty() {
                    true => Ok(Vec::new()),
                    false => client.query(&statements.get_many, &[&looked]).await,
                }
            },);
        begun.map_err(wrong)?;
        let locked = locked.map_err(wrong)?.ok_or(Error::Uninitialised)?;
        let state = schema::read_state(&locked)?;
        let barrier = &self.shared.barrier;
        // INVARIANT: under the lock, what is written is sealed under the generation that
        // the database names, so that no old one comes back after it ended.
        if barrier.keyring().current() != state.generation {
            barrier.take_keyring(&schema::keyring(client).await?)?;
        }
        let mut group = Group::new(state.revision, state.generation, self.shared.clock.now());
        let found = schema::read_rows(&found.map_err(wrong)?)?;
        let found: std::collections::HashMap<&[u8], &Row> =
            found.iter().map(|row| (row.key.as_bytes(), row)).collect();
        let outcomes = jobs.iter().enumerate().map(|(number, job)| {
            group.judge(number, &job.operations, |key| {
                // What decides is what was sealed, not what a column says.
                let row = found.get(key.as_bytes());
                row.map(|row| barrier.open(row).map(|_| row.head)).transpose().map_err(Error::from)
            })
        });
        let outcomes = outcomes.collect();
        let rows = group.rows(jobs, barrier)?;
        Ok(Begun { rows, done: Done { outcomes, revision: group.revision() } })
    }

    /// Finds out what became of a commit: whether its rows are there.
    async fn resolve(&mut self, rows: &[Row], revision: u64, why: Error) -> Result<(), Failure> {
        self.session = None;
        let unknown = || Failure::Unknown(Error::Unknown(why.to_string()));
        let asking = async {
            loop {
                match outcome(&self.settings, rows, revision).await {
                    Ok(Outcome::Committed) => return Ok(()),
                    Ok(Outcome::Undone) => return Err(Failure::Broken(Error::Unavailable(why.to_string()))),
                    Ok(Outcome::Unknown) => return Err(unknown()),
                    Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                }
            }
        };
        match tokio::time::timeout(RESOLVE_WITHIN, asking).await {
            Ok(settled) => settled,
            Err(_) => Err(unknown()),
        }
    }
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Committed,
    Undone,
    /// What would tell is gone.
    Unknown,
}

impl Outcome {
    /// From what stands in the place of some rows, once no commit is under way: `revision` is the last
    /// of the commit's, `reached` the one that the database has.
    ///
    /// Not by the number of the transaction: a server that lost it in a crash gives the number
    /// out again, and its next transaction is somebody else's. What is sealed is sealed with a nonce
    /// of its own.
    fn of(rows: &[Row], revision: u64, found: &[Row], reached: u64) -> Self {
        if reached < revision {
            return Self::Undone;
        }
        let mut outcome = Self::Unknown;
        for row in rows {
            // Deleted for good since, or never there.
            let Some(there) = found.iter().find(|there| there.key.as_bytes() == row.key.as_bytes()) else {
                continue;
            };
            if there.sealed == row.sealed {
                return Self::Committed;
            }
            let (one, other) = (there.head.version, row.head.version);
            // Before it, or in its place; what was sealed anew since is of another generation.
            if one < other || (one == other && there.head.generation == row.head.generation) {
                outcome = Self::Undone;
            }
        }
        outcome
    }
}

/// Looks for rows of a commit whose connection broke. The lock is had when nobody commits: neither
/// the server's end of that connection nor another process.
async fn outcome(settings: &PostgresSettings, rows: &[Row], revision: u64) -> Result<Outcome, Error> {
    let wrong = |error: tokio_postgres::Error| schema::fault(&error);
    let Session { client, statements, .. } = Session::start_where_it_answered(settings).await?;
    let keys: Vec<&[u8]> = rows.iter().map(|row| row.key.as_bytes()).collect();
    client.batch_execute("BEGIN").await.map_err(wrong)?;
    let locked = client.query_opt(&statements.lock, &[]).await.map_err(wrong)?.ok_or(Error::Uninitialised)?;
    let found = schema::read_rows(&client.query(&statements.get_many, &[&keys]).await.map_err(wrong)?)?;
    client.batch_execute("ROLLBACK").await.map_err(wrong)?;
    Ok(Outcome::of(rows, revision, &found, schema::read_state(&locked)?.revision))
}

/// A transaction that was judged and waits to be written.
struct Begun {
    rows: Vec<Row>,
    done: Done,
}

/// Writes the rows, tells of them and commits, all on their way at once.
async fn write(session: &Session, begun: Begun) -> Result<Done, Failure> {
    let Begun { mut rows, done } = begun;
    let (client, statements) = (&session.client, &session.statements);
    let columns = Columns::of(&rows);
    let (values, revision) = (columns.values(), signed(done.revision));
    let set_values: [&(dyn ToSql + Sync); 1] = [&revision];
    let notice = done.revision.to_string();
    let notify_values: [&(dyn ToSql + Sync); 2] = [&schema::CHANNEL, &notice];
    let writing = async {
        tokio::join!(
            biased;
            client.execute(&statements.put, &values),
            client.execute(&statements.set_revision, &set_values),
            client.execute(&statements.notify, &notify_values),
            client.batch_execute("COMMIT"),
        )
    };
    let (put, set, told, committed) = match session::within(ANSWER_WITHIN, writing).await {
        Ok(answers) => answers,
        // As where the connection broke: it may be done.
        Err(why) => {
            rows.truncate(RESOLVED_BY);
            return Err(Failure::Open { rows, why, done });
        }
    };
    // A statement that the server refused has undone the transaction, whatever COMMIT says.
    let refused = [put.as_ref().err(), set.as_ref().err(), told.as_ref().err(), committed.as_ref().err()];
    if let Some(error) = refused.iter().flatten().find(|error| error.as_db_error().is_some_and(undoes)) {
        return Err(Failure::Undone(schema::fault(error)));
    }
    match refused.into_iter().flatten().next() {
        None => Ok(done),
        Some(error) => {
            let why = schema::fault(error);
            rows.truncate(RESOLVED_BY);
            Err(Failure::Open { rows, why, done })
        }
    }
}

/// Whether the server has undone the transaction when it says this. When it says that it
/// ends, it may have committed before.
fn undoes(told: &tokio_postgres::error::DbError) -> bool {
    told.parsed_severity() == Some(tokio_postgres::error::Severity::Error)
}

/// Rows by column, as `unnest` takes them.
pub(super) struct Columns<'a> {
    keys: Vec<&'a [u8]>,
    versions: Vec<i64>,
    expires: Vec<Option<i64>>,
    generations: Vec<i64>,
    live: Vec<bool>,
    sealed: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(rows: &'a [Row]) -> Self {
        Self {
            keys: rows.iter().map(|row| row.key.as_bytes()).collect(),
            versions: rows.iter().map(|row| signed(row.head.version)).collect(),
            expires: rows.iter().map(|row| row.head.expires.map(signed)).collect(),
            generations: rows.iter().map(|row| i64::from(row.head.generation)).collect(),
            live: rows.iter().map(|row| row.head.live).collect(),
            sealed: rows.iter().map(|row| row.sealed.as_slice()).collect(),
        }
    }

    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 6] {
        [&self.keys, &self.versions, &self.expires, &self.generations, &self.live, &self.sealed]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barrier::{Head, StoredKey};

    fn row(key: &str, version: u64, generation: u32, sealed: &str) -> Row {
        let head = Head { version, expires: None, generation, live: true };
        Row { key: StoredKey::from_bytes(key.as_bytes().to_vec()), head, sealed: sealed.as_bytes().to_vec() }
    }

    #[test]
    fn what_became_of_a_commit_is_told_by_what_stands_there() {
        let ours = [row("a", 7, 1, "one"), row("b", 8, 1, "two")];
        for (found, reached, outcome) in [
            (vec![row("a", 7, 1, "one"), row("b", 8, 1, "two")], 8, Outcome::Committed),
            // Another has written over one of them since, or moved both to another generation.
            (vec![row("a", 9, 1, "other"), row("b", 8, 1, "two")], 9, Outcome::Committed),
            (vec![row("a", 7, 2, "anew"), row("b", 8, 2, "anew")], 9, Outcome::Unknown),
            (vec![row("a", 9, 1, "other"), row("b", 10, 1, "other")], 10, Outcome::Unknown),
            (vec![], 12, Outcome::Unknown),
            // Nobody came so far.
            (vec![], 6, Outcome::Undone),
            (vec![row("a", 3, 1, "before")], 7, Outcome::Undone),
            // Another has taken the numbers.
            (vec![row("a", 3, 1, "before"), row("b", 8, 1, "other")], 8, Outcome::Undone),
            (vec![row("a", 3, 1, "before"), row("b", 11, 1, "other")], 11, Outcome::Undone),
            (vec![row("a", 7, 1, "other")], 9, Outcome::Undone),
        ] {
            let told = Outcome::of(&ours, 8, &found, reached);
            assert_eq!(
                told,
                outcome,
                "{reached}: {:?}",
                found.iter().map(|row| row.head).collect::<Vec<_>>()
            );
        }
    }
}
