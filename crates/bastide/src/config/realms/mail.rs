//! `realms.NAME.mail`: the mail server that letters to people go through.

use crate::config::decoder::{Decoder, Table};
use crate::config::node::Node;
use crate::config::schema::{Section, key};
use crate::config::values::Unfit;

/// The largest file of certificates that is read, bytes.
const CA_BYTES_MAX: usize = 1 << 20;
/// Where servers take letters from programs (RFC 6409 §3.1), by STARTTLS.
const PORT_SUBMISSION: u16 = 587;
/// The same within TLS (RFC 8314 §3.3).
const PORT_SUBMISSIONS: u16 = 465;

/// The way to a mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its name, which its certificate has to have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: MailSecurity,
    /// Whom letters are from: `Name <address>` or an address.
    pub from: String,
    /// User name and password there.
    pub login: Option<(String, String)>,
    /// PEM certificates that the server's has to lead to; `None`: the public ones.
    pub ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Mail({}:{}, {:?})", self.host, self.port, self.security)
    }
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS by STARTTLS (RFC 3207); without it nothing is sent.
    StartTls,
    /// Not at all.
    DangerNone,
}

pub(in crate::config) const MAIL: Section = Section {
    path: "realms.NAME.mail",
    about: "The mail server for e-mail to users: lost passwords, invitations, confirmation of addresses. Messages wait in the store until it accepts them, for a day at most. Without it no e-mail is sent, and only an administrator can replace a lost password.",
    short: "",
    keys: &[
        key("server", "host or host:port", "", "The server; the default port is 587."),
        key("from", "address, or name and address", "", "The sender: `The shop <shop@example.org>`."),
        key(
            "tls",
            "starttls or implicit",
            "implicit at port 465, else starttls",
            "How TLS begins. Without it nothing is sent.",
        ),
        key("username", "text", "none", "The user name there. Together with `password`."),
        key("password", "text, from `${NAME}` or `${file:…}`", "none", "The password there."),
        key(
            "ca",
            "path of a PEM file",
            "the public authorities",
            "Authorities that have to have issued the server's certificate.",
        ),
        key(
            "danger_cleartext",
            "true or false",
            "false",
            "Sends messages, and the links in them, in clear text. Not with `tls`, `ca` or `password`.",
        ),
    ],
};

fn server(text: &str) -> Result<(String, Option<u16>), Unfit> {
    let unfit = || Unfit { expected: "a host or host:port, such as mail.example.org:587", instead: None };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            (host, Some(port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(unfit)?))
        }
        None => (text, None),
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let good = !host.is_empty() && host.len() <= 253 && host.bytes().all(known);
    if good { Ok((host.to_ascii_lowercase(), port)) } else { Err(unfit()) }
}

fn from(text: &str) -> Result<String, Unfit> {
    let good = crate::process::mail::is_sender(text);
    let expected = "an address, or a name and an address: Town <town@example.org>";
    if good { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}

impl Decoder<'_> {
    /// `mail:`
    pub(super) fn mail(&mut self, node: &Node) -> Option<Mail> {
        let table = self.table(node, &MAIL)?;
        let (server_node, from_node) = (self.required(&table, "server"), self.required(&table, "from"));
        let (host, port) = self.value(server_node?, server)?;
        let from = self.value(from_node?, from)?;
        let what = "letters, and the links in them, go in clear";
        let cleartext = self.danger(&table, "danger_cleartext", what);
        let words = [("starttls", MailSecurity::StartTls), ("implicit", MailSecurity::Tls)];
        let tls = table.get("tls").and_then(|node| self.word(node, "way of TLS", &words));
        let by_port = if port == Some(PORT_SUBMISSIONS) { MailSecurity::Tls } else { MailSecurity::StartTls };
        let security = if cleartext { MailSecurity::DangerNone } else { tls.unwrap_or(by_port) };
        if cleartext {
            for key in ["tls", "ca", "password"] {
                if table.get(key).is_some() {
                    self.fault(
                        table.key_at(key),
                        format!("`{key}` cannot be combined with `danger_cleartext`"),
                    );
                }
            }
        }
        let login = self.mail_login(&table);
        let ca = table.get("ca").and_then(|node| self.file(node, CA_BYTES_MAX)).map(|(_, bytes)| bytes);
        let default = if security == MailSecurity::Tls { PORT_SUBMISSIONS } else { PORT_SUBMISSION };
        let mail = Mail { host, port: port.unwrap_or(default), security, from, login, ca };
        if let Err(why) = crate::process::mail::check(&mail) {
            self.fault(table.key_at("ca"), why);
        }
        Some(mail)
    }

    fn mail_login(&mut self, table: &Table<'_>) -> Option<(String, String)> {
        let username = table.get("username").and_then(|node| self.text(node)).map(str::to_owned);
        let password = table.get("password").and_then(|node| self.text(node)).map(str::to_owned);
        if username.is_some() != password.is_some() {
            self.fault(table.at, "`username` and `password` belong together");
        }
        username.zip(password)
    }
}
