//! Settings of a realm that are changed while it runs: one record of the realm, over the
//! settings that it was configured with.
//!
//! Each setting has one place: what the configuration writes is changed there and not here.
//! What names things that clients, policies and listeners are checked against (issuer, scopes,
//! resources, algorithms, claims) is always the configuration's.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Expect, Version, Watch};

use super::{Lifetimes, RealmSettings};
use crate::Error;
use crate::realm::Realm;
use crate::record::{Kind, Written};

/// Settings that are others than configured; what is left out is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsChange {
    /// What its pages call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub display_name: Option<String>,
    /// Every client has to push its authorization requests (RFC 9126).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_pushed_requests: Option<bool>,
    /// DPoP proofs have to carry a nonce of the realm's (RFC 9449 §8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_dpop_nonce: Option<bool>,
    /// The sessions that one person may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub sessions_per_person: Option<usize>,
    /// How long things last, seconds, by the names of `lifetimes:` in the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lifetimes: BTreeMap<String, u64>,
}

/// Longest name that pages show, characters.
const DISPLAY_NAME_CHARACTERS_MAX: usize = 200;

impl Lifetimes {
    /// Those that are configured, by the configuration's names.
    pub fn named(&mut self) -> [(&'static str, &mut Duration); 10] {
        [
            ("access_token", &mut self.access_token),
            ("id_token", &mut self.id_token),
            ("code", &mut self.code),
            ("refresh_idle", &mut self.refresh_idle),
            ("refresh_absolute", &mut self.refresh_absolute),
            ("refresh_grace", &mut self.refresh_grace),
            ("session_idle", &mut self.session_idle),
            ("session_absolute", &mut self.session_absolute),
            ("key_signs", &mut self.key_signs),
            ("key_prepared", &mut self.key_prepared),
        ]
    }
}

impl SettingsChange {
    /// What is changed, as the configuration calls it: `display_name`, `lifetimes.code`.
    pub fn names(&self) -> Vec<String> {
        let flags = [
            ("display_name", self.display_name.is_some()),
            ("require_pushed_requests", self.require_pushed_requests.is_some()),
            ("require_dpop_nonce", self.require_dpop_nonce.is_some()),
            ("sessions_per_person", self.sessions_per_person.is_some()),
        ];
        let flags = flags.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned());
        flags.chain(self.lifetimes.keys().map(|name| format!("lifetimes.{name}"))).collect()
    }

    /// The settings with this change.
    ///
    /// # Errors
    /// [`Error::Settings`]: the configuration writes one of them, there is no such lifetime, or
    /// the settings contradict themselves.
    pub(crate) fn over(&self, configured: &RealmSettings) -> Result<RealmSettings, Error> {
        let refused = |why| Error::Settings { realm: configured.name.clone(), why };
        if let Some(name) = self.names().into_iter().find(|name| configured.written.contains(name)) {
            return Err(refused(format!("{name} is written in the configuration; change it in `realms:`")));
        }
        let mut settings = configured.clone();
        if let Some(shown) = &self.display_name {
            let fits = (1..=DISPLAY_NAME_CHARACTERS_MAX).contains(&shown.trim().chars().count());
            if !fits || shown.chars().any(char::is_control) {
                let most = DISPLAY_NAME_CHARACTERS_MAX;
                let why = format!("display_name: expected 1 to {most} characters without control characters");
                return Err(refused(why));
            }
            settings.display_name.clone_from(shown);
        }
        settings.require_pushed_requests =
            self.require_pushed_requests.unwrap_or(settings.require_pushed_requests);
        settings.require_dpop_nonce = self.require_dpop_nonce.unwrap_or(settings.require_dpop_nonce);
        settings.sessions_per_person = self.sessions_per_person.unwrap_or(settings.sessions_per_person);
        for (name, seconds) in &self.lifetimes {
            let mut named = settings.lifetimes.named().into_iter();
            let Some((_, life)) = named.find(|(known, _)| known == name) else {
                let known = Lifetimes::default().named().map(|(known, _)| known).join(", ");
                return Err(refused(format!("there is no lifetime {name:?}; there are: {known}")));
            };
            *life = Duration::from_secs(*seconds);
        }
        settings.check()?;
        Ok(settings)
    }

    /// The same for a record that was good when it was written, with a configuration that may
    /// be another by now: what does not fit any more is as configured, which is said.
    pub(crate) fn over_lenient(&self, configured: &RealmSettings) -> RealmSettings {
        let is_free = |name: &str| !configured.written.contains(name);
        let mut kept = self.clone();
        kept.display_name = kept.display_name.filter(|_| is_free("display_name"));
        kept.require_pushed_requests =
            kept.require_pushed_requests.filter(|_| is_free("require_pushed_requests"));
        kept.require_dpop_nonce = kept.require_dpop_nonce.filter(|_| is_free("require_dpop_nonce"));
        kept.sessions_per_person = kept.sessions_per_person.filter(|_| is_free("sessions_per_person"));
        kept.lifetimes.retain(|name, _| is_free(&format!("lifetimes.{name}")));
        let without = Self { lifetimes: BTreeMap::new(), ..kept.clone() };
        if kept != *self {
            let realm = &configured.name;
            tracing::warn!(
                realm,
                "identity: settings were changed that the configuration writes now; it counts"
            );
        }
        kept.over(configured).or_else(|error| {
            tracing::error!(%error, "identity: lifetimes that were changed do not fit; they are as configured");
            without.over(configured)
        })
        .unwrap_or_else(|error| {
            tracing::error!(%error, "identity: settings that were changed do not fit; they are as configured");
            configured.clone()
        })
    }
}

impl Realm {
    /// What is changed, and the version of that; `None`: nothing ever was.
    ///
    /// # Errors
    /// The store fails.
    pub async fn settings_change(&self) -> Result<Option<(SettingsChange, Version)>, Error> {
        let stored = self.records.get(Kind::Settings, &[]).await?;
        Ok(stored.map(|stored| (stored.value, stored.version)))
    }

    /// Judges a change of settings as [`Realm::change_settings`] does.
    ///
    /// # Errors
    /// [`Error::Settings`]: they are no settings, or stand in the configuration.
    pub fn check_settings(&self, change: &SettingsChange) -> Result<(), Error> {
        change.over(&self.configured)?;
        Ok(())
    }

    /// Changes settings, in the place of everything that was changed before. A realm has them
    /// when it is opened next: whoever serves it watches [`Realm::watch_settings`].
    ///
    /// # Errors
    /// [`Error::Settings`]: they are no settings, or stand in the configuration. The store fails.
    pub async fn change_settings(&self, change: &SettingsChange, expect: Expect) -> Result<Written, Error> {
        self.check_settings(change)?;
        self.records.put(Kind::Settings, &[], change, None, expect).await
    }

    /// Follows changes of the settings since this realm was opened.
    pub fn watch_settings(&self) -> Watch {
        self.records.watch_after(Kind::Settings, self.settled)
    }

    /// The names of settings that the configuration writes.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.configured.written.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> RealmSettings {
        let mut settings = RealmSettings::new("town", "https://id.example.org");
        settings.written.insert("lifetimes.code".to_owned());
        settings
    }

    fn change(text: &str) -> SettingsChange {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_changed_is_checked_as_what_is_configured_is() {
        let good = change(
            r#"{"display_name":"The Town","require_dpop_nonce":true,"lifetimes":{"access_token":600}}"#,
        );
        let settings = good.over(&configured()).unwrap();
        assert_eq!(settings.display_name, "The Town");
        assert_eq!(settings.lifetimes.access_token, Duration::from_secs(600));
        assert!(settings.require_dpop_nonce && !settings.require_pushed_requests);
        assert_eq!(SettingsChange::default().over(&configured()).unwrap(), configured());
        for (text, says) in [
            (r#"{"lifetimes":{"access_token":90000}}"#, "access_token: expected 1 to 86400 seconds"),
            (r#"{"lifetimes":{"session_idle":90000}}"#, "session_idle: expected 1 to 86400 seconds"),
            (
                r#"{"lifetimes":{"acess_token":60}}"#,
                "there is no lifetime \"acess_token\"; there are: access_token",
            ),
            (r#"{"lifetimes":{"code":30}}"#, "lifetimes.code is written in the configuration"),
            (r#"{"sessions_per_person":0}"#, "sessions_per_person: expected 1 to 1000"),
            (r#"{"display_name":" "}"#, "display_name: expected 1 to 200 characters"),
            (r#"{"display_name":"The\nTown"}"#, "display_name: expected 1 to 200 characters without control"),
        ] {
            let error = change(text).over(&configured()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(serde_json::from_str::<SettingsChange>(r#"{"issuer":"https://evil.example"}"#).is_err());
    }

    #[test]
    fn what_does_not_fit_any_more_is_as_configured_and_the_rest_stays() {
        let before =
            change(r#"{"require_dpop_nonce":true,"display_name":"X","lifetimes":{"session_idle":86400}}"#);
        let mut now = configured();
        now.lifetimes.session_absolute = Duration::from_secs(3600);
        now.lifetimes.session_idle = Duration::from_secs(600);
        now.written.insert("display_name".to_owned());
        let settings = before.over_lenient(&now);
        assert!(settings.require_dpop_nonce, "what makes it stricter is not lost with the rest");
        assert_eq!(settings.lifetimes, now.lifetimes);
        assert_eq!(settings.display_name, "town");
    }
}
