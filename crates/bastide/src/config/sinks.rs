//! `audit.sinks`: who is told each event besides the log.

use std::net::IpAddr;
use std::path::PathBuf;

use super::decoder::{Decoder, Table};
use super::node::Node;
use super::outward::{ALLOW_PRIVATE, CA, DANGER_PLAIN, HEADERS, Hidden, Outward, TIMEOUT, host_of};
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// Further receivers of each event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name in metrics and the log; unique.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
    /// How far it may go.
    pub outward: Outward,
    /// Events that wait for it at most.
    pub buffer_events: usize,
    /// Their size at most.
    pub buffer_bytes: usize,
    /// Events that are sent at once at most.
    pub batch_events: usize,
    /// Whether requests are refused while its buffer is full.
    pub block: bool,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout,
    /// JSON lines at the end of a file.
    File(PathBuf),
    /// RFC 5424.
    Syslog(Syslog),
    /// The HTTP Event Collector of Splunk.
    Splunk {
        /// Its address.
        url: String,
        /// Its token.
        token: Hidden,
        /// The index; the token's own when `None`.
        index: Option<String>,
    },
    /// The bulk interface of Elasticsearch and OpenSearch.
    Elastic {
        /// Its address.
        url: String,
        /// The index or data stream.
        index: String,
        /// Its API key; none where `headers` hold another credential.
        api_key: Option<Hidden>,
    },
}

/// RFC 5424, and how it travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Syslog {
    /// How it travels.
    pub transport: Transport,
    /// The facility's number (RFC 5424 §6.2.1).
    pub facility: u8,
    /// `APP-NAME`.
    pub app_name: String,
    /// Longest message, bytes. An event that makes a longer one goes without what the
    /// firewall found and policy read.
    pub message_bytes_max: usize,
}

/// How syslog travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram per message (RFC 5426).
    Udp(String, u16),
    /// Octet counting (RFC 6587 §3.4.1).
    Tcp(String, u16),
    /// Octet counting within TLS (RFC 5425).
    Tls(String, u16),
    /// Datagrams to a local socket.
    Unix(PathBuf),
}

/// Most sinks.
const SINKS_MAX: usize = 16;
const KINDS: [&str; 4] = ["json", "syslog", "splunk", "elastic"];

pub(super) const SINKS: Section = Section {
    path: "audit.sinks[]",
    about: "Further receivers of each event. Exactly one of `json`, `syslog`, `splunk` and `elastic`. See docs/observability.md.",
    short: "",
    keys: &[
        key("name", "text", "the kind", "The sink's name in metrics; unique."),
        key(
            "json",
            "`stdout` or path",
            "none",
            "JSON lines, as in the log; a file is appended to and never rotated.",
        ),
        key(
            "syslog",
            "`udp://host:514`, `tcp://host:601`, `tls://host:6514` or `unix:/dev/log`",
            "none",
            "Syslog messages (RFC 5424; over TCP and TLS with octet counting), the event as JSON in each.",
        ),
        key("splunk", "URL", "none", "The HTTP Event Collector of Splunk: `https://host:8088`."),
        key(
            "elastic",
            "URL",
            "none",
            "The bulk interface of Elasticsearch or OpenSearch: `https://host:9200`.",
        ),
        key(
            "facility",
            "facility name",
            "authpriv",
            "Syslog: `auth`, `authpriv`, `audit`, `daemon`, `user`, `local0` to `local7`.",
        ),
        key("app_name", "text", "bastide", "Syslog: `APP-NAME`."),
        key(
            "message_bytes_max",
            "size from 480 to 1MiB",
            "8KiB; 2KiB over UDP",
            "Syslog: the longest message. A longer one is sent without what the firewall found and policies read, then with its texts cut, and finally with only its id, time and outcome.",
        ),
        key("token", "text", "required by `splunk`", "Splunk: the collector's token. Never shown."),
        key(
            "index",
            "text",
            "the token's; `bastide-access` for `elastic`",
            "Splunk: the index. Elastic: the index or data stream.",
        ),
        key("api_key", "text", "none", "Elastic: the API key, encoded. Never shown."),
        HEADERS,
        ALLOW_PRIVATE,
        DANGER_PLAIN,
        CA,
        TIMEOUT,
        key("buffer_events", "1 to 10000000", "10000", "The most events that wait for the sink."),
        key("buffer_bytes", "size from 64KiB to 16GiB", "32MiB", "Their size at most."),
        key("batch_events", "1 to 10000", "500", "The most events per batch, of at most 1 MiB."),
        key(
            "block",
            "true or false",
            "false",
            "While the buffer is full: requests are refused with 503, instead of events being dropped for this sink and counted. The log has every event either way.",
        ),
    ],
};

impl Decoder<'_> {
    /// `audit.sinks`
    pub(super) fn sinks(&mut self, node: &Node) -> Vec<Sink> {
        let mut sinks: Vec<Sink> = Vec::new();
        for item in node.items() {
            if sinks.len() == SINKS_MAX {
                self.expected(node, &format!("at most {SINKS_MAX} sinks"));
                break;
            }
            let Some(sink) = self.sink(item) else { continue };
            if sinks.iter().any(|other| other.name == sink.name) {
                let (at, name) = (item.at, sink.name.clone());
                self.advise(at, format!("another sink is named {name:?} too"), "give it a name: of its own");
            }
            sinks.push(sink);
        }
        sinks
    }

    fn sink(&mut self, node: &Node) -> Option<Sink> {
        let table = self.table(node, &SINKS)?;
        let named: Vec<_> = KINDS.into_iter().filter(|kind| table.get(kind).is_some()).collect();
        let [kind] = named[..] else {
            self.advise(table.at, "a sink is exactly one thing", KINDS.join(", "));
            return None;
        };
        let outward = self.outward(&table);
        let name = table.get("name").and_then(|node| self.value(node, values::name));
        let is_udp = table.get("syslog").and_then(Node::text).is_some_and(|text| text.starts_with("udp:"));
        let kind_of = match kind {
            "json" => self.json(&table),
            "syslog" => self.syslog(&table, &outward, is_udp),
            "splunk" => self.splunk(&table, &outward),
            _ => self.elastic(&table, &outward),
        };
        self.only_for(&table, kind);
        let count = |decoder: &mut Self, key, most, default| {
            table.get(key).and_then(|node| decoder.number(node, 1, most)).unwrap_or(default)
        };
        Some(Sink {
            name: name.unwrap_or_else(|| kind.to_owned()),
            kind: kind_of?,
            outward,
            buffer_events: count(self, "buffer_events", 10_000_000, 10_000),
            buffer_bytes: self.bytes(&table, "buffer_bytes", 64 << 10, 16 << 30).unwrap_or(32 << 20),
            batch_events: count(self, "batch_events", 10_000, 500),
            block: table.get("block").and_then(|node| self.boolean(node)).unwrap_or(false),
        })
    }

    /// Keys that mean nothing for this kind are faults: they were meant for something.
    fn only_for(&mut self, table: &Table<'_>, kind: &str) {
        let of_network = ["allow_private_addresses", "danger_plain_http", "timeout"];
        let foreign: &[&str] = match kind {
            "json" => {
                &["facility", "app_name", "message_bytes_max", "token", "index", "api_key", "headers", "ca"]
            }
            "syslog" => &["token", "index", "api_key", "headers"],
            "splunk" => &["facility", "app_name", "message_bytes_max", "api_key"],
            _ => &["facility", "app_name", "message_bytes_max", "token"],
        };
        let further: &[&str] = if kind == "json" { &of_network } else { &[] };
        for key in foreign.iter().chain(further).filter(|key| table.get(key).is_some()) {
            self.fault(table.key_at(key), format!("{key} means nothing for {kind}"));
        }
    }

    fn bytes(&mut self, table: &Table<'_>, key: &str, least: u64, most: u64) -> Option<usize> {
        let node = table.get(key)?;
        let bytes = self.value(node, values::size)?;
        if !(least..=most).contains(&bytes) {
            self.expected(node, &format!("a size from {least} to {most} bytes"));
        }
        usize::try_from(bytes).ok()
    }

    fn json(&mut self, table: &Table<'_>) -> Option<SinkKind> {
        let node = table.get("json")?;
        if node.text() == Some("stdout") {
            return Some(SinkKind::Stdout);
        }
        self.path(node).map(SinkKind::File)
    }

    fn syslog(&mut self, table: &Table<'_>, outward: &Outward, is_udp: bool) -> Option<SinkKind> {
        let node = table.get("syslog")?;
        let plain = self.plain(table);
        let transport = match node.text().and_then(|text| text.strip_prefix("unix:")) {
            Some(path) => Transport::Unix(self.sources.beside(node.at.file, path)),
            None => self.value(node, transport)?,
        };
        if let Transport::Udp(host, _) | Transport::Tcp(host, _) = &transport {
            self.safe_without_tls(node, host, plain, outward);
        }
        let facility = table.get("facility").and_then(|node| self.word(node, "syslog facility", FACILITIES));
        let app_name = table.get("app_name").and_then(|node| self.value(node, app_name));
        let message = self.bytes(table, "message_bytes_max", 480, 1 << 20);
        Some(SinkKind::Syslog(Syslog {
            transport,
            facility: facility.unwrap_or(10),
            app_name: app_name.unwrap_or_else(|| "bastide".to_owned()),
            message_bytes_max: message.unwrap_or(if is_udp { 2048 } else { 8192 }),
        }))
    }

    fn splunk(&mut self, table: &Table<'_>, outward: &Outward) -> Option<SinkKind> {
        let token = self.required(table, "token").and_then(|node| self.hidden(node));
        let url = table.get("splunk").and_then(|node| self.outward_url(node, table, outward));
        let index = table.get("index").and_then(|node| self.value(node, values::name));
        Some(SinkKind::Splunk { url: url?, token: token?, index })
    }

    fn elastic(&mut self, table: &Table<'_>, outward: &Outward) -> Option<SinkKind> {
        let url = table.get("elastic").and_then(|node| self.outward_url(node, table, outward));
        let index = table.get("index").and_then(|node| self.value(node, index_name));
        let api_key = table.get("api_key").and_then(|node| self.hidden(node));
        let index = index.unwrap_or_else(|| "bastide-access".to_owned());
        Some(SinkKind::Elastic { url: url?, index, api_key })
    }
}

/// RFC 5424 §6.2.1.
const FACILITIES: &[(&str, u8)] = &[
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("audit", 13),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

fn transport(text: &str) -> Result<Transport, Unfit> {
    const EXPECTED: &str = "udp://host:514, tcp://host:601, tls://host:6514 or unix:/dev/log";
    let unfit = || Unfit { expected: EXPECTED, instead: None };
    let (scheme, authority) = text.split_once("://").ok_or_else(unfit)?;
    let host = host_of(authority);
    let port = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((_, port)) => port.parse().map_err(|_| unfit())?,
        None if scheme == "udp" => 514,
        None if scheme == "tcp" => 601,
        None => 6514,
    };
    if port == 0 || (host.parse::<IpAddr>().is_err() && values::host(host).is_err()) {
        return Err(unfit());
    }
    match scheme {
        "udp" => Ok(Transport::Udp(host.to_owned(), port)),
        "tcp" => Ok(Transport::Tcp(host.to_owned(), port)),
        "tls" => Ok(Transport::Tls(host.to_owned(), port)),
        _ => Err(unfit()),
    }
}

/// `APP-NAME` (RFC 5424 §6): 1 to 48 printable ASCII characters.
fn app_name(text: &str) -> Result<String, Unfit> {
    let fits = (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Unfit { expected: "1 to 48 printable ASCII characters without spaces", instead: None })
    }
}

/// A name that Elasticsearch takes for an index.
fn index_name(text: &str) -> Result<String, Unfit> {
    let fits = (1..=255).contains(&text.len())
        && !text.starts_with(['-', '_', '+', '.'])
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.+".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Unfit { expected: "an index: lower-case letters, digits, dots and dashes", instead: None })
    }
}
