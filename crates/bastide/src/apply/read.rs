//! Files of clients, people and role grants, with the place of everything in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use identity::{Client, ClientAuthentication, GrantType, Pkce, TotpSecret};
use model::suggestion::suggestion;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::admin::resource::UserIn;
use crate::config::node::{self, Node};

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Sections of a file.
const SECTIONS: [&str; 5] = ["realm", "settings", "clients", "users", "roles"];
/// Fields of a client besides its own: a secret in clear, and the file that holds one.
const SECRETS: [&str; 2] = ["secret", "secret_file"];
/// Fields of a user besides their own.
const OF_USERS: [&str; 3] = ["id", "password_hash", "totp"];

/// An authenticator app that a user brings along.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    id: String,
    #[serde(rename = "name")]
    _name: String,
    secret: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// Where a fault of a whole file or folder stands.
    fn beginning(file: &Path) -> Self {
        Self { file: file.to_owned(), line: 1, column: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A client or a user as a file wants them: the fields that it mentions.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Where it stands.
    pub place: Place,
    /// Its fields.
    pub fields: Map<String, Value>,
}

/// Who shall have a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Where it stands.
    pub place: Place,
    /// User names.
    pub usernames: Vec<String>,
}

/// What the files want.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The realm, when a file says it.
    pub realm: Option<String>,
    /// The settings of the realm that was exported, to compare.
    pub settings: Option<Object>,
    /// Clients by id; `None`: no file speaks of clients.
    pub clients: Option<BTreeMap<String, Object>>,
    /// Users by name.
    pub users: Option<BTreeMap<String, Object>>,
    /// Members by role.
    pub roles: Option<BTreeMap<String, Members>>,
}

/// Reads files, and the files of folders.
///
/// # Errors
/// All faults of all files.
pub fn read(paths: &[PathBuf]) -> Result<Document, Vec<Fault>> {
    let mut reader = Reader::default();
    for path in paths {
        reader.path(path);
    }
    if reader.faults.is_empty() { Ok(reader.document) } else { Err(reader.faults) }
}

/// What the fuzzer calls: arbitrary bytes as one file.
///
/// # Panics
/// When a fault lies outside of the file, or when something is wanted of which a secret in
/// clear would be sent: that is the finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut reader = Reader::default();
    // A folder that is not there: no file of the disk is read.
    reader.text(Path::new("nowhere/town.yaml"), text);
    let lines = text.lines().count().max(1) + 1;
    for Fault { place, message } in &reader.faults {
        assert!(place.line >= 1 && place.line as usize <= lines, "{place}: {message}");
    }
    let clients = reader.document.clients.iter().flatten();
    assert!(
        clients.flat_map(|(_, client)| client.fields.keys()).all(|field| !SECRETS.contains(&field.as_str()))
    );
}

#[derive(Default)]
struct Reader {
    document: Document,
    faults: Vec<Fault>,
}

/// A node, the file that it is of, and the same as JSON with YAML's types.
#[derive(Clone, Copy)]
struct Piece<'n> {
    file: &'n Path,
    node: &'n Node,
    value: &'n Value,
}

impl<'n> Piece<'n> {
    fn place(&self) -> Place {
        let at = self.node.at;
        Place { file: self.file.to_owned(), line: at.line, column: at.column }
    }

    /// The entries of a map, each with the place of its key.
    fn entries(self) -> Option<Vec<(&'n str, Place, Piece<'n>)>> {
        let (node::Value::Map(entries), Value::Object(members)) = (&self.node.value, self.value) else {
            return None;
        };
        let one = |(name, node): &'n (node::Name, Node)| {
            let place = Place { file: self.file.to_owned(), line: name.at.line, column: name.at.column };
            Some((name.text.as_str(), place, Piece { node, value: members.get(&name.text)?, ..self }))
        };
        entries.iter().map(one).collect()
    }
}

impl Reader {
    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.push(Fault { place, message: message.into() });
    }

    fn path(&mut self, path: &Path) {
        if !path.is_dir() {
            return self.file(path);
        }
        let is_ours = |path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        };
        let entries = std::fs::read_dir(path).map(|entries| {
            let mut paths: Vec<PathBuf> =
                entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
            paths.sort();
            paths
        });
        match entries {
            Err(error) => self.fault(Place::beginning(path), format!("cannot read the folder: {error}")),
            Ok(paths) if paths.is_empty() => {
                self.fault(Place::beginning(path), "the folder has no *.yaml, *.yml or *.json")
            }
            Ok(paths) => paths.iter().for_each(|path| self.in_folder(path)),
        }
    }

    /// A file of a folder.
    fn in_folder(&mut self, path: &Path) {
        if is_something_else(path) {
            return self.fault(Place::beginning(path), "expected a file, found something else");
        }
        self.file(path);
    }

    fn file(&mut self, path: &Path) {
        match bounded(path) {
            Ok(text) => self.text(path, &text),
            Err(why) => self.fault(Place::beginning(path), why),
        }
    }

    fn text(&mut self, path: &Path, text: &str) {
        let at = |line, column| Place { file: path.to_owned(), line, column };
        let node = match node::parse(0, text) {
            Ok(node) => node,
            Err((line, column, message)) => return self.fault(at(line, column), message),
        };
        // The tree knows places, this knows types: JSON is YAML.
        let value = match serde_json::from_str::<Value>(text) {
            Ok(value) => value,
            Err(_) => match serde_saphyr::from_str_with_options::<Value>(text, typed()) {
                Ok(value) => value,
                Err(error) => return self.fault(at(1, 1), error.without_snippet().to_string()),
            },
        };
        let piece = Piece { file: path, node: &node, value: &value };
        let Some(entries) = piece.entries() else {
            return self.fault(at(1, 1), format!("expected a map with {}", SECTIONS.join(", ")));
        };
        for (name, place, piece) in entries {
            self.section(name, place, piece);
        }
    }

    fn section(&mut self, name: &str, place: Place, piece: Piece<'_>) {
        match name {
            "realm" => match piece.value.as_str() {
                None => self.fault(place, "realm: expected a name"),
                Some(realm) if self.document.realm.as_ref().is_some_and(|known| known != realm) => {
                    self.fault(place, format!("realm: another file says {:?}", self.document.realm));
                }
                Some(realm) => self.document.realm = Some(realm.to_owned()),
            },
            "settings" => {
                let fields = piece.value.as_object().cloned().unwrap_or_default();
                self.document.settings = Some(Object { place, fields });
            }
            "clients" => {
                let wanted = self.objects(piece, &client_fields(), Self::check_client);
                self.document.clients.get_or_insert_default().extend(wanted);
            }
            "users" => {
                let wanted = self.objects(piece, &user_fields(), Self::check_user);
                self.document.users.get_or_insert_default().extend(wanted);
            }
            "roles" => {
                let wanted = self.members(piece);
                self.document.roles.get_or_insert_default().extend(wanted);
            }
            other => {
                let hint = suggestion(other, SECTIONS);
                self.fault(place, format!("unknown key {other:?}{hint}; expected {}", SECTIONS.join(", ")));
            }
        }
    }

    fn objects(
        &mut self,
        piece: Piece<'_>,
        known: &[String],
        check: fn(&mut Self, &str, &mut Object, &[(String, Place)]),
    ) -> BTreeMap<String, Object> {
        let mut objects = BTreeMap::new();
        let Some(entries) = piece.entries() else {
            self.fault(piece.place(), "expected a map by name");
            return objects;
        };
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        for (name, place, piece) in entries {
            let Some(fields) = piece.entries() else {
                self.fault(piece.place(), format!("{name}: expected a map of fields"));
                continue;
            };
            let mut object = Object { place: place.clone(), fields: Map::new() };
            let mut places = Vec::new();
            for (field, place, piece) in fields {
                if names.contains(&field) {
                    object.fields.insert(field.to_owned(), piece.value.clone());
                    places.push((field.to_owned(), place));
                } else {
                    self.fault(
                        place,
                        format!("unknown field {field:?}{}", suggestion(field, names.iter().copied())),
                    );
                }
            }
            check(self, name, &mut object, &places);
            if objects.insert(name.to_owned(), object).is_some() {
                self.fault(place, format!("{name} stands here twice"));
            }
        }
        objects
    }

    fn check_client(&mut self, id: &str, object: &mut Object, places: &[(String, Place)]) {
        self.take_secret(object, places);
        object.fields.insert("id".to_owned(), json!(id));
        let base = Client::new(id, ClientAuthentication::None);
        let base = serde_json::to_value(base).unwrap_or_default();
        self.check_fields::<Client>(&base, object, places);
        // By the names that the administration shows, so that they can be compared.
        if let Some(grants) = object.fields.get_mut("grant_types")
            && let Ok(read) = serde_json::from_value::<BTreeSet<GrantType>>(grants.clone())
        {
            *grants = json!(read);
        }
    }

    fn check_user(&mut self, username: &str, object: &mut Object, places: &[(String, Place)]) {
        let mut own = object.clone();
        for field in OF_USERS {
            if let Some(value) = own.fields.remove(field)
                && field != "totp"
                && !value.is_string()
            {
                self.fault(place_of(object, places, field), format!("{field}: expected a text"));
            }
        }
        if let Some(why) = object.fields.get("totp").and_then(app_fault) {
            self.fault(place_of(object, places, "totp"), format!("totp: {why}"));
        }
        if let Some(Err(why)) =
            object.fields.get("password_hash").and_then(Value::as_str).map(identity::check_password_hash)
        {
            self.fault(place_of(object, places, "password_hash"), format!("password_hash: {why}"));
        }
        object.fields.insert("username".to_owned(), json!(username));
        self.check_fields::<UserIn>(&json!({ "username": username }), &own, places);
    }

    /// Each field alone, so that a wrong one is named with its own place.
    fn check_fields<T: serde::de::DeserializeOwned>(
        &mut self,
        base: &Value,
        object: &Object,
        places: &[(String, Place)],
    ) {
        for (field, value) in &object.fields {
            let mut alone = base.clone();
            if let Some(members) = alone.as_object_mut() {
                members.insert(field.clone(), value.clone());
            }
            if let Err(error) = serde_json::from_value::<T>(alone) {
                self.fault(place_of(object, places, field), format!("{field}: {error}"));
            }
        }
    }

    /// A secret in clear becomes its hash here, and goes nowhere else.
    fn take_secret(&mut self, object: &mut Object, places: &[(String, Place)]) {
        let clear = object.fields.remove("secret");
        let file = object.fields.remove("secret_file");
        let secret = match (clear, file) {
            (None, None) => return,
            (Some(Value::String(secret)), None) => secret,
            (None, Some(Value::String(file))) => {
                let path = object.place.file.parent().unwrap_or(Path::new("")).join(&file);
                let read = if is_something_else(&path) {
                    Err(format!("{}: expected a file, found something else", path.display()))
                } else {
                    bounded(&path)
                };
                match read {
                    Ok(secret) => secret.trim_end().to_owned(),
                    Err(why) => return self.fault(place_of(object, places, "secret_file"), why),
                }
            }
            _ => {
                let place = place_of(object, places, "secret");
                return self.fault(place, "expected one text: `secret` or `secret_file`");
            }
        };
        match Client::secret_hash(&secret) {
            Ok(hash) => {
                let way = json!({ "method": "secret", "hashes": [hash] });
                object.fields.insert("authentication".to_owned(), way);
            }
            Err(error) => self.fault(place_of(object, places, "secret"), error.to_string()),
        }
    }

    fn members(&mut self, piece: Piece<'_>) -> BTreeMap<String, Members> {
        let mut roles = BTreeMap::new();
        let Some(entries) = piece.entries() else {
            self.fault(piece.place(), "roles: expected a map of roles to lists of user names");
            return roles;
        };
        for (role, place, piece) in entries {
            let names: Option<Vec<String>> = piece
                .value
                .as_array()
                .and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
            match names {
                None => self.fault(piece.place(), format!("{role}: expected a list of user names")),
                Some(usernames) => drop(roles.insert(role.to_owned(), Members { place, usernames })),
            }
        }
        roles
    }
}

/// Keys that stand there twice are found in the tree.
fn typed() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Why a list of authenticator apps cannot be taken, if it cannot.
fn app_fault(apps: &Value) -> Option<String> {
    // Nothing of what was found is said: there are secrets in it.
    let Ok(apps) = serde_json::from_value::<Vec<App>>(apps.clone()) else {
        return Some("expected a list of { id, name, secret }".to_owned());
    };
    apps.iter().find_map(|app| {
        let secret = TotpSecret::parse(&app.secret).err().map(|error| error.to_string());
        secret.or_else(|| identity::factor_id_fault(&app.id))
    })
}

fn place_of(object: &Object, places: &[(String, Place)], field: &str) -> Place {
    let found = places
        .iter()
        .find(|(name, _)| name == field || SECRETS.contains(&field) && SECRETS.contains(&name.as_str()));
    found.map_or_else(|| object.place.clone(), |(_, place)| place.clone())
}

fn client_fields() -> Vec<String> {
    let mut client = Client::new("x", ClientAuthentication::None);
    // Those that a record leaves out where they say nothing.
    (client.acr, client.pkce) = (Some(String::new()), Pkce::Optional);
    let client = serde_json::to_value(client).unwrap_or_default();
    let own = client.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    own.chain(SECRETS.map(str::to_owned)).collect()
}

fn user_fields() -> Vec<String> {
    let user = UserIn { name: Some(String::new()), email: Some(String::new()), ..UserIn::default() };
    let user = serde_json::to_value(user).unwrap_or_default();
    let own = user.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    own.chain(OF_USERS.map(str::to_owned)).collect()
}

/// Whether it is there and no file. A pipe that nobody writes to would be waited for without an end; only one
/// that the command line names is meant. What cannot be looked at is told when it is read.
fn is_something_else(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| !data.is_file())
}

fn bounded(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{}: more than {FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&str; 2] = [
        "realm: town\nclients:\n  shop:\n    secret: a-secret-of-more-than-32-characters!\n    scopes: [ a, b ]\n\
         users:\n  alice: { roles: [ customer ], disabled: no, password_hash: x }\nroles: { customer: [ alice ] }\n",
        r#"{"realm":"town","settings":{"issuer":"https://id"},"clients":{"a":{"secret_file":"s","grant_types":["client_credentials"]}},"users":{"a":{"id":"1","attributes":{"b":[1]}}}}"#,
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 256, ..Default::default() })]

        /// Bytes changed anywhere: taken or refused, never a panic.
        #[test]
        fn fuzz_smoke_mutated_files_are_taken_or_refused(
            seed in 0usize..2,
            cuts in proptest::collection::vec((0usize..400, 0usize..12, "[ -~\n]{0,6}"), 1..4),
        ) {
            let mut bytes = SEEDS[seed].as_bytes().to_vec();
            for (place, length, put) in cuts {
                let place = place % bytes.len();
                let end = (place + length).min(bytes.len());
                bytes.splice(place..end, put.bytes());
            }
            fuzz(&bytes);
        }
    }

    /// The read ends: a pipe in a folder has nobody who writes to it.
    #[test]
    fn what_is_no_file_in_a_folder_is_a_fault_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "realm: town\n").unwrap();
        let pipe = folder.path().join("b.yaml");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        std::fs::create_dir(folder.path().join("c.json")).unwrap();
        let found = read(&[folder.path().to_owned()]).unwrap_err();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let expected = |name| {
            format!("{}:1:1: expected a file, found something else", folder.path().join(name).display())
        };
        assert_eq!(found, [expected("b.yaml"), expected("c.json")]);
        let town = folder.path().join("town.yaml");
        std::fs::write(&town, "clients:\n  a:\n    secret_file: b.yaml\n").unwrap();
        let found = read(std::slice::from_ref(&town)).unwrap_err();
        let expected =
            format!("{}:3:5: {}: expected a file, found something else", town.display(), pipe.display());
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }

    fn faults(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("town.yaml");
        std::fs::write(&path, text).unwrap();
        let faults = read(&[folder.path().to_owned()]).err().unwrap_or_default();
        let place = |fault: &Fault| format!("{}:{}: {}", fault.place.line, fault.place.column, fault.message);
        faults.iter().map(place).collect()
    }

    #[test]
    fn each_fault_has_its_place_and_what_was_meant() {
        for (text, expected) in [
            ("clients: {}\n", ""),
            ("cleints: {}\n", "1:1: unknown key \"cleints\" (did you mean \"clients\"?)"),
            ("clients:\n  a:\n    scops: [ x ]\n", "3:5: unknown field \"scops\" (did you mean \"scopes\"?)"),
            ("clients:\n  a:\n    acr: \"2\"\n    pkce: optional\n", ""),
            ("clients:\n  a:\n    pkce: never\n", "3:5: pkce: unknown variant `never`"),
            ("clients:\n  a:\n    scopes: 7\n", "3:5: scopes: "),
            ("clients:\n  a:\n    secret: short\n", "3:5: client secret: expected at least 32"),
            ("clients:\n  a:\n    secret_file: nothing.txt\n", "3:5: cannot read"),
            ("users:\n  alice:\n    roles: [ customer ]\n", ""),
            (
                "users:\n  alice:\n    role: [ customer ]\n",
                "3:5: unknown field \"role\" (did you mean \"roles\"?)",
            ),
            ("users:\n  alice:\n    disabled: maybe\n", "3:5: disabled: "),
            ("users:\n  alice:\n    password_hash: md5\n", "3:5: password_hash: "),
            ("users: [ alice ]\n", "1:8: expected a map by name"),
            ("roles:\n  customer: alice\n", "2:13: customer: expected a list"),
            ("realm: 7\n", "1:1: realm: expected a name"),
            ("users:\n  alice: {}\n  alice: {}\n", "3:3: alice stands here twice"),
            ("a: [\n", ""),
        ] {
            let found = faults(text);
            match expected {
                "" if text.starts_with("a:") => assert_eq!(found.len(), 1, "{text}"),
                "" => assert_eq!(found, [""; 0], "{text}"),
                expected => {
                    assert!(found.iter().any(|fault| fault.starts_with(expected)), "{text}: {found:?}")
                }
            }
        }
    }
}
