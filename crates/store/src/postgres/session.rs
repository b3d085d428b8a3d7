//! One connection: dialled, set up, driven, and dialled again when it broke.

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::schema::{self, Statements};
use crate::error::Error;

/// Where PostgreSQL listens unless it is told otherwise.
const PORT: u16 = 5432;
/// How long a connection to one address may take, until it can be used, and how long it may take to find
/// the addresses of a name: whoever does not answer leaves the time of the next alone.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
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
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::Settings("the connection string names no host".to_owned()));
        }
        let [hosts, addresses, ports] =
            [config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len()];
        if hosts.min(addresses) > 0 && hosts != addresses {
            let text =
                format!("the connection string names {hosts} hosts and {addresses} addresses of hosts");
            return Err(Error::Settings(text));
        }
        if ports > 1 && ports != hosts.max(addresses) {
            let hosts = hosts.max(addresses);
            return Err(Error::Settings(format!(
                "the connection string names {hosts} hosts and {ports} ports"
            )));
        }
        let all_local =
            config.get_hosts().iter().all(local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
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

    /// The most that it takes to try everything.
    fn connect_within(&self) -> Duration {
        let each = u32::try_from(1 + ADDRESSES_MAX).unwrap_or(u32::MAX);
        CONNECT_WITHIN * each * u32::try_from(self.places().len()).unwrap_or(u32::MAX)
    }

    /// Where servers are, in the order in which they are tried.
    fn places(&self) -> Vec<Place> {
        let (hosts, addresses, ports) =
            (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        let place = |at: usize| Place {
            host: hosts.get(at).cloned(),
            address: addresses.get(at).copied(),
            port: ports.get(at).or(ports.first()).copied().unwrap_or(PORT),
        };
        self.in_turn((0..hosts.len().max(addresses.len())).map(place).collect())
    }

    /// The same, by chance where the connection string asks for that.
    fn in_turn<T>(&self, all: Vec<T>) -> Vec<T> {
        if self.config.get_load_balance_hosts() != LoadBalanceHosts::Random {
            return all;
        }
        let mut places = vec![[0; 8]; all.len()];
        for place in &mut places {
            // Without randomness the order of the connection string serves as well.
            let _ = aws_lc_rs::rand::fill(place);
        }
        let mut all: Vec<_> = places.into_iter().zip(all).collect();
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, one)| one).collect()
    }

    /// The settings of a connection to one address of one place.
    fn at(&self, place: &Place, address: Option<IpAddr>) -> Config {
        let mut config = unplaced(&self.config);
        match &place.host {
            // What a certificate has to name.
            Some(Host::Tcp(name)) => config.host(name),
            Some(Host::Unix(path)) => config.host_path(path),
            None => &mut config,
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.port(place.port);
        config
    }
}

/// Settings without a host: there is no taking hosts out of them.
fn unplaced(all: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = all.get_user() {
        config.user(user);
    }
    if let Some(password) = all.get_password() {
        config.password(password);
    }
    if let Some(name) = all.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = all.get_options() {
        config.options(options);
    }
    if let Some(name) = all.get_application_name() {
        config.application_name(name);
    }
    if let Some(time) = all.get_tcp_user_timeout() {
        config.tcp_user_timeout(*time);
    }
    if let Some(time) = all.get_keepalives_interval() {
        config.keepalives_interval(time);
    }
    if let Some(count) = all.get_keepalives_retries() {
        config.keepalives_retries(count);
    }
    config
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .target_session_attrs(all.get_target_session_attrs())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts());
    config
}

/// Where one server is said to be.
struct Place {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl Place {
    /// Its addresses, at least one; `None`: it needs none.
    async fn addresses(&self) -> Result<Vec<Option<IpAddr>>, Error> {
        let name = match (&self.host, self.address) {
            (Some(Host::Tcp(name)), None) => name,
            (_, address) => return Ok(vec![address]),
        };
        let wrong = |why: &dyn std::fmt::Display| Error::Unavailable(format!("{name}: {why}"));
        let looked_up = tokio::net::lookup_host((name.as_str(), self.port));
        let found = within(CONNECT_WITHIN, looked_up).await?.map_err(|error| wrong(&error))?;
        let found: Vec<_> = found.map(|found| Some(found.ip())).collect();
        if found.is_empty() { Err(wrong(&"the name has no address")) } else { Ok(found) }
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
        let client = connect(settings, notices).await?;
        let statements = within(ANSWER_WITHIN, Statements::prepare(&client)).await??;
        Ok(Self { client, statements })
    }
}

/// Dials one address after the other, and sets up. A task drives the connection until it ends; the last
/// client of it ends it. `notices` gets the numbers that are told in the channel.
pub(super) async fn connect(
    settings: &PostgresSettings,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    let mut fault = Error::Settings("the connection string names no host".to_owned());
    for place in settings.places() {
        let dialled = match place.addresses().await {
            Ok(addresses) => dial_any(settings, &place, settings.in_turn(addresses), notices.as_ref()).await,
            Err(unknown) => Err(unknown),
        };
        match dialled {
            Ok(dialled) => return Ok(dialled),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

/// Dials the addresses of one place, each in its own time.
async fn dial_any(
    settings: &PostgresSettings,
    place: &Place,
    addresses: Vec<Option<IpAddr>>,
    notices: Option<&mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    let mut fault = Error::Closed;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let dialling = dial(settings, settings.at(place, address), notices.cloned());
        match within(CONNECT_WITHIN, dialling).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(error)) | Err(error) => fault = error,
        }
    }
    Err(fault)
}

async fn dial(
    settings: &PostgresSettings,
    config: Config,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    let tls = MakeRustlsConnect::new(settings.tls.clone());
    let (client, mut connection) = config.connect(tls).await.map_err(|error| refused(&error))?;
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
    held: Mutex<Held>,
    /// How often no connection could be had.
    failures: AtomicU64,
}

#[derive(Default)]
struct Held {
    session: Option<Arc<Session>>,
    /// Why the last one could not be had.
    fault: Option<Error>,
}

impl Line {
    pub(super) fn new(settings: PostgresSettings) -> Self {
        Self { settings, held: Mutex::default(), failures: AtomicU64::new(0) }
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
        let Ok(mut held) = self.held.try_lock() else { return };
        if held.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, silent)) {
            held.session = None;
            tracing::warn!("the database does not answer: the connection is dropped, another one is made");
        }
    }

    async fn other_than(&self, broken: Option<&Arc<Session>>) -> Result<Arc<Session>, Error> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        let is_good = |session: &&Arc<Session>| {
            !session.client.is_closed() && broken.is_none_or(|broken| !Arc::ptr_eq(broken, session))
        };
        if let Some(session) = held.session.as_ref().filter(is_good) {
            return Ok(Arc::clone(session));
        }
        // Who waited while it was tried in vain is told so, and does not make all behind it wait again.
        if let Some(fault) = held.fault.as_ref().filter(|_| self.failures.load(Ordering::Acquire) != failures)
        {
            return Err(again(fault));
        }
        match Session::start(&self.settings, None).await {
            Ok(session) => {
                let session = Arc::new(session);
                *held = Held { session: Some(Arc::clone(&session)), fault: None };
                Ok(session)
            }
            Err(fault) => {
                *held = Held { session: None, fault: Some(again(&fault)) };
                self.failures.fetch_add(1, Ordering::Release);
                Err(fault)
            }
        }
    }
}

/// The same for another who waited.
fn again(fault: &Error) -> Error {
    match fault {
        Error::Settings(why) => Error::Settings(why.clone()),
        Error::Unavailable(why) => Error::Unavailable(why.clone()),
        Error::Full(why) => Error::Full(why.clone()),
        Error::Corrupt(why) => Error::Corrupt(why.clone()),
        Error::Uninitialised => Error::Uninitialised,
        other => Error::Unavailable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn settings(text: &str) -> PostgresSettings {
        let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        PostgresSettings::new(text, tls.with_no_client_auth(), true).unwrap()
    }

    #[test]
    fn of_the_settings_only_the_hosts_are_taken_apart() {
        let every = "user=u password=p dbname=d options='-c a=b' sslmode=require sslnegotiation=direct \
            keepalives=0 keepalives_idle=7 keepalives_interval=3 keepalives_retries=4 \
            target_session_attrs=read-write channel_binding=require load_balance_hosts=random";
        let address = "192.0.2.7".parse().unwrap();
        for (hosts, found, as_one) in [
            ("host=one.example port=1", Some(address), "host=one.example hostaddr=192.0.2.7 port=1"),
            ("host=one.example hostaddr=192.0.2.9", None, "host=one.example hostaddr=192.0.2.9 port=5432"),
            ("hostaddr=192.0.2.9 port=3", None, "hostaddr=192.0.2.9 port=3"),
            ("host=/run/postgresql port=4", None, "host=/run/postgresql port=4"),
        ] {
            let all = settings(&format!("{hosts} {every}"));
            let [place] = <[Place; 1]>::try_from(all.places()).ok().unwrap();
            let one = all.at(&place, found.or(place.address));
            assert!(one == settings(&format!("{as_one} {every}")).config, "{hosts}: {one:?}");
        }
        let all = settings("host=a,b hostaddr=192.0.2.1,192.0.2.2 port=1,2");
        let places = all.places().into_iter().map(|place| (place.host, place.address, place.port));
        let place = |name: &str, address: &str, port| {
            (Some(Host::Tcp(name.to_owned())), Some(address.parse().unwrap()), port)
        };
        assert_eq!(places.collect::<Vec<_>>(), [place("a", "192.0.2.1", 1), place("b", "192.0.2.2", 2)]);
        let tls = || rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        for unclear in ["host=a,b hostaddr=192.0.2.1", "host=a,b port=1,2,3", "hostaddr=192.0.2.1 port=1,2"] {
            let refused = PostgresSettings::new(unclear, tls().with_no_client_auth(), true);
            assert!(matches!(refused, Err(Error::Settings(_))), "{unclear}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_connection_string_unless_it_is_left_to_chance() {
        let all: Vec<u32> = (0..64).collect();
        assert_eq!(settings("host=a").in_turn(all.clone()), all);
        let mut by_chance = settings("host=a load_balance_hosts=random").in_turn(all.clone());
        assert_ne!(by_chance, all);
        by_chance.sort_unstable();
        assert_eq!(by_chance, all);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_takes_no_time_from_the_next_of_the_same_name() {
        // It takes connections, as the kernel does for a process that is frozen, and says nothing.
        let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = frozen.local_addr().unwrap().port();
        let next = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let settings = settings(&format!("host=db.example port={port} user=u sslmode=disable"));
        let [place] = <[Place; 1]>::try_from(settings.places()).ok().unwrap();
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|address| Some(address.parse().unwrap())).to_vec();
        let dialling =
            tokio::spawn(async move { dial_any(&settings, &place, addresses, None).await.map(drop) });
        // Reached: it hangs up.
        let reached = tokio::time::timeout(4 * CONNECT_WITHIN, next.accept()).await;
        drop(reached.expect("the next address is tried").unwrap());
        assert!(matches!(dialling.await.unwrap(), Err(Error::Unavailable(_))));
    }
}
