//! Accounts and certificates in the state folder: `acme/DIRECTORY/account.json`, and for
//! each name one file with key and chain, so that the two are replaced together.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

use super::issued::{Issued, PEM_BYTES_MAX};
use crate::process::state::{ACME, make_private_folder, write_atomically};

/// Longest name that a file has; a longer one stands as its digest.
const NAME_BYTES_MAX: usize = 128;

/// An account as it is kept. The credentials hold its private key.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// Whom the server may write to, as it was told.
    pub(super) email: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// The folder of accounts and certificates.
#[derive(Debug)]
pub(super) struct AcmeStorage {
    folder: PathBuf,
}

impl AcmeStorage {
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join(ACME) }
    }

    /// The account at a directory.
    pub(super) fn account(&self, directory: &str) -> anyhow::Result<Option<Account>> {
        let path = self.path(directory, "account.json");
        let Some(text) = read(&path)? else { return Ok(None) };
        let account = serde_json::from_slice(text.expose());
        account.map(Some).with_context(|| format!("{} cannot be read", path.display()))
    }

    pub(super) fn keep_account(&self, directory: &str, account: &Account) -> anyhow::Result<()> {
        let text = Secret::new(serde_json::to_vec(account)?);
        self.write(directory, "account.json", text.expose())
    }

    /// Forgets an account that the server does not know.
    pub(super) fn forget_account(&self, directory: &str) -> io::Result<()> {
        match fs::remove_file(self.path(directory, "account.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The certificate for a name.
    ///
    /// # Errors
    /// It is there and cannot be used.
    pub(super) fn certificate(
        &self,
        directory: &str,
        name: &str,
        now: Timestamp,
    ) -> anyhow::Result<Option<Issued>> {
        let path = self.path(directory, &format!("{}.pem", file_name(name)));
        let Some(text) = read(&path)? else { return Ok(None) };
        let issued = Issued::check(text.expose(), text.expose(), name, now);
        issued.map(Some).with_context(|| path.display().to_string())
    }

    /// Keeps a certificate in the place of the one before.
    pub(super) fn keep_certificate(
        &self,
        directory: &str,
        name: &str,
        chain: &str,
        key: &str,
    ) -> anyhow::Result<()> {
        let text = Secret::new(format!("{key}{chain}"));
        self.write(directory, &format!("{}.pem", file_name(name)), text.expose().as_bytes())?;
        let _ = fs::remove_file(self.path(directory, &format!("{}.wait", file_name(name))));
        Ok(())
    }

    /// Until when a server has asked to be left alone about a name.
    pub(super) fn wait(&self, directory: &str, name: &str) -> Option<Timestamp> {
        let path = self.path(directory, &format!("{}.wait", file_name(name)));
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse().ok().map(Timestamp::from_unix_seconds)
    }

    /// Keeps that for the next start.
    pub(super) fn keep_wait(&self, directory: &str, name: &str, until: Timestamp) -> anyhow::Result<()> {
        let text = format!("{}\n", until.unix_seconds());
        self.write(directory, &format!("{}.wait", file_name(name)), text.as_bytes())
    }

    fn path(&self, directory: &str, file: &str) -> PathBuf {
        self.folder.join(folder_name(directory)).join(file)
    }

    fn write(&self, directory: &str, file: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(directory, file);
        let written = path.parent().map_or(Ok(()), make_private_folder);
        written
            .and_then(|()| write_atomically(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A file of it; `None` when it is not there.
fn read(path: &Path) -> anyhow::Result<Option<Secret<Vec<u8>>>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(cannot),
    };
    let mut bytes = Vec::new();
    file.take(2 * PEM_BYTES_MAX as u64).read_to_end(&mut bytes).with_context(cannot)?;
    let bytes = Secret::new(bytes);
    ensure!(bytes.expose().len() < 2 * PEM_BYTES_MAX, "{} is too large", path.display());
    Ok(Some(bytes))
}

/// The host of a directory, readable, and enough of its digest to tell two apart.
fn folder_name(directory: &str) -> String {
    let host = directory.split('/').nth(2).unwrap_or_default();
    let host =
        host.bytes().map(|b| if b.is_ascii_alphanumeric() || b == b'.' || b == b'-' { b } else { b'_' });
    let host: String = host.map(char::from).take(NAME_BYTES_MAX).collect();
    format!("{host}-{}", hex(directory, 4))
}

fn file_name(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX { name.to_owned() } else { hex(name, 32) }
}

fn hex(text: &str, bytes: usize) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_384_267);

    #[test]
    fn a_certificate_comes_back_and_is_its_owners_alone() {
        let state = tempfile::tempdir().unwrap();
        let storage = AcmeStorage::new(state.path());
        let made = rcgen::generate_simple_self_signed(vec!["shop.example.org".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(storage.certificate("https://a/dir", "shop.example.org", NOW).unwrap().is_none());
        storage.keep_wait("https://a/dir", "shop.example.org", NOW).unwrap();
        assert_eq!(storage.wait("https://a/dir", "shop.example.org"), Some(NOW));
        storage.keep_certificate("https://a/dir", "shop.example.org", &chain, &key).unwrap();
        let issued = storage.certificate("https://a/dir", "shop.example.org", NOW).unwrap().unwrap();
        assert_eq!(issued.identity.chain, [made.cert.der().clone()]);
        // What the server had asked for is over.
        assert_eq!(storage.wait("https://a/dir", "shop.example.org"), None);
        let file = storage.path("https://a/dir", "shop.example.org.pem");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        // Another directory's, or another name's, is another.
        assert!(storage.certificate("https://a/dir2", "shop.example.org", NOW).unwrap().is_none());
        fs::rename(&file, storage.path("https://a/dir", "api.example.org.pem")).unwrap();
        assert!(storage.certificate("https://a/dir", "api.example.org", NOW).is_err());
    }

    #[test]
    fn names_become_files_that_stay_in_the_folder() {
        for directory in ["https://a.example/x/../y", "https://../../etc", "", "https://[::1]:14000/dir"] {
            let name = folder_name(directory);
            assert!(!name.contains('/') && name != "." && name != "..", "{name}");
        }
        assert_ne!(folder_name("https://a/b_c"), folder_name("https://a/b/c"));
        let long = format!("{}.example.org", "a".repeat(63)).repeat(3);
        assert!(file_name(&long).len() <= NAME_BYTES_MAX);
    }
}
