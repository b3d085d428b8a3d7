//! Tokens that count no more although they are signed and not yet over: one token, one
//! grant, one session, or everything that a subject or a client was issued until a moment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand::SecureRandom;
use model::{Switch, Timestamp};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::file::{Lock, read_bounded, replace};

/// Most entries of a revocation list. Each takes 24 bytes, one time for all cores.
pub const REVOCATIONS_MAX: usize = 1_000_000;
/// Longest text of an entry, bytes.
pub(crate) const REVOCATION_TEXT_BYTES_MAX: usize = 512;
/// Largest file that is read, bytes: [`REVOCATIONS_MAX`] entries of 256.
const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One entry: exactly one of `token`, `grant`, `session`, `subject` and `client`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// A token's `jti` (RFC 7519 §4.1.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// All tokens of a grant whose issuer names it before the first dot of their `jti`, as the
    /// realms of this program do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// A session's `sid` (OpenID Connect Front-Channel Logout §3): all its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A principal's id as events name it: with the issuer's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// A client's id (`client_id`, RFC 9068 §2.2): the tokens that it got, about whomever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// With `subject` or `client`: tokens whose `iat` is not after this, Unix seconds, and such as
    /// have no `iat`. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_until: Option<u64>,
    /// With `subject`, alone: tokens that say by their `role_version` that the subject had lost roles at
    /// most so often by then, and such as say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_version_until: Option<u64>,
    /// Only tokens of this `iss`. Absent: of every issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When the entry may be forgotten, Unix seconds: the latest end of a token that it
    /// concerns. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Revocation {
    /// Checks the form.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn check(&self) -> Result<(), String> {
        let given = self.named().into_iter().flatten().count();
        if given != 1 {
            return Err(format!(
                "expected exactly one of token, grant, session, subject and client, found {given}"
            ));
        }
        if self.issued_until.is_some() && self.subject.is_none() && self.client.is_none() {
            return Err("issued_until stands only with subject or client".to_owned());
        }
        if self.role_version_until.is_some() && (self.subject.is_none() || self.issued_until.is_some()) {
            return Err("role_version_until stands only with subject, and without issued_until".to_owned());
        }
        for text in self.named().into_iter().chain([&self.issuer]).flatten() {
            if text.is_empty() || text.len() > REVOCATION_TEXT_BYTES_MAX {
                let found = text.len();
                return Err(format!(
                    "expected texts of 1 to {REVOCATION_TEXT_BYTES_MAX} bytes, found {found}"
                ));
            }
        }
        Ok(())
    }

    /// What it could name, in the order of [`Mark::ALL`].
    fn named(&self) -> [&Option<String>; 5] {
        [&self.token, &self.grant, &self.session, &self.subject, &self.client]
    }

    fn mark(&self) -> Mark {
        if self.role_version_until.is_some() {
            return Mark::Roles;
        }
        let marks = Mark::ALL.into_iter().zip(self.named());
        marks.into_iter().find(|(_, name)| name.is_some()).map_or(Mark::Subject, |(mark, _)| mark)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now.unix_seconds())
    }

    fn name(&self) -> &str {
        self.named().into_iter().flatten().next().map_or("", String::as_str)
    }
}

/// What of a token a revocation can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMarks {
    pub(crate) token: Option<Box<str>>,
    pub(crate) session: Option<Box<str>>,
    pub(crate) client: Option<Box<str>>,
    pub(crate) issued: Option<Timestamp>,
    /// How often its subject had lost roles; 0 where it does not say.
    pub(crate) role_version: u64,
}

/// What of a token an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Token,
    Grant,
    Session,
    Subject,
    Client,
    /// What a subject was issued before it lost a role.
    Roles,
}

impl Mark {
    const ALL: [Self; 6] =
        [Self::Token, Self::Grant, Self::Session, Self::Subject, Self::Client, Self::Roles];

    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Grant => "grant",
            Self::Session => "session",
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Roles => "roles",
        }
    }
}

/// What an entry names, as the first 128 bits of a SHA-256: no name of a token can be made
/// that falls together with another's.
type Digest = [u8; 16];

fn digest(mark: Mark, issuer: Option<&str>, name: &str) -> Digest {
    let mut context = Context::new(&SHA256);
    // The lengths keep two texts apart that would be one behind each other.
    context.update(&[mark as u8, u8::from(issuer.is_some())]);
    let issuer = issuer.unwrap_or_default();
    context.update(&(issuer.len() as u64).to_be_bytes());
    context.update(issuer.as_bytes());
    context.update(name.as_bytes());
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    digest
}

/// One entry as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    names: Digest,
    /// Tokens after this are not meant: with an `iat` in Unix seconds, or of [`Mark::Roles`] with a
    /// `role_version`, that is greater.
    last: u64,
}

/// A revocation list, ready to be asked: immutable, and one for all cores. An entry takes
/// 24 bytes, whatever its texts are.
#[derive(Debug, Default)]
pub struct Revocations {
    /// By what they name; each name one time, with the greatest of its bounds.
    rows: Vec<Row>,
    /// Whether there is an entry of each [`Mark`].
    marks: [bool; Mark::ALL.len()],
}

/// Takes entries one after the other, so that they need not be there all at once.
#[derive(Debug)]
struct Builder {
    now: Timestamp,
    seen: usize,
    list: Revocations,
}

impl Builder {
    fn new(now: Timestamp) -> Self {
        Self { now, seen: 0, list: Revocations::default() }
    }

    fn take(&mut self, entry: &Revocation) -> Result<(), String> {
        self.seen += 1;
        entry.check().map_err(|why| format!("entry {}: {why}", self.seen))?;
        if entry.is_over(self.now) {
            return Ok(());
        }
        if self.list.rows.len() == REVOCATIONS_MAX {
            return Err(format!("expected at most {REVOCATIONS_MAX} entries in force, found more"));
        }
        let mark = entry.mark();
        let names = digest(mark, entry.issuer.as_deref(), entry.name());
        let last = entry.role_version_until.or(entry.issued_until).unwrap_or(u64::MAX);
        self.list.rows.push(Row { names, last });
        if let Some(there) = self.list.marks.get_mut(mark as usize) {
            *there = true;
        }
        Ok(())
    }

    fn finish(mut self) -> Revocations {
        let rows = &mut self.list.rows;
        rows.sort_unstable_by(|one, two| two.cmp(one));
        // Of one name the greatest bound stands first and stays.
        rows.dedup_by_key(|row| row.names);
        rows.shrink_to_fit();
        self.list
    }
}

impl Revocations {
    /// From entries; those that are over are left out.
    ///
    /// # Errors
    /// The first entry that is malformed, or too many.
    pub fn new(entries: &[Revocation], now: Timestamp) -> Result<Self, String> {
        let mut builder = Builder::new(now);
        entries.iter().try_for_each(|entry| builder.take(entry))?;
        Ok(builder.finish())
    }

    /// This list and further entries; those of them that are over are left out.
    ///
    /// # Errors
    /// As [`Revocations::new`].
    pub fn with(&self, more: &[Revocation], now: Timestamp) -> Result<Self, String> {
        let list = Self { rows: self.rows.clone(), marks: self.marks };
        let mut builder = Builder { now, seen: 0, list };
        more.iter().try_for_each(|entry| builder.take(entry))?;
        Ok(builder.finish())
    }

    /// Entries that are in force.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What of a token is revoked: `token`, `grant`, `session`, `subject`, `client` or `roles`.
    pub(crate) fn revoked(&self, marks: &TokenMarks, issuer: &str, id: &str) -> Option<&'static str> {
        if Switch::Revocation.is_off() {
            return None;
        }
        let named = |mark: Mark| {
            let name = match mark {
                Mark::Token => marks.token.as_deref()?,
                Mark::Grant => marks.token.as_deref()?.split_once('.')?.0,
                Mark::Session => marks.session.as_deref()?,
                Mark::Subject | Mark::Roles => id,
                Mark::Client => marks.client.as_deref()?,
            };
            let there = self.marks.get(mark as usize).is_some_and(|there| *there);
            let found = there
                && [None, Some(issuer)]
                    .into_iter()
                    .any(|issuer| self.names(mark, digest(mark, issuer, name), marks));
            found.then(|| mark.name())
        };
        Mark::ALL.into_iter().find_map(named)
    }

    fn names(&self, mark: Mark, names: Digest, marks: &TokenMarks) -> bool {
        let place = self.rows.binary_search_by(|row| names.cmp(&row.names));
        let row = place.ok().and_then(|place| self.rows.get(place));
        row.is_some_and(|row| match mark {
            Mark::Roles => marks.role_version <= row.last,
            _ => row.last == u64::MAX || marks.issued.is_none_or(|issued| issued.unix_seconds() <= row.last),
        })
    }
}

#[derive(Serialize)]
struct Contents {
    version: u32,
    entries: Vec<Revocation>,
}

/// A revocation list in one file: JSON, replaced whole. Several processes may change it.
pub struct RevocationFile {
    path: PathBuf,
    random: Arc<dyn SecureRandom + Send + Sync>,
}

impl RevocationFile {
    /// The list at this path. Nothing is read or made yet.
    pub fn new(path: &Path, random: Arc<dyn SecureRandom + Send + Sync>) -> Self {
        Self { path: path.to_owned(), random }
    }

    /// Its path, for a watcher.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries; none when there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn entries(&self) -> Result<Vec<Revocation>, Error> {
        let Some(bytes) = self.read()? else { return Ok(Vec::new()) };
        parse(&bytes).map_err(|why| Error::Content { path: self.path.clone(), why })
    }

    /// The list as it is in force, with `more` that is kept elsewhere. Its entries are
    /// never in memory all at once.
    ///
    /// # Errors
    /// As [`RevocationFile::entries`], a malformed entry, and too many of them.
    pub fn load(&self, more: &[Revocation], now: Timestamp) -> Result<Revocations, Error> {
        let refused = |why| Error::Content { path: self.path.clone(), why };
        let mut builder = Builder::new(now);
        if let Some(bytes) = self.read()? {
            read_entries(&bytes, |entry| builder.take(&entry)).map_err(refused)?;
        }
        more.iter().try_for_each(|entry| builder.take(entry)).map_err(refused)?;
        Ok(builder.finish())
    }

    /// The file's bytes; `None` when there is none.
    fn read(&self) -> Result<Option<Vec<u8>>, Error> {
        match read_bounded(&self.path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path: self.path.clone(), source }),
        }
    }

    /// Adds entries and drops those that are over. An entry that is there stays once.
    ///
    /// # Errors
    /// A malformed entry, too many, or the file cannot be read or written. Nothing has
    /// changed then.
    pub fn add(&self, more: &[Revocation], now: Timestamp) -> Result<(), Error> {
        self.change(now, |entries| {
            for entry in more {
                if !entries.contains(entry) {
                    entries.push(entry.clone());
                }
            }
        })
    }

    /// Takes every entry with this name back. Gives how many.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn remove(&self, name: &str, now: Timestamp) -> Result<usize, Error> {
        let mut removed = 0;
        self.change(now, |entries| {
            let before = entries.len();
            entries.retain(|entry| entry.name() != name);
            removed = before - entries.len();
        })?;
        Ok(removed)
    }

    fn change(&self, now: Timestamp, change: impl FnOnce(&mut Vec<Revocation>)) -> Result<(), Error> {
        let _lock = Lock::take(&self.path)?;
        let mut entries = self.entries()?;
        entries.retain(|entry| !entry.is_over(now));
        change(&mut entries);
        let refused = |why: String| Error::Content { path: self.path.clone(), why };
        Revocations::new(&entries, now).map_err(refused)?;
        let contents = Contents { version: 1, entries };
        let bytes = serde_json::to_vec_pretty(&contents).map_err(|error| refused(error.to_string()))?;
        replace(&self.path, &bytes, 0o600, self.random.as_ref())
    }
}

/// Reads the text of a revocation list.
///
/// # Errors
/// What was expected and what was found.
pub fn parse(bytes: &[u8]) -> Result<Vec<Revocation>, String> {
    let mut entries = Vec::new();
    read_entries(bytes, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// Gives the entries of a list's text one by one.
fn read_entries(bytes: &[u8], each: impl FnMut(Revocation) -> Result<(), String>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = deserializer.deserialize_map(List { each }).and_then(|()| deserializer.end());
    read.map_err(|error| format!("expected a revocation list as `bastide revoke` writes it: {error}"))
}

/// `{"version": 1, "entries": […]}`.
struct List<E> {
    each: E,
}

impl<'de, E: FnMut(Revocation) -> Result<(), String>> Visitor<'de> for List<E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`version` and `entries`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (mut version, mut entries) = (None::<u32>, false);
        while let Some(member) = map.next_key::<String>()? {
            match member.as_str() {
                "version" if version.is_none() => version = Some(map.next_value()?),
                "entries" if !entries => {
                    entries = true;
                    map.next_value_seed(Entries(&mut self.each))?;
                }
                other => return Err(de::Error::unknown_field(other, &["version", "entries"])),
            }
        }
        match (version, entries) {
            (Some(1), true) => Ok(()),
            (Some(1), false) => Err(de::Error::missing_field("entries")),
            (Some(other), _) => Err(de::Error::custom(format_args!("expected version 1, found {other}"))),
            (None, _) => Err(de::Error::missing_field("version")),
        }
    }
}

/// The list's entries, which are given on as they are read.
struct Entries<'e, E>(&'e mut E);

impl<'de, E: FnMut(Revocation) -> Result<(), String>> DeserializeSeed<'de> for Entries<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: FnMut(Revocation) -> Result<(), String>> Visitor<'de> for Entries<'_, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of revocations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element()? {
            (self.0)(entry).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

    fn named(what: &str, name: &str) -> Revocation {
        let name = Some(name.to_owned());
        match what {
            "token" => Revocation { token: name, ..Revocation::default() },
            "grant" => Revocation { grant: name, ..Revocation::default() },
            "session" => Revocation { session: name, ..Revocation::default() },
            "client" => Revocation { client: name, ..Revocation::default() },
            _ => Revocation { subject: name, ..Revocation::default() },
        }
    }

    fn marks(token: Option<&str>, session: Option<&str>, issued: Option<u64>) -> TokenMarks {
        TokenMarks {
            token: token.map(Into::into),
            session: session.map(Into::into),
            client: Some("shop".into()),
            issued: issued.map(Timestamp::from_unix_seconds),
            role_version: 3,
        }
    }

    #[test]
    fn boundary_revocation_text_bytes_max() {
        for what in ["token", "grant", "session", "client", "subject"] {
            let text = |bytes: usize| "x".repeat(bytes);
            for (bytes, fits) in [
                (0, false),
                (1, true),
                (REVOCATION_TEXT_BYTES_MAX, true),
                (REVOCATION_TEXT_BYTES_MAX + 1, false),
            ] {
                assert_eq!(named(what, &text(bytes)).check().is_ok(), fits, "{what} {bytes}");
                let of_issuer = Revocation { issuer: Some(text(bytes)), ..named(what, "x") };
                assert_eq!(of_issuer.check().is_ok(), fits, "{what} {bytes}");
            }
            let until = Revocation { issued_until: Some(1), ..named(what, "x") };
            assert_eq!(until.check().is_ok(), ["client", "subject"].contains(&what), "{what}");
        }
    }

    #[test]
    fn a_list_and_further_entries_revoke_what_either_names() {
        let list = Revocations::new(&[named("token", "t1")], NOW).unwrap();
        let over = Revocation { until: Some(1_000), ..named("token", "t3") };
        let both = list.with(&[named("session", "s1"), named("token", "t1"), over], NOW).unwrap();
        assert_eq!(both.len(), 2);
        let of = |list: &Revocations, token, session| {
            list.revoked(&marks(Some(token), Some(session), None), "https://id.test", "alice")
        };
        assert_eq!(of(&both, "t1", "s2"), Some("token"));
        assert_eq!(of(&both, "t2", "s1"), Some("session"));
        assert_eq!(of(&both, "t3", "s2"), None);
        assert_eq!(of(&list, "t2", "s1"), None, "the list itself is as it was");
        assert!(list.with(&[Revocation::default()], NOW).is_err());
    }

    #[test]
    fn what_is_named_is_revoked_and_nothing_else() {
        let until = |seconds| Revocation { issued_until: Some(seconds), ..named("subject", "bob") };
        let of = |issuer: &str| Revocation { issuer: Some(issuer.to_owned()), ..named("token", "t1") };
        let over = |seconds| Revocation { until: Some(seconds), ..named("token", "t1") };
        let roles = |version| Revocation { role_version_until: Some(version), ..named("subject", "bob") };
        let table = [
            (named("token", "t1"), Some("token")),
            (named("token", "t2"), None),
            (named("session", "s1"), Some("session")),
            (named("session", "t1"), None),
            (named("subject", "bob"), Some("subject")),
            (named("subject", "s1"), None),
            (until(500), Some("subject")),
            (until(499), None),
            (named("client", "shop"), Some("client")),
            (named("client", "bob"), None),
            (named("subject", "shop"), None),
            (Revocation { issued_until: Some(500), ..named("client", "shop") }, Some("client")),
            (Revocation { issued_until: Some(499), ..named("client", "shop") }, None),
            (roles(3), Some("roles")),
            (roles(2), None),
            (of("https://a"), Some("token")),
            (of("https://b"), None),
            (over(1_001), Some("token")),
            (over(1_000), None),
        ];
        for (entry, expected) in table {
            let list = Revocations::new(std::slice::from_ref(&entry), NOW).unwrap();
            let found = list.revoked(&marks(Some("t1"), Some("s1"), Some(500)), "https://a", "bob");
            assert_eq!(found, expected, "{entry:?}");
        }
        // A grant is what stands before the first dot, whole.
        for (token, expected) in [
            ("g1.t1", Some("grant")),
            ("g1.t1.x", Some("grant")),
            ("g1", None),
            ("g11.t1", None),
            ("t1.g1", None),
        ] {
            let list = Revocations::new(&[named("grant", "g1")], NOW).unwrap();
            assert_eq!(
                list.revoked(&marks(Some(token), None, None), "https://a", "bob"),
                expected,
                "{token}"
            );
        }
        let list = Revocations::new(&[until(1)], NOW).unwrap();
        assert_eq!(list.revoked(&marks(None, None, None), "https://a", "bob"), Some("subject"));
    }

    #[test]
    fn a_malformed_list_is_refused_whole() {
        for text in [
            r#"{"version":2,"entries":[]}"#,
            r#"{"version":1}"#,
            r#"{"version":1,"entries":[{"jti":"x"}]}"#,
            r#"{"version":1,"entries":[{"token":7}]}"#,
            r#"{"version":1,"version":1,"entries":[]}"#,
            r#"{"version":1,"entries":[],"entries":[]}"#,
            r#"{"version":1,"entries":[],"more":[]}"#,
            r#"{"version":1,"entries":[]} {}"#,
            r#"{"entries":[]}"#,
            "[]",
            "",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(br#"{"version":1,"entries":[{"token":"x"}]}"#).unwrap(), [named("token", "x")]);
        let both = Revocation { session: Some("s".into()), ..named("token", "t") };
        let dated = Revocation { issued_until: Some(1), ..named("token", "t") };
        let roles = |of| Revocation { role_version_until: Some(1), ..of };
        let twice = Revocation { issued_until: Some(1), ..roles(named("subject", "s")) };
        let long = "x".repeat(REVOCATION_TEXT_BYTES_MAX);
        for entry in [
            Revocation::default(),
            both,
            dated,
            roles(named("token", "t")),
            roles(named("client", "c")),
            twice,
            named("token", ""),
            named("token", &(long.clone() + "x")),
        ] {
            assert!(Revocations::new(std::slice::from_ref(&entry), NOW).is_err(), "{entry:?}");
        }
        assert!(Revocations::new(&[named("token", &long)], NOW).is_ok());
        let many: Vec<Revocation> = (0..=REVOCATIONS_MAX).map(|n| named("token", &n.to_string())).collect();
        assert!(Revocations::new(&many, NOW).is_err());
        let list = Revocations::new(&many[1..], NOW).unwrap();
        assert_eq!(list.len(), REVOCATIONS_MAX);
        assert!(std::mem::size_of::<Row>() <= 24 && list.rows.capacity() == REVOCATIONS_MAX);
        for (token, expected) in [("1", Some("token")), ("1000000", Some("token")), ("0", None)] {
            assert_eq!(
                list.revoked(&marks(Some(token), None, None), "https://a", "bob"),
                expected,
                "{token}"
            );
        }
    }

    #[test]
    fn of_two_entries_for_one_name_the_wider_counts() {
        let until = |seconds| Revocation { issued_until: seconds, ..named("subject", "bob") };
        let of = |issuer: &str, seconds| Revocation { issuer: Some(issuer.to_owned()), ..until(seconds) };
        let table = [
            (vec![until(Some(400)), until(Some(500))], true, true),
            (vec![until(Some(500)), until(Some(400))], true, true),
            (vec![until(Some(400)), until(None)], true, true),
            (vec![until(Some(400)), of("https://a", Some(500))], true, false),
            (vec![of("https://b", None), until(Some(499))], false, true),
        ];
        for (entries, at_a, at_b) in table {
            let list = Revocations::new(&entries, NOW).unwrap();
            for (issuer, expected) in [("https://a", at_a), ("https://b", at_b)] {
                let found = list.revoked(&marks(None, None, Some(500)), issuer, "bob");
                assert_eq!(found.is_some(), expected, "{entries:?} {issuer}");
            }
        }
    }

    #[test]
    fn a_file_keeps_what_is_added_until_it_is_over_or_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let random = Arc::new(aws_lc_rs::rand::SystemRandom::new());
        let file = RevocationFile::new(&folder.path().join("revocations.json"), random);
        assert!(file.load(&[], NOW).unwrap().is_empty());
        let short = Revocation { until: Some(2_000), ..named("session", "s1") };
        file.add(&[named("token", "t1"), short.clone()], NOW).unwrap();
        file.add(&[named("token", "t1")], NOW).unwrap();
        assert_eq!(file.entries().unwrap(), [named("token", "t1"), short]);
        assert!(file.add(&[Revocation::default()], NOW).is_err());
        file.add(&[named("subject", "bob")], Timestamp::from_unix_seconds(2_000)).unwrap();
        assert_eq!(file.entries().unwrap(), [named("token", "t1"), named("subject", "bob")]);
        assert_eq!(file.remove("t1", NOW).unwrap(), 1);
        assert_eq!(file.remove("t1", NOW).unwrap(), 0);
        assert_eq!(file.load(&[], NOW).unwrap().len(), 1);
        assert_eq!(file.load(&[named("session", "s2")], NOW).unwrap().len(), 2);
        assert!(file.load(&[Revocation::default()], NOW).is_err());
        std::fs::write(file.path(), "{").unwrap();
        assert!(file.load(&[], NOW).is_err() && file.add(&[named("token", "x")], NOW).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"{");
    }

    /// Any bytes at all are read or refused.
    #[test]
    fn fuzz_smoke_revocation_lists() {
        let seeds = [
            r#"{"version":1,"entries":[{"token":"x","until":5}]}"#,
            r#"{"version":1,"entries":[{"subject":"é","issued_until":18446744073709551615}]}"#,
        ];
        for seed in seeds {
            for cut in 0..seed.len() {
                for byte in [0, b'"', b'{', b'9', 0xff] {
                    let mut bytes = seed.as_bytes().to_vec();
                    bytes[cut] = byte;
                    let _ = parse(&bytes).map(|entries| Revocations::new(&entries, NOW));
                    let _ = parse(&bytes[..cut]);
                }
            }
        }
    }
}
