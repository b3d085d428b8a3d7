//! What a route matches, as a configuration says it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Method;

use crate::admit::path::canonical;
use crate::admit::{Class, host_name};
use crate::head::is_token;

/// What a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    /// The route's name, for [`super::Conflict`].
    pub name: String,
    /// Which hosts.
    pub host: HostMatch,
    /// Which paths.
    pub path: PathMatch,
    /// Which methods; empty: all.
    pub methods: Vec<Method>,
    /// Header fields that must be there: lower-case name and exact value. Of several
    /// fields of one name, each must have the value.
    pub headers: Vec<(String, String)>,
    /// Query parameters that must be there: name and exact value, decoded. Of several of
    /// one name, each must have the value.
    pub query: Vec<(String, String)>,
    /// Whether the path may hold `%2F` as data.
    pub encoded_slashes: bool,
}

/// Which hosts a route matches. Ports are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Every host.
    Any,
    /// One host.
    Exact(Box<[u8]>),
    /// Every host that ends with a dot and this.
    Wildcard(Box<[u8]>),
}

/// Which paths a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatch {
    /// The segments.
    pub(super) segments: Vec<Segment>,
    /// Whether `**` follows.
    pub(super) rest: bool,
}

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text, as admission normalises it.
    Literal(Box<[u8]>),
    /// Any text that is not empty, under this name.
    Parameter(Arc<str>),
}

/// A match cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMatch {
    /// The host.
    #[error("expected a host name, \"*.\" with a host name, or nothing, found {found:?}")]
    Host {
        /// What stood there.
        found: String,
    },
    /// The path does not begin with a slash.
    #[error("expected a path that begins with \"/\", found {found:?}")]
    Path {
        /// What stood there.
        found: String,
    },
    /// A literal part of the path is what admission refuses, or changes into another
    /// path: no request would ever match it.
    #[error("no request can have the path {found:?}: {why}")]
    Unreachable {
        /// The literal part.
        found: String,
        /// Why.
        why: &'static str,
    },
    /// A parameter's name.
    #[error(
        "a parameter is {{name}} with letters, digits and underscores, alone in its segment and once in the path; found {found:?}"
    )]
    Parameter {
        /// The segment.
        found: String,
    },
    /// `**` in the middle, or `*`.
    #[error("\"**\" can only be the last segment, and a segment cannot hold another \"*\"; found {found:?}")]
    Star {
        /// The path.
        found: String,
    },
    /// A header condition's name.
    #[error("expected a header name of letters, digits and dashes, found {found:?}")]
    Header {
        /// What stood there.
        found: String,
    },
    /// A method.
    #[error("expected methods in upper case, separated by commas, found {found:?}")]
    Method {
        /// What stood there.
        found: String,
    },
}

impl RouteMatch {
    /// Adds a header condition. The name is folded to lower case.
    ///
    /// # Errors
    /// A name that admission lets no request have.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), InvalidMatch> {
        let folded = name.to_ascii_lowercase();
        if !is_header_name(&folded) {
            return Err(InvalidMatch::Header { found: name.to_owned() });
        }
        self.headers.push((folded, value.to_owned()));
        Ok(())
    }

    /// From the short form: `[METHODS ][HOST]PATH`, for example
    /// `GET,POST shop.example.org/orders/{owner}/**`.
    ///
    /// # Errors
    /// A part of it cannot be read.
    pub fn parse(text: &str) -> Result<Self, InvalidMatch> {
        let (methods, target) = match text.split_once(' ') {
            Some((methods, target)) => (parse_methods(methods)?, target.trim_start()),
            None => (Vec::new(), text),
        };
        let slash = target.find('/').ok_or_else(|| InvalidMatch::Path { found: target.to_owned() })?;
        let (host, path) = target.split_at(slash);
        Ok(Self {
            name: text.to_owned(),
            host: host.parse()?,
            path: path.parse()?,
            methods,
            headers: Vec::new(),
            query: Vec::new(),
            encoded_slashes: false,
        })
    }
}

fn parse_methods(text: &str) -> Result<Vec<Method>, InvalidMatch> {
    text.split(',').map(|name| parse_method(name.trim())).collect()
}

/// A method that a route can match: admission lets no other through.
///
/// # Errors
/// Not upper case, or one that admission refuses.
fn parse_method(name: &str) -> Result<Method, InvalidMatch> {
    let wrong = || InvalidMatch::Method { found: name.to_owned() };
    let honest = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !honest || matches!(name, "CONNECT" | "TRACE" | "TRACK") {
        return Err(wrong());
    }
    Method::from_bytes(name.as_bytes()).map_err(|_| wrong())
}

impl FromStr for HostMatch {
    type Err = InvalidMatch;

    fn from_str(text: &str) -> Result<Self, InvalidMatch> {
        let wrong = |_| InvalidMatch::Host { found: text.to_owned() };
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => host_name(suffix).map(Self::Wildcard).map_err(wrong),
            None => host_name(text).map(Self::Exact).map_err(wrong),
        }
    }
}

impl FromStr for PathMatch {
    type Err = InvalidMatch;

    fn from_str(text: &str) -> Result<Self, InvalidMatch> {
        let path = text.strip_prefix('/').ok_or_else(|| InvalidMatch::Path { found: text.to_owned() })?;
        let mut made = Self { segments: Vec::new(), rest: false };
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment == "**" && segments.peek().is_none() {
                made.rest = true;
            } else if segment.contains('*') {
                return Err(InvalidMatch::Star { found: text.to_owned() });
            } else if segment.contains(['{', '}']) {
                let name = made.parameter(segment)?;
                made.segments.push(Segment::Parameter(name));
            } else {
                made.segments.push(Segment::Literal(literal(segment, segments.peek().is_none())?));
            }
        }
        Ok(made)
    }
}

impl PathMatch {
    /// The name of a new parameter.
    fn parameter(&self, segment: &str) -> Result<Arc<str>, InvalidMatch> {
        let wrong = || InvalidMatch::Parameter { found: segment.to_owned() };
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
        let honest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let again = self.parameters().any(|(_, known)| **known == *name);
        if name.is_empty() || !honest || again {
            return Err(wrong());
        }
        Ok(name.into())
    }

    /// Place among the segments and name of each parameter.
    pub fn parameters(&self) -> impl Iterator<Item = (usize, &Arc<str>)> {
        self.segments.iter().enumerate().filter_map(|(place, segment)| match segment {
            Segment::Parameter(name) => Some((place, name)),
            Segment::Literal(_) => None,
        })
    }

    /// The segments before `**`.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends with `**`.
    pub fn has_rest(&self) -> bool {
        self.rest
    }
}

/// A literal segment as admission would write it.
fn literal(segment: &str, last: bool) -> Result<Box<[u8]>, InvalidMatch> {
    let unreachable = |why| InvalidMatch::Unreachable { found: segment.to_owned(), why };
    if segment.is_empty() {
        // `/x/` ends with an empty segment; anywhere else slashes are merged.
        return if last { Ok(Box::default()) } else { Err(unreachable(Class::DuplicateSlashes.row().why)) };
    }
    if segment.contains(['?', '#']) {
        return Err(unreachable("a path ends where its query begins; encode ? as %3F and # as %23"));
    }
    let (path, _) = canonical(&format!("/{segment}")).map_err(|class| unreachable(class.row().why))?;
    if path == b"/" {
        return Err(unreachable(Class::DotSegments.row().why));
    }
    Ok(path.get(1..).unwrap_or_default().into())
}

/// Whether a text can be the name of a header condition: a lower-case token without
/// underscore, which admission lets through.
fn is_header_name(name: &str) -> bool {
    let honest = |byte: u8| is_token(byte) && !byte.is_ascii_uppercase() && byte != b'_';
    !name.is_empty() && name.bytes().all(honest)
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exact(name) => f.write_str(&String::from_utf8_lossy(name)),
            Self::Wildcard(suffix) => write!(f, "*.{}", String::from_utf8_lossy(suffix)),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{}", String::from_utf8_lossy(text))?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.rest { f.write_str("/**") } else { Ok(()) }
    }
}
