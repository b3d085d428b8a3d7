//! Which route a request would take that nobody has sent: for policy tests and for
//! hypothetical explanations. It goes through the same parser, admission and router as
//! a real one.

use std::collections::BTreeMap;

use bytes::BytesMut;
use policy::testing::{OneOrMany, What};
use proxy::admit::admit;
use proxy::http1::request::Reader;
use proxy::route::WhyUnrouted;
use proxy::{Admission, Limits, Router};

use crate::config::Configuration;

/// The request for a tunnel names a port; routes do not.
const PORT_OF_TUNNEL: u16 = 1;

/// Finds routes.
pub struct Finder {
    router: Router,
    names: Vec<String>,
    limits: Limits,
}

/// Where a request arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The route's name.
    pub route: String,
    /// The path parameters.
    pub parameters: BTreeMap<String, String>,
    /// The normalised path, as policies see it.
    pub path: Vec<u8>,
}

impl Finder {
    /// For the routes of a configuration.
    ///
    /// # Errors
    /// The routes cannot be told apart, which [`crate::config::load`] has found before.
    pub fn new(configuration: &Configuration) -> anyhow::Result<Self> {
        Ok(Self {
            router: super::router(configuration)?,
            names: configuration.routes.iter().map(|route| route.name.clone()).collect(),
            limits: Limits::default(),
        })
    }

    /// The name of the route and the path parameters.
    ///
    /// # Errors
    /// Admission would refuse the request, or no route takes it: why, in one line.
    pub fn find(&self, what: &What) -> Result<(String, BTreeMap<String, String>), String> {
        self.place(what).map(|place| (place.route, place.parameters))
    }

    /// Where the request would arrive. `CONNECT` is an opaque connection to the service that the
    /// host names.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn place(&self, what: &What) -> Result<Place, String> {
        let method = what.method.as_deref().unwrap_or("GET");
        let host = what.host.as_deref().unwrap_or("localhost");
        let opaque = method == "CONNECT";
        let tunnel = format!("{host}:{PORT_OF_TUNNEL}");
        let path = match opaque {
            true => tunnel.as_str(),
            false => what.path.as_deref().ok_or("the case names neither a route nor a path")?,
        };
        let mut head = BytesMut::new();
        head.extend_from_slice(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").as_bytes());
        for (name, values) in &what.headers {
            let values = match values {
                OneOrMany::One(value) => std::slice::from_ref(value),
                OneOrMany::Many(values) => values.as_slice(),
            };
            for value in values {
                head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        head.extend_from_slice(b"\r\n");
        let refused = |refusal: proxy::Refusal| format!("admission would refuse it: {refusal}");
        let raw = Reader::new().read(&mut head, &self.limits).map_err(refused)?;
        let raw = raw.ok_or("the request is not one head")?;
        // No client's request is an opaque connection; read like this, it comes down to the same.
        let admission = Admission { lenient: opaque, ..Admission::default() };
        let admitted = admit(raw, &admission, &self.limits, false).map_err(refused)?;
        let routed =
            self.router.route(admitted).map_err(|unrouted| format!("no route: {}", why(&unrouted.why)))?;
        let name = self.names.get(routed.route().0 as usize).cloned().unwrap_or_default();
        let parameters = routed.parameters().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let path = policy::Subject::path(&routed).to_vec();
        Ok(Place { route: name, parameters: parameters.collect(), path })
    }
}

fn why(why: &WhyUnrouted) -> String {
    let status = why.status();
    match why {
        WhyUnrouted::NotFound => format!("nothing matches host, path and header fields ({status})"),
        WhyUnrouted::MethodNotAllowed { allow } => format!("only for other methods, {allow} ({status})"),
        WhyUnrouted::EncodedSlash { .. } => format!("the path holds %2F ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Disk, load};

    const CONFIGURATION: &str = "\
listen: [ { address: 127.0.0.1:0 } ]
services: { orders: [ http://127.0.0.1:1 ] }
routes:
  - { name: orders, match: \"GET shop.example/orders/{owner}/**\", to: orders, authenticate: none, allow: anyone }
  - { name: db, match: \"db/**\", to: orders, authenticate: none, allow: anyone }
";

    #[test]
    fn finds_what_a_real_request_would_find() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bastide.yaml");
        std::fs::write(&path, CONFIGURATION).unwrap();
        let configuration = load(&path, &|_| None, &Disk).unwrap();
        let finder = Finder::new(&configuration).unwrap();
        let what = |path: &str| What {
            host: Some("shop.example".to_owned()),
            path: Some(path.to_owned()),
            ..What::default()
        };
        let (name, parameters) = finder.find(&what("/x/../orders/al%69ce/1")).unwrap();
        assert_eq!((name.as_str(), parameters["owner"].as_str()), ("orders", "alice"));
        assert!(finder.find(&what("/orders/..;/1")).unwrap_err().contains("admission"));
        let opaque =
            What { method: Some("CONNECT".to_owned()), host: Some("db".to_owned()), ..What::default() };
        let place = finder.place(&opaque).unwrap();
        assert_eq!(
            (place.route.as_str(), place.path.as_slice(), place.parameters.len()),
            ("db", &b"/"[..], 0)
        );
        let elsewhere = What { host: Some("queue".to_owned()), ..opaque };
        assert!(finder.find(&elsewhere).unwrap_err().contains("no route"));
        assert!(finder.find(&what("/elsewhere")).unwrap_err().contains("no route"));
    }
}
