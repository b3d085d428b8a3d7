//! Letters by a real mail server, PyPI's aiosmtpd, with STARTTLS and a password: what goes to
//! it and what does not, and an invitation from the command line to the page where the first
//! password is chosen.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bastide::config::{Mail, MailSecurity};
use bastide::demo::client::{Request, http1};
use bastide::process::clock::SystemClock;
use bastide::process::mail::MailServer;
use identity::mail::{MailMessage, MailTransport as _, NotSent};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::clients::python;
use crate::support::{TestBed, until};

/// The mail server; ends with the test.
struct Post {
    child: std::process::Child,
    port: u16,
    ca: Vec<u8>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Post {
    /// With STARTTLS; `implicit`: within TLS from the first byte on.
    fn start(implicit: bool) -> Option<Self> {
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
        let way = if implicit { "implicit" } else { "starttls" };
        command.arg(script).arg(way).args(&paths).stdout(Stdio::piped());
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

fn settings(post: &Post) -> Mail {
    Mail {
        host: "localhost".to_owned(),
        port: post.port,
        security: MailSecurity::StartTls,
        from: "Town <town@example.org>".to_owned(),
        login: Some(("town".to_owned(), "s3cret".to_owned())),
        ca: Some(post.ca.clone()),
    }
}

fn letter(to: &str) -> MailMessage {
    MailMessage {
        to: to.to_owned(),
        subject: "Grüße\r\nBcc: eve@example.org".to_owned(),
        text: "https://id.example.org/?token=1".to_owned(),
        html: "<p>token</p>".to_owned(),
        language: "de",
    }
}

/// Sends one letter, in a bounded time.
async fn send(mail: &Mail, to: &str) -> Result<(), NotSent> {
    let server = MailServer::new(mail, "id.example.org", Arc::new(SystemClock::start())).unwrap();
    let sent = tokio::time::timeout(Duration::from_secs(60), server.send(letter(to))).await;
    sent.unwrap_or_else(|_| panic!("{mail:?} to {to}: no answer within a minute"))
}

#[tokio::test]
async fn a_letter_goes_to_the_verified_server_alone_and_to_one_person() {
    let Some(post) = Post::start(false) else { return };
    let good = settings(&post);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    for (what, mail) in [
        ("another authority", Mail { ca: Some(other.into()), ..settings(&post) }),
        ("another name", Mail { host: "127.0.0.1".to_owned(), ..settings(&post) }),
        (
            "no TLS where the server asks for it",
            Mail { security: MailSecurity::DangerNone, ..settings(&post) },
        ),
        ("a wrong password", Mail { login: Some(("town".into(), "wrong".into())), ..settings(&post) }),
    ] {
        let sent = send(&mail, "alice@example.org").await;
        assert!(matches!(sent, Err(NotSent::Server(_))), "{what}: {sent:?}");
        assert!(post.letters().is_empty(), "{what}");
    }
    for to in ["alice@example.org\r\nRCPT TO:<eve@example.org>", "alice@example.org, eve@example.org", ""] {
        let sent = send(&good, to).await;
        assert!(matches!(sent, Err(NotSent::Never(_))), "{to:?}: {sent:?}");
    }
    assert!(matches!(send(&good, "refused@example.org").await, Err(NotSent::Never(_))));
    assert!(matches!(send(&good, "busy@example.org").await, Err(NotSent::Later(_))));
    assert!(post.letters().is_empty());
    send(&good, "alice@example.org").await.unwrap();
    let letters = post.letters();
    let [kept] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((&kept["tls"], &kept["to"]), (&true.into(), &serde_json::json!(["alice@example.org"])));
    let data = kept["data"].as_str().unwrap();
    let (head, _) = data.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
    let id = head.lines().find_map(|line| line.strip_prefix("Message-ID: <")).expect("RFC 5322 §3.6.4");
    assert!(id.contains('@') && !id.contains("localhost>"), "{id}");
    assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
}

/// A server without TLS that answers as told to lines that begin so, and takes everything
/// else. Gives its port and, when the client has gone, what that said.
async fn plain_server(told: Vec<(&'static str, &'static str)>) -> (u16, JoinHandle<String>) {
    let honest = [
        ("(greeting)", "220 localhost"),
        ("EHLO", "250-localhost\r\n250 AUTH PLAIN"),
        ("AUTH", "235 welcome"),
        ("DATA", "354 go on"),
        ("", "250 ok"),
    ];
    let answers: Vec<_> = told.into_iter().chain(honest).collect();
    let answer = move |line: &str| {
        let (_, answer) = answers.iter().find(|(begins, _)| line.starts_with(begins)).unwrap();
        format!("{answer}\r\n")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(answer("(greeting)").as_bytes()).await.unwrap();
        let (mut said, mut line, mut buffer) = (String::new(), String::new(), [0; 4096]);
        let mut end = "\r\n";
        while let Ok(count @ 1..) = connection.read(&mut buffer).await {
            line += &String::from_utf8_lossy(&buffer[..count]);
            if line.ends_with(end) {
                let is_letter = end != "\r\n";
                let answer = answer(if is_letter { "(letter)" } else { line.as_str() });
                end = if answer.starts_with("354") { "\r\n.\r\n" } else { "\r\n" };
                let _ = connection.write_all(answer.as_bytes()).await;
                said += &std::mem::take(&mut line);
            }
        }
        said + &line
    });
    (port, task)
}

fn settings_of(port: u16, security: MailSecurity) -> Mail {
    Mail {
        host: "localhost".to_owned(),
        port,
        security,
        from: "town@example.org".to_owned(),
        login: Some(("town".to_owned(), "s3cret".to_owned())),
        ca: None,
    }
}

#[tokio::test]
async fn a_server_that_offers_no_tls_is_told_nothing() {
    let (port, said) = plain_server(Vec::new()).await;
    let sent = send(&settings_of(port, MailSecurity::StartTls), "alice@example.org").await;
    assert!(matches!(sent, Err(NotSent::Server(_))), "{sent:?}");
    let said = said.await.unwrap();
    assert!(said.starts_with("EHLO") && !said.contains("AUTH") && !said.contains("MAIL"), "{said}");
    // Where TLS comes first, not even that.
    let (port, said) = plain_server(Vec::new()).await;
    let sent = send(&settings_of(port, MailSecurity::Tls), "alice@example.org").await;
    assert!(matches!(sent, Err(NotSent::Server(_))), "{sent:?}");
    let said = said.await.unwrap();
    assert!(said.starts_with('\u{16}') && !said.contains("EHLO"), "{said:?}");
}

#[tokio::test]
async fn a_letter_goes_within_tls_from_the_first_byte_on() {
    let Some(post) = Post::start(true) else { return };
    let good = Mail { security: MailSecurity::Tls, ..settings(&post) };
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    for (what, mail) in [
        ("another authority", Mail { ca: Some(other.into()), ..good.clone() }),
        ("another name", Mail { host: "127.0.0.1".to_owned(), ..good.clone() }),
    ] {
        let sent = send(&mail, "alice@example.org").await;
        assert!(matches!(sent, Err(NotSent::Server(_))), "{what}: {sent:?}");
        assert!(post.letters().is_empty(), "{what}");
    }
    send(&good, "alice@example.org").await.unwrap();
    assert_eq!(post.letters().len(), 1);
}

/// What a server says decides whether this letter is tried again, or nothing for a while.
#[tokio::test]
async fn what_is_wrong_with_us_costs_no_letter() {
    let kind = |sent: &Result<(), NotSent>| match sent {
        Ok(()) => "sent",
        Err(NotSent::Server(_)) => "server",
        Err(NotSent::Later(_)) => "later",
        Err(NotSent::Never(_)) => "never",
    };
    for (begins, answer, expected) in [
        ("(nothing)", "", "sent"),
        ("(greeting)", "421 too many of you", "server"),
        ("AUTH", "535 wrong password", "server"),
        ("AUTH", "534 another way", "server"),
        ("AUTH", "538 not without TLS", "server"),
        ("AUTH", "454 not now", "server"),
        ("MAIL", "530 who are you", "server"),
        ("MAIL", "421 closing", "server"),
        ("MAIL", "451 come again", "later"),
        ("RCPT", "450 mailbox busy", "later"),
        ("RCPT", "550 no such mailbox", "never"),
        ("(letter)", "452 no room", "later"),
        ("(letter)", "554 not this", "never"),
        ("(letter)", "421 closing", "server"),
    ] {
        let (port, _) = plain_server(vec![(begins, answer)]).await;
        let sent = send(&settings_of(port, MailSecurity::DangerNone), "alice@example.org").await;
        assert_eq!(kind(&sent), expected, "{begins} {answer}: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_connection_is_given_up() {
    // One may wait to be taken, and nobody takes it: whoever comes later is not answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connection) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(connection);
    }
    let begun = tokio::time::Instant::now();
    let mail = Mail { host: "127.0.0.1".to_owned(), ..settings_of(address.port(), MailSecurity::StartTls) };
    let sent = send(&mail, "alice@example.org").await;
    assert!(matches!(sent, Err(NotSent::Server(_))), "{sent:?}");
    assert_eq!(begun.elapsed().as_secs(), 20);
}

/// A test bed whose realm sends letters.
async fn testbed_with_mail(post: &Post) -> TestBed {
    let mut testbed = TestBed::prepare("routes: []\n");
    std::fs::write(testbed.path("ca.pem"), &post.ca).unwrap();
    std::fs::write(testbed.path("mail.secret"), "s3cret\n").unwrap();
    testbed.configure(&format!(
        "realms:\n  town:\n    issuer: https://localhost\n    language: de\n    mail:\n      server: localhost:{}\n      \
         from: town@example.org\n      username: town\n      password: ${{file:mail.secret}}\n      ca: ca.pem\n\
         routes:\n  - match: localhost/**\n    to: identity\n    authenticate: none\n    allow: anyone\n",
        post.port
    ));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    testbed
}

/// The path of the link in the first letter.
async fn link(post: &Post) -> String {
    let letter = until("the letter", async || post.letters().into_iter().next()).await;
    let data = letter["data"].as_str().unwrap().replace("=\r\n", "").replace("=3D", "=");
    let link = data.split("https://localhost").nth(1).unwrap_or_else(|| panic!("{data}"));
    link.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn whoever_is_added_with_an_address_is_invited() {
    let Some(post) = Post::start(false) else { return };
    let testbed = testbed_with_mail(&post).await;
    let (code, out, err) =
        testbed.bastide(&["user", "add", "alice", "--email", "alice@example.org", "--invite"]);
    assert!(code == 0 && out.contains("alice: done"), "{out}{err}");
    let target = link(&post).await;
    assert!(target.starts_with("/recover/password?token="), "{target}");
    let page = testbed.get(&target).await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.status == 200 && text.contains("Passwort wählen"), "{text}");
    // Whoever let it expire is sent another.
    let (code, out, err) = testbed.bastide(&["user", "password", "alice", "--invite"]);
    assert!(code == 0 && out.contains("alice: done"), "{out}{err}");
    until("the second letter", async || (post.letters().len() == 2).then_some(())).await;
    // Without an address a password is made, as before.
    let (code, out, err) = testbed.bastide(&["user", "add", "bob"]);
    assert!(code == 0 && out.contains("This is the only time"), "{out}{err}");
}

#[tokio::test]
async fn whoever_has_an_address_is_asked_to_show_that_it_is_theirs() {
    let Some(post) = Post::start(false) else { return };
    let testbed = testbed_with_mail(&post).await;
    for add in [&["user", "add", "alice", "--email", "alice@example.org"][..], &["user", "add", "bob"]] {
        assert_eq!(testbed.bastide(add).0, 0);
    }
    let (code, out, err) = testbed.bastide(&["user", "verify-mail", "bob"]);
    assert!(code != 0 && err.contains("there is no e-mail address to write to"), "{out}{err}");
    let (code, out, err) = testbed.bastide(&["user", "verify-mail", "alice"]);
    assert!(code == 0 && out.contains("alice: a link is on its way"), "{out}{err}");
    let target = link(&post).await;
    assert!(target.starts_with("/verify?token="), "{target}");
    let page = testbed.get(&target).await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let cookies = page.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let cookies: Vec<&str> = cookies.map(|(_, value)| value.split(';').next().unwrap()).collect();
    let value = |name: &str| {
        let input = text.split("<input").find(|input| input.contains(&format!("name=\"{name}\"")));
        let input = input.unwrap_or_else(|| panic!("no {name}: {text}"));
        input.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let mut confirm = Request::new("POST", "localhost", "/verify")
        .field("content-type", "application/x-www-form-urlencoded")
        .field("origin", "https://localhost")
        .field("cookie", &cookies.join("; "));
    confirm.body = format!("token={}&csrf={}", value("token"), value("csrf")).into_bytes();
    let answer = http1::ask(&testbed.endpoint(), &confirm).await.unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let (_, out, _) = testbed.bastide(&["user", "show", "alice", "--output", "json"]);
    let alice: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(alice["email_verified"], true, "{alice}");
    // Whoever has shown it is not asked again.
    let (code, out, err) = testbed.bastide(&["user", "verify-mail", "alice"]);
    assert!(code == 1 && err.contains("verified already"), "{out}{err}");
}
