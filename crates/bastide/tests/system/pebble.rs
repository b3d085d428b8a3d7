//! Pebble, the test server of Let's Encrypt (Debian's `pebble`): an ACME server that we
//! did not write. It looks at the proofs over the network, asks a name server of the
//! test's own where names are, and refuses some nonces so that clients try again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peers::{NameServer, authority, certificate, free_address};
use crate::support::{Process, read, until};

/// A Pebble with its own folder, which keeps its addresses when it starts again. What it
/// knew is lost then, as is its authority.
pub(crate) struct Pebble {
    folder: PathBuf,
    listen: SocketAddr,
    management: SocketAddr,
    /// Where it looks for http-01 and for tls-alpn-01.
    pub(crate) http: SocketAddr,
    pub(crate) tls: SocketAddr,
    names: NameServer,
    process: Option<Process>,
}

impl Pebble {
    /// Prepared, not yet running. `external` is an account elsewhere, which it then asks
    /// for: the key's name and the key.
    pub(crate) async fn prepare(folder: &Path, external: Option<(&str, &str)>) -> Self {
        let folder = folder.join("pebble");
        std::fs::create_dir_all(&folder).unwrap();
        authority(&folder, "authority");
        certificate(&folder, "authority", "server", "IP:127.0.0.1");
        let names = NameServer::start(&folder, "127.0.0.1 shop.test api.test\n", &[]).await;
        let [listen, management, http, tls] = [(); 4].map(|()| free_address());
        let keys: serde_json::Map<_, _> =
            external.iter().map(|(id, key)| ((*id).to_owned(), (*key).into())).collect();
        let configuration = serde_json::json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": "server.pem",
            "privateKey": "server.key",
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": external.is_some(),
            "externalAccountMACKeys": keys,
        } });
        std::fs::write(folder.join("pebble.json"), configuration.to_string()).unwrap();
        Self { folder, listen, management, http, tls, names, process: None }
    }

    pub(crate) async fn run(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new("pebble");
        command
            .args(["-strict", "-config", "pebble.json", "-dnsserver", &self.names.address.to_string()])
            .current_dir(&self.folder)
            // It looks at once, and at each proof anew; of its nonces it refuses a fifth.
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0"), ("PEBBLE_WFE_NONCEREJECT", "20")])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(Process::spawn(&mut command));
        let listen = self.listen;
        until("Pebble to listen", async || tokio::net::TcpStream::connect(listen).await.ok().map(drop)).await;
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Where its directory is.
    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.listen)
    }

    /// PEM file of the authority that its own certificate is from.
    pub(crate) fn trust(&self) -> String {
        self.folder.join("authority.pem").display().to_string()
    }

    /// The root that its certificates are from, as PEM file.
    pub(crate) async fn root(&self) -> PathBuf {
        let file = self.folder.join("root.pem");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--cacert", &self.trust(), "--output"]).arg(&file);
        curl.arg(format!("https://{}/roots/0", self.management)).stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || curl.status().unwrap()).await.unwrap();
        assert!(done.success(), "{}", read(&self.folder.join("log")));
        file
    }

    pub(crate) fn log(&self) -> String {
        read(&self.folder.join("log"))
    }
}
