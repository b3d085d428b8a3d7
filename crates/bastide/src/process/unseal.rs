//! Where a sealed process takes shares of its key: a socket in the state folder, which its
//! owner alone can reach.
//!
//! A client sends one share per line and gets one line of JSON for each: how many were
//! given, how many are needed, and whether the store is unsealed now.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use mesh::unix_socket::BoundSocket;
use serde::{Deserialize, Serialize};
use store::{Share, Shares, Store, UnsealKey};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroizing;

use super::storage::unseal_socket;

/// The longest line, bytes.
const LINE_BYTES_MAX: u64 = 1_024;
/// How long a client may take for a line.
const LINE_WITHIN: Duration = Duration::from_secs(5);

/// What a client is told about a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Different shares that came in.
    pub given: usize,
    /// Shares that are needed; 0: not known yet.
    pub needed: u8,
    /// Whether the store is unsealed.
    pub unsealed: bool,
    /// Why the share was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The socket of a sealed process. It is gone when this is dropped.
#[derive(Debug)]
pub struct UnsealSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of that socket, from [`SocketFile::publish`] until the socket is gone.
#[derive(Clone, Debug)]
pub struct SocketFile(Arc<Mutex<Option<BoundSocket>>>);

impl SocketFile {
    /// Shows the way to this process, and no longer to one that was there before.
    ///
    /// # Errors
    /// What the system said.
    pub fn publish(&self) -> anyhow::Result<()> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.as_mut().map_or(Ok(()), BoundSocket::publish).context("the socket for shares of the key")
    }

    /// Leaves its place to whoever succeeds this process.
    pub fn leave(&self) {
        if let Some(place) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            place.leave();
        }
    }
}

impl UnsealSocket {
    /// Listens in the state folder, which this process holds; clients find it once its file is
    /// published.
    ///
    /// # Errors
    /// What the system said.
    pub fn listen(state: &Path) -> anyhow::Result<(Self, SocketFile)> {
        let path = unseal_socket(state);
        let (listener, place) =
            BoundSocket::prepare(&path, 0o600).with_context(|| path.display().to_string())?;
        let file = SocketFile(Arc::new(Mutex::new(Some(place))));
        Ok((Self { listener, file: file.clone() }, file))
    }

    /// Takes shares until `open` succeeds with the key that they make up.
    pub async fn open<F>(self, open: impl Fn(UnsealKey) -> F + Sync) -> Store
    where
        F: Future<Output = Result<Store, store::Error>> + Send,
    {
        let mut shares = Shares::new();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // One after the other: a client has its share at hand when it comes.
            match take(stream, &mut shares, &open).await {
                Ok(Some(store)) => return store,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a client of `bastide unseal` went away"),
            }
        }
    }
}

impl Drop for UnsealSocket {
    fn drop(&mut self) {
        self.file.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Takes the shares of one client.
async fn take<F>(
    stream: UnixStream,
    shares: &mut Shares,
    open: &(impl Fn(UnsealKey) -> F + Sync),
) -> std::io::Result<Option<Store>>
where
    F: Future<Output = Result<Store, store::Error>> + Send,
{
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    loop {
        let mut line = Zeroizing::new(String::new());
        let mut bounded = (&mut input).take(LINE_BYTES_MAX);
        let reading = tokio::time::timeout(LINE_WITHIN, bounded.read_line(&mut line));
        if reading.await.map_err(|_| std::io::ErrorKind::TimedOut)?? == 0 {
            return Ok(None);
        }
        let (mut progress, mut opened) = (Progress::default(), None);
        // An empty line asks how it stands.
        if !line.trim().is_empty() {
            match Share::parse(&line).and_then(|share| shares.add(share)) {
                Ok(None) => {}
                Ok(Some(key)) => match open(key).await {
                    Ok(store) => opened = Some(store),
                    Err(fault) => progress.refused = Some(fault.to_string()),
                },
                Err(fault) => progress.refused = Some(fault.to_string()),
            }
        }
        progress.given = shares.given();
        progress.needed = shares.needed().unwrap_or(0);
        progress.unsealed = opened.is_some();
        let mut answer = serde_json::to_vec(&progress)?;
        answer.push(b'\n');
        output.write_all(&answer).await?;
        if opened.is_some() {
            return Ok(opened);
        }
    }
}
