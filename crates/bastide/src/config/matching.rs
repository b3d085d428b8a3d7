//! `match:`: which requests a route takes.

use std::fmt;

use http::Method;
use model::suggestion::nearest;
use proxy::route::{InvalidMatch, PathMatch, RouteMatch};

use super::decoder::Decoder;
use super::node::{Node, Value};
use super::schema::{Section, key};
use super::values::{self, Unfit};

/// Which requests a route matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Host.
    pub host: HostMatch,
    /// Path pattern, starts with `/`: literal segments, `{name}` for one segment, `**`
    /// as the last segment for any rest.
    pub path: String,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// Headers that must be there with exactly this value: lower-case name, value.
    pub headers: Vec<(String, String)>,
    /// Query parameters that must be there with exactly this value, decoded.
    pub query: Vec<(String, String)>,
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostMatch {
    /// Any.
    Any,
    /// Exactly this one, lower case, without port.
    Exact(String),
    /// `*.` and this: one or more labels in front, never this alone. Lower case.
    Wildcard(String),
}

impl Match {
    /// The names of the path parameters, in their order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// What the router takes.
    ///
    /// # Errors
    /// Never for a match of a checked configuration.
    pub fn to_route_match(&self, name: &str, encoded_slashes: bool) -> Result<RouteMatch, InvalidMatch> {
        let host = match &self.host {
            HostMatch::Any => String::new(),
            HostMatch::Exact(host) => host.clone(),
            HostMatch::Wildcard(host) => format!("*.{host}"),
        };
        let mut made = RouteMatch {
            name: name.to_owned(),
            host: host.parse()?,
            path: self.path.parse()?,
            methods: self.methods.clone(),
            headers: Vec::new(),
            query: self.query.clone(),
            encoded_slashes,
        };
        for (name, value) in &self.headers {
            made.header(name, value)?;
        }
        Ok(made)
    }
}

/// `GET,POST shop.example.org/orders/{owner}/**`: the short form, without headers.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, method) in self.methods.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "," })?;
            f.write_str(method.as_str())?;
        }
        if !self.methods.is_empty() {
            f.write_str(" ")?;
        }
        match &self.host {
            HostMatch::Any => {}
            HostMatch::Exact(host) => f.write_str(host)?,
            HostMatch::Wildcard(host) => write!(f, "*.{host}")?,
        }
        f.write_str(&self.path)
    }
}

pub(super) const MATCH: Section = Section {
    path: "routes[].match",
    about: "Which requests a route matches. The most specific route wins: exact host before the longest wildcard before any; from the left, literal segment before `{parameter}` before `**`; named methods before any; more headers. Two routes that tie are a fault.",
    short: "methods, host and path as a text: `GET,POST shop.example.org/orders/{owner}/**`; without host: `/orders/**`",
    keys: &[
        key(
            "host",
            "host name, or `*.` and a host name",
            "any",
            "The host that was asked for, without port. `*.example.org` is one or more labels in front, not `example.org` itself.",
        ),
        key(
            "path",
            "path pattern",
            "/**",
            "Literal segments, `{name}` for one segment, `**` at the end for any rest: `/x/**` matches `/x`, `/x/` and everything below. Compared with the normalised path.",
        ),
        key(
            "methods",
            "method or list of methods",
            "any",
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; CONNECT for opaque connections.",
        ),
        key(
            "headers",
            "map of header name to value",
            "none",
            "Headers that must be present with exactly this value.",
        ),
        key(
            "query",
            "map of parameter name to value",
            "none",
            "Query parameters that must be present with exactly this value; if a name occurs several times, each of them.",
        ),
        key(
            "grpc",
            "package.Service, or package.Service/Method",
            "none",
            "gRPC calls of a service or method: `POST /package.Service/Method`. Instead of `path` and `methods`.",
        ),
    ],
};

/// Methods that a route can name, besides `CONNECT`, which is what opaque connections come
/// with. As a request CONNECT is never admitted, nor is TRACE.
pub(super) const METHODS: [(&str, Method); 7] = [
    ("GET", Method::GET),
    ("HEAD", Method::HEAD),
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("PATCH", Method::PATCH),
    ("DELETE", Method::DELETE),
    ("OPTIONS", Method::OPTIONS),
];

/// Most segments of a path pattern.
const SEGMENTS_MAX: usize = 64;

pub(super) fn method(text: &str) -> Result<Method, Unfit> {
    if let Some((_, method)) = METHODS.iter().find(|(name, _)| *name == text) {
        return Ok(method.clone());
    }
    if text == "CONNECT" {
        return Ok(Method::CONNECT);
    }
    let near = nearest(text, METHODS.iter().map(|(name, _)| *name));
    Err(Unfit {
        expected: "a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        instead: near.map(str::to_owned),
    })
}

/// What other products call all methods; here that is a match without any.
const EVERY_METHOD: [&str; 4] = ["*", "ALL", "ANY", "any"];

/// Whether it is one, in whatever case.
pub(super) fn is_method(text: &str) -> bool {
    METHODS.iter().any(|(name, _)| name.eq_ignore_ascii_case(text))
}

fn methods(text: &str) -> Result<Vec<Method>, Unfit> {
    let each: Vec<_> = text.split(',').map(|name| (name.trim(), method(name.trim()))).collect();
    let meant = each.iter().map(|(name, read)| match read {
        Ok(_) => Some((*name).to_owned()),
        Err(unfit) => unfit.instead.clone(),
    });
    let meant = meant.collect::<Option<Vec<_>>>().map(|names| names.join(","));
    let read = each.into_iter().map(|(_, read)| read);
    read.map(|read| read.map_err(|unfit| Unfit { instead: meant.clone(), ..unfit })).collect()
}

fn host_match(text: &str) -> Result<HostMatch, Unfit> {
    if text == "*" {
        return Ok(HostMatch::Any);
    }
    match text.strip_prefix("*.") {
        Some(rest) => values::host(rest).map(HostMatch::Wildcard),
        // Admission writes IPv6 addresses in brackets.
        None => values::host(text).map(|host| match host.contains(':') {
            true => HostMatch::Exact(format!("[{host}]")),
            false => HostMatch::Exact(host),
        }),
    }
}

/// A path pattern. What no request can have after admission is found by
/// [`PathMatch`].
pub(super) fn path_pattern(text: &str) -> Result<String, Unfit> {
    values::mended(text, path_pattern_once)
}

fn path_pattern_once(text: &str) -> Result<String, Unfit> {
    let unfit = |expected: &'static str, instead: Option<String>| Err(Unfit { expected, instead });
    if is_expression(text) {
        return unfit(NO_EXPRESSIONS, None);
    }
    let Some(rest) = text.strip_prefix('/') else {
        return unfit("a path that begins with /", Some(format!("/{text}")));
    };
    if text.contains(['?', '#']) {
        return unfit("a path without query and fragment", None);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return unfit("a path of visible ASCII characters", None);
    }
    let mut names: Vec<&str> = Vec::new();
    let count = rest.split('/').count();
    if count > SEGMENTS_MAX {
        return unfit("a path of at most 64 segments", None);
    }
    for (number, segment) in rest.split('/').enumerate() {
        let last = number + 1 == count;
        match segment {
            "" if last => {}
            "" => return unfit("a path without empty segments (//)", Some(text.replace("//", "/"))),
            "." | ".." => return unfit("a path without dot segments", None),
            "**" if last => {}
            "**" => return unfit("** as the last segment only", None),
            "*" => {
                return unfit(
                    "{name} for one segment and ** for any rest",
                    Some(text.replacen("/*", "/{name}", 1)),
                );
            }
            _ if foreign_parameter(segment).is_some() => {
                let ours = rest.split('/').map(|one| match foreign_parameter(one) {
                    Some(name) => format!("/{{{name}}}"),
                    None => format!("/{one}"),
                });
                return unfit("{name} for one segment", Some(ours.collect()));
            }
            _ if last && is_beginning(segment) => {
                let above = text.trim_end_matches('*');
                return unfit("** as a whole segment, for any rest", Some(format!("{above}/**")));
            }
            _ if segment.contains(['{', '}', '*']) => {
                let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
                let Some(name) = name.filter(|name| is_identifier(name)) else {
                    return unfit(
                        "{name} as a whole segment, the name of letters, digits and underscores",
                        None,
                    );
                };
                if names.contains(&name) {
                    return unfit("path parameters with different names", None);
                }
                names.push(name);
            }
            _ => {}
        }
    }
    Ok(text.to_owned())
}

const NO_EXPRESSIONS: &str =
    "a path without regular expressions: {parameter} takes one segment, ** at the end any rest";

/// Whether it is written as a regular expression of another gateway.
fn is_expression(path: &str) -> bool {
    path.starts_with(['~', '^'])
        || path.ends_with(".+")
        || [".*", ".+/", "\\"].iter().any(|sign| path.contains(sign))
}

/// `:id` and `<id>`, as other products write a parameter.
fn foreign_parameter(segment: &str) -> Option<&str> {
    let angled = segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    segment.strip_prefix(':').or(angled).filter(|name| is_identifier(name))
}

/// `orders*`: the beginning of a segment, and more.
fn is_beginning(segment: &str) -> bool {
    let name = segment.trim_end_matches('*');
    !name.is_empty() && name.len() < segment.len() && !name.contains(['{', '}', '*'])
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The short form.
fn short(text: &str) -> Result<Match, Unfit> {
    values::mended(text, short_once)
}

/// Why a blank behind the first slash of a target cannot be, and what is meant: one in the path, or methods that stand
/// behind it.
fn blank_in_path(methods: Option<&str>, target: &str) -> Option<Unfit> {
    let words: Vec<&str> = target.split_whitespace().collect();
    let (last, before) = words.split_last()?;
    before.first().filter(|first| first.contains('/'))?;
    if methods.is_none() && last.split(',').all(is_method) {
        let instead = Some(format!("{last} {}", before.join("%20")));
        return Some(Unfit { expected: "methods in front of the path", instead });
    }
    let path = words.join("%20");
    let instead = Some(methods.map_or(path.clone(), |methods| format!("{methods} {path}")));
    Some(Unfit { expected: "a path without blanks, which stand in it as %20", instead })
}

/// The short form; what is written instead may have a mistake less, and others still.
fn short_once(text: &str) -> Result<Match, Unfit> {
    let (before, target) = match text.trim().split_once(char::is_whitespace) {
        Some((methods, target)) => (Some(methods), target.trim_start()),
        None => (None, text.trim()),
    };
    if let Some(unfit) = blank_in_path(None, text).or_else(|| blank_in_path(before, target)) {
        return Err(unfit);
    }
    if target.contains(char::is_whitespace) {
        return Err(Unfit { expected: "a match such as GET,POST shop.example.org/orders/**", instead: None });
    }
    if before.is_some_and(|methods| EVERY_METHOD.contains(&methods)) {
        return Err(Unfit { expected: "no method where any is meant", instead: Some(target.to_owned()) });
    }
    if let Some((_, rest)) = target.split_once("://") {
        let instead = before.map_or(rest.to_owned(), |methods| format!("{methods} {rest}"));
        return Err(Unfit { expected: "a host and a path without scheme", instead: Some(instead) });
    }
    // What is written instead is the whole match.
    let within =
        |unfit: Unfit, whole: &dyn Fn(String) -> String| Unfit { instead: unfit.instead.map(whole), ..unfit };
    let methods = before.map_or(Ok(Vec::new()), methods);
    let methods = methods.map_err(|unfit| within(unfit, &|methods| format!("{methods} {target}")))?;
    if is_expression(target) {
        return Err(Unfit { expected: NO_EXPRESSIONS, instead: None });
    }
    let Some(slash) = target.find('/') else {
        let instead = before.map_or(format!("{target}/**"), |methods| format!("{methods} {target}/**"));
        return Err(Unfit { expected: "a path after the host", instead: Some(instead) });
    };
    let (host, path) = target.split_at_checked(slash).unwrap_or((target, ""));
    let begin = before.map_or_else(String::new, |methods| format!("{methods} "));
    let matched = if host.is_empty() { Ok(HostMatch::Any) } else { host_match(host) };
    let matched = matched.map_err(|unfit| within(unfit, &|host| format!("{begin}{host}{path}")))?;
    let pattern = path_pattern_once(path);
    let pattern = pattern.map_err(|unfit| within(unfit, &|path| format!("{begin}{host}{path}")))?;
    Ok(Match { host: matched, path: pattern, methods, headers: Vec::new(), query: Vec::new() })
}

/// `package.Service` or `package.Service/Method` as the path of its calls (gRPC over
/// HTTP/2, "Path").
fn grpc(text: &str) -> Result<String, Unfit> {
    let name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
    };
    let fits = match text.split_once('/') {
        Some((service, method)) => name(service) && name(method) && !method.contains('.'),
        None => name(text),
    };
    match (fits, text.contains('/')) {
        (true, true) => Ok(format!("/{text}")),
        (true, false) => Ok(format!("/{text}/{{method}}")),
        (false, _) => {
            let instead = text.strip_prefix('/').or_else(|| text.strip_suffix("/*")).map(str::to_owned);
            Err(Unfit { expected: "a gRPC service or method such as shop.v1.Orders/Place", instead })
        }
    }
}

impl Decoder<'_> {
    /// A map of query parameters to values.
    fn query_values(&mut self, node: &Node) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in self.named(node, "a map of query parameters") {
            list.extend(self.text(value).map(|text| (name.text.clone(), text.to_owned())));
        }
        list
    }

    /// `match:` of a route.
    pub(super) fn matches(&mut self, node: &Node) -> Option<Match> {
        let matches = self.any_match(node)?;
        match matches.path.parse::<PathMatch>() {
            Ok(_) => Some(matches),
            Err(invalid) => {
                self.fault(node.at, invalid.to_string());
                None
            }
        }
    }

    fn any_match(&mut self, node: &Node) -> Option<Match> {
        if !matches!(node.value, Value::Map(_)) {
            return self.value(node, short).map(sorted);
        }
        let table = self.table(node, &MATCH)?;
        let host = table.get("host").map(|node| self.value(node, host_match));
        let path = table.get("path").map(|node| self.value(node, path_pattern));
        let mut chosen = Vec::new();
        for item in table.get("methods").map_or(&[][..], Node::items) {
            chosen.extend(self.value(item, methods).unwrap_or_default());
        }
        let headers = table.get("headers").map_or(Vec::new(), |node| self.header_values(node));
        let query = table.get("query").map_or(Vec::new(), |node| self.query_values(node));
        let grpc = table.get("grpc").map(|node| self.value(node, grpc));
        if grpc.is_some() {
            for key in ["path", "methods"] {
                if table.get(key).is_some() {
                    self.fault(
                        table.key_at(key),
                        format!("grpc says path and method, so {key} has no meaning"),
                    );
                }
            }
            chosen = vec![Method::POST];
        }
        let path = grpc.or(path);
        Some(sorted(Match {
            query,
            host: host.unwrap_or(Some(HostMatch::Any))?,
            path: path.unwrap_or_else(|| Some("/**".to_owned()))?,
            methods: chosen,
            headers,
        }))
    }
}

/// The order in which methods and headers are written means nothing.
fn sorted(mut matches: Match) -> Match {
    let place = |method: &Method| METHODS.iter().position(|(_, known)| known == method);
    matches.methods.sort_by_key(place);
    matches.methods.dedup();
    matches.headers.sort();
    matches.query.sort();
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_short_form() {
        for (text, host, path, methods) in [
            ("/**", HostMatch::Any, "/**", vec![]),
            ("shop.example.org/orders/**", HostMatch::Exact("shop.example.org".into()), "/orders/**", vec![]),
            ("Shop.Example.org/", HostMatch::Exact("shop.example.org".into()), "/", vec![]),
            (
                "GET *.example.org/a/{id}",
                HostMatch::Wildcard("example.org".into()),
                "/a/{id}",
                vec![Method::GET],
            ),
            ("GET,POST  /x", HostMatch::Any, "/x", vec![Method::GET, Method::POST]),
        ] {
            let expected = Match { host, path: path.into(), methods, headers: vec![], query: vec![] };
            assert_eq!(short(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_can_never_match() {
        for text in [
            "",
            "shop.example.org",
            "GET",
            "https://shop.example.org/",
            "shop.example.org:443/x",
            "GTE /x",
            "get /x",
            "GET POST /x",
            "/a/../b",
            "/a/./b",
            "/a//b",
            "/a?b",
            "/a#b",
            "/**/a",
            "/a*",
            "/{a}{b}",
            "/{}",
            "/{1a}",
            "/{a}/{a}",
            "/a{b}",
            "*/x/*",
            "a.*.b/x",
            "/é",
        ] {
            assert!(short(text).is_err(), "{text}");
        }
        assert_eq!(short("shop.example.org").unwrap_err().instead.as_deref(), Some("shop.example.org/**"));
        assert_eq!(short("/a/*").unwrap_err().instead.as_deref(), Some("/a/{name}"));
        assert_eq!(short("/a/:id/<b>").unwrap_err().instead.as_deref(), Some("/a/{id}/{b}"));
        assert!(short("/a/x:id").is_ok() && short("/a/:9/:").is_ok());
    }

    #[test]
    fn says_its_own_short_form() {
        for text in ["/**", "GET,POST shop.example.org/orders/{owner}/**", "DELETE *.example.org/x"] {
            assert_eq!(short(text).unwrap().to_string(), text);
        }
    }
}
