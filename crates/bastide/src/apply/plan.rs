//! What would change, field by field, and doing it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use identity::{GrantType, Pkce};
use model::suggestion::suggestion;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::read::{Document, Fault, Members, Object, Place};
use crate::admin::client::{AdminClient, Answer};
use crate::admin::resource::encoded;
use crate::cli::admin_context::{below, text};
use crate::cli::count_of;

/// People whose changes are carried out at once.
pub const AT_ONCE: usize = 32;
/// What is shown in the place of hashes.
const SECRET: &str = "(a secret)";

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The settings of the realm.
    Realm,
    /// A client.
    Client,
    /// A user.
    User,
    /// The members of a role.
    Role,
}

impl Kind {
    /// Its name, as it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realm => "realm",
            Self::Client => "client",
            Self::User => "user",
            Self::Role => "role",
        }
    }
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is not there yet.
    Add,
    /// It is another.
    Change,
    /// It is in no file.
    Remove,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What is there.
    pub from: Value,
    /// What is wanted.
    pub to: Value,
}

/// One object that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// How it differs.
    pub differences: Vec<Difference>,
    /// Where the file says so; absent for what is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    #[serde(skip)]
    calls: Vec<Call>,
}

/// One call that carries a change out.
#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    path: String,
    condition: Option<(&'static str, String)>,
    body: Option<Value>,
    /// Whether it writes a secret, which was judged when it was read.
    is_secret: bool,
}

/// What would change.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// The objects that differ.
    pub changes: Vec<Change>,
    /// Settings that differ and are changed elsewhere.
    pub notices: Vec<String>,
}

/// What is compared with what.
struct Planner<'o> {
    admin: &'o AdminClient,
    realm: &'o str,
    plan: Plan,
}

/// What there is of an object.
struct There {
    path: String,
    /// It and its version; `None`: it is not there yet.
    present: Option<(Map<String, Value>, String)>,
    /// What it is like where nothing is written.
    base: Map<String, Value>,
}

/// A difference that takes a call of its own, below the object's path; what it writes is secret.
struct More {
    field: &'static str,
    below: String,
    body: Value,
}

/// Compares what is wanted with what is there.
///
/// # Errors
/// What is there cannot be read.
pub fn plan(admin: &AdminClient, realm: &str, wanted: &Document, prune: bool) -> anyhow::Result<Plan> {
    let mut planner = Planner { admin, realm, plan: Plan::default() };
    planner.settings(wanted.settings.as_ref())?;
    if let Some(clients) = &wanted.clients {
        planner.clients(clients, prune)?;
    }
    if let Some(users) = &wanted.users {
        planner.undeclared(users)?;
        planner.users(users, prune)?;
    }
    for (role, members) in wanted.roles.iter().flatten() {
        planner.role(role, members, wanted.users.as_ref(), prune)?;
    }
    Ok(planner.plan)
}

impl Planner<'_> {
    fn path(&self, segments: &[&str]) -> String {
        below(&["realms", self.realm], segments)
    }

    /// What there is at a path, and its version; `None`: nothing.
    fn get(&self, path: &str) -> anyhow::Result<Option<(Map<String, Value>, String)>> {
        let answer = self.admin.call("GET", path, None)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let tag = answer.tag.clone().unwrap_or_default();
        let body = answer.done()?;
        Ok(Some((body.as_object().cloned().context("expected an object")?, tag)))
    }

    /// Settings of the realm: those that are changed over the API are, the others are told.
    fn settings(&mut self, wanted: Option<&Object>) -> anyhow::Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let present = self.get(&self.path(&[]))?.map(|(present, _)| present).unwrap_or_default();
        let path = self.path(&["settings"]);
        let (mut body, tag) = self.get(&path)?.unwrap_or_default();
        let mut changed = Vec::new();
        for difference in differences(&flat(&present), &flat(&wanted.fields)) {
            let Difference { field, from, to } = &difference;
            let (section, name) = field.split_once('.').unwrap_or(("", field));
            if field == "written" {
                continue;
            }
            if !is_changed_here(&present, field) {
                let place = &wanted.place;
                self.plan.notices.push(format!(
                    "{place}: setting {field} is {from} here and {to} there; it is changed in `realms:`"
                ));
                continue;
            }
            let place = match section {
                "" => Some(&mut body),
                section => body.entry(section).or_insert_with(|| json!({})).as_object_mut(),
            };
            place.map(|place| place.insert(name.to_owned(), to.clone()));
            changed.push(difference);
        }
        if !changed.is_empty() {
            let condition =
                if tag.is_empty() { ("if-none-match", "*".to_owned()) } else { ("if-match", tag) };
            let body = Some(Value::Object(body));
            self.plan.changes.push(Change {
                kind: Kind::Realm,
                name: self.realm.to_owned(),
                action: Action::Change,
                differences: changed,
                place: Some(wanted.place.clone()),
                calls: vec![Call { method: "PUT", path, condition: Some(condition), body, is_secret: false }],
            });
        }
        Ok(())
    }

    fn clients(&mut self, wanted: &BTreeMap<String, Object>, prune: bool) -> anyhow::Result<()> {
        for (id, object) in wanted {
            let path = self.path(&["clients", id]);
            let mut present = self.get(&format!("{path}?hashes=true"))?;
            if let Some((fields, _)) = &mut present {
                // It is not shown where it is as it is by default.
                fields.entry("pkce").or_insert_with(|| json!(Pkce::default()));
            }
            let base = identity::Client::new(id, identity::ClientAuthentication::None);
            let base = serde_json::to_value(base)?.as_object().cloned().unwrap_or_default();
            let mut object = object.clone();
            if present.is_none() && !object.fields.contains_key("grant_types") {
                let uris = object.fields.get("redirect_uris").cloned().unwrap_or_default();
                let uris: Vec<String> = serde_json::from_value(uris).unwrap_or_default();
                object.fields.insert("grant_types".to_owned(), json!(GrantType::defaults(&uris)));
            }
            self.object(Kind::Client, id, &object, There { path, present, base }, Vec::new());
        }
        if prune {
            for client in self.admin.list(&self.path(&["clients"]), true)? {
                let declared = client.get("declared") == Some(&json!(true));
                let id = text(&client, "id");
                if !declared && !wanted.contains_key(id) {
                    self.remove(Kind::Client, id, self.path(&["clients", id]))?;
                }
            }
        }
        Ok(())
    }

    /// Says which roles people get that the configuration does not declare: nothing is permitted by those,
    /// until it does.
    fn undeclared(&mut self, users: &BTreeMap<String, Object>) -> anyhow::Result<()> {
        let declared = self.admin.list(&below(&["roles"], &[]), false)?;
        let declared: BTreeSet<&str> = declared.iter().map(|role| text(role, "name")).collect();
        let mut found: BTreeMap<&str, (usize, &Place)> = BTreeMap::new();
        for user in users.values() {
            let roles = user.fields.get("roles").and_then(Value::as_array).into_iter().flatten();
            for role in roles.filter_map(Value::as_str).filter(|role| !declared.contains(role)) {
                found.entry(role).or_insert((0, &user.place)).0 += 1;
            }
        }
        for (role, (count, place)) in found {
            let hint = suggestion(role, declared.iter().copied());
            let whose = count_of(count, "user");
            self.plan.notices.push(format!(
                "{place}: role {role:?} is not declared{hint}: no policy knows it; {whose} in these files"
            ));
        }
        Ok(())
    }

    fn users(&mut self, wanted: &BTreeMap<String, Object>, prune: bool) -> anyhow::Result<()> {
        for (username, object) in wanted {
            let mut object = object.clone();
            let given = object.fields.remove("id").and_then(|id| id.as_str().map(str::to_owned));
            let hash = object.fields.remove("password_hash");
            let apps = object.fields.remove("totp");
            let found = format!("{}?username={}", self.path(&["users"]), encoded(username));
            let found = self.admin.list(&found, false)?.into_iter().next();
            // The name is compared without case; the one that is there stays.
            let id = found.as_ref().map(|user| text(user, "id").to_owned()).or(given);
            let path = id.as_ref().map_or_else(|| self.path(&["users"]), |id| self.path(&["users", id]));
            let present = if found.is_some() { self.get(&path)? } else { None };
            let mut more = Vec::new();
            let known = if present.is_some() && apps.is_some() {
                self.admin.list(&format!("{path}/factors"), false)?
            } else {
                Vec::new()
            };
            for app in apps.iter().filter_map(Value::as_array).flatten() {
                if !known.iter().any(|known| text(known, "id") == text(app, "id")) {
                    let body = json!({ "name": app.get("name"), "secret": app.get("secret") });
                    more.push(More {
                        field: "totp",
                        below: format!("factors/{}", encoded(text(app, "id"))),
                        body,
                    });
                }
            }
            // INVARIANT: the password comes last: nobody has one without the factor that they have to show beside it.
            if let Some(hash) = hash {
                let known = if present.is_some() { self.get(&format!("{path}/password"))? } else { None };
                if known.and_then(|(known, _)| known.get("hash").cloned()).as_ref() != Some(&hash) {
                    let body = json!({ "hash": hash });
                    more.push(More { field: "password_hash", below: "password".to_owned(), body });
                }
            }
            self.object(Kind::User, username, &object, There { path, present, base: Map::new() }, more);
        }
        if prune {
            let folded: BTreeSet<String> = wanted.keys().map(|name| name.to_lowercase()).collect();
            for user in self.admin.list(&self.path(&["users"]), true)? {
                let name = text(&user, "username");
                if !folded.contains(&name.to_lowercase()) {
                    let path = self.path(&["users", text(&user, "id")]);
                    self.remove(Kind::User, name, path)?;
                }
            }
        }
        Ok(())
    }

    /// Compares one object; `more` are differences that take a call of their own.
    fn object(&mut self, kind: Kind, name: &str, object: &Object, there: There, more: Vec<More>) {
        let There { path, present, base } = there;
        let mut wanted = object.fields.clone();
        let (action, condition, before) = match present {
            None => (Action::Add, ("if-none-match", "*".to_owned()), base),
            Some((mut present, tag)) => {
                for shown in ["declared", "created", "updated"] {
                    present.remove(shown);
                }
                if kind == Kind::User {
                    present.remove("id");
                    // Written as it is there: it is the same name.
                    wanted
                        .insert("username".to_owned(), present.get("username").cloned().unwrap_or_default());
                }
                (Action::Change, ("if-match", tag), present)
            }
        };
        let mut found = differences(&before, &wanted);
        let mut calls = Vec::new();
        if action == Action::Add || !found.is_empty() {
            let mut body = before;
            body.extend(wanted);
            // A new user without an id gets one.
            let posted = kind == Kind::User && path.ends_with("/users");
            let path = if kind == Kind::User { format!("{path}?any_role=true") } else { path.clone() };
            calls.push(Call {
                method: if posted { "POST" } else { "PUT" },
                path,
                condition: (!posted).then_some(condition),
                body: Some(Value::Object(body)),
                is_secret: false,
            });
        }
        for More { field, below, body } in more {
            found.push(Difference { field: field.to_owned(), from: Value::Null, to: json!(SECRET) });
            let path = format!("{path}/{below}");
            calls.push(Call { method: "PUT", path, condition: None, body: Some(body), is_secret: true });
        }
        if !calls.is_empty() {
            let place = Some(object.place.clone());
            self.plan.changes.push(Change {
                kind,
                name: name.to_owned(),
                action,
                differences: found,
                place,
                calls,
            });
        }
    }

    fn remove(&mut self, kind: Kind, name: &str, path: String) -> anyhow::Result<()> {
        let Some((_, tag)) = self.get(&path)? else { return Ok(()) };
        let calls = vec![Call {
            method: "DELETE",
            path,
            condition: Some(("if-match", tag)),
            body: None,
            is_secret: false,
        }];
        let (name, differences) = (name.to_owned(), Vec::new());
        let action = Action::Remove;
        self.plan.changes.push(Change { kind, name, action, differences, place: None, calls });
        Ok(())
    }

    /// Who gets a role, and with `prune` who loses it.
    fn role(
        &mut self,
        role: &str,
        members: &Members,
        users: Option<&BTreeMap<String, Object>>,
        prune: bool,
    ) -> anyhow::Result<()> {
        let path = format!("{}?role={}", self.path(&["users"]), encoded(role));
        let holders = self.admin.list(&path, true)?;
        let holders: BTreeMap<String, String> = holders
            .iter()
            .map(|user| (text(user, "username").to_lowercase(), text(user, "id").to_owned()))
            .collect();
        let wanted: BTreeSet<String> = members.usernames.iter().map(|name| name.to_lowercase()).collect();
        let mut change = Change {
            kind: Kind::Role,
            name: role.to_owned(),
            action: Action::Change,
            differences: Vec::new(),
            place: Some(members.place.clone()),
            calls: Vec::new(),
        };
        for name in wanted.iter().filter(|name| !holders.contains_key(*name)) {
            let found = format!("{}?username={}", self.path(&["users"]), encoded(name));
            let found = self.admin.list(&found, false)?.into_iter().next();
            let Some(user) = found else {
                // Somebody whom the same files add is asked for when they are there.
                let added =
                    users.is_some_and(|users| users.keys().any(|known| known.to_lowercase() == *name));
                anyhow::ensure!(added, "{}: role {role}: there is no user {name:?}", members.place);
                anyhow::bail!(
                    "{}: role {role}: user {name:?} is not there yet; give new users their roles in `users:`",
                    members.place
                );
            };
            change.differences.push(Difference { field: name.clone(), from: json!(false), to: json!(true) });
            let path = self.path(&["users", text(&user, "id"), "roles", role]);
            change.calls.push(Call { method: "PUT", path, condition: None, body: None, is_secret: false });
        }
        for (name, id) in holders.iter().filter(|(name, _)| prune && !wanted.contains(*name)) {
            change.differences.push(Difference { field: name.clone(), from: json!(true), to: json!(false) });
            let path = self.path(&["users", id, "roles", role]);
            change.calls.push(Call { method: "DELETE", path, condition: None, body: None, is_secret: false });
        }
        if !change.calls.is_empty() {
            self.plan.changes.push(change);
        }
        Ok(())
    }
}

/// Whether a setting of a realm is changed over the API: not where the configuration writes it.
fn is_changed_here(realm: &Map<String, Value>, field: &str) -> bool {
    const CHANGED: [&str; 4] =
        ["display_name", "require_pushed_requests", "require_dpop_nonce", "sessions_per_person"];
    let mut written = realm.get("written").and_then(Value::as_array).into_iter().flatten();
    (CHANGED.contains(&field) || field.starts_with("lifetimes.")) && !written.any(|name| name == field)
}

/// With each lifetime as a field of its own.
fn flat(settings: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = settings.clone();
    if let Some(Value::Object(lifetimes)) = settings.remove("lifetimes") {
        settings.extend(lifetimes.into_iter().map(|(name, life)| (format!("lifetimes.{name}"), life)));
    }
    settings
}

/// The fields of what is wanted that are others there.
fn differences(present: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Difference> {
    let mut found = Vec::new();
    for (field, to) in wanted {
        let from = present.get(field).cloned().unwrap_or_default();
        if !same(&from, to) && !keeps_secret(&from, to) {
            let (from, to) = if from.get("hashes").is_some() || to.get("hashes").is_some() {
                (without_hashes(&from), without_hashes(to))
            } else {
                (from, to.clone())
            };
            found.push(Difference { field: field.clone(), from, to });
        }
    }
    found
}

/// Whether a client authenticates by a secret, and none is named: the one that it has stays.
fn keeps_secret(from: &Value, to: &Value) -> bool {
    let names_none = to.get("hashes").and_then(Value::as_array).is_none_or(Vec::is_empty);
    let bare = |value: &Value| {
        let mut bare = value.clone();
        if let Some(members) = bare.as_object_mut() {
            members.remove("hashes");
        }
        bare
    };
    from.get("hashes").is_some() && names_none && bare(from) == bare(to)
}

/// Lists are sets but for redirect URIs, whose order nobody reads either.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            let set = |items: &[Value]| items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
            set(one) == set(other)
        }
        _ => one == other,
    }
}

fn without_hashes(value: &Value) -> Value {
    let mut shown = value.clone();
    if let Some(hashes) = shown.get_mut("hashes") {
        *hashes = json!(SECRET);
    }
    shown
}

impl Plan {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Carries every change out, kind by kind in their order, people some at once: each waits
    /// for the disk. What is refused is left as it was, and the rest goes on; but nothing is removed
    /// any more, for what was refused may be what takes its place.
    ///
    /// # Errors
    /// There is no answer. What was done until then is done.
    pub fn carry_out(&self, admin: &AdminClient) -> anyhow::Result<Carried> {
        self.each(|change| change.carry_out(admin))
    }

    /// What would become of it.
    ///
    /// # Errors
    /// There is no answer.
    pub fn judge(&self, admin: &AdminClient) -> anyhow::Result<Carried> {
        self.each(|change| change.judge(admin))
    }

    fn each(
        &self,
        take: impl Fn(&Change) -> anyhow::Result<Result<(), Refused>> + Sync,
    ) -> anyhow::Result<Carried> {
        let take = &take;
        let mut carried = Carried::default();
        let apart = |one: &Change, next: &Change| one.kind == Kind::User && next.kind == Kind::User;
        for some in self.changes.chunk_by(apart).flat_map(|kind| kind.chunks(AT_ONCE)) {
            let is_refused = !carried.faults.is_empty();
            let (kept, some): (Vec<&Change>, Vec<&Change>) =
                some.iter().partition(|change| is_refused && change.action == Action::Remove);
            carried.left += kept.len();
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|one| scope.spawn(|| take(one))).collect();
                threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
            });
            let mut ends = false;
            for outcome in outcomes {
                let outcome = outcome.map_err(|_| anyhow::anyhow!("a change was interrupted"))?;
                match outcome? {
                    Ok(()) => carried.done += 1,
                    Err(refused) => {
                        ends |= refused.ends;
                        carried.faults.push(refused.fault);
                    }
                }
            }
            if ends {
                carried.left = self.changes.len() - carried.done - carried.faults.len();
                break;
            }
        }
        Ok(carried)
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Carried {
    /// How many of its changes are done.
    pub done: usize,
    /// Those that were refused, each with its place and why.
    pub faults: Vec<Fault>,
    /// How many were not asked for after that: what would have been removed, and everything once
    /// the process could do no more.
    pub left: usize,
}

/// A change that was refused.
struct Refused {
    fault: Fault,
    /// Whether every other would be, too: it is not the change's own fault.
    ends: bool,
}

impl Change {
    fn carry_out(&self, admin: &AdminClient) -> anyhow::Result<Result<(), Refused>> {
        let mut made: Option<(String, String)> = None;
        for call in &self.calls {
            // What belongs to a user who was given an id just now stands below that.
            let below = made.as_ref().and_then(|(all, id)| Some((call.path.strip_prefix(all)?, all, id)));
            let path = match below {
                Some((below, all, id)) => format!("{all}/{}{below}", encoded(id)),
                None => call.path.clone(),
            };
            let condition = call.condition.as_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = admin.call_if(call.method, &path, condition, call.body.as_ref())?;
            if !answer.is_done() {
                return Ok(Err(self.refused(&answer)));
            }
            if call.method == "POST" {
                let all = call.path.split('?').next().unwrap_or_default();
                let id = answer.body.get("id").and_then(Value::as_str);
                made = id.map(|id| (all.to_owned(), id.to_owned()));
            }
        }
        Ok(Ok(()))
    }
    /// Asks whether what it writes would be taken. What it removes is; and hashes of passwords and secrets of
    /// apps were judged when they were read.
    fn judge(&self, admin: &AdminClient) -> anyhow::Result<Result<(), Refused>> {
        for call in &self.calls {
            if call.method == "DELETE" || call.is_secret {
                continue;
            }
            let joint = if call.path.contains('?') { '&' } else { '?' };
            let path = format!("{}{joint}dry_run=true", call.path);
            let condition = call.condition.as_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = admin.call_if(call.method, &path, condition, call.body.as_ref())?;
            if !answer.is_done() {
                return Ok(Err(self.refused(&answer)));
            }
        }
        Ok(Ok(()))
    }

    fn refused(&self, answer: &Answer) -> Refused {
        let nowhere = || Place { file: "-".into(), line: 1, column: 1 };
        let (what, why) = (format!("{} {:?}", self.kind.name(), self.name), answer.complaint());
        // Many a refusal says itself what it is about.
        let message = if why.starts_with(&what) { why } else { format!("{what}: {why}") };
        let fault = Fault { place: self.place.clone().unwrap_or_else(nowhere), message };
        Refused { fault, ends: answer.status >= 500 }
    }
}
