//! What changes from one configuration to another, and what that does to a gateway that
//! runs.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::outline::{Entry, Kind, Outline};

/// Settings that only a restart changes: a reload that changes one is refused. Of `audit`
/// the sinks follow a reload.
pub const RESTART: [&str; 5] = ["state", "workers", "audit", "admin", "storage"];

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

/// One key that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// The key; empty for the entry as a whole.
    pub key: String,
    /// As it was written; `None`: not at all.
    pub old: Option<String>,
    /// As it is written now.
    pub new: Option<String>,
}

/// One entry that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of entry.
    pub kind: Kind,
    /// Which.
    pub name: String,
    /// What happened.
    pub what: What,
    /// Its keys. Empty for a change of what it inherits or of a file's content.
    pub keys: Vec<KeyChange>,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A reload is refused; a restart takes it.
    Restart,
    /// A listener closes.
    Closes,
    /// A listener opens.
    Opens,
    /// New TLS handshakes see something else.
    Handshakes,
    /// Open requests that would go elsewhere are cut.
    Cut,
    /// Open requests are judged again.
    Judged,
    /// Protection is less than it was.
    Weaker,
}

/// A consequence, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Consequence {
    /// What kind.
    pub effect: Effect,
    /// In one sentence.
    pub text: String,
}

/// All changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The old outline is another version's: only what is written was compared.
    pub other_version: bool,
    /// By kind and name.
    pub changes: Vec<Change>,
    /// What they do to a running gateway.
    pub consequences: Vec<Consequence>,
}

impl Changes {
    /// From one outline to another, both under the same salt.
    pub fn between(old: &Outline, new: &Outline) -> Self {
        let other_version = old.version != new.version;
        let names = |outline: &Outline| -> Vec<(Kind, String)> {
            outline.entries.iter().map(|entry| (entry.kind, entry.name.clone())).collect()
        };
        let all: BTreeSet<(Kind, String)> = names(old).into_iter().chain(names(new)).collect();
        let changes: Vec<Change> = all
            .into_iter()
            .filter_map(|(kind, name)| {
                let (before, after) = (old.get(kind, &name), new.get(kind, &name));
                let what = match (before, after) {
                    (None, _) => What::Added,
                    (_, None) => What::Removed,
                    (Some(before), Some(after)) => {
                        let same = match other_version {
                            true => keys(Some(before), Some(after), true).is_empty(),
                            false => before.whole == after.whole,
                        };
                        if same {
                            return None;
                        }
                        What::Changed
                    }
                };
                Some(Change { kind, name, what, keys: keys(before, after, other_version) })
            })
            .collect();
        let consequences = consequences(&changes);
        Self { other_version, changes, consequences }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

fn keys(old: Option<&Entry>, new: Option<&Entry>, written_only: bool) -> Vec<KeyChange> {
    let of = |entry: Option<&Entry>| entry.map(|entry| entry.keys.clone()).unwrap_or_default();
    let (old, new) = (of(old), of(new));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .filter(|key| match (old.get(*key), new.get(*key)) {
            (Some(old), Some(new)) if written_only => old.written != new.written,
            (Some(old), Some(new)) => old.digest != new.digest,
            _ => true,
        })
        .map(|key| KeyChange {
            key: key.clone(),
            old: old.get(key).map(|setting| setting.written.clone()),
            new: new.get(key).map(|setting| setting.written.clone()),
        })
        .collect()
}

/// Keys of a route whose change sends requests elsewhere.
const WHERE: [&str; 4] = ["match", "to", "redirect", "respond"];
/// Keys of a route whose change lets in others than before.
const WHO: [&str; 3] = ["authenticate", "allow", "addresses"];

fn consequences(changes: &[Change]) -> Vec<Consequence> {
    let mut all = Vec::new();
    for change in changes {
        of_change(change, &mut all);
    }
    let everybody = |change: &&Change| match change.kind {
        Kind::Policy | Kind::Role | Kind::Issuer => true,
        Kind::Setting => {
            change.name == "addresses"
                || change.name.starts_with("authentication.")
                || change.name.starts_with("policy.")
        }
        Kind::File => true,
        Kind::Limit | Kind::Listener | Kind::Service | Kind::Route => false,
    };
    let causes: BTreeSet<&str> = changes.iter().filter(everybody).map(|change| change.kind.name()).collect();
    if !causes.is_empty() {
        let causes: Vec<&str> = causes.into_iter().collect();
        all.push(Consequence {
            effect: Effect::Judged,
            text: format!(
                "open requests, streams and tunnels of every route are judged again, and cut when they would be refused now ({} changed)",
                causes.join(", ")
            ),
        });
    }
    all.sort_by_key(|consequence| consequence.effect);
    all
}

/// Whether nothing changed but this key.
fn only(change: &Change, key: &str) -> bool {
    !change.keys.is_empty() && change.keys.iter().all(|changed| changed.key == key)
}

fn of_change(change: &Change, all: &mut Vec<Consequence>) {
    let touches = |keys: &[&str]| change.keys.iter().any(|key| keys.contains(&key.key.as_str()));
    let name = &change.name;
    let mut say = |effect, text: String| all.push(Consequence { effect, text });
    match (change.kind, change.what) {
        (Kind::Setting, _) if name == "audit" && only(change, "sinks") => {}
        (Kind::Setting, _) if RESTART.contains(&name.as_str()) => {
            say(Effect::Restart, format!("`{name}` takes a restart: a reload is refused"));
        }
        (Kind::Listener, What::Added) => say(Effect::Opens, format!("{name} opens")),
        (Kind::Listener, What::Removed) => {
            say(Effect::Closes, format!("{name} closes; its connections end after their open requests"));
        }
        (Kind::Listener, What::Changed) if touches(&["tls"]) => say(
            Effect::Handshakes,
            format!(
                "{name} stays open; new handshakes see its new TLS settings, and open connections are judged again by their client certificates"
            ),
        ),
        (Kind::Route, What::Removed) => {
            say(
                Effect::Cut,
                format!(
                    "open requests of route {name:?} are cut, unless another route takes them to the same service"
                ),
            );
        }
        (Kind::Route, What::Changed) if touches(&WHERE) => {
            say(Effect::Cut, format!("open requests of route {name:?} that would go elsewhere now are cut"));
        }
        (Kind::Route, What::Changed) if touches(&WHO) => {
            say(Effect::Judged, format!("open requests of route {name:?} are judged again"));
        }
        _ => {}
    }
    for key in change.keys.iter().filter(|key| key.new.is_some()) {
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| text != "false");
        if key.key.starts_with("danger_") && set(&key.new) && !set(&key.old) {
            say(Effect::Weaker, format!("{} {name:?}: {} is set", change.kind.name(), key.key));
        }
        let anyone = |text: &Option<String>| text.as_deref() == Some("anyone");
        if change.kind == Kind::Route && key.key == "allow" && anyone(&key.new) && !anyone(&key.old) {
            say(Effect::Weaker, format!("route {name:?} lets everybody in"));
        }
    }
    let dangerous = change.kind == Kind::Setting && name.starts_with("danger_");
    if dangerous && change.keys.iter().any(|key| key.new.as_deref() == Some("true")) {
        say(Effect::Weaker, format!("{name} is set"));
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing would change");
        }
        if self.other_version {
            writeln!(f, "another version of Bastide is running: compared by what is written")?;
        }
        for change in &self.changes {
            let sign = match change.what {
                What::Added => '+',
                What::Removed => '-',
                What::Changed => '~',
            };
            writeln!(f, "{sign} {} {:?}", change.kind.name(), change.name)?;
            for key in &change.keys {
                write_key(f, change.what, key)?;
            }
            if change.what == What::Changed && change.keys.is_empty() {
                let why = match change.kind {
                    Kind::File => "its content is another",
                    _ => "what it inherits is another",
                };
                writeln!(f, "    ({why})")?;
            }
        }
        if !self.consequences.is_empty() {
            writeln!(f, "\nA reload:")?;
        }
        for consequence in &self.consequences {
            writeln!(f, "  * {}", consequence.text)?;
        }
        Ok(())
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, what: What, key: &KeyChange) -> fmt::Result {
    let name = if key.key.is_empty() { String::new() } else { format!("{}: ", key.key) };
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "(not set)".to_owned());
    match what {
        What::Added => writeln!(f, "    {name}{}", shown(&key.new)),
        What::Removed => writeln!(f, "    {name}{}", shown(&key.old)),
        What::Changed if key.old == key.new => {
            writeln!(f, "    {name}{} (its value is another)", shown(&key.new))
        }
        What::Changed => writeln!(f, "    {name}{} → {}", shown(&key.old), shown(&key.new)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::outline::Setting;
    use super::*;

    fn outline(name: &str, keys: &[(&str, &str)]) -> Outline {
        let setting = |text: &str| Setting { written: text.to_owned(), digest: text.to_owned() };
        let keys = keys.iter().map(|(key, text)| ((*key).to_owned(), setting(text))).collect();
        let entry = Entry { kind: Kind::Setting, name: name.to_owned(), whole: format!("{keys:?}"), keys };
        Outline { version: String::new(), salt: String::new(), entries: vec![entry] }
    }

    #[test]
    fn what_takes_a_restart_is_said_and_what_does_not_is_not() {
        for (name, before, after, restart) in [
            ("audit", &[("keep", "3")][..], &[("keep", "4")][..], true),
            ("audit", &[("keep", "3")], &[("keep", "3"), ("sinks", "[ x ]")], false),
            ("workers", &[("", "1")], &[("", "2")], true),
            ("identity", &[("token", "true")], &[("token", "false")], false),
        ] {
            let changes = Changes::between(&outline(name, before), &outline(name, after));
            assert!(!changes.is_empty());
            let said = changes.consequences.iter().any(|found| found.effect == Effect::Restart);
            assert_eq!(said, restart, "{name}: {changes}");
        }
    }

    #[test]
    fn another_versions_digests_are_not_compared() {
        let one = outline("identity", &[("token", "true")]);
        let mut other = one.clone();
        other.version = "0.0.1".to_owned();
        other.entries.iter_mut().for_each(|entry| entry.whole.push('x'));
        assert!(Changes::between(&other, &one).is_empty());
        other.version.clear();
        assert!(!Changes::between(&other, &one).is_empty());
    }
}
