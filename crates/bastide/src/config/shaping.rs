//! What a route changes on the way: the path, the answer, its coding; and routes that
//! answer themselves.

use bytes::Bytes;
use gateway::response::compress::{Coding, Compression};
use gateway::step::answer::OwnAnswer;
use gateway::template::{Piece, Template};
use http::StatusCode;
use model::suggestion::nearest;
use proxy::forward::{PathPiece, PathTemplate};

use super::Match;
use super::decoder::{Decoder, Table};
use super::node::Node;
use super::schema::{Section, key};
use super::values::{self, Unfit};

pub(super) const REDIRECT: Section = Section {
    path: "routes[].redirect",
    about: "Redirects clients, instead of forwarding to an upstream. The query is kept unless `to` has one.",
    short: "where to: `redirect: https://new.example.org{path}`",
    keys: &[
        key(
            "to",
            "URI or path, with places",
            "",
            "Where to. `{name}` is a path parameter, `{**}` the rest, `{path}` the whole path, `{host}` the host; `{{` is a brace.",
        ),
        key("status", "301, 302, 303, 307 or 308", "308", "The status: 308 and 307 keep method and body."),
    ],
};

pub(super) const RESPOND: Section = Section {
    path: "routes[].respond",
    about: "A fixed response, instead of forwarding to an upstream.",
    short: "the status: `respond: 404`",
    keys: &[
        key("status", "200 to 599", "200", "The status."),
        key("content_type", "media type", "text/plain; charset=utf-8", "The body's media type."),
        key("body", "text up to 64KiB", "nothing", "The body."),
    ],
};

pub(super) const COMPRESS: Section = Section {
    path: "routes[].compress",
    about: "Compresses responses for clients that accept it. Off by default: a response that contains a secret and repeats what the client sent reveals the secret by its length (BREACH). Requests that a browser marks as cross-site, event streams, gRPC and responses that are already encoded are left alone.",
    short: "`true`: the defaults",
    keys: &[
        key(
            "codings",
            "zstd, br, gzip, or a list of these",
            "[ zstd, br, gzip ]",
            "The codings, the preferred first.",
        ),
        key("min_size", "size", "1KiB", "Responses that are known to be shorter are left alone."),
        key(
            "types",
            "media type or list of these",
            "text/*, application/json, *+json, *+xml, application/javascript, application/xml",
            "The media types; `text/*` covers a type, `*+json` a suffix.",
        ),
    ],
};

const CODINGS: &[(&str, Coding)] = &[("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];
const TYPES: [&str; 6] =
    ["text/*", "application/json", "*+json", "*+xml", "application/javascript", "application/xml"];
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// Longest body of a fixed response, bytes.
const RESPOND_BYTES_MAX: usize = 64 * 1024;
const MIN_SIZE_DEFAULT: u64 = 1024;

/// Which places a text may have besides path parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// `{**}`
    Rest,
    /// `{**}`, `{host}`, `{path}`
    Whole,
}

/// A piece of a text that was taken apart.
enum Found {
    Text(String),
    Place(String),
}

/// `a{b}c` taken apart; `{{` and `}}` are braces.
fn pieces(text: &str) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            plain.push_str(brace.get(..1)?);
            rest = after;
            continue;
        }
        let (name, after) = brace.strip_prefix('{')?.split_once('}')?;
        if !plain.is_empty() {
            found.push(Found::Text(std::mem::take(&mut plain)));
        }
        found.push(Found::Place(name.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        found.push(Found::Text(plain));
    }
    Some(found)
}

/// The place of `**` among the segments of a pattern.
fn rest_place(pattern: &str) -> Option<usize> {
    let segments: Vec<&str> = pattern.get(1..)?.split('/').collect();
    (segments.last() == Some(&"**")).then_some(segments.len() - 1)
}

fn parameter_place(pattern: &str, name: &str) -> Option<usize> {
    let braced = format!("{{{name}}}");
    pattern.get(1..)?.split('/').position(|segment| segment == braced)
}

fn compressed_type(text: &str) -> Result<String, Unfit> {
    let folded = text.to_ascii_lowercase();
    let (kind, subtype) = folded.split_once('/').unwrap_or(("*", folded.as_str()));
    let suffix = kind == "*" && subtype.starts_with("*+");
    let plain = !kind.contains('*') && (subtype == "*" || !subtype.contains('*'));
    let honest = folded.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._/*".contains(&b));
    if honest && (suffix || (plain && folded.contains('/') && !kind.is_empty() && !subtype.is_empty())) {
        return Ok(folded);
    }
    Err(Unfit { expected: "a media type such as application/json, text/* or *+json", instead: None })
}

impl Decoder<'_> {
    /// A text with places.
    pub(super) fn template(
        &mut self,
        node: &Node,
        text: &str,
        matches: Option<&Match>,
        places: Places,
    ) -> Option<Template> {
        let Some(found) = pieces(text) else {
            self.advise(
                node.at,
                format!("expected {{name}} for each place, found {}", node.shown()),
                "write {{ and }} for braces",
            );
            return None;
        };
        let mut template = Template::default();
        for piece in found {
            template.pieces.push(match piece {
                Found::Text(text) => Piece::Text(text),
                Found::Place(name) => self.place_of(node, &name, matches, places)?,
            });
        }
        Some(template)
    }

    fn place_of(
        &mut self,
        node: &Node,
        name: &str,
        matches: Option<&Match>,
        places: Places,
    ) -> Option<Piece> {
        // A match that could not be read is a fault already.
        let matches = matches?;
        let mut known: Vec<&str> = matches.parameters().collect();
        if known.contains(&name) {
            return Some(Piece::Parameter(name.to_owned()));
        }
        let rest = rest_place(&matches.path);
        match (name, places, rest) {
            ("**", _, Some(place)) => return Some(Piece::Rest(place)),
            ("host", Places::Whole, _) => return Some(Piece::Host),
            ("path", Places::Whole, _) => return Some(Piece::Path),
            _ => {}
        }
        if rest.is_some() {
            known.push("**");
        }
        if places == Places::Whole {
            known.extend(["host", "path"]);
        }
        let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean {{{near}}}?"));
        let all = known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
        let suggestion = near.unwrap_or(match all.is_empty() {
            true => "the match has no parameters; write {{ for a brace".to_owned(),
            false => format!("known: {all}; write {{{{ for a brace"),
        });
        let what = if node.expanded() { node.shown() } else { format!("{{{name}}}") };
        self.advise(node.at, format!("unknown place {what}"), suggestion);
        None
    }

    /// `rewrite:`: a path with places.
    pub(super) fn rewrite(&mut self, node: &Node, matches: Option<&Match>) -> Option<PathTemplate> {
        let text = self.text(node)?.to_owned();
        let found = pieces(&text).filter(|_| text.starts_with('/'));
        let Some(found) = found else {
            self.expected(node, "a path such as /v2/{id}/{**}");
            return None;
        };
        let pattern = &matches?.path;
        let mut template = PathTemplate::default();
        for piece in found {
            template.pieces.push(match piece {
                Found::Text(text) => PathPiece::Text(Bytes::from(text)),
                Found::Place(name) => match (name.as_str(), rest_place(pattern)) {
                    ("**", Some(place)) => PathPiece::Rest(place),
                    _ => match parameter_place(pattern, &name) {
                        Some(place) => PathPiece::Segment(place),
                        None => {
                            self.place_of(node, &name, matches, Places::Rest)?;
                            return None;
                        }
                    },
                },
            });
        }
        // Tried with harmless segments: what fails now would fail always.
        let sample = pattern.replace("**", "x").replace(['{', '}'], "");
        let made = template.fill(sample.as_bytes());
        if proxy::admit::path::readmit(&made, usize::MAX, false).is_err() {
            self.expected(node, "a path that admission lets through as it stands");
            return None;
        }
        Some(template)
    }

    /// `redirect:` or `respond:`.
    pub(super) fn own_answer(&mut self, table: &Table<'_>, matches: Option<&Match>) -> Option<OwnAnswer> {
        match (table.get("redirect"), table.get("respond")) {
            (Some(node), None) => self.redirect(node, matches),
            (None, Some(node)) => self.respond(node),
            (Some(_), Some(_)) => {
                self.fault(table.key_at("respond"), "a route either redirects or responds");
                None
            }
            (None, None) => None,
        }
    }

    fn redirect(&mut self, node: &Node, matches: Option<&Match>) -> Option<OwnAnswer> {
        let (to, status) = if node.text().is_some() {
            (node, None)
        } else {
            let table = self.table(node, &REDIRECT)?;
            (self.required(&table, "to")?, table.get("status"))
        };
        let status = match status {
            Some(node) => {
                let number: u16 = self.number(node, 301, 308)?;
                if !REDIRECTS.contains(&number) {
                    self.expected(node, "301, 302, 303, 307 or 308");
                }
                number
            }
            None => 308,
        };
        let text = self.text(to)?.to_owned();
        let honest = text.starts_with("https://")
            || text.starts_with("http://")
            || (text.starts_with('/') && !text.starts_with("//"))
            || text.starts_with("{path}");
        if !honest || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.expected(to, "an absolute URI or a path such as https://new.example.org{path}");
            return None;
        }
        let to = self.template(to, &text, matches, Places::Whole)?;
        Some(OwnAnswer::Redirect { status: StatusCode::from_u16(status).ok()?, to })
    }

    fn respond(&mut self, node: &Node) -> Option<OwnAnswer> {
        let mut answer = (200, "text/plain; charset=utf-8".to_owned(), Bytes::new());
        if node.text().is_some() {
            answer.0 = self.number(node, 200, 599)?;
        } else {
            let table = self.table(node, &RESPOND)?;
            if let Some(node) = table.get("status") {
                answer.0 = self.number(node, 200, 599)?;
            }
            if let Some(node) = table.get("content_type") {
                answer.1 = self.value(node, values::header_value)?;
            }
            if let Some(node) = table.get("body") {
                let text = self.text(node)?;
                if text.len() > RESPOND_BYTES_MAX {
                    self.fault(
                        node.at,
                        format!("the body has {} bytes, the limit is {RESPOND_BYTES_MAX}", text.len()),
                    );
                }
                answer.2 = Bytes::from(text.to_owned());
            }
        }
        let (status, content_type, body) = answer;
        let content_type = if body.is_empty() { String::new() } else { content_type };
        Some(OwnAnswer::Fixed { status: StatusCode::from_u16(status).ok()?, content_type, body })
    }

    /// `compress:`
    pub(super) fn compression(&mut self, node: &Node) -> Option<Compression> {
        let usual = || Compression {
            codings: CODINGS.iter().map(|(_, coding)| *coding).collect(),
            bytes_min: MIN_SIZE_DEFAULT,
            types: TYPES.map(str::to_owned).to_vec(),
        };
        if node.text().is_some() {
            return self.boolean(node)?.then(usual);
        }
        let table = self.table(node, &COMPRESS)?;
        let mut compression = usual();
        if let Some(node) = table.get("codings") {
            compression.codings.clear();
            for item in node.items() {
                if let Some(coding) = self.word(item, "coding", CODINGS)
                    && !compression.codings.contains(&coding)
                {
                    compression.codings.push(coding);
                }
            }
        }
        if let Some(node) = table.get("min_size") {
            compression.bytes_min = self.value(node, values::size)?;
        }
        if let Some(node) = table.get("types") {
            compression.types = self.values(node, compressed_type);
        }
        Some(compression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_and_braces_can_be_written() {
        let shown = |text: &str| {
            pieces(text).map(|found| {
                let shown = found.into_iter().map(|piece| match piece {
                    Found::Text(text) => text,
                    Found::Place(name) => format!("<{name}>"),
                });
                shown.collect::<Vec<_>>().join("|")
            })
        };
        for (text, found) in [
            ("a", Some("a")),
            ("a{b}c", Some("a|<b>|c")),
            ("{b}{c}", Some("<b>|<c>")),
            ("{{\"a\":{b}}}", Some("{\"a\":|<b>|}")),
            ("", Some("")),
            ("{a", None),
            ("a}", None),
        ] {
            assert_eq!(shown(text).as_deref(), found, "{text}");
        }
    }
}
