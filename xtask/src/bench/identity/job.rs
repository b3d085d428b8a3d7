//! What is asked for: the rows, and the script that makes the requests of each.

use super::stage::{SCOPE, SECRET, Side};
use crate::{command, node};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Refresh families that are rotated: more than there are connections, so that one is always
/// free.
pub(super) const FAMILIES: u32 = 256;
/// The API that tokens are for.
pub(super) const RESOURCE: &str = "https://orders.bench";
/// How long one request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Credentials,
    Introspection,
    Refresh,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Credentials, Self::Introspection, Self::Refresh];

    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Introspection => "introspection",
            Self::Refresh => "refresh",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Credentials => "client credentials, ES256",
            Self::Introspection => "a token that is good",
            Self::Refresh => "every rotation durable (the peer's in memory)",
        }
    }

    /// At least so many times the peer.
    pub(super) const fn times_min(self) -> f64 {
        match self {
            Self::Credentials | Self::Introspection => 8.0,
            Self::Refresh => 4.0,
        }
    }

    pub(super) const fn endpoint(self, side: Side) -> &'static str {
        match (self, side) {
            (Self::Credentials | Self::Refresh, _) => "/token",
            (Self::Introspection, Side::Bastide) => "/introspect",
            (Self::Introspection, Side::Peer) => "/token/introspection",
        }
    }
}

/// A form with the client's credentials.
fn form(client: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = format!("client_id={client}&client_secret={SECRET}");
    for (name, value) in pairs {
        // The values have nothing else that a form would not take.
        let _ = write!(text, "&{name}={}", value.replace(':', "%3A").replace('/', "%2F"));
    }
    text
}

/// The form of a request for a token by client credentials; for an API, or for none.
pub(super) fn credentials(resource: bool) -> String {
    let mut pairs = vec![("grant_type", "client_credentials")];
    if resource {
        pairs.extend([("resource", RESOURCE), ("scope", SCOPE)]);
    }
    form("importer", &pairs)
}

/// Writes wrk's script for a round: tokens that are asked about or rotated are new ones.
pub(super) fn script(way: Way, side: Side, port: u16, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("{}-{}.lua", way.id(), side.id()));
    let head =
        "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/x-www-form-urlencoded\"\n";
    let text = match way {
        Way::Credentials => format!("{head}wrk.body = \"{}\"\n", credentials(true)),
        Way::Introspection => {
            let token = introspected(side, port)?;
            format!("{head}wrk.body = \"{}\"\n", form("importer", &[("token", &token)]))
        }
        Way::Refresh => {
            let tokens = folder.join(format!("refresh-{}.txt", side.id()));
            std::fs::write(&tokens, refresh_tokens(side, folder, FAMILIES)?)?;
            format!("{head}{}", rotation(&tokens))
        }
    };
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Each connection takes the token that has waited longest, and what it gets for it waits.
fn rotation(tokens: &Path) -> String {
    format!(
        "local free, first, last = {{}}, 1, 0
function init(args)
  for line in io.lines(\"{}\") do
    last = last + 1
    free[last] = line
  end
end
function request()
  local token = free[first]
  free[first] = nil
  first = first + 1
  return wrk.format(nil, nil, nil, \"{}\" .. (token or \"\"))
end
function response(status, headers, body)
  last = last + 1
  free[last] = body:match('\"refresh_token\":\"([^\"]+)\"')
end
",
        tokens.display(),
        form("web", &[("grant_type", "refresh_token"), ("refresh_token", "")])
    )
}

/// A token to ask about: the peer introspects none that is a JWT.
fn introspected(side: Side, port: u16) -> Result<String> {
    let answer = post(port, "/token", &credentials(side == Side::Bastide))?;
    text(&answer, "access_token").map(str::to_owned)
}

/// So many refresh tokens, a line each, by login, consent and code.
fn refresh_tokens(side: Side, folder: &Path, count: u32) -> Result<String> {
    let script = node::script("bench-tokens.mjs", include_str!("tokens.mjs"))?;
    let mut tokens = Command::new("node");
    tokens.arg(script).arg(side.settings(folder)).arg(count.to_string());
    command::read(&mut tokens)
}

/// One request of each row, and what its answer has to be.
pub(super) fn verify(side: Side, port: u16, folder: &Path) -> Result<()> {
    let answer = post(port, "/token", &credentials(true))?;
    let token = text(&answer, "access_token")?;
    // {"alg":"ES256"… as base64url; `typ` may come first.
    if token.split('.').count() != 3 {
        bail!("{}: expected a JWT, found {answer}", side.name());
    }
    let endpoint = Way::Introspection.endpoint(side);
    let asked = introspected(side, port)?;
    let answer = post(port, endpoint, &form("importer", &[("token", &asked)]))?;
    if answer.get("active") != Some(&Value::Bool(true)) {
        bail!("{}: expected an active token, found {answer}", side.name());
    }
    let tokens = refresh_tokens(side, folder, 1)?;
    let token = tokens.trim();
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let answer = post(port, "/token", &form("web", &pairs))?;
    if text(&answer, "refresh_token")? == token || text(&answer, "id_token")?.is_empty() {
        bail!("{}: expected another refresh token and an ID token, found {answer}", side.name());
    }
    Ok(())
}

fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    answer.get(name).and_then(Value::as_str).with_context(|| format!("no {name} in {answer}"))
}

/// Posts a form and reads the answer, which has to be a 200 with an object.
pub(super) fn post(port: u16, path: &str, form: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let length = form.len();
    stream.write_all(
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
        )
        .as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    read(&answer).with_context(|| format!("POST {path}: {}", answer.trim()))
}

/// The object of an answer; sizes of chunks may stand around it.
fn read(answer: &str) -> Option<Value> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let object = body.get(body.find('{')?..=body.rfind('}')?)?;
    head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(object).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_only_when_they_are_good() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1 }";
        assert_eq!(read(good).unwrap()["a"], 1);
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n9\r\n{\"a\":\"\"}\r\n0\r\n\r\n").unwrap()["a"], "");
        for bad in ["HTTP/1.1 400 Bad Request\r\n\r\n{\"a\": 1}", "HTTP/1.1 200 OK\r\n\r\n", ""] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn forms_carry_the_client_and_what_it_asks_for() {
        let form = credentials(true);
        assert!(form.starts_with("client_id=importer&client_secret="), "{form}");
        assert!(form.ends_with("&resource=https%3A%2F%2Forders.bench&scope=orders%3Aread"), "{form}");
        assert!(rotation(Path::new("t")).contains("grant_type=refresh_token&refresh_token=\""));
    }
}
