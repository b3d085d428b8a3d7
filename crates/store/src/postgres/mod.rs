//! PostgreSQL: the store of several processes on several machines.
//!
//! Each process has one task that writes, in groups; all take turns at one row, so that
//! versions come in the order of commits. What changed is told by `NOTIFY`, which may get
//! lost: each process asks for the last version besides.

/// A query for rows.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT key, version, expires, generation, live, sealed FROM bastide.store_record ", $rest)
    };
}

mod listener;
mod maintenance;
mod place;
mod schema;
mod session;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use model::Clock;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row as SqlRow, Statement};

pub use session::PostgresSettings;

use crate::barrier::{Barrier, Keyring, Row, StoredKey};
use crate::error::Error;
use crate::group::{Job, Prepared};
use crate::limits::WAITING_TRANSACTIONS_MAX;
use crate::record::Version;
use crate::rows::{Changes, Range};
use crate::unseal::UnsealKey;
use schema::{Statements, signed};
use session::{Dialled, Line, Session};

/// Connections that read.
const LINES: usize = 2;

/// A store in a database.
pub(crate) struct Postgres {
    settings: PostgresSettings,
    shared: Arc<Shared>,
    writer: mpsc::UnboundedSender<Job>,
    waiting: Arc<Semaphore>,
    lines: [Line; LINES],
    turn: AtomicBool,
    /// For what takes a transaction of its own, or reads much, and is not in a hurry.
    maintenance: Mutex<Option<Dialled>>,
}

/// What the tasks share.
struct Shared {
    barrier: Arc<Barrier>,
    clock: Arc<dyn Clock>,
    /// The last revision that can be read.
    revision: watch::Sender<u64>,
    /// Why the database does not answer, as whoever listens finds.
    fault: std::sync::Mutex<Option<String>>,
}

impl Shared {
    /// Notes whether the database answers, and says so when that changes.
    fn found(&self, fault: Option<&Error>) {
        let mut held = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (held.is_some(), fault) {
            (false, Some(error)) => {
                tracing::warn!(%error, "the database does not answer; it is tried again until it does")
            }
            (true, None) => tracing::info!("the database answers again"),
            _ => {}
        }
        *held = fault.map(ToString::to_string);
    }

    fn publish(&self, revision: u64) {
        self.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
    }
}

/// Makes the tables of a new store.
pub(crate) async fn initialise(settings: &PostgresSettings, unseal_key: &UnsealKey) -> Result<(), Error> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let keyring = Keyring::generate(&random)?;
    let sealed = keyring.seal(unseal_key, &random)?;
    let mut client = session::connect(settings, None).await?;
    let migrating = schema::migrate(&mut client, Some((&sealed, keyring.current())));
    session::within(session::SLOW_ANSWER_WITHIN, migrating).await?
}

/// Whether there is a store in this database.
pub(crate) async fn is_initialised(settings: &PostgresSettings) -> Result<bool, Error> {
    let client = session::connect(settings, None).await?;
    Ok(session::within(session::ANSWER_WITHIN, schema::format(&client)).await?? > 0)
}

impl Postgres {
    pub(crate) async fn open(
        settings: PostgresSettings,
        unseal_key: UnsealKey,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Arc<Barrier>), Error> {
        let mut client = session::connect(&settings, None).await?;
        session::within(session::SLOW_ANSWER_WITHIN, schema::migrate(&mut client, None)).await??;
        session::within(session::ANSWER_WITHIN, durable(&client)).await??;
        let keyring = session::within(session::ANSWER_WITHIN, schema::keyring(&client)).await??;
        let keyring = Keyring::open(&keyring, &unseal_key)?;
        let first = Session::start(&settings).await?;
        let asking = first.client.query_one(&first.statements.state, &[]);
        let state = session::within(session::ANSWER_WITHIN, asking).await?;
        let state = schema::read_state(&state.map_err(|error| schema::fault(&error))?)?;
        state.check_keyring(&keyring)?;
        let barrier = Arc::new(Barrier::new(unseal_key, keyring));
        let revision = watch::Sender::new(state.revision);
        let shared =
            Arc::new(Shared { barrier: Arc::clone(&barrier), clock, revision, fault: Default::default() });
        let (writer, inbox) = mpsc::unbounded_channel();
        tokio::spawn(writer::Writer::new(settings.clone(), Arc::clone(&shared), inbox, first).run());
        tokio::spawn(listener::listen(settings.clone(), Arc::downgrade(&shared)));
        let lines = std::array::from_fn(|_| Line::new(settings.clone()));
        let waiting = Arc::new(Semaphore::new(WAITING_TRANSACTIONS_MAX));
        let maintenance = Mutex::new(Some(client));
        let turn = AtomicBool::new(false);
        Ok((Self { settings, shared, writer, waiting, lines, turn, maintenance }, barrier))
    }

    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    pub(crate) async fn commit(&self, operations: Vec<Prepared>) -> Result<Version, Error> {
        let permit = Arc::clone(&self.waiting).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Job { operations, reply, _permit: permit };
        self.writer.send(job).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    pub(crate) async fn row(&self, key: StoredKey) -> Result<Option<Row>, Error> {
        let rows = self.query(|all| &all.get, &[&key.as_bytes()]).await?;
        rows.first().map(schema::read_row).transpose()
    }

    pub(crate) async fn range(&self, range: Range, now: u64, limit: usize) -> Result<Vec<Row>, Error> {
        let (upper, now, limit) = (range.upper(), signed(now), rows_max(limit));
        let values: [&(dyn ToSql + Sync); 4] = [&range.from, &upper, &now, &limit];
        schema::read_rows(&self.query(|all| &all.range, &values).await?)
    }

    pub(crate) async fn changes(&self, range: Range, since: u64, limit: usize) -> Result<Changes, Error> {
        let (upper, since, limit) = (range.upper(), signed(since), rows_max(limit));
        let values: [&(dyn ToSql + Sync); 4] = [&since, &range.from, &upper, &limit];
        schema::read_changes(&self.query(|all| &all.changes, &values).await?)
    }

    pub(crate) async fn keyring(&self) -> Result<Vec<u8>, Error> {
        let rows = self.query(|all| &all.keyring, &[]).await?;
        schema::read_keyring(rows.first())
    }

    /// Asks over a connection that several share; over a new one where it broke meanwhile.
    async fn query(&self, ask: Ask, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<SqlRow>, Error> {
        // Boxed: what asks is deep inside of others already.
        Box::pin(self.query_line(ask, values)).await
    }

    async fn query_line(&self, ask: Ask, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<SqlRow>, Error> {
        let line = self.line();
        let session = line.session().await?;
        match in_time(line, &session, ask, values).await? {
            Err(error) if schema::ends(&error, &session.client) => {
                tracing::debug!(%error, "a connection to the database broke; a new one is made");
                let session = line.instead_of(&session).await?;
                in_time(line, &session, ask, values).await?.map_err(|error| schema::fault(&error))
            }
            asked => asked.map_err(|error| schema::fault(&error)),
        }
    }

    /// Why the database does not answer, as far as was heard; `None`: it does.
    pub(crate) fn fault(&self) -> Option<String> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines take turns.
    fn line(&self) -> &Line {
        let [first, second] = &self.lines;
        match self.turn.fetch_xor(true, Ordering::Relaxed) {
            true => first,
            false => second,
        }
    }
}

/// A question over a connection that several share: one whose answer is soon there, for whoever asks
/// after it waits for it.
type Ask = fn(&Statements) -> &Statement;

/// Asks, and gives the connection up on which no answer comes.
async fn in_time(
    line: &Line,
    session: &Arc<Session>,
    ask: Ask,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Result<Vec<SqlRow>, tokio_postgres::Error>, Error> {
    let asking = session.client.query(ask(&session.statements), values);
    let answered = session::within(session::ANSWER_WITHIN, asking).await;
    if answered.is_err() {
        line.give_up(session);
    }
    answered
}

/// Refuses a server that says a commit is durable when it is not.
async fn durable(client: &Client) -> Result<(), Error> {
    let row = client.query_one("SELECT current_setting('fsync') = 'on'", &[]).await;
    match row.and_then(|row| row.try_get(0)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Settings(
            "the server runs with fsync = off: it would lose what it acknowledged; switch it on".to_owned(),
        )),
        Err(error) => Err(schema::fault(&error)),
    }
}

fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
