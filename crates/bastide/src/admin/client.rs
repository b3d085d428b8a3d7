//! The command line's side: calls a running process over its socket, or carries the same
//! operations out on the store when none runs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::mesh::TrustDomain;
use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use identity::mail::{MailTransport, SentElsewhere};
use identity::{NoObserver, Realm, World};
use keys::SystemRandom;
use model::Clock;
use serde_json::Value;
use store::UnsealKey;
use tower::ServiceExt as _;

use super::caller::Caller;
use super::serve::{AdminState, router};
use super::view::{RealmSource, Trust, View};
use crate::config::Configuration;
use crate::process::audit_handle::AuditHandle;
use crate::process::back_channel::DeliveredElsewhere;
use crate::process::clock::SystemClock;
use crate::process::state::{REVOCATIONS, make_private_folder, make_state_folder};
use crate::process::storage;

/// Name of the administration's socket in the state folder.
pub const SOCKET: &str = "admin.sock";
/// Largest body of an answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// How long an answer may take: a password hash waits for others.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The query that asks for the largest pages.
const PAGE: &str = "limit=1000";
/// Most header fields of an answer.
const FIELDS_MAX: usize = 64;
/// Room for events that the disk of the audit log has to have, bytes.
const AUDIT_ROOM_BYTES: u64 = 64 << 10;
/// How long the event of a call may take to the disk.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// The socket of a process with this state folder.
pub fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// The client of the administration: makes the calls of the command line.
pub enum AdminClient {
    /// A running process, by the path of its socket.
    Running(PathBuf),
    /// The store itself: no process runs on the state folder.
    Own {
        /// What carries a call out.
        runtime: tokio::runtime::Runtime,
        /// The same operations as in a running process.
        router: Router,
        /// The audit log, closed at the end.
        log: Option<audit::Log>,
    },
}

/// The answer to a call, from the process or from the store.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `ETag`, for a later `If-Match`.
    pub tag: Option<String>,
    /// The JSON body; null: there was none.
    pub body: Value,
}

impl Answer {
    /// The body of a call that succeeded.
    ///
    /// # Errors
    /// It failed: what the problem document says.
    pub fn done(self) -> anyhow::Result<Value> {
        anyhow::ensure!(self.is_done(), "{}", self.complaint());
        Ok(self.body)
    }

    /// Whether the call succeeded, by its status.
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a problem document (RFC 9457) says, in one line.
    pub fn complaint(&self) -> String {
        let text = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("detail") {
            "" => format!("the process answers {}", self.status),
            detail => detail.to_owned(),
        }
    }
}

impl AdminClient {
    /// The process that runs with this configuration; without one the store, opened here.
    ///
    /// # Errors
    /// The store cannot be opened: it has no key here, or a process that runs on the state
    /// folder has no administration.
    pub fn of(configuration: &Configuration) -> anyhow::Result<Self> {
        let key = || {
            storage::local_key(&configuration.storage.unseal)?.context(
                "people have the shares of the store's key; this command needs a running process, a key file or the environment",
            )
        };
        Self::unlocked(configuration, key)
    }

    /// The same, where the store that is opened here has this key.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn unlocked(
        configuration: &Configuration,
        key: impl FnOnce() -> anyhow::Result<UnsealKey>,
    ) -> anyhow::Result<Self> {
        Self::running(configuration).map_or_else(|| Self::own(configuration, Some(key()?)), Ok)
    }

    /// The same for calls about the gateway alone, which need no store: without a process
    /// there are no realms.
    ///
    /// # Errors
    /// The state folder cannot be used.
    pub fn without_realms(configuration: &Configuration) -> anyhow::Result<Self> {
        Self::running(configuration).map_or_else(|| Self::own(configuration, None), Ok)
    }

    fn running(configuration: &Configuration) -> Option<Self> {
        Self::answers(&configuration.state).then(|| Self::at(&configuration.state))
    }

    /// Whether a process runs on this state folder.
    pub fn answers(state: &Path) -> bool {
        UnixStream::connect(socket(state)).is_ok()
    }

    /// The process that runs on this state folder.
    pub fn at(state: &Path) -> Self {
        Self::Running(socket(state))
    }

    fn own(configuration: &Configuration, key: Option<UnsealKey>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (state, log) = runtime.block_on(open(configuration, key))?;
        Ok(Self::Own { runtime, router: router(&state), log: Some(log) })
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// There is no answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        self.call_if(method, path, None, body)
    }

    /// The same with one of `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// There is no answer.
    pub fn call_if(
        &self,
        method: &str,
        path: &str,
        condition: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        match self {
            Self::Running(socket) => ask(socket, method, path, condition, &text)
                .with_context(|| format!("the process at {}", socket.display())),
            Self::Own { runtime, router, log } => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header("content-type", "application/json")
                    .header("user-agent", AGENT)
                    .extension(Caller::local(rustix::process::geteuid().as_raw()));
                if let Some((name, value)) = condition {
                    request = request.header(name, value);
                }
                let request = request.body(Body::from(text))?;
                let answer = runtime.block_on(async {
                    let Ok(response) = router.clone().oneshot(request).await;
                    let (head, body) = response.into_parts();
                    let most = usize::try_from(ANSWER_BYTES_MAX)?;
                    let body = axum::body::to_bytes(body, most).await?;
                    let tag = head.headers.get("etag").and_then(|value| value.to_str().ok());
                    Ok(Answer {
                        status: head.status.as_u16(),
                        tag: tag.map(str::to_owned),
                        body: read_body(&body)?,
                    })
                });
                // With this process goes what waits for the disk.
                let written = log.as_ref().map_or(Ok(()), |log| log.flush(WRITTEN_WITHIN));
                written.context("the call was carried out, but the audit log does not have its event")?;
                answer
            }
        }
    }

    /// All items of a list, page by page if it is `paged`.
    ///
    /// # Errors
    /// A page was refused.
    pub fn list(&self, path: &str, paged: bool) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut parts = Vec::new();
            if paged {
                parts.push(PAGE.to_owned());
            }
            if !cursor.is_empty() {
                parts.push(format!("cursor={cursor}"));
            }
            let joint = if path.contains('?') { "&" } else { "?" };
            let query = if parts.is_empty() { String::new() } else { format!("{joint}{}", parts.join("&")) };
            let page = self.call("GET", &format!("{path}{query}"), None)?.done()?;
            items.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => next.clone_into(&mut cursor),
                None => return Ok(items),
            }
        }
    }
}

impl Drop for AdminClient {
    fn drop(&mut self) {
        if let Self::Own { router, log, .. } = self {
            // The state, and with it the way to the log.
            drop(std::mem::take(router));
            if let Some(log) = log.take() {
                let _ = log.close(Duration::from_secs(1));
            }
        }
    }
}

/// `User-Agent` of the command line.
const AGENT: &str = concat!("bastide/", env!("CARGO_PKG_VERSION"));

/// One call over the socket: HTTP/1.1, one call per connection.
fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    condition: Option<(&str, &str)>,
    body: &str,
) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let condition = condition.map_or(String::new(), |(name, value)| format!("{name}: {value}\r\n"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {AGENT}\r\nconnection: close\r\n{condition}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A call that is refused before its body was read ends so, behind its answer.
    let cut = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
    };
    if let Err(error) = stream.write_all(format!("{head}{body}").as_bytes())
        && !cut(&error)
    {
        return Err(error.into());
    }
    let mut bytes = Vec::new();
    // Whether the answer is whole, its length says.
    if let Err(error) = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)
        && (bytes.is_empty() || !cut(&error))
    {
        return Err(error.into());
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(&bytes)? else {
        anyhow::bail!("the answer ended early");
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let body = bytes.get(length..).unwrap_or_default();
    // The process answers whole bodies, with their length.
    let expected = field("content-length").map_or(Ok(0), str::parse::<usize>)?;
    anyhow::ensure!(body.len() == expected, "the answer ended early");
    Ok(Answer {
        status: response.code.unwrap_or_default(),
        tag: field("etag").map(str::to_owned),
        body: read_body(body)?,
    })
}

fn read_body(bytes: &[u8]) -> anyhow::Result<Value> {
    if bytes.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(bytes)?) }
}

/// Everything that a process would work on, opened here.
async fn open(
    configuration: &Configuration,
    key: Option<UnsealKey>,
) -> anyhow::Result<(Arc<AdminState>, audit::Log)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random = Arc::new(SystemRandom::new());
    make_state_folder(&configuration.state)?;
    let keys = configuration.authentication.api_keys.parent();
    if let Some(folder) = keys.filter(|folder| !folder.as_os_str().is_empty()) {
        make_private_folder(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (realms, domain) = match key {
        Some(key) => kept(configuration, key, &clock, &random).await?,
        None => (BTreeMap::new(), None),
    };
    // Nothing is done here that cannot be written down.
    let (when_full, room_bytes) = (audit::WhenFull::Refuse, AUDIT_ROOM_BYTES);
    let audit = audit::Settings { when_full, room_bytes, ..configuration.audit.settings() };
    let opened = audit::open(audit, 1, Arc::clone(&clock));
    let (log, mut queues) = opened.context("without a place in the audit log nothing is done")?;
    let audit = AuditHandle::open(queues.pop().context("a queue of the audit log")?, "administration")?;
    let view = View::of(configuration, None, None)?;
    let revocations = configuration.state.join(REVOCATIONS);
    let trust = Trust::Opened(domain);
    let state = AdminState::new(view, RealmSource::Opened(realms), trust, revocations, audit, clock, random);
    Ok((Arc::new(state), log))
}

/// The realms and the trust domain, on the store, which is opened for them.
async fn kept(
    configuration: &Configuration,
    key: UnsealKey,
    clock: &Arc<dyn Clock>,
    random: &Arc<SystemRandom>,
) -> anyhow::Result<(BTreeMap<String, Arc<Realm>>, Option<Arc<TrustDomain>>)> {
    let settings = &configuration.storage;
    let place = || storage::place(&settings.database);
    let store = storage::open(&settings.database, key, Arc::clone(clock)).await.with_context(place)?;
    let mut realms = BTreeMap::new();
    for realm in &configuration.realms {
        let world = World {
            store: store.clone(),
            clock: Arc::clone(clock),
            random: random.clone(),
            deliver: Arc::new(DeliveredElsewhere(realm.back_channel.clone())),
            // Each call here leaves an event of its own.
            observer: Arc::new(NoObserver),
            mail_transport: realm.mail.as_ref().map(|_| Arc::new(SentElsewhere) as Arc<dyn MailTransport>),
        };
        realms.insert(realm.settings.name.clone(), Realm::open(realm.settings.clone(), world).await?);
    }
    let domain = match &configuration.mesh {
        Some(mesh) => {
            let domain = TrustDomain::open(mesh.settings.clone(), store, random.clone()).await?;
            domain.declare(mesh.declared());
            Some(domain)
        }
        None => None,
    };
    Ok((realms, domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Disk};

    /// A log of 40 files, the last begun days ago: the next event begins a file, and removes
    /// what `keep` does not keep.
    #[test]
    fn a_command_without_a_process_keeps_as_many_audit_files_as_the_configuration_says() {
        for (keep, left) in [("keep: 100", 41), ("keep: 40", 40), ("keep: 100, rotate_after: 0s", 40)] {
            let folder = tempfile::tempdir().unwrap();
            let logs = folder.path().join("logs");
            std::fs::create_dir(&logs).unwrap();
            for number in 1..=40 {
                std::fs::write(logs.join(format!("access-{number:010}-{number}.jsonl")), "{}\n").unwrap();
            }
            let file = folder.path().join("bastide.yaml");
            let text = format!(
                "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://127.0.0.1:1 ] }}\n\
                 routes: [ {{ match: /**, to: a, allow: anyone }} ]\naudit: {{ folder: logs, {keep} }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let configuration = config::load(&file, &|_| None, &Disk).unwrap();
            let client = AdminClient::without_realms(&configuration).unwrap();
            assert!(matches!(client, AdminClient::Own { .. }));
            let wanted = serde_json::json!({ "name": "ci", "owner": "ops" });
            client.call("POST", "/v1/api-keys", Some(&wanted)).unwrap().done().unwrap();
            drop(client);
            let is_log =
                |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|ext| ext == "jsonl");
            let count = std::fs::read_dir(&logs).unwrap().map(Result::unwrap).filter(is_log).count();
            assert_eq!(count, left, "{keep}");
        }
    }
}
