//! One connection: dialled, set up, driven, and dialled again when it broke.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::schema::{self, Statements};
use crate::error::Error;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

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
}

/// One connection and its statements.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
}

impl Session {
    pub(super) async fn start(
        settings: &PostgresSettings,
        notices: Option<mpsc::UnboundedSender<u64>>,
    ) -> Result<Self, Error> {
        let client = connect(settings, notices).await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Self { client, statements })
    }
}

/// Dials and sets up. A task drives the connection until it ends; the last client of it
/// ends it. `notices` gets the numbers that are told in the channel.
pub(super) async fn connect(
    settings: &PostgresSettings,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Client, Error> {
    let tls = MakeRustlsConnect::new(settings.tls.clone());
    let dialled = tokio::time::timeout(2 * CONNECT_WITHIN, settings.config.connect(tls)).await;
    let dialled = dialled.map_err(|_| Error::Unavailable("it does not answer".to_owned()))?;
    let (client, mut connection) = dialled.map_err(|error| schema::fault(&error))?;
    tokio::spawn(async move {
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
    client.batch_execute(schema::SESSION).await.map_err(|error| schema::fault(&error))?;
    Ok(client)
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
        self.other_than(None).await
    }

    /// Another connection than one that broke.
    pub(super) async fn instead_of(&self, broken: &Arc<Session>) -> Result<Arc<Session>, Error> {
        self.other_than(Some(broken)).await
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
