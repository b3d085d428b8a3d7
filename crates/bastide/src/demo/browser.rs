//! A browser without scripts: keeps cookies, follows redirects, fills in the forms of the
//! identity provider as a person would.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use aws_lc_rs::hmac;
use model::Clock as _;

use super::client::{Answer, Endpoint, Request, http1};
use crate::process::clock::SystemClock;

/// Redirects and forms until a login has an end.
const STEPS_MAX: usize = 20;
/// Seconds of one step of a code by time (RFC 6238 §4.1).
const STEP_SECONDS: u64 = 30;

/// A person with what they know and have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Person {
    /// The user name.
    pub(crate) name: String,
    /// The password.
    pub(crate) password: String,
    /// The authenticator app's key, once it is set up.
    pub(crate) key: Option<Vec<u8>>,
    /// The newest step whose code was used: a code counts once.
    used: u64,
}

impl Person {
    /// Somebody with a password alone.
    pub(crate) fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), key: None, used: 0 }
    }

    /// The next code of the authenticator app.
    fn code(&mut self) -> anyhow::Result<String> {
        let key = self.key.as_deref().with_context(|| format!("{} has no authenticator app", self.name))?;
        let step = (SystemClock::start().now().unix_seconds() / STEP_SECONDS).max(self.used + 1);
        self.used = step;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        // RFC 4226 §5.3.
        let at = usize::from(tag.as_ref().last().copied().unwrap_or_default() & 0x0f);
        let four = tag.as_ref().get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
        Ok(format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000))
    }
}

/// Where a way through redirects and forms ends.
pub(crate) enum Landed {
    /// On a page.
    Page(Answer),
    /// Outside of the demo, at this address.
    Away(String),
}

/// A browser at the demo's endpoint.
#[derive(Clone)]
pub(crate) struct Browser {
    /// A endpoint for each host.
    endpoints: BTreeMap<String, Endpoint>,
    port: u16,
    jars: BTreeMap<String, BTreeMap<String, String>>,
}

impl Browser {
    /// With these endpoints, all at one port.
    pub(crate) fn new(endpoints: BTreeMap<String, Endpoint>, port: u16) -> Self {
        Self { endpoints, port, jars: BTreeMap::new() }
    }

    /// The `Cookie` field that goes to a host.
    pub(crate) fn cookies(&self, host: &str) -> String {
        let jar = self.jars.get(host).into_iter().flatten();
        jar.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// Host and path of an address of the demo.
    fn place<'a>(&self, address: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = address.strip_prefix("https://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let host = authority.strip_suffix(&format!(":{}", self.port))?;
        self.endpoints.contains_key(host).then_some((host, path))
    }

    /// Sends one request to a host and keeps its cookies.
    pub(crate) async fn send(&mut self, host: &str, request: Request) -> anyhow::Result<Answer> {
        let endpoint = self.endpoints.get(host).with_context(|| format!("no endpoint of {host}"))?;
        let cookies = self.cookies(host);
        let request = if cookies.is_empty() { request } else { request.field("cookie", &cookies) };
        let answer = http1::ask(endpoint, &request).await?;
        let jar = self.jars.entry(host.to_owned()).or_default();
        for (_, set) in answer.fields.iter().filter(|(name, _)| name == "set-cookie") {
            let Some((name, rest)) = set.split_once('=') else { continue };
            let value = rest.split(';').next().unwrap_or_default();
            match value.is_empty() || set.contains("Max-Age=0") {
                true => drop(jar.remove(name)),
                false => drop(jar.insert(name.to_owned(), value.to_owned())),
            }
        }
        Ok(answer)
    }

    /// A request as a page of the host itself makes it.
    pub(crate) fn request(&self, method: &'static str, host: &str, target: &str) -> Request {
        Request::new(method, &format!("{host}:{}", self.port), target)
    }

    /// Opens a page and goes on until it is shown, logging in as `person` on the way.
    ///
    /// # Errors
    /// The way has no end, or a form that nobody knows how to fill in.
    pub(crate) async fn visit(&mut self, address: &str, person: &mut Person) -> anyhow::Result<Landed> {
        let mut address = address.to_owned();
        let mut form: Option<Fields> = None;
        for _ in 0..STEPS_MAX {
            let Some((host, path)) = self.place(&address).map(|(h, p)| (h.to_owned(), p.to_owned())) else {
                return Ok(Landed::Away(address));
            };
            let origin = format!("https://{host}:{}", self.port);
            let request = match form.take() {
                None => self.request("GET", &host, &path),
                Some(fields) => {
                    let mut request = self
                        .request("POST", &host, &path)
                        .field("content-type", "application/x-www-form-urlencoded")
                        .field("origin", &origin);
                    request.body = encode(&fields).into_bytes();
                    request
                }
            };
            let request = request.field("accept", "text/html").field("sec-fetch-mode", "navigate");
            let answer = self.send(&host, request).await?;
            let whole = |target: &str| match target.strip_prefix('/') {
                Some(_) => format!("{origin}{target}"),
                None => target.to_owned(),
            };
            if let Some(location) = answer.field("location") {
                address = whole(location);
                continue;
            }
            match fill_in(&String::from_utf8_lossy(&answer.body), person)? {
                None => return Ok(Landed::Page(answer)),
                Some((target, fields)) => {
                    address = whole(&target);
                    form = fields;
                }
            }
        }
        bail!("{} does not get further than {address}", person.name)
    }
}

/// Names and values of a form.
type Fields = Vec<(String, String)>;
/// An address, and the form that is sent there.
type Next = (String, Option<Fields>);

/// What a person does on a page of the identity provider: where that leads, and the form
/// that is sent there. Nothing on any other page.
fn fill_in(page: &str, person: &mut Person) -> anyhow::Result<Option<Next>> {
    // The recovery codes, shown once.
    if page.contains("class=\"codes\"") {
        let next = between(page, "class=\"button\" href=\"", "\"").context("the codes lead nowhere")?;
        return Ok(Some((text(next), None)));
    }
    let forms = page.split("<form ").skip(1).filter_map(|form| form.split("</form>").next());
    for form in forms {
        let given: Vec<(&str, String)> = if form.contains("name=\"password\"") {
            vec![("username", person.name.clone()), ("password", person.password.clone())]
        } else if form.contains("name=\"code\"") {
            if let Some(key) = between(page, "class=\"secret\"><code>", "</code>") {
                person.key = Some(base32(key).context("the key is not base32")?);
            }
            vec![("code", person.code()?)]
        } else {
            continue;
        };
        let action = between(form, "action=\"", "\"").context("a form that leads nowhere")?;
        let hidden = form.split("<input type=\"hidden\" name=\"").skip(1).filter_map(|input| {
            let (name, rest) = input.split_once('"')?;
            Some((name.to_owned(), text(between(rest, "value=\"", "\"")?)))
        });
        let mut fields: Fields = hidden.collect();
        fields.extend(given.into_iter().map(|(name, value)| (name.to_owned(), value)));
        return Ok(Some((text(action), Some(fields))));
    }
    Ok(None)
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// An attribute's text without the entities that a template writes.
fn text(attribute: &str) -> String {
    attribute.replace("&#38;", "&").replace("&amp;", "&").replace("&#34;", "\"").replace("&#39;", "'")
}

/// RFC 4648 §6, in groups or not.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|byte| *byte != b' ') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn encode(fields: &[(String, String)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    form.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_specification() {
        // RFC 6238 appendix B, the last six of eight digits, at a step of our own.
        assert_eq!(base32("GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ").unwrap(), b"12345678901234567890");
        let mut person = Person::new("alice", "x");
        person.key = Some(b"12345678901234567890".to_vec());
        let one = person.code().unwrap();
        assert!(one.len() == 6 && one.bytes().all(|byte| byte.is_ascii_digit()));
        assert_ne!(one, person.code().unwrap(), "a code is used once");
    }
}
