//! The task that writes. Whoever waits while it commits shares the next commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;

use super::schema::{self, signed};
use super::session::{self, Session};
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
    /// The connection broke while transaction `transaction` was being committed.
    Open { transaction: String, why: Error, done: Done },
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
            Err(Failure::Open { transaction, why, done }) => {
                self.resolve(&transaction, why).await.map(|()| done)
            }
            tried => tried,
        }
    }

    async fn try_commit(&mut self, jobs: &[Job]) -> Result<Done, Failure> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            self.session = Some(Session::start(&self.settings, None).await.map_err(Failure::Undone)?);
        }
        let Some(session) = &self.session else { return Err(Failure::Undone(Error::Closed)) };
        let written = match self.judge(session, jobs).await {
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
        match session.client.batch_execute("ROLLBACK").await {
            Ok(()) => written,
            // Whether or not the client has seen yet that it is closed.
            Err(error) => {
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
        let transaction = schema::read_transaction(&locked)?;
        Ok(Begun { rows, transaction, done: Done { outcomes, revision: group.revision() } })
    }

    /// Finds out what became of a transaction.
    async fn resolve(&mut self, transaction: &str, why: Error) -> Result<(), Failure> {
        self.session = None;
        let unknown = || Failure::Unknown(Error::Unknown(why.to_string()));
        let asking = async {
            loop {
                match status(&self.settings, transaction).await.as_deref() {
                    Ok("committed") => return Ok(()),
                    Ok("aborted") => return Err(Failure::Broken(Error::Unavailable(why.to_string()))),
                    Ok("in progress") | Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                    Ok(_) => return Err(unknown()),
                }
            }
        };
        match tokio::time::timeout(RESOLVE_WITHIN, asking).await {
            Ok(settled) => settled,
            Err(_) => Err(unknown()),
        }
    }
}

/// A transaction that was judged and waits to be written.
struct Begun {
    rows: Vec<Row>,
    transaction: String,
    done: Done,
}

/// Writes the rows, tells of them and commits, all on their way at once.
async fn write(session: &Session, begun: Begun) -> Result<Done, Failure> {
    let Begun { rows, transaction, done } = begun;
    let (client, statements) = (&session.client, &session.statements);
    let columns = Columns::of(&rows);
    let (values, revision) = (columns.values(), signed(done.revision));
    let set_values: [&(dyn ToSql + Sync); 1] = [&revision];
    let notice = done.revision.to_string();
    let notify_values: [&(dyn ToSql + Sync); 2] = [&schema::CHANNEL, &notice];
    let (put, set, told, committed) = tokio::join!(
        biased;
        client.execute(&statements.put, &values),
        client.execute(&statements.set_revision, &set_values),
        client.execute(&statements.notify, &notify_values),
        client.batch_execute("COMMIT"),
    );
    // A statement that the server refused has undone the transaction, whatever COMMIT says.
    let refused = [put.as_ref().err(), set.as_ref().err(), told.as_ref().err(), committed.as_ref().err()];
    if let Some(error) = refused.iter().flatten().find(|error| error.as_db_error().is_some_and(undoes)) {
        return Err(Failure::Undone(schema::fault(error)));
    }
    match refused.into_iter().flatten().next() {
        None => Ok(done),
        Some(error) => Err(Failure::Open { transaction, why: schema::fault(error), done }),
    }
}

/// Whether the server has undone the transaction when it says this. When it says that it
/// ends, it may have committed before.
fn undoes(told: &tokio_postgres::error::DbError) -> bool {
    told.parsed_severity() == Some(tokio_postgres::error::Severity::Error)
}

async fn status(settings: &PostgresSettings, transaction: &str) -> Result<String, Error> {
    let client = session::connect(settings, None).await?;
    let asked = client.query_one("SELECT pg_xact_status($1::text::xid8)", &[&transaction]).await;
    let row = asked.map_err(|error| schema::fault(&error))?;
    let status: Option<String> = row.try_get(0).map_err(|error| schema::fault(&error))?;
    Ok(status.unwrap_or_else(|| "forgotten".to_owned()))
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
