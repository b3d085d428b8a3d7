//! An authority and a certificate of its for `localhost`, used by all proxies and by the
//! upstream that speaks TLS.

use crate::command;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate, its key and the authority (ECDSA P-256), as PEM files.
pub(super) struct Pki {
    pub(super) authority: PathBuf,
    pub(super) authority_key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Certificate and key in one file, as haproxy wants them.
    pub(super) bundle: PathBuf,
}

impl Pki {
    /// Makes all of them in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let made = Self {
            authority: folder.join("authority.pem"),
            authority_key: folder.join("authority.key.pem"),
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            bundle: folder.join("bundle.pem"),
        };
        let signs = ["-x509", "-days", "30", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        request("/CN=bench authority", &made.authority_key, &made.authority, &signs)?;
        let asked = folder.join("localhost.csr");
        let name = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        request("/CN=localhost", &made.key, &asked, &["-addext", name])?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "30", "-copy_extensions", "copy", "-CAcreateserial", "-in"])
            .arg(&asked)
            .arg("-CA")
            .arg(&made.authority)
            .arg("-CAkey")
            .arg(&made.authority_key)
            .arg("-out")
            .arg(&made.certificate);
        command::read(&mut sign).context("signing a certificate")?;
        let bundle =
            [std::fs::read_to_string(&made.certificate)?, std::fs::read_to_string(&made.key)?].concat();
        std::fs::write(&made.bundle, bundle)?;
        Ok(made)
    }
}

/// A new key and a request for a certificate, or with `-x509` the certificate itself.
fn request(subject: &str, key: &Path, out: &Path, more: &[&str]) -> Result<()> {
    let mut request = Command::new("openssl");
    request.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    request.args(["-subj", subject]).args(more).arg("-keyout").arg(key).arg("-out").arg(out);
    command::read(&mut request).context("making a key; install openssl")?;
    Ok(())
}
