//! What is measured, and how far each row may go.

use crate::bench::peer::{BOTH, FILES, Proxy};

/// How a row is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// TLS 1.3, HTTP/1.1, connections kept alive.
    TlsHttp1,
    /// TLS 1.3, HTTP/2.
    TlsHttp2,
    /// Cleartext HTTP/1.1.
    Cleartext,
    /// A new connection for each request.
    Handshakes,
    /// TLS 1.3, HTTP/1.1, known tokens.
    Whole,
    /// TLS 1.3, HTTP/1.1, every token new.
    WholeFresh,
}

/// When a bound has to hold: the first is what the gateway began with, the second is
/// where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    First,
    Second,
}

/// At most so many times a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) against: Proxy,
    pub(super) times: f64,
    pub(super) aim: Aim,
}

/// One workload.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) way: Way,
    /// What is asked for; on the whole way the requests name their own paths.
    pub(super) path: &'static str,
    /// Whether the peers write their access log.
    pub(super) logged: bool,
    pub(super) peers: &'static [Proxy],
    pub(super) bounds: &'static [Bound],
}

const fn first(against: Proxy, times: f64) -> Bound {
    Bound { against, times, aim: Aim::First }
}

const fn then(against: Proxy, times: f64) -> Bound {
    Bound { against, times, aim: Aim::Second }
}

use Proxy::{Envoy, Haproxy, Nginx};

const PEERS: &[Proxy] = &[Nginx, Haproxy, Envoy];

/// All rows.
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "tls-http1",
        title: "TLS 1.3, HTTP/1.1 keep-alive",
        way: Way::TlsHttp1,
        path: "/",
        logged: false,
        peers: PEERS,
        bounds: &[first(Nginx, 0.75), then(Nginx, 0.70), then(Haproxy, 0.75), then(Envoy, 0.30)],
    },
    Row {
        id: "tls-http1-logged",
        title: "the same, peers with their access log",
        way: Way::TlsHttp1,
        path: "/",
        logged: true,
        peers: PEERS,
        bounds: &[],
    },
    Row {
        id: "cleartext",
        title: "cleartext HTTP/1.1 keep-alive",
        way: Way::Cleartext,
        path: "/",
        logged: false,
        peers: PEERS,
        bounds: &[then(Nginx, 0.85), then(Haproxy, 0.90)],
    },
    Row {
        id: "tls-http2",
        title: "TLS 1.3, HTTP/2",
        way: Way::TlsHttp2,
        path: "/",
        logged: false,
        peers: PEERS,
        bounds: &[first(Nginx, 1.1), then(Nginx, 1.0), then(Envoy, 0.35)],
    },
    Row {
        id: "tls-http2-logged",
        title: "the same, peers with their access log",
        way: Way::TlsHttp2,
        path: "/",
        logged: true,
        peers: PEERS,
        bounds: &[],
    },
    Row {
        id: "tls-both",
        title: "TLS 1.3 on both sides, HTTP/1.1 keep-alive",
        way: Way::TlsHttp1,
        path: BOTH,
        logged: false,
        peers: PEERS,
        bounds: &[then(Nginx, 0.65)],
    },
    Row {
        id: "handshakes",
        title: "full TLS 1.3 handshakes, one request each",
        way: Way::Handshakes,
        path: "/",
        logged: false,
        peers: PEERS,
        bounds: &[then(Nginx, 0.42), then(Envoy, 0.60)],
    },
    Row {
        id: "tls-100k",
        title: "100 KB over TLS 1.3, HTTP/1.1 keep-alive",
        way: Way::TlsHttp1,
        path: FILES[0].0,
        logged: false,
        peers: PEERS,
        bounds: &[then(Nginx, 0.80)],
    },
    Row {
        id: "tls-10m",
        title: "10 MB over TLS 1.3, HTTP/1.1 keep-alive",
        way: Way::TlsHttp1,
        path: FILES[1].0,
        logged: false,
        peers: &[Nginx],
        bounds: &[then(Nginx, 0.80)],
    },
    Row {
        id: "whole",
        title: "the whole way: TLS, JWT of 1,000 tokens, 100 routes, 100 policies, limits, hygiene, audit; nginx plain, Envoy with `jwt_authn`, `rbac`, `local_ratelimit`",
        way: Way::Whole,
        path: "",
        logged: false,
        peers: &[Nginx, Envoy],
        bounds: &[first(Nginx, 1.6), then(Nginx, 1.0), then(Envoy, 0.45)],
    },
    Row {
        id: "whole-fresh",
        title: "the whole way, every token new",
        way: Way::WholeFresh,
        path: "",
        logged: false,
        peers: &[Nginx],
        bounds: &[],
    },
];

impl Row {
    /// Whether its requests carry tokens.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.way, Way::Whole | Way::WholeFresh)
    }

    /// Whether one answer has megabytes: few connections are enough.
    pub(super) fn is_large(&self) -> bool {
        self.body_bytes() > 1 << 20
    }

    /// Bytes of each answer.
    pub(super) fn body_bytes(&self) -> usize {
        FILES
            .iter()
            .find(|(path, _)| *path == self.path)
            .map_or(crate::bench::peer::BODY_BYTES, |(_, bytes)| *bytes)
    }
}
