//! `storage:`: where durable records are kept, and who unlocks them.

use std::path::{Path, PathBuf};

use super::decoder::{Decoder, Table};
use super::node::Node;
use super::schema::{Section, key};
use super::values::Unfit;

/// The largest file of certificates that is read, bytes.
const CA_BYTES_MAX: usize = 1 << 20;

/// Where durable records are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Whether the configuration has this section, or another one that needs a store.
    pub is_set: bool,
    /// Which database.
    pub database: Database,
    /// Where the unseal key comes from.
    pub unseal: Unseal,
}

/// A database.
#[derive(Clone, PartialEq)]
pub enum Database {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server that several processes share.
    Postgres {
        /// A connection string. It may hold a password.
        url: String,
        /// PEM certificates that the server's has to lead to; `None`: the public ones.
        ca: Option<(PathBuf, Vec<u8>)>,
        /// Whether the connection may be in clear to another machine.
        danger_cleartext: bool,
    },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "Sqlite({})", path.display()),
            Self::Postgres { .. } => formatter.write_str("Postgres(…)"),
        }
    }
}

/// Where the unseal key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseal {
    /// A file of mode 0600.
    KeyFile(PathBuf),
    /// An environment variable.
    Environment(String),
    /// Several people, by `bastide unseal`.
    Shares,
}

pub(super) const STORAGE: Section = Section {
    path: "storage",
    about: "Where durable records are kept, encrypted: a file on this machine, or a PostgreSQL server that several processes share. `bastide init` makes the store.",
    short: "the file as a text: `storage: /var/lib/bastide/store.db`",
    keys: &[
        key("file", "path", "`store.db` in the state folder", "The SQLite file. Not with `postgres`."),
        key(
            "postgres",
            "connection string",
            "none",
            "The PostgreSQL database, 13 or newer: `postgresql://user@host/database`. Take the password from `${file:…}`.",
        ),
        key(
            "ca",
            "path of a PEM file",
            "the public authorities",
            "Authorities that have to have issued the PostgreSQL server's certificate.",
        ),
        key(
            "danger_cleartext",
            "true or false",
            "false",
            "Allows `sslmode=disable` for a PostgreSQL server on another machine.",
        ),
        key(
            "unseal",
            "map or `shares`",
            "`unseal.key` in the state folder",
            "Where the unseal key comes from.",
        ),
    ],
};

pub(super) const UNSEAL: Section = Section {
    path: "storage.unseal",
    about: "Where the unseal key comes from, which the store itself does not hold. One of these.",
    short: "`unseal: shares`: several people give their shares with `bastide unseal` at each start",
    keys: &[
        key(
            "key_file",
            "path",
            "none",
            "A file of mode 0600 that belongs to the user that Bastide runs as, or a credential of systemd.",
        ),
        key("environment", "name of a variable", "none", "An environment variable."),
    ],
};

impl Decoder<'_> {
    /// `storage:`
    pub(super) fn storage(&mut self, node: Option<&Node>, state: &Path, needed: bool) -> Storage {
        let mut storage = Storage {
            is_set: needed || node.is_some(),
            database: Database::Sqlite(state.join("store.db")),
            unseal: Unseal::KeyFile(state.join("unseal.key")),
        };
        let Some(node) = node else { return storage };
        if node.text().is_some() {
            let never = "remove it: without realms and mesh there is no store";
            if self.is_switch(node, "the file of the store", "write storage: store.db", never) {
                return storage;
            }
            if let Some(path) = self.path(node) {
                storage.database = Database::Sqlite(path);
            }
            return storage;
        }
        let Some(table) = self.table(node, &STORAGE) else { return storage };
        if let Some(database) = self.database(&table) {
            storage.database = database;
        }
        if let Some(unseal) = table.get("unseal").and_then(|node| self.unseal(node)) {
            storage.unseal = unseal;
        }
        storage
    }

    fn database(&mut self, table: &Table<'_>) -> Option<Database> {
        let what = "the connection to the database can be read and changed on its way";
        let danger_cleartext = self.danger(table, "danger_cleartext", what);
        let ca = table.get("ca").and_then(|node| self.file(node, CA_BYTES_MAX));
        let file = table.get("file").and_then(|node| self.path(node));
        let Some(node) = table.get("postgres") else {
            if table.get("ca").is_some() {
                self.fault(table.key_at("ca"), "`ca` stands only beside `postgres`");
            }
            return file.map(Database::Sqlite);
        };
        if file.is_some() {
            self.fault(table.key_at("file"), "`file` and `postgres` are two stores; keep one of them");
        }
        let url = self.text(node)?.to_owned();
        let database = Database::Postgres { url, ca, danger_cleartext };
        if let Err(why) = crate::process::storage::postgres_settings(&database) {
            self.fault(table.key_at("postgres"), why);
        }
        Some(database)
    }

    fn unseal(&mut self, node: &Node) -> Option<Unseal> {
        if node.text().is_some() {
            return self.word(node, "way to unseal", &[("shares", ())]).map(|()| Unseal::Shares);
        }
        let table = self.table(node, &UNSEAL)?;
        let file = table.get("key_file").and_then(|node| self.path(node));
        let variable = table.get("environment").and_then(|node| self.value(node, variable));
        match (file, variable) {
            (Some(path), None) => Some(Unseal::KeyFile(path)),
            (None, Some(name)) => Some(Unseal::Environment(name)),
            (Some(_), Some(_)) => {
                self.fault(table.at, "`key_file` and `environment` are two keys; keep one of them");
                None
            }
            (None, None) if table.has_unknown() => None,
            (None, None) if table.get("key_file").or(table.get("environment")).is_none() => {
                self.expected(node, "`key_file`, `environment`, or the word `shares`");
                None
            }
            (None, None) => None,
        }
    }
}

/// A name of an environment variable.
fn variable(text: &str) -> Result<String, Unfit> {
    let expected = "the name of an environment variable, such as BASTIDE_UNSEAL_KEY";
    let fits = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}
