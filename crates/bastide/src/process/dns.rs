//! Where services are whose endpoints are names: asked of DNS on the control plane, and
//! again when an answer's time to live is over. What changes becomes a new snapshot;
//! the cores never resolve a name that is known here.
//!
//! An answer that cannot be renewed stays in use: a name server that is down takes no
//! service down.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::config::{Configuration, Endpoint};

/// Most addresses that one name stands for; of more the first in order are used.
const ADDRESSES_MAX: usize = 64;
/// How long an answer is used at least and at most, whatever its time to live.
const KEPT_MIN: Duration = Duration::from_secs(1);
const KEPT_MAX: Duration = Duration::from_secs(300);
/// How long after a failure the next question waits.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// One question to one server; there are two attempts.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a start or a reload waits for names that were not asked for before.
const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// What is asked about a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// A and AAAA.
    Addresses(String),
    /// SRV (RFC 2782), then the targets' addresses.
    Service(String),
}

/// One place that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The address.
    pub address: IpAddr,
    /// The port that a SRV record names.
    pub port: Option<u16>,
    /// The weight that a SRV record names, at least 1.
    pub weight: Option<u32>,
    /// The host: the name itself, or the target of the SRV record.
    pub host: String,
}

#[derive(Debug, Default)]
struct State {
    servers: Option<Vec<SocketAddr>>,
    resolver: Option<TokioResolver>,
    known: HashMap<Question, Vec<Place>>,
    followed: Followed,
    failures: u64,
}

/// What is asked again and again, and of whom.
#[derive(Debug, Default)]
struct Followed {
    servers: Vec<SocketAddr>,
    questions: Vec<Question>,
    /// One for each name; they end when this is replaced.
    _tasks: JoinSet<()>,
}

/// The names of a configuration, asked for once: what [`Names::follow`] goes on with.
#[derive(Debug)]
pub struct Learned {
    servers: Vec<SocketAddr>,
    questions: Vec<Question>,
    /// `None` where names are left to the system.
    resolver: Option<TokioResolver>,
}

/// The names of a configuration and what they stand for.
#[derive(Debug, Default)]
pub struct Names {
    state: Mutex<State>,
    changed: Notify,
}

impl State {
    /// Whether a start or a reload waits for the answer: it is not known, and is not what these
    /// servers are being asked for without end already.
    fn awaits(&self, question: &Question, servers: &[SocketAddr]) -> bool {
        let asked = self.followed.servers == servers && self.followed.questions.contains(question);
        !asked && !self.known.contains_key(question)
    }
}

fn question(endpoint: &Endpoint) -> Option<Question> {
    if endpoint.srv {
        return Some(Question::Service(endpoint.host.clone()));
    }
    // `localhost` is this host and no question (RFC 6761 §6.3).
    let is_name = endpoint.host.parse::<IpAddr>().is_err() && endpoint.host != "localhost";
    is_name.then(|| Question::Addresses(endpoint.host.clone()))
}

impl Names {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an endpoint's name stands for now; empty when that is not known, or when it
    /// is an address.
    pub fn places(&self, endpoint: &Endpoint) -> Vec<Place> {
        question(endpoint).and_then(|question| self.state().known.get(&question).cloned()).unwrap_or_default()
    }

    /// Questions that failed since the start.
    pub fn failures_total(&self) -> u64 {
        self.state().failures
    }

    /// Waits until a name stands for something else than before.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Asks for the names of a configuration that are neither known nor followed yet, for a bounded
    /// time. What is followed stays as it is. Where that cannot be done, names are left to the
    /// system, which is asked when a connection is opened.
    pub async fn learn(self: &Arc<Self>, configuration: &Configuration) -> Learned {
        let endpoints = configuration.services.iter().flat_map(|service| &service.endpoints);
        let mut questions: Vec<Question> = endpoints.filter_map(question).collect();
        questions.sort_by_key(|question| format!("{question:?}"));
        questions.dedup();
        let servers = configuration.dns_servers.clone();
        if questions.is_empty() {
            return Learned { servers, questions, resolver: None };
        }
        let resolver = match self.resolver(&servers) {
            Ok(resolver) => resolver,
            Err(fault) => {
                tracing::warn!("names are not followed: {fault:#}");
                return Learned { servers, questions, resolver: None };
            }
        };
        let mut first = JoinSet::new();
        for question in questions.iter().filter(|question| self.state().awaits(question, &servers)) {
            let (names, resolver, question) = (Arc::clone(self), resolver.clone(), question.clone());
            first.spawn(async move { _ = names.ask(&resolver, &question).await });
        }
        let all = async { while first.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FIRST_WITHIN, all).await;
        // Whoever called builds with these answers in any case.
        let _ = tokio::time::timeout(Duration::ZERO, self.changed.notified()).await;
        Learned { servers, questions, resolver: Some(resolver) }
    }

    /// Keeps asking for these names from now on, and forgets all others.
    pub fn follow(self: &Arc<Self>, learned: Learned) {
        let Learned { servers, questions, resolver } = learned;
        let Some(resolver) = resolver else {
            *self.state() = State::default();
            return;
        };
        let mut tasks = JoinSet::new();
        for question in &questions {
            let (names, resolver, question) = (Arc::downgrade(self), resolver.clone(), question.clone());
            tasks.spawn(async move {
                // At once: what is known may be from before, and its time is not.
                let mut wait = Duration::ZERO;
                loop {
                    tokio::time::sleep(wait).await;
                    let Some(names) = names.upgrade() else { return };
                    wait = names.ask(&resolver, &question).await;
                }
            });
        }
        let mut state = self.state();
        state.known.retain(|question, _| questions.contains(question));
        state.followed = Followed { servers, questions, _tasks: tasks };
    }

    /// The resolver of these servers; none: the system's.
    fn resolver(&self, servers: &[SocketAddr]) -> anyhow::Result<TokioResolver> {
        let mut state = self.state();
        if let (Some(resolver), Some(before)) = (&state.resolver, &state.servers)
            && before == servers
        {
            return Ok(resolver.clone());
        }
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            TokioResolver::builder(provider)?
        } else {
            let servers = servers.iter().map(|server| {
                let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
                    let mut connection = ConnectionConfig::new(protocol);
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.to_vec())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, provider)
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = QUESTION_TIME_MAX;
        // Asked when the time is over, and not before: nothing to keep twice.
        options.cache_size = 0;
        let resolver = builder.build()?;
        state.resolver = Some(resolver.clone());
        state.servers = Some(servers.to_vec());
        Ok(resolver)
    }

    /// Asks once and notes the answer: how long it is used.
    async fn ask(&self, resolver: &TokioResolver, question: &Question) -> Duration {
        let answer = match question {
            Question::Addresses(host) => addresses(resolver, host).await,
            Question::Service(name) => services(resolver, name).await,
        };
        let name = match question {
            Question::Addresses(name) | Question::Service(name) => name,
        };
        match answer {
            Ok((mut places, kept)) if !places.is_empty() => {
                places.sort_unstable();
                places.dedup();
                places.truncate(ADDRESSES_MAX);
                let mut state = self.state();
                let before = state.known.insert(question.clone(), places.clone());
                drop(state);
                if before.as_ref() != Some(&places) {
                    tracing::info!(name, places = places.len(), "name resolved to other addresses");
                    self.changed.notify_one();
                }
                kept.clamp(KEPT_MIN, KEPT_MAX)
            }
            other => {
                let why = other.err().map_or_else(|| "no addresses".to_owned(), |error| error.to_string());
                self.state().failures += 1;
                tracing::warn!(name, why, "name cannot be resolved; what was known before stays in use");
                AGAIN_AFTER
            }
        }
    }
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<(Vec<Place>, Duration), NetError> {
    let found = resolver.lookup_ip(host).await?;
    let kept = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let place = |address: IpAddr| Place {
        address: address.to_canonical(),
        port: None,
        weight: None,
        host: host.to_owned(),
    };
    Ok((found.iter().map(place).collect(), Duration::from_secs(kept.into())))
}

async fn services(resolver: &TokioResolver, name: &str) -> Result<(Vec<Place>, Duration), NetError> {
    let found = resolver.lookup(format!("{name}."), RecordType::SRV).await?;
    let records: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((record.ttl, srv.clone())),
            _ => None,
        })
        .collect();
    // Only the most wanted ones (RFC 2782): the others stand in when those are gone
    // from DNS.
    let wanted = records.iter().map(|(_, srv)| srv.priority).min();
    let mut kept = KEPT_MAX;
    let mut places = Vec::new();
    for (ttl, srv) in records.iter().filter(|(_, srv)| Some(srv.priority) == wanted).take(ADDRESSES_MAX) {
        kept = kept.min(Duration::from_secs((*ttl).into()));
        let target = srv.target.to_utf8();
        let target = target.trim_end_matches('.').to_ascii_lowercase();
        if target.is_empty() {
            continue;
        }
        let (found, ttl) = addresses(resolver, &target).await?;
        kept = kept.min(ttl);
        places.extend(found.into_iter().map(|place| Place {
            port: Some(srv.port),
            weight: Some(u32::from(srv.weight).max(1)),
            ..place
        }));
    }
    Ok((places, kept))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::Instant;

    use super::*;
    use crate::config::{Memory, load};

    fn configuration(server: SocketAddr, names: &[&str]) -> Configuration {
        let mut text = format!("listen: 127.0.0.1:0\ndns: [ \"{server}\" ]\nservices:\n");
        for (number, name) in names.iter().enumerate() {
            text += &format!("  s{number}: http://{name}.test\n");
        }
        text += "routes: [ { match: /**, to: s0, authenticate: none, allow: anyone } ]\n";
        let files = Memory::new([("bastide.yaml".into(), text.into_bytes())]);
        load(Path::new("bastide.yaml"), &|_| None, &files).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_answered_is_waited_for_once() {
        let [silent, mute] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let names = Arc::new(Names::default());
        let own = |socket: &std::net::UdpSocket| socket.local_addr().unwrap();
        for (case, server, asked, waits) in [
            ("the first time", &silent, &["one"][..], true),
            ("once more", &silent, &["one"], false),
            ("another name", &silent, &["one", "two"], true),
            ("one of them", &silent, &["two"], false),
            ("another server", &mute, &["two"], true),
        ] {
            let begun = Instant::now();
            let learned = names.learn(&configuration(own(server), asked)).await;
            let waited = begun.elapsed();
            assert_eq!(waited > Duration::from_secs(1), waits, "{case}: {waited:?}");
            assert!(waited <= FIRST_WITHIN + Duration::from_millis(100), "{case}: {waited:?}");
            names.follow(learned);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_configuration_does_not_name_stays_known() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (one, two) = (
            configuration(silent.local_addr().unwrap(), &["one"]),
            configuration(silent.local_addr().unwrap(), &["two"]),
        );
        let names = Arc::new(Names::default());
        names.follow(names.learn(&one).await);
        let place =
            Place { address: [192, 0, 2, 1].into(), port: None, weight: None, host: "one.test".to_owned() };
        names.state().known.insert(Question::Addresses("one.test".to_owned()), vec![place]);
        let endpoint = &one.services[0].endpoints[0];
        let learned = names.learn(&two).await;
        assert_eq!(names.places(endpoint).len(), 1);
        names.follow(learned);
        assert_eq!(names.places(endpoint).len(), 0);
    }
}
