//! Where servers are said to be, and what those together mean that could not be had.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio_postgres::config::Host;

use super::session::{CONNECT_WITHIN, within};
use crate::error::Error;

/// Where one server is said to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) host: Option<Host>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

impl Place {
    /// Its addresses, at least one; `None`: it needs none.
    pub(super) async fn addresses(&self) -> Result<Vec<Option<IpAddr>>, Error> {
        let name = match (&self.host, self.address) {
            (Some(Host::Tcp(name)), None) => name,
            (_, address) => return Ok(vec![address]),
        };
        let unknown = |why: &dyn fmt::Display| Error::Unavailable(why.to_string());
        let looked_up = tokio::net::lookup_host((name.as_str(), self.port));
        let found = within(CONNECT_WITHIN, looked_up).await?.map_err(|error| unknown(&error))?;
        let found: Vec<_> = found.map(|found| Some(found.ip())).collect();
        if found.is_empty() { Err(unknown(&"the name has no address")) } else { Ok(found) }
    }

    /// The same with the address at which its name was found.
    pub(super) fn at(&self, address: Option<IpAddr>) -> Self {
        Self { address: address.or(self.address), ..self.clone() }
    }
}

/// For people: `db.example:5432 (192.0.2.7)`.
impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, port } = self;
        match (host, address) {
            (Some(Host::Unix(path)), _) => write!(out, "{}, port {port}", path.display()),
            (Some(Host::Tcp(name)), Some(address)) if name.parse() == Ok(*address) => {
                SocketAddr::new(*address, *port).fmt(out)
            }
            (Some(Host::Tcp(name)), Some(address)) => write!(out, "{name}:{port} ({address})"),
            (Some(Host::Tcp(name)), None) => write!(out, "{name}:{port}"),
            (None, Some(address)) => SocketAddr::new(*address, *port).fmt(out),
            (None, None) => write!(out, "port {port}"),
        }
    }
}

/// Why each of several places could not be had. Together it is the settings' fault only where
/// each of them says so: one that does not answer may be the right one, and come back.
#[derive(Default)]
pub(super) struct Faults {
    all: Vec<(String, Error)>,
}

impl Faults {
    pub(super) fn add(&mut self, place: &Place, fault: Error) {
        self.all.push((place.to_string(), fault));
    }

    pub(super) fn into_error(self) -> Error {
        if self.all.is_empty() {
            return Error::Settings("the connection string names no host".to_owned());
        }
        let kind: fn(String) -> Error = match self.all.as_slice() {
            [(_, Error::Full(_))] => Error::Full,
            [(_, Error::Corrupt(_))] => Error::Corrupt,
            all if all.iter().all(|(_, fault)| matches!(fault, Error::Settings(_))) => Error::Settings,
            _ => Error::Unavailable,
        };
        let said = self.all.into_iter().map(|(place, fault)| match fault {
            Error::Settings(why) | Error::Unavailable(why) | Error::Full(why) | Error::Corrupt(why) => {
                format!("{place}: {why}")
            }
            other => format!("{place}: {other}"),
        });
        kind(said.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: Option<&str>, address: Option<&str>) -> Place {
        let host = host.map(|name| match name.starts_with('/') {
            true => Host::Unix(name.into()),
            false => Host::Tcp(name.to_owned()),
        });
        Place { host, address: address.map(|address| address.parse().unwrap()), port: 5432 }
    }

    #[test]
    fn a_place_is_told_with_host_and_address() {
        for (host, address, told) in [
            (Some("db.example"), None, "db.example:5432"),
            (Some("db.example"), Some("192.0.2.7"), "db.example:5432 (192.0.2.7)"),
            (Some("192.0.2.7"), Some("192.0.2.7"), "192.0.2.7:5432"),
            (None, Some("2001:db8::7"), "[2001:db8::7]:5432"),
            (Some("/run/postgresql"), None, "/run/postgresql, port 5432"),
        ] {
            assert_eq!(place(host, address).to_string(), told);
        }
        let found = place(Some("db.example"), None).at(Some("192.0.2.7".parse().unwrap()));
        assert_eq!(found.to_string(), "db.example:5432 (192.0.2.7)");
    }

    #[test]
    fn it_is_final_only_where_every_place_says_so() {
        let (a, b) = (place(Some("a"), None), place(Some("b"), None));
        let together = |faults: Vec<(&Place, Error)>| {
            let mut all = Faults::default();
            faults.into_iter().for_each(|(place, fault)| all.add(place, fault));
            all.into_error()
        };
        let silent = || Error::Unavailable("no answer within 5 s".to_owned());
        let refused = || Error::Settings("28000: no entry".to_owned());
        for (faults, is_final, told) in [
            (vec![(&a, silent())], false, "a:5432: no answer within 5 s"),
            (vec![(&a, refused())], true, "a:5432: 28000: no entry"),
            (
                vec![(&a, silent()), (&b, refused())],
                false,
                "a:5432: no answer within 5 s; b:5432: 28000: no entry",
            ),
            (
                vec![(&a, refused()), (&b, silent())],
                false,
                "a:5432: 28000: no entry; b:5432: no answer within 5 s",
            ),
            (
                vec![(&a, refused()), (&b, refused())],
                true,
                "a:5432: 28000: no entry; b:5432: 28000: no entry",
            ),
        ] {
            match together(faults) {
                Error::Settings(why) => assert_eq!((is_final, &*why), (true, told)),
                Error::Unavailable(why) => assert_eq!((is_final, &*why), (false, told)),
                other => panic!("{other}"),
            }
        }
        let full = || Error::Full("53100: disk".to_owned());
        assert!(matches!(together(vec![(&a, full())]), Error::Full(why) if why == "a:5432: 53100: disk"));
        assert!(matches!(together(vec![(&a, full()), (&b, refused())]), Error::Unavailable(_)));
        assert!(matches!(together(Vec::new()), Error::Settings(_)));
    }
}
