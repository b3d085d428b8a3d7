//! Tokens that count no more although they are signed and not yet over: one token, one
//! session, or everything that a subject was issued until a moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use foldhash::fast::RandomState;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::file::{Lock, read_bounded, replace};

/// Most entries of a revocation list.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Longest text of an entry, bytes.
pub const REVOCATION_TEXT_BYTES_MAX: usize = 512;
/// Largest file that is read, bytes.
const FILE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// One entry: exactly one of `token`, `session` and `subject`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// A token's `jti` (RFC 7519 §4.1.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A session's `sid` (OpenID Connect Front-Channel Logout §3): all its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A principal's id as events name it: with the issuer's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// With `subject`: tokens whose `iat` is not after this, Unix seconds, and such as
    /// have no `iat`. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_until: Option<u64>,
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
        let named = [&self.token, &self.session, &self.subject];
        let given = named.into_iter().flatten().count();
        if given != 1 {
            return Err(format!("expected exactly one of token, session and subject, found {given}"));
        }
        if self.issued_until.is_some() && self.subject.is_none() {
            return Err("issued_until stands only with subject".to_owned());
        }
        for text in named.into_iter().chain([&self.issuer]).flatten() {
            if text.is_empty() || text.len() > REVOCATION_TEXT_BYTES_MAX {
                let found = text.len();
                return Err(format!(
                    "expected texts of 1 to {REVOCATION_TEXT_BYTES_MAX} bytes, found {found}"
                ));
            }
        }
        Ok(())
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now.unix_seconds())
    }

    fn name(&self) -> &str {
        self.token.as_ref().or(self.session.as_ref()).or(self.subject.as_ref()).map_or("", String::as_str)
    }
}

/// What of a token a revocation can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMarks {
    pub(crate) token: Option<Box<str>>,
    pub(crate) session: Option<Box<str>>,
    pub(crate) issued: Option<Timestamp>,
}

/// Which issuer's tokens, and issued until when.
#[derive(Debug)]
struct Scope {
    issuer: Option<String>,
    issued_until: Option<u64>,
}

type ByName = HashMap<String, Vec<Scope>, RandomState>;

/// A revocation list, ready to be asked.
#[derive(Debug, Default)]
pub struct Revocations {
    tokens: ByName,
    sessions: ByName,
    subjects: ByName,
    entries: usize,
}

impl Revocations {
    /// From entries; those that are over are left out.
    ///
    /// # Errors
    /// The first entry that is malformed, or too many.
    pub fn new(entries: &[Revocation], now: Timestamp) -> Result<Self, String> {
        let mut list = Self::default();
        for (place, entry) in entries.iter().enumerate() {
            entry.check().map_err(|why| format!("entry {}: {why}", place + 1))?;
            if entry.is_over(now) {
                continue;
            }
            let by_name = match (&entry.token, &entry.session) {
                (Some(_), _) => &mut list.tokens,
                (None, Some(_)) => &mut list.sessions,
                (None, None) => &mut list.subjects,
            };
            let scope = Scope { issuer: entry.issuer.clone(), issued_until: entry.issued_until };
            by_name.entry(entry.name().to_owned()).or_default().push(scope);
            list.entries += 1;
        }
        if list.entries > REVOCATIONS_MAX {
            return Err(format!("{} entries, at most {REVOCATIONS_MAX} can be", list.entries));
        }
        Ok(list)
    }

    /// Entries that are in force.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// What of a token is revoked: `token`, `session` or `subject`.
    pub(crate) fn revoked(&self, marks: &TokenMarks, issuer: &str, id: &str) -> Option<&'static str> {
        if self.is_empty() {
            return None;
        }
        let applies = |scope: &Scope| {
            scope.issuer.as_ref().is_none_or(|wanted| wanted == issuer)
                && scope
                    .issued_until
                    .is_none_or(|until| marks.issued.is_none_or(|issued| issued.unix_seconds() <= until))
        };
        let named = |by_name: &ByName, name: Option<&str>| {
            name.and_then(|name| by_name.get(name)).is_some_and(|scopes| scopes.iter().any(applies))
        };
        [
            ("token", &self.tokens, marks.token.as_deref()),
            ("session", &self.sessions, marks.session.as_deref()),
            ("subject", &self.subjects, Some(id)),
        ]
        .into_iter()
        .find_map(|(what, by_name, name)| named(by_name, name).then_some(what))
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
        let bytes = match read_bounded(&self.path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::File { path: self.path.clone(), source }),
        };
        parse(&bytes).map_err(|why| Error::Content { path: self.path.clone(), why })
    }

    /// The list as it is in force.
    ///
    /// # Errors
    /// As [`RevocationFile::entries`], and a malformed entry.
    pub fn load(&self, now: Timestamp) -> Result<Revocations, Error> {
        let entries = self.entries()?;
        Revocations::new(&entries, now).map_err(|why| Error::Content { path: self.path.clone(), why })
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
    let contents: Contents = serde_json::from_slice(bytes)
        .map_err(|error| format!("expected a revocation list as `bastide revoke` writes it: {error}"))?;
    if contents.version != 1 {
        return Err(format!("expected version 1, found {}", contents.version));
    }
    Ok(contents.entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

    fn named(what: &str, name: &str) -> Revocation {
        let name = Some(name.to_owned());
        match what {
            "token" => Revocation { token: name, ..Revocation::default() },
            "session" => Revocation { session: name, ..Revocation::default() },
            _ => Revocation { subject: name, ..Revocation::default() },
        }
    }

    fn marks(token: Option<&str>, session: Option<&str>, issued: Option<u64>) -> TokenMarks {
        TokenMarks {
            token: token.map(Into::into),
            session: session.map(Into::into),
            issued: issued.map(Timestamp::from_unix_seconds),
        }
    }

    #[test]
    fn what_is_named_is_revoked_and_nothing_else() {
        let until = |seconds| Revocation { issued_until: Some(seconds), ..named("subject", "bob") };
        let of = |issuer: &str| Revocation { issuer: Some(issuer.to_owned()), ..named("token", "t1") };
        let over = |seconds| Revocation { until: Some(seconds), ..named("token", "t1") };
        let table = [
            (named("token", "t1"), Some("token")),
            (named("token", "t2"), None),
            (named("session", "s1"), Some("session")),
            (named("session", "t1"), None),
            (named("subject", "bob"), Some("subject")),
            (named("subject", "s1"), None),
            (until(500), Some("subject")),
            (until(499), None),
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
            "[]",
            "",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(br#"{"version":1,"entries":[{"token":"x"}]}"#).unwrap(), [named("token", "x")]);
        let both = Revocation { session: Some("s".into()), ..named("token", "t") };
        let dated = Revocation { issued_until: Some(1), ..named("token", "t") };
        let long = "x".repeat(REVOCATION_TEXT_BYTES_MAX);
        for entry in
            [Revocation::default(), both, dated, named("token", ""), named("token", &(long.clone() + "x"))]
        {
            assert!(Revocations::new(std::slice::from_ref(&entry), NOW).is_err(), "{entry:?}");
        }
        assert!(Revocations::new(&[named("token", &long)], NOW).is_ok());
        let many: Vec<Revocation> = (0..=REVOCATIONS_MAX).map(|n| named("token", &n.to_string())).collect();
        assert!(Revocations::new(&many, NOW).is_err());
        assert_eq!(Revocations::new(&many[1..], NOW).unwrap().len(), REVOCATIONS_MAX);
    }

    #[test]
    fn a_file_keeps_what_is_added_until_it_is_over_or_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let random = Arc::new(aws_lc_rs::rand::SystemRandom::new());
        let file = RevocationFile::new(&folder.path().join("revocations.json"), random);
        assert!(file.load(NOW).unwrap().is_empty());
        let short = Revocation { until: Some(2_000), ..named("session", "s1") };
        file.add(&[named("token", "t1"), short.clone()], NOW).unwrap();
        file.add(&[named("token", "t1")], NOW).unwrap();
        assert_eq!(file.entries().unwrap(), [named("token", "t1"), short]);
        assert!(file.add(&[Revocation::default()], NOW).is_err());
        file.add(&[named("subject", "bob")], Timestamp::from_unix_seconds(2_000)).unwrap();
        assert_eq!(file.entries().unwrap(), [named("token", "t1"), named("subject", "bob")]);
        assert_eq!(file.remove("t1", NOW).unwrap(), 1);
        assert_eq!(file.remove("t1", NOW).unwrap(), 0);
        assert_eq!(file.load(NOW).unwrap().len(), 1);
        std::fs::write(file.path(), "{").unwrap();
        assert!(file.load(NOW).is_err() && file.add(&[named("token", "x")], NOW).is_err());
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
