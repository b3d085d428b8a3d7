//! One connection: dialled, set up, driven, and dialled again when it broke.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::schema::{self, Statements};
use crate::error::Error;

/// Where PostgreSQL listens unless it is told otherwise.
const PORT: u16 = 5432;
/// How long a connection to one host may take, until it can be used.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take to what waits for nobody. A server that is frozen, or a network
/// that swallows everything, ends no connection by itself.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The same for what waits for the lock of another: longer than the server lets it wait.
pub(super) const LOCKED_ANSWER_WITHIN: Duration = Duration::from_secs(12);
/// The same for what reads much: longer than the server lets a statement take.
pub(super) const SLOW_ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// How long a connection has to say goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Where the database is, and how it is reached.
#[derive(Clone)]
pub struct PostgresSettings {
    config: Config,
    tls: rustls::ClientConfig,
}

impl PostgresSettings {
    /// From a connection string (`postgresql://user:password@host/database` or the form
    /// `host=… user=…` of libpq), and what TLS to the server is verified with.
    ///
    /// The connection is encrypted, except over a Unix socket, to a loopback address, or
    /// with `sslmode=disable` where `danger_cleartext` allows it.
    ///
    /// # Errors
    /// [`Error::Settings`]. The password is not in it.
    pub fn new(text: &str, tls: rustls::ClientConfig, danger_cleartext: bool) -> Result<Self, Error> {
        // What the parser says may hold a piece of the text.
        let mut config: Config = text.parse().map_err(|_| {
            Error::Settings(
                "this is no connection string: expected postgresql://user:password@host/database".to_owned(),
            )
        })?;
        let local = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost"
                    || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::Settings("the connection string names no host".to_owned()));
        }
        let all_local = config.get_hosts().iter().all(local)
            && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        match (config.get_ssl_mode(), all_local) {
            (SslMode::Disable, false) if !danger_cleartext => {
                return Err(Error::Settings(
                    "sslmode=disable to another machine: records are sealed, but passwords and times are not"
                        .to_owned(),
                ));
            }
            (SslMode::Prefer, false) => {
                config.ssl_mode(SslMode::Require);
            }
            _ => {}
        }
        config.connect_timeout(CONNECT_WITHIN);
        config.tcp_user_timeout(Duration::from_secs(15));
        config.application_name("bastide");
        Ok(Self { config, tls })
    }

    /// Which database it is, for people; without a password.
    pub fn place(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}, port {port}", path.display()),
            }
        });
        let hosts: Vec<String> = hosts.collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("PostgreSQL database \"{database}\" at {}", hosts.join(", "))
    }

    fn connect_within(&self) -> Duration {
        let hosts = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        CONNECT_WITHIN * u32::try_from(hosts.max(1)).unwrap_or(u32::MAX)
    }
}

/// The answer, or that none came in time: then the connection is good for nothing more, and the
/// caller drops it.
pub(super) async fn within<T>(time: Duration, answer: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(time, answer).await.map_err(|_| unanswered(time))
}

fn unanswered(time: Duration) -> Error {
    Error::Unavailable(format!("no answer within {} s", time.as_secs()))
}

/// What a refused connection means. A wrong password or a database that is not there stays so,
/// however often it is tried.
fn refused(error: &tokio_postgres::Error) -> Error {
    let fault = schema::fault(error);
    let finally = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    match (error.code(), fault) {
        (Some(code), Error::Unavailable(why)) if finally.contains(code) => {
            Error::Settings(format!("the server refuses the connection: {why}"))
        }
        // Without a password where one is asked for, and the like: nothing of the network.
        (None, Error::Unavailable(why)) if why.starts_with("invalid configuration") => Error::Settings(why),
        (_, fault) => fault,
    }
}

/// A client, and the task that drives its connection: dropped, that ends soon, whether or not the
/// server hears of it.
pub(super) struct Dialled {
    client: Client,
    _held: oneshot::Sender<()>,
}

impl Deref for Dialled {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Dialled {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// One connection and its statements.
pub(super) struct Session {
    pub(super) client: Dialled,
    pub(super) statements: Statements,
}

impl Session {
    pub(super) async fn start(
        settings: &PostgresSettings,
        notices: Option<mpsc::UnboundedSender<u64>>,
    ) -> Result<Self, Error> {
        let start = async {
            let client = dial(settings, notices).await?;
            let statements = Statements::prepare(&client).await?;
            Ok(Self { client, statements })
        };
        within(settings.connect_within(), start).await?
    }
}

/// Dials and sets up. A task drives the connection until it ends; the last client of it
/// ends it. `notices` gets the numbers that are told in the channel.
pub(super) async fn connect(
    settings: &PostgresSettings,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    within(settings.connect_within(), dial(settings, notices)).await?
}

async fn dial(
    settings: &PostgresSettings,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    let tls = MakeRustlsConnect::new(settings.tls.clone());
    let (client, mut connection) = settings.config.connect(tls).await.map_err(|error| refused(&error))?;
    let (held, dropped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut driving = pin!(async {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match (message, &notices) {
                    (Ok(AsyncMessage::Notification(notice)), Some(notices)) => {
                        let number = notice.payload().parse().unwrap_or(0);
                        if notices.send(number).is_err() {
                            return;
                        }
                    }
                    (Ok(_), _) => {}
                    (Err(_), _) => return,
                }
            }
        });
        tokio::select! {
            () = &mut driving => return,
            _ = dropped => {}
        }
        // A frozen server would hold it for ever.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, driving).await;
    });
    client.batch_execute(schema::SESSION).await.map_err(|error| schema::fault(&error))?;
    Ok(Dialled { client, _held: held })
}

/// A connection that several share: what they ask goes over it without waiting for what
/// others asked.
pub(super) struct Line {
    settings: PostgresSettings,
    session: Mutex<Option<Arc<Session>>>,
}

impl Line {
    pub(super) fn new(settings: PostgresSettings) -> Self {
        Self { settings, session: Mutex::new(None) }
    }

    /// The connection; a new one where it broke.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Error> {
        within(self.settings.connect_within(), self.other_than(None)).await?
    }

    /// Another connection than one that broke.
    pub(super) async fn instead_of(&self, broken: &Arc<Session>) -> Result<Arc<Session>, Error> {
        within(self.settings.connect_within(), self.other_than(Some(broken))).await?
    }

    /// Drops a connection on which no answer came, for all who share it.
    pub(super) fn give_up(&self, silent: &Arc<Session>) {
        // Whoever holds it makes another one already.
        let Ok(mut held) = self.session.try_lock() else { return };
        if held.as_ref().is_some_and(|session| Arc::ptr_eq(session, silent)) {
            *held = None;
            tracing::warn!("the database does not answer: the connection is dropped, another one is made");
        }
    }

    async fn other_than(&self, broken: Option<&Arc<Session>>) -> Result<Arc<Session>, Error> {
        let mut held = self.session.lock().await;
        let is_good = |session: &&Arc<Session>| {
            !session.client.is_closed() && broken.is_none_or(|broken| !Arc::ptr_eq(broken, session))
        };
        if let Some(session) = held.as_ref().filter(is_good) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::start(&self.settings, None).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }
}
