//! The way of messages to a mail server, by SMTP.
//!
//! What it must never do: send a message or a password in clear where the configuration does
//! not say so; let a text of a message become a field of its header.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use identity::mail::{MailMessage, MailTransport, NotSent, Sending};
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use model::Clock;
use std::sync::Arc;

use crate::config::{Mail, MailSecurity};

/// For the connection to the server. What comes after is bounded by who sends messages
/// ([`identity::mail`]).
const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);

/// A mail server.
pub struct MailServer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    clock: Arc<dyn Clock>,
    /// How many messages there were.
    sent: AtomicU64,
}

/// RFC 3834 §5: no holiday notes to a machine.
#[derive(Clone, Debug)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Of the texts of a message (RFC 3282).
#[derive(Clone, Debug)]
struct ContentLanguage(&'static str);

impl Header for ContentLanguage {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Language")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Err("it is only written".into())
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.to_owned())
    }
}

/// Whether a text is a sender: an address, or a name and an address.
pub fn is_sender(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.parse::<Mailbox>().is_ok()
}

/// Checks that a server can be talked to in this way, without doing so.
///
/// # Errors
/// What is wrong with the certificates.
pub fn check(mail: &Mail) -> Result<(), String> {
    tls(mail).map(drop)
}

fn tls(mail: &Mail) -> Result<Tls, String> {
    if mail.security == MailSecurity::DangerNone {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(mail.host.clone());
    parameters = match &mail.ca {
        None => parameters.certificate_store(CertificateStore::WebpkiRoots),
        Some(pem) => {
            let certificate = Certificate::from_pem(pem).map_err(|error| format!("certificates: {error}"))?;
            parameters.certificate_store(CertificateStore::None).add_root_certificate(certificate)
        }
    };
    let parameters = parameters.build_rustls().map_err(|error| format!("TLS: {error}"))?;
    Ok(match mail.security {
        MailSecurity::Tls => Tls::Wrapper(parameters),
        MailSecurity::StartTls | MailSecurity::DangerNone => Tls::Required(parameters),
    })
}

impl MailServer {
    /// The server of a configuration. `name`: what we call ourselves there.
    ///
    /// # Errors
    /// The sender or the certificates cannot be read.
    pub fn new(mail: &Mail, name: &str, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let from = mail.from.parse().map_err(|error| format!("mail.from: {error}"))?;
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
            .port(mail.port)
            .tls(tls(mail)?)
            .hello_name(ClientId::Domain(name.to_owned()))
            .timeout(Some(CONNECT_TIME_MAX));
        if let Some((username, password)) = &mail.login {
            transport = transport.credentials(Credentials::new(username.clone(), password.clone()));
        }
        Ok(Self { transport: transport.build(), from, clock, sent: AtomicU64::new(0) })
    }

    fn message(&self, mail: MailMessage) -> Result<Message, String> {
        let to: lettre::Address = mail.to.parse().map_err(|error| format!("the address: {error}"))?;
        let part = |media: ContentType, text: String| {
            SinglePart::builder().header(media).header(ContentLanguage(mail.language)).body(text)
        };
        let body = MultiPart::alternative()
            .singlepart(part(ContentType::TEXT_PLAIN, mail.text))
            .singlepart(part(ContentType::TEXT_HTML, mail.html));
        // Of this process no two are alike, and no two processes write at the same nanosecond.
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("<{}.{number}@{}>", self.clock.now().unix_nanos(), self.from.email.domain());
        Message::builder()
            .message_id(Some(id))
            .date(std::time::UNIX_EPOCH + self.clock.now().since(model::Timestamp::default()))
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            .header(AutoSubmitted)
            .multipart(body)
            .map_err(|error| error.to_string())
    }
}

impl MailTransport for MailServer {
    fn send(&self, mail: MailMessage) -> Sending<'_> {
        Box::pin(async move {
            let message = self.message(mail).map_err(NotSent::Never)?;
            match self.transport.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => Err(judge(&error)),
            }
        })
    }
}

/// RFC 5321 §4.2.1: 5yz is for good, 4yz for now. What a server says to the sign-on is about
/// us, not about the message (RFC 4954 §6).
fn judge(error: &lettre::transport::smtp::Error) -> NotSent {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = format!("{why}: {inner}");
        source = inner.source();
    }
    let code = error.status().map(u16::from).unwrap_or_default();
    match code {
        530 | 534 | 535 | 538 | 454 | 421 => NotSent::Server(why),
        _ if error.is_permanent() => NotSent::Never(why),
        _ if error.is_transient() => NotSent::Later(why),
        _ => NotSent::Server(why),
    }
}
