//! API keys in a file: JSON, mode 600, replaced whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::api_key::{ApiKeyChange, ApiKeyContents, ApiKeyStore};
use crate::encoding::encode_base64url;
use crate::error::Error;
use crate::file::{Lock, read_secret, replace};

/// Largest file that is read, bytes.
const API_KEY_FILE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A store in one file. Several processes may use it: changes exclude each other by a
/// lock on `<file>.lock`, and readers see the file before or after a change.
pub struct ApiKeyFile {
    path: PathBuf,
    random: Arc<dyn SecureRandom + Send + Sync>,
}

impl std::fmt::Debug for ApiKeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ApiKeyFile {
    /// The store at this path. Nothing is read or made yet.
    pub fn new(path: &Path, random: Arc<dyn SecureRandom + Send + Sync>) -> Self {
        Self { path: path.to_owned(), random }
    }

    /// Its path, for a watcher.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<ApiKeyContents, Error> {
        let Some(bytes) = read_secret(&self.path, API_KEY_FILE_BYTES_MAX)? else {
            let mut pepper = Zeroizing::new([0; 32]);
            self.random.fill(pepper.as_mut()).map_err(|_| Error::Cryptography("random numbers"))?;
            let pepper = encode_base64url(pepper.as_ref());
            return Ok(ApiKeyContents { version: 1, pepper, keys: Vec::new() });
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::Content {
            path: self.path.clone(),
            why: format!("expected the API keys that `bastide key` writes: {error}"),
        })
    }
}

impl ApiKeyStore for ApiKeyFile {
    fn load(&self) -> Result<ApiKeyContents, Error> {
        self.read()
    }

    fn update(&self, change: ApiKeyChange<'_>) -> Result<(), Error> {
        let _lock = Lock::take(&self.path)?;
        let mut contents = self.read()?;
        change(&mut contents)?;
        let bytes = serde_json::to_vec_pretty(&contents)
            .map_err(|error| Error::Content { path: self.path.clone(), why: error.to_string() })?;
        replace(&self.path, &bytes, 0o600, self.random.as_ref())
    }
}
