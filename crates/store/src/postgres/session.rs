//! One connection: dialled, set up, driven, and dialled again when it broke.

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::place::{Faults, Place};
use super::schema::{self, Statements};
use crate::error::Error;

/// Where PostgreSQL listens unless it is told otherwise.
const PORT: u16 = 5432;
/// How long a connection to one address may take, until it can be used, and how long it may take to find
/// the addresses of a name: whoever does not answer leaves the time of the next alone.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
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
    /// Where the last connection was had.
    answered: Arc<Lock<Option<Place>>>,
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
        if let Some(time) = config.get_connect_timeout() {
            return Err(Error::Settings(format!(
                "connect_timeout={} in the connection string has no effect: each address has {} s; leave it out",
                time.as_secs(),
                CONNECT_WITHIN.as_secs()
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
        Ok(Self { config, tls, answered: Arc::default() })
    }

    /// Which database it is, for people; without a password.
    pub fn place(&self) -> String {
        let places: Vec<String> = self.named().iter().map(Place::to_string).collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("PostgreSQL database \"{database}\" at {}", places.join(", "))
    }

    /// The most that it takes to try everything, until statements can be asked.
    fn connect_within(&self) -> Duration {
        let each = u32::try_from(1 + ADDRESSES_MAX).unwrap_or(u32::MAX);
        let places = u32::try_from(self.named().len()).unwrap_or(u32::MAX);
        CONNECT_WITHIN * each * places + ANSWER_WITHIN
    }

    /// Where servers are, in the order in which they are tried.
    fn places(&self) -> Vec<Place> {
        self.in_turn(self.named())
    }

    /// The same as the connection string has it.
    fn named(&self) -> Vec<Place> {
        let (hosts, addresses, ports) =
            (self.config.get_hosts(), self.config.get_hostaddrs(), self.config.get_ports());
        let place = |at: usize| Place {
            host: hosts.get(at).cloned(),
            address: addresses.get(at).copied(),
            port: ports.get(at).or(ports.first()).copied().unwrap_or(PORT),
        };
        (0..hosts.len().max(addresses.len())).map(place).collect()
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

    fn answered(&self) -> Option<Place> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The settings of a connection to a place, its address known where it needs one.
    fn at(&self, place: &Place) -> Config {
        let mut config = unplaced(&self.config);
        match &place.host {
            // What a certificate has to name.
            Some(Host::Tcp(name)) => config.host(name),
            Some(Host::Unix(path)) => config.host_path(path),
            None => &mut config,
        };
        if let Some(address) = place.address {
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
    /// Whether an answer did not come: nobody asks over it any more.
    is_silent: AtomicBool,
}

impl Session {
    pub(super) async fn start(settings: &PostgresSettings) -> Result<Self, Error> {
        Self::over(connect(settings, None).await?).await
    }

    /// The same, tried first where a connection was had the last time: hosts that are frozen do
    /// not take the time of one who has little.
    pub(super) async fn start_where_it_answered(settings: &PostgresSettings) -> Result<Self, Error> {
        Self::over(connect_from(settings, settings.answered(), None).await?).await
    }

    async fn over(client: Dialled) -> Result<Self, Error> {
        let statements = within(ANSWER_WITHIN, Statements::prepare(&client)).await??;
        Ok(Self { client, statements, is_silent: AtomicBool::new(false) })
    }
}

/// Dials one address after the other, and sets up. A task drives the connection until it ends; the last
/// client of it ends it. `notices` gets the numbers that are told in the channel.
pub(super) async fn connect(
    settings: &PostgresSettings,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    connect_from(settings, None, notices).await
}

/// The same, with one place before all others.
async fn connect_from(
    settings: &PostgresSettings,
    first: Option<Place>,
    notices: Option<mpsc::UnboundedSender<u64>>,
) -> Result<Dialled, Error> {
    let mut faults = Faults::default();
    if let Some(place) = &first
        && let Some(dialled) = dial_in_time(settings, place, notices.as_ref(), &mut faults).await
    {
        return Ok(dialled);
    }
    for place in settings.places() {
        match place.addresses().await {
            Ok(addresses) => {
                let found = settings.in_turn(addresses).into_iter().map(|address| place.at(address));
                let found = found.filter(|place| first.as_ref() != Some(place)).collect();
                if let Some(dialled) = dial_any(settings, found, notices.as_ref(), &mut faults).await {
                    return Ok(dialled);
                }
            }
            Err(unknown) => faults.add(&place, unknown),
        }
    }
    Err(faults.into_error())
}

/// Dials the addresses of one place, each in its own time.
async fn dial_any(
    settings: &PostgresSettings,
    found: Vec<Place>,
    notices: Option<&mpsc::UnboundedSender<u64>>,
    faults: &mut Faults,
) -> Option<Dialled> {
    for place in found.into_iter().take(ADDRESSES_MAX) {
        if let Some(dialled) = dial_in_time(settings, &place, notices, faults).await {
            return Some(dialled);
        }
    }
    None
}

async fn dial_in_time(
    settings: &PostgresSettings,
    place: &Place,
    notices: Option<&mpsc::UnboundedSender<u64>>,
    faults: &mut Faults,
) -> Option<Dialled> {
    let dialling = dial(settings, settings.at(place), notices.cloned());
    match within(CONNECT_WITHIN, dialling).await {
        Ok(Ok(dialled)) => {
            *settings.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
            Some(dialled)
        }
        Ok(Err(error)) | Err(error) => {
            faults.add(place, error);
            None
        }
    }
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
        if !silent.is_silent.swap(true, Ordering::AcqRel) {
            tracing::warn!("the database does not answer: the connection is dropped, another one is made");
        }
        // Whoever holds the lock looks at it, or makes another one: it is dropped with the next look.
        let Ok(mut held) = self.held.try_lock() else { return };
        held.session.take_if(|session| Arc::ptr_eq(session, silent));
    }

    async fn other_than(&self, broken: Option<&Arc<Session>>) -> Result<Arc<Session>, Error> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        let is_good = |session: &&Arc<Session>| {
            !session.client.is_closed()
                && !session.is_silent.load(Ordering::Acquire)
                && broken.is_none_or(|broken| !Arc::ptr_eq(broken, session))
        };
        if let Some(session) = held.session.as_ref().filter(is_good) {
            return Ok(Arc::clone(session));
        }
        // Who waited while it was tried in vain is told so, and does not make all behind it wait again.
        if let Some(fault) = held.fault.as_ref().filter(|_| self.failures.load(Ordering::Acquire) != failures)
        {
            return Err(again(fault));
        }
        match Session::start(&self.settings).await {
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
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
            let one = all.at(&place.at(found));
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

    #[test]
    fn a_place_is_told_and_the_time_for_all_of_them_is_known() {
        let tell = |text: &str| settings(text).place();
        assert_eq!(tell("host=a,b port=1,2 dbname=d user=u"), "PostgreSQL database \"d\" at a:1, b:2");
        assert_eq!(tell("hostaddr=192.0.2.9 user=u"), "PostgreSQL database \"u\" at 192.0.2.9:5432");
        assert_eq!(
            tell("host=a hostaddr=192.0.2.9 user=u"),
            "PostgreSQL database \"u\" at a:5432 (192.0.2.9)"
        );
        // The name, eight addresses of it, and the statements.
        assert_eq!(settings("host=a").connect_within(), 10 * CONNECT_WITHIN);
        assert_eq!(settings("host=a,b").connect_within(), 19 * CONNECT_WITHIN);
    }

    #[test]
    fn a_time_for_connections_that_would_not_count_is_refused() {
        let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        let text = "postgresql://u@a/d?connect_timeout=10";
        let refused = PostgresSettings::new(text, tls.with_no_client_auth(), true).err();
        let told =
            "connect_timeout=10 in the connection string has no effect: each address has 5 s; leave it out";
        assert!(matches!(refused, Some(Error::Settings(why)) if why == told));
        settings("postgresql://u@a/d?connect_timeout=0");
    }

    /// What a server says to whoever begins.
    #[derive(Clone, Copy)]
    enum Says {
        Welcome,
        /// The user is refused (28000).
        Refused,
        /// It is starting (57P03).
        Starting,
        /// It welcomes, and prepares no statement.
        Nothing,
    }

    /// A message of the protocol ("Message Formats" of PostgreSQL's manual).
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + body.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    /// A server as far as it takes to be connected to, and how many have come.
    async fn server(says: Says) -> (u16, Arc<AtomicU64>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, came) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Release);
                tokio::spawn(async move {
                    let mut length = [0; 4];
                    stream.read_exact(&mut length).await?;
                    let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
                    stream.read_exact(&mut startup).await?;
                    let fault = |code: &str| message(b'E', format!("SFATAL\0C{code}\0Mno\0\0").as_bytes());
                    let ready = message(b'Z', b"I");
                    let begun = match says {
                        Says::Welcome | Says::Nothing => [message(b'R', &[0; 4]), ready.clone()].concat(),
                        Says::Refused => fault("28000"),
                        Says::Starting => fault("57P03"),
                    };
                    stream.write_all(&begun).await?;
                    loop {
                        let mut head = [0; 5];
                        stream.read_exact(&mut head).await?;
                        let [kind, length @ ..] = head;
                        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
                        stream.read_exact(&mut body).await?;
                        let answer = match kind {
                            b'P' | b'D' | b'S' if matches!(says, Says::Nothing) => continue,
                            b'Q' => [message(b'C', b"SET\0"), ready.clone()].concat(),
                            b'P' => message(b'1', &[]),
                            // Neither parameters nor columns.
                            b'D' => [message(b't', &[0; 2]), message(b'n', &[])].concat(),
                            b'S' => ready.clone(),
                            _ => break,
                        };
                        stream.write_all(&answer).await?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        (port, came)
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_not_final_while_another_may_come_back() {
        let ((refusing, _), (starting, _)) = (server(Says::Refused).await, server(Says::Starting).await);
        for (ports, is_final) in [
            ([starting, refusing], false),
            ([refusing, starting], false),
            ([refusing, refusing], true),
            ([starting, starting], false),
        ] {
            let [one, other] = ports;
            let settings =
                settings(&format!("host=127.0.0.1,127.0.0.1 port={one},{other} user=u sslmode=disable"));
            let error = connect(&settings, None).await.err().unwrap();
            assert_eq!(matches!(error, Error::Settings(_)), is_final, "{error}");
            let told = error.to_string();
            for port in ports {
                let code = if port == refusing { "28000: no" } else { "57P03: no" };
                let piece = format!("127.0.0.1:{port}: ");
                assert!(told.contains(&piece) && told.contains(code), "{told}");
            }
        }
    }

    #[tokio::test]
    async fn who_has_little_time_begins_where_it_answered_last() {
        let ((before, seen), (last, _)) = (server(Says::Starting).await, server(Says::Welcome).await);
        let settings =
            settings(&format!("host=127.0.0.1,127.0.0.1 port={before},{last} user=u sslmode=disable"));
        drop(connect(&settings, None).await.unwrap());
        assert_eq!(seen.load(Ordering::Acquire), 1);
        let answered = settings.answered();
        assert_eq!(answered.as_ref().map(|place| place.port), Some(last));
        // Copies of the settings know it too.
        drop(connect_from(&settings.clone(), settings.clone().answered(), None).await.unwrap());
        assert_eq!(seen.load(Ordering::Acquire), 1);
        drop(connect(&settings, None).await.unwrap());
        assert_eq!(seen.load(Ordering::Acquire), 2);
        // Where it no longer answers, the others are tried, and it not a second time.
        let (gone, again) = server(Says::Refused).await;
        let first = Place { port: gone, ..answered.unwrap() };
        let all =
            self::settings(&format!("host=127.0.0.1,127.0.0.1 port={gone},{last} user=u sslmode=disable"));
        drop(connect_from(&all, Some(first), None).await.unwrap());
        assert_eq!((again.load(Ordering::Acquire), all.answered().unwrap().port), (1, last));
    }

    #[tokio::test]
    async fn of_the_addresses_of_one_name_so_many_are_tried() {
        let ((starting, came), (last, _)) = (server(Says::Starting).await, server(Says::Welcome).await);
        let settings = settings("host=db.example user=u sslmode=disable");
        let place = |port| Place { host: None, address: Some(Ipv4Addr::LOCALHOST.into()), port };
        for (before, is_reached) in [(ADDRESSES_MAX - 1, true), (ADDRESSES_MAX, false)] {
            let found = [vec![place(starting); before], vec![place(last)]].concat();
            came.store(0, Ordering::Release);
            let dialled = dial_any(&settings, found, None, &mut Faults::default()).await;
            assert_eq!((dialled.is_some(), came.load(Ordering::Acquire)), (is_reached, before as u64));
        }
    }

    #[tokio::test]
    async fn a_server_that_prepares_nothing_is_not_waited_for() {
        let (port, _) = server(Says::Nothing).await;
        let settings = settings(&format!("host=127.0.0.1 port={port} user=u sslmode=disable"));
        let started = tokio::time::timeout(4 * ANSWER_WITHIN, Session::start(&settings)).await;
        let told = started.expect("an end").err().unwrap().to_string();
        assert!(told.contains("no answer within 5 s"), "{told}");
    }

    #[tokio::test]
    async fn nobody_gets_a_connection_that_was_given_up_while_another_looked_at_it() {
        let (port, came) = server(Says::Welcome).await;
        let line = Line::new(settings(&format!("host=127.0.0.1 port={port} user=u sslmode=disable")));
        let silent = line.session().await.unwrap();
        assert!(Arc::ptr_eq(&silent, &line.session().await.unwrap()));
        let looking = line.held.lock().await;
        line.give_up(&silent);
        drop(looking);
        let next = line.session().await.unwrap();
        assert!(!Arc::ptr_eq(&silent, &next));
        // Once given up it is not the next one that is.
        line.give_up(&silent);
        assert!(Arc::ptr_eq(&next, &line.session().await.unwrap()));
        assert_eq!(came.load(Ordering::Acquire), 2);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_takes_no_time_from_the_next_of_the_same_name() {
        // It takes connections, as the kernel does for a process that is frozen, and says nothing.
        let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = frozen.local_addr().unwrap().port();
        let next = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let settings = settings(&format!("host=db.example port={port} user=u sslmode=disable"));
        let [place] = <[Place; 1]>::try_from(settings.places()).ok().unwrap();
        let found = ["127.0.0.1", "127.0.0.2"].map(|address| place.at(Some(address.parse().unwrap())));
        let dialling = tokio::spawn(async move {
            let mut faults = Faults::default();
            let dialled = dial_any(&settings, found.to_vec(), None, &mut faults).await;
            assert!(dialled.is_none());
            faults.into_error()
        });
        // Reached: it hangs up.
        let reached = tokio::time::timeout(4 * CONNECT_WITHIN, next.accept()).await;
        drop(reached.expect("the next address is tried").unwrap());
        let told = dialling.await.unwrap().to_string();
        let silent =
            format!("db.example:{port} (127.0.0.1): no answer within 5 s; db.example:{port} (127.0.0.2): ");
        assert!(told.contains(&silent), "{told}");
    }
}
