//! The store of this process: opened with the key that the configuration names, or once
//! enough shares of it came in, and kept in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use model::Clock;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use store::{CacheLimits, PostgresSettings, Store, UnsealKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::unseal::{SocketFile, UnsealSocket};
use crate::cli::check::environment;
use crate::config::{Database, Storage, Unseal};

/// How often what is past its end is removed, and a re-encryption goes on.
const MAINTAIN_EVERY: Duration = Duration::from_secs(30);
/// How long the start tries to reach a database that does not answer.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The store of a running process. Dropped, its tasks end.
#[derive(Debug)]
pub struct RunningStore {
    opened: watch::Receiver<Option<Store>>,
    /// Of a process that waits for shares.
    file: Option<SocketFile>,
    task: JoinHandle<()>,
}

impl RunningStore {
    /// Opens the store with a key of this machine, or waits in the background for shares, which
    /// are brought once it is published.
    ///
    /// # Errors
    /// The key cannot be read or is wrong, or the database cannot be used.
    pub async fn start(storage: &Storage, state: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (opening, opened) = watch::channel(None);
        let mut file = None;
        let task = match local_key(&storage.unseal)? {
            Some(key) => {
                let store = open_within(&storage.database, key, clock).await?;
                opening.send_replace(Some(store.clone()));
                tokio::spawn(maintain(store))
            }
            None => {
                anyhow::ensure!(is_initialised(&storage.database).await?, "{}", store::Error::Uninitialised);
                let (socket, its_file) = UnsealSocket::listen(state)?;
                file = Some(its_file);
                tracing::warn!("the store is sealed: give shares of its key with `bastide unseal`");
                let database = storage.database.clone();
                tokio::spawn(async move {
                    let opened = socket.open(|key| open(&database, key, Arc::clone(&clock))).await;
                    tracing::info!("the store is unsealed");
                    opening.send_replace(Some(opened.clone()));
                    maintain(opened).await;
                })
            }
        };
        Ok(Self { opened, file, task })
    }

    /// Takes the place of the socket for shares.
    ///
    /// # Errors
    /// What the system said.
    pub fn publish(&self) -> anyhow::Result<()> {
        self.file.as_ref().map_or(Ok(()), SocketFile::publish)
    }

    /// Leaves that place to whoever succeeds this process.
    pub fn leave(&self) {
        if let Some(file) = &self.file {
            file.leave();
        }
    }

    /// The store; `None` while it is sealed.
    pub fn store(&self) -> Option<Store> {
        self.opened.borrow().clone()
    }

    /// The store, once it is unsealed; `None`: the process ends.
    pub async fn opened(&self) -> Option<Store> {
        let mut opened = self.opened.clone();
        opened.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn maintain(store: Store) {
    let mut every = tokio::time::interval(MAINTAIN_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match store.maintain().await {
            Ok(Some(done)) if done != store::Maintained::default() => {
                let store::Maintained { expired, forgotten, reencrypted } = done;
                tracing::debug!(expired, forgotten, reencrypted, "the store is kept in order");
            }
            Ok(_) => {}
            Err(fault) => tracing::error!(%fault, "the store cannot be kept in order"),
        }
    }
}

/// The unseal key, where this machine has it; `None`: people have shares of it.
///
/// # Errors
/// It cannot be read, or others can read it.
pub fn local_key(unseal: &Unseal) -> anyhow::Result<Option<UnsealKey>> {
    match unseal {
        Unseal::KeyFile(path) => {
            let owner = rustix::process::geteuid().as_raw();
            let key = UnsealKey::read_file(path, owner);
            Ok(Some(key.map_err(|error| match error {
                store::Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    anyhow::anyhow!(
                        "{}: there is no unseal key: put back the copy of that of the store, \
                         or make a new store and its key with `bastide init`",
                        path.display()
                    )
                }
                other => other.into(),
            })?))
        }
        Unseal::Environment(name) => {
            let text = environment(name)
                .with_context(|| format!("the environment has no {name}, the unseal key"))?;
            Ok(Some(UnsealKey::parse(&zeroize::Zeroizing::new(text), name)?))
        }
        Unseal::Shares => Ok(None),
    }
}

/// Opens the store.
///
/// # Errors
/// As [`Store::open_sqlite`] and [`Store::open_postgres`].
pub async fn open(database: &Database, key: UnsealKey, clock: Arc<dyn Clock>) -> Result<Store, store::Error> {
    match database {
        Database::Sqlite(path) => Store::open_sqlite(path, key, clock, CacheLimits::default()),
        Database::Postgres { .. } => {
            let settings = postgres_settings(database).map_err(store::Error::Settings)?;
            Store::open_postgres(&settings, key, clock).await
        }
    }
}

/// Opens it, and waits for a database that starts at the same time.
async fn open_within(database: &Database, key: UnsealKey, clock: Arc<dyn Clock>) -> anyhow::Result<Store> {
    let text = key.to_text();
    let open = || async {
        let key = UnsealKey::parse(&text, "the unseal key")?;
        open(database, key, Arc::clone(&clock)).await
    };
    patiently(OPEN_WITHIN, open).await.with_context(|| place(database))
}

/// Tries until something else comes of it than that the database is unavailable, at most for so
/// long; then that is the error, with its last reason.
async fn patiently<T, Trying: Future<Output = Result<T, store::Error>>>(
    time: Duration,
    attempt: impl Fn() -> Trying,
) -> anyhow::Result<T> {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Err(store::Error::Unavailable(why)) => {
                    tracing::warn!("the store cannot be opened yet: {why}");
                    last = Some(why);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                opened => return opened,
            }
        }
    };
    match tokio::time::timeout(time, trying).await {
        Ok(opened) => Ok(opened?),
        Err(_) => {
            let last = last.unwrap_or_else(|| "no answer".to_owned());
            anyhow::bail!("cannot be used since {} s: {last}", time.as_secs())
        }
    }
}

/// Whether there is a store.
///
/// # Errors
/// The database cannot be reached.
pub async fn is_initialised(database: &Database) -> anyhow::Result<bool> {
    let there = match database {
        Database::Sqlite(path) => Store::is_initialised_sqlite(path),
        Database::Postgres { .. } => {
            let settings = postgres_settings(database).map_err(store::Error::Settings)?;
            Store::is_initialised_postgres(&settings).await
        }
    };
    there.with_context(|| place(database))
}

/// Makes a store.
///
/// # Errors
/// There is one, or the database cannot be used.
pub async fn initialise(database: &Database, key: &UnsealKey) -> anyhow::Result<()> {
    let made = match database {
        Database::Sqlite(path) => Store::initialise_sqlite(path, key),
        Database::Postgres { .. } => {
            let settings = postgres_settings(database).map_err(store::Error::Settings)?;
            Store::initialise_postgres(&settings, key).await
        }
    };
    made.with_context(|| place(database))
}

/// Where the store is, for people; without a password.
pub fn place(database: &Database) -> String {
    match database {
        Database::Sqlite(path) => path.display().to_string(),
        Database::Postgres { .. } => match postgres_settings(database) {
            Ok(settings) => format!("`storage:`: {}", settings.place()),
            Err(_) => "the PostgreSQL database of `storage:`".to_owned(),
        },
    }
}

/// The connection to a PostgreSQL database.
///
/// # Errors
/// What of the connection string or the certificates cannot be used, without showing them.
pub fn postgres_settings(database: &Database) -> Result<PostgresSettings, String> {
    let Database::Postgres { url, ca, danger_cleartext } = database else {
        return Err("the store is no PostgreSQL database".to_owned());
    };
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some((path, pem)) = ca {
        roots = rustls::RootCertStore::empty();
        let wrong = |why: String| format!("{}: {why}", path.display());
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("expected PEM certificates, found none".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    PostgresSettings::new(url, tls, *danger_cleartext).map_err(|error| error.to_string())
}

/// The socket on which a sealed process takes shares.
pub fn unseal_socket(state: &Path) -> PathBuf {
    state.join("unseal.sock")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use store::Error;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_by_waiting_is_waited_for_and_its_last_reason_is_kept() {
        let attempts = Cell::new(0);
        let starting = || async {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1 | 2 => Err(Error::Unavailable("starting".to_owned())),
                _ => Ok(attempts.get()),
            }
        };
        assert_eq!(patiently(OPEN_WITHIN, starting).await.unwrap(), 3);
        let never = || async { Err::<(), _>(Error::Unavailable("57P03: starting up".to_owned())) };
        let why = patiently(OPEN_WITHIN, never).await.unwrap_err().to_string();
        assert!(why.contains("30 s") && why.contains("57P03: starting up"), "{why}");
        attempts.set(0);
        let refused = || async {
            attempts.set(attempts.get() + 1);
            Err::<(), _>(Error::Settings("28P01: password authentication failed".to_owned()))
        };
        let why = patiently(OPEN_WITHIN, refused).await.unwrap_err().to_string();
        assert!(why.contains("28P01") && attempts.get() == 1, "{why} {attempts:?}");
    }
}
