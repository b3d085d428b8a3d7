//! Letters by a real mail server, PyPI's aiosmtpd, with STARTTLS and a password: an
//! invitation from the command line to the page where the first password is chosen.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clients::python;
use crate::support::{Town, until};

/// The mail server; ends with the test.
struct Post {
    child: std::process::Child,
    port: u16,
    ca: Vec<u8>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Post {
    fn start() -> Option<Self> {
        let Some(python) = python("aiosmtpd.controller") else {
            println!("skipped: PyPI's aiosmtpd is missing; `cargo xtask test` installs it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let paths = ["cert.pem", "key.pem", "letters"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], made.cert.pem()).unwrap();
        std::fs::write(&paths[1], made.signing_key.serialize_pem()).unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/system/clients/mail.py");
        let mut command = Command::new(python);
        command.arg(script).arg("serve").args(&paths).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Some(Self { child, port, ca: made.cert.pem().into(), file: paths[2].clone(), _folder: folder })
    }

    fn letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn whoever_is_added_with_an_address_is_invited() {
    let Some(post) = Post::start() else { return };
    let mut town = Town::prepare("routes: []\n");
    std::fs::write(town.path("ca.pem"), &post.ca).unwrap();
    std::fs::write(town.path("mail.secret"), "s3cret\n").unwrap();
    town.configure(&format!(
        "realms:\n  town:\n    issuer: https://localhost\n    language: de\n    mail:\n      server: localhost:{}\n      \
         from: town@example.org\n      username: town\n      password: ${{file:mail.secret}}\n      ca: ca.pem\n\
         routes:\n  - match: localhost/**\n    to: identity\n    authenticate: none\n    allow: anyone\n",
        post.port
    ));
    let (code, out, err) = town.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    town.start_gateway().await;
    let (code, out, err) =
        town.bastide(&["user", "add", "alice", "--email", "alice@example.org", "--invite"]);
    assert!(code == 0 && out.contains("alice: done"), "{out}{err}");
    let letter = until("the invitation", async || post.letters().into_iter().next()).await;
    let data = letter["data"].as_str().unwrap().replace("=\r\n", "").replace("=3D", "=");
    let link = data.split("https://localhost").nth(1).unwrap();
    let target = link.split_whitespace().next().unwrap();
    assert!(target.starts_with("/recover/password?token="), "{data}");
    let page = town.get(target).await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.status == 200 && text.contains("Passwort wählen"), "{text}");
    // Without an address a password is made, as before.
    let (code, out, err) = town.bastide(&["user", "add", "bob"]);
    assert!(code == 0 && out.contains("This is the only time"), "{out}{err}");
}
