//! Factors beside the password: what a person enrolled, kept as one record of theirs.
//!
//! Every use is one compare-and-set of that record: of two that show the same code at
//! once, one is let in, and of a thousand guesses at once each is counted before it is
//! answered. What a person adds or removes is written only while they are `as_judged`: a sign-out
//! in between may be because of whoever it is.

mod cose;
pub(crate) mod passkey;
pub(crate) mod qr;
pub(crate) mod recovery;
pub(crate) mod totp;

use std::time::Duration;

use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Expect, Transaction};
use zeroize::Zeroizing;

use crate::Error;
use crate::observe::Telling;
use crate::realm::Realm;
use crate::record::{Change, Kind, Stored};
use crate::refusal::{Answer, Code, Refusal};
use passkey::{Passkey, Proved, Signed};
use totp::{Authenticator, TotpSecret};

/// Most factors of one person.
pub const FACTORS_MAX: usize = 10;
/// Longest id of a factor that is given, bytes.
const FACTOR_ID_BYTES_MAX: usize = 64;
/// Longest name of a factor, characters.
pub const FACTOR_NAME_CHARACTERS_MAX: usize = 60;
/// Wrong codes of one person in [`WRONG_CODES_WITHIN`]: three codes of a million are good
/// at a time, so that guessing for a year finds one with a chance of one in four, and only
/// by who has the password.
const WRONG_CODES_MAX: u32 = 10;
const WRONG_CODES_WITHIN: Duration = Duration::from_secs(3600);

/// What kind of factor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorKind {
    /// An authenticator app (RFC 6238).
    Totp,
    /// A passkey (Web Authentication).
    Passkey,
}

impl FactorKind {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
        }
    }
}

/// What is shown of a factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Its id, for [`Realm::remove_factor`].
    pub id: String,
    /// What kind it is.
    pub kind: FactorKind,
    /// What its owner calls it.
    pub name: String,
    /// When it was enrolled.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
}

/// What every factor has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) id: String,
    pub(crate) name: String,
    created: Timestamp,
    pub(crate) used: Option<Timestamp>,
}

impl Label {
    pub(crate) fn new(id: String, name: &str, now: Timestamp) -> Self {
        Self { id, name: clean(name), created: now, used: None }
    }

    fn shown(&self, kind: FactorKind) -> Factor {
        let Self { id, name, created, used } = self.clone();
        Factor { id, kind, name, created, used }
    }
}

/// A name without what would break a page or a line.
fn clean(name: &str) -> String {
    let plain = name.trim().chars().filter(|letter| !letter.is_control());
    plain.take(FACTOR_NAME_CHARACTERS_MAX).collect()
}

/// Everything that a person enrolled.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Factors {
    #[serde(default)]
    pub(crate) authenticators: Vec<Authenticator>,
    #[serde(default)]
    pub(crate) passkeys: Vec<Passkey>,
    /// Hashes of the recovery codes that were not used.
    #[serde(default)]
    pub(crate) recovery: Vec<String>,
    /// Wrong codes, and until when they are counted.
    #[serde(default)]
    wrong: u32,
    #[serde(default)]
    wrong_until: Timestamp,
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factors").field("list", &self.list()).finish_non_exhaustive()
    }
}

impl Factors {
    /// Whether there is any beside recovery codes, which stand in for one.
    pub(crate) fn is_empty(&self) -> bool {
        self.authenticators.is_empty() && self.passkeys.is_empty()
    }

    /// All of them, as they are shown.
    pub(crate) fn list(&self) -> Vec<Factor> {
        let apps = self.authenticators.iter().map(|one| one.label.shown(FactorKind::Totp));
        apps.chain(self.passkeys.iter().map(|one| one.label.shown(FactorKind::Passkey))).collect()
    }

    fn labels(&mut self) -> impl Iterator<Item = &mut Label> {
        let apps = self.authenticators.iter_mut().map(|one| &mut one.label);
        apps.chain(self.passkeys.iter_mut().map(|one| &mut one.label))
    }

    /// Takes a code of any of the apps, or counts a wrong one.
    fn judge(&mut self, code: &str, now: Timestamp) -> Judged {
        if self.wrong_until <= now {
            (self.wrong, self.wrong_until) = (0, now.plus(WRONG_CODES_WITHIN));
        }
        if self.wrong >= WRONG_CODES_MAX {
            return Judged::TooMany;
        }
        if self.authenticators.iter_mut().any(|app| app.take(code, now)) {
            return Judged::Good;
        }
        self.wrong += 1;
        Judged::Wrong
    }
}

/// What a person is offered to enrol, until they confirm it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// The secret of an app, base32.
    pub(crate) secret: Zeroizing<String>,
    /// The challenge of a passkey, base64url.
    pub(crate) challenge: String,
}

impl Offer {
    /// Something new.
    ///
    /// # Errors
    /// The generator fails.
    pub(crate) fn new(realm: &Realm) -> Result<Self, Error> {
        let random = realm.random.as_ref();
        Ok(Self { secret: totp::new_secret(random)?, challenge: crate::random::secret(random)? })
    }

    /// The app with this secret, if the person shows a code of it. That code counts no more.
    ///
    /// # Errors
    /// The generator fails.
    pub(crate) fn confirmed(
        &self,
        realm: &Realm,
        name: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<Option<Authenticator>, Error> {
        let Some(secret) = totp::read_secret(&self.secret) else { return Ok(None) };
        let label = Label::new(crate::random::name(realm.random.as_ref())?, name, now);
        let mut app = Authenticator::new(label, &secret)?;
        Ok(app.take(&totp::typed(code), now).then_some(app))
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

/// What came of a code.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Good,
    Wrong,
    /// Too many were wrong: this one was not looked at.
    TooMany,
}

/// The factors of a person.
pub(crate) async fn get(realm: &Realm, user: &str) -> Result<Factors, Error> {
    let found = realm.records.get::<Factors>(Kind::Factors, &[user]).await?;
    Ok(found.map(|stored| stored.value).unwrap_or_default())
}

/// Changes the factors of a person in one compare-and-set. `change` may be asked several
/// times; without a transaction of its, nothing is written.
pub(crate) async fn change<T>(
    realm: &Realm,
    user: &str,
    change: impl Fn(&mut Factors) -> Answer<(Option<Transaction>, T)>,
) -> Answer<T> {
    change_and_tell(realm, user, None, change).await
}

/// The same, and tells of it once it is written.
async fn change_and_tell<T>(
    realm: &Realm,
    user: &str,
    telling: Option<&Telling>,
    change: impl Fn(&mut Factors) -> Answer<(Option<Transaction>, T)>,
) -> Answer<T> {
    let decide = |stored: Option<Stored<Factors>>| {
        let mut factors = stored.map(|stored| stored.value).unwrap_or_default();
        let (besides, result) = change(&mut factors)?;
        Ok((besides.map(|besides| Change { value: factors, expires: None, besides }), result))
    };
    let what = "the factors of a person";
    realm.records.change_and_tell(Kind::Factors, &[user], what, telling, decide).await
}

/// Whether this is a code of one of the person's apps: counted, and good once.
pub(crate) async fn take_code(realm: &Realm, user: &str, code: &str, now: Timestamp) -> Answer<Judged> {
    let code = totp::typed(code);
    let judged = change(realm, user, |factors| {
        let judged = factors.judge(&code, now);
        let write = judged != Judged::TooMany;
        Ok((write.then(Transaction::new), judged))
    });
    let judged = judged.await?;
    match judged {
        Judged::Good => {}
        Judged::Wrong => tracing::info!(user, "identity: a wrong one-time code"),
        Judged::TooMany => tracing::warn!(user, "identity: too many wrong one-time codes"),
    }
    Ok(judged)
}

/// Whether this is a recovery code of the person's that was not used yet.
pub(crate) async fn take_recovery(realm: &Realm, user: &str, code: &str) -> Answer<bool> {
    let hash = recovery::hash(realm, user, code);
    let found = change(realm, user, |factors| {
        let before = factors.recovery.len();
        // Of hashes under a key: where they begin to differ tells nothing of a code.
        factors.recovery.retain(|known| *known != hash);
        let found = factors.recovery.len() < before;
        Ok((found.then(Transaction::new), found))
    });
    let found = found.await?;
    tracing::info!(user, found, "identity: a recovery code was tried");
    Ok(found)
}

/// The passkey that a browser created for an offer, and what it showed by that. `None`: what
/// was sent is not one; the log says why.
pub(crate) fn created(
    realm: &Realm,
    offer: &Offer,
    name: &str,
    sent: &str,
    now: Timestamp,
) -> Result<Option<(Passkey, Proved)>, Error> {
    let label = Label::new(crate::random::name(realm.random.as_ref())?, name, now);
    let created = passkey::created(&realm.settings, label, &offer.challenge, sent);
    Ok(created.inspect_err(|why| tracing::warn!(why, "identity: a passkey was not enrolled")).ok())
}

/// Adds a passkey. One that is enrolled already, by whomever, is refused.
pub(crate) async fn add_passkey(
    realm: &Realm,
    user: &str,
    passkey: &Passkey,
    as_judged: &Transaction,
    telling: Option<&Telling>,
) -> Answer<()> {
    let credential = crate::random::hash(&passkey.credential);
    if realm.records.exists(Kind::Credential, &[&credential]).await? {
        let told = "This passkey is set up already.";
        return Err(Refusal::new(Code::InvalidRequest, told, "a credential id that is known"));
    }
    let added = change_and_tell(realm, user, telling, |factors| {
        room(factors)?;
        factors.passkeys.push(passkey.clone());
        let known = as_judged.clone();
        let known =
            realm.records.write(known, Kind::Credential, &[&credential], &user, None, Expect::Absent)?;
        Ok((Some(known), ()))
    });
    added.await?;
    tracing::info!(user, factor = passkey.label.id, "identity: a passkey was enrolled");
    Ok(())
}

/// Whose passkey signed.
pub(crate) async fn owner(realm: &Realm, signed: &Signed) -> Result<Option<String>, Error> {
    let credential = crate::random::hash(&signed.id);
    let found = realm.records.get::<String>(Kind::Credential, &[&credential]).await?;
    Ok(found.map(|stored| stored.value))
}

/// What a passkey of the person's proved by signing; `None`: nothing, and the log says why.
pub(crate) async fn take_passkey(
    realm: &Realm,
    user: &str,
    challenge: &str,
    signed: &Signed,
    now: Timestamp,
) -> Answer<Option<Proved>> {
    let taken = change(realm, user, |factors| {
        let known = factors.passkeys.iter_mut().find(|known| known.credential == signed.id);
        let known = known.ok_or_else(|| "there is no such passkey".to_owned());
        let proved = known.and_then(|known| known.take(&realm.settings, user, challenge, signed, now));
        Ok((proved.is_ok().then(Transaction::new), proved))
    });
    match taken.await? {
        Ok(proved) => Ok(Some(proved)),
        Err(why) => {
            tracing::warn!(user, why, "identity: a passkey was not accepted");
            Ok(None)
        }
    }
}

/// Adds an app. One whose secret the person has already is refused: a code of it would count for
/// each of them.
pub(crate) async fn add_authenticator(
    realm: &Realm,
    user: &str,
    app: &Authenticator,
    as_judged: &Transaction,
    telling: Option<&Telling>,
) -> Answer<()> {
    let added = change_and_tell(realm, user, telling, |factors| {
        room(factors)?;
        if factors.authenticators.iter().any(|known| known.is_of_secret_of(app)) {
            let told = "This app is set up already.";
            return Err(Refusal::new(Code::InvalidRequest, told, "the secret of an app that is known"));
        }
        factors.authenticators.push(app.clone());
        Ok((Some(as_judged.clone()), ()))
    });
    added.await?;
    tracing::info!(user, factor = app.label.id, "identity: an authenticator app was enrolled");
    Ok(())
}

fn room(factors: &Factors) -> Answer<()> {
    if factors.list().len() < FACTORS_MAX {
        return Ok(());
    }
    let told = "There is no room for another factor. Remove one first.";
    Err(Refusal::new(Code::InvalidRequest, told, format!("{FACTORS_MAX} factors are there")))
}

/// Makes recovery codes in the place of those before; this is the only time that they are
/// seen.
pub(crate) async fn renew_recovery(
    realm: &Realm,
    user: &str,
    as_judged: &Transaction,
    telling: Option<&Telling>,
) -> Answer<Vec<String>> {
    let mut codes = Vec::with_capacity(recovery::CODES_COUNT);
    for _ in 0..recovery::CODES_COUNT {
        codes.push(recovery::new_code(realm)?);
    }
    let hashes: Vec<String> = codes.iter().map(|code| recovery::hash(realm, user, code)).collect();
    let renewed = change_and_tell(realm, user, telling, |factors| {
        factors.recovery.clone_from(&hashes);
        Ok((Some(as_judged.clone()), ()))
    });
    renewed.await?;
    tracing::info!(user, "identity: recovery codes were made");
    Ok(codes)
}

/// Gives a factor another name; `false`: there is none of this id.
pub(crate) async fn rename(realm: &Realm, user: &str, id: &str, name: &str) -> Answer<bool> {
    let name = clean(name);
    let renamed = change(realm, user, |factors| {
        let Some(label) = factors.labels().find(|label| label.id == id) else { return Ok((None, false)) };
        label.name.clone_from(&name);
        Ok((Some(Transaction::new()), true))
    });
    renamed.await
}

/// Removes a factor; with the last one its recovery codes. `false`: there is none of this
/// id.
pub(crate) async fn remove(
    realm: &Realm,
    user: &str,
    id: &str,
    as_judged: &Transaction,
    telling: Option<&Telling>,
) -> Answer<bool> {
    let removed = change_and_tell(realm, user, telling, |factors| {
        let before = factors.list().len();
        let mut gone = as_judged.clone();
        for passkey in factors.passkeys.iter().filter(|passkey| passkey.label.id == id) {
            let credential = crate::random::hash(&passkey.credential);
            gone = gone.delete(realm.records.key(Kind::Credential, &[&credential]), Expect::Any);
        }
        factors.authenticators.retain(|app| app.label.id != id);
        factors.passkeys.retain(|passkey| passkey.label.id != id);
        let removed = factors.list().len() < before;
        if factors.is_empty() {
            factors.recovery.clear();
        }
        Ok((removed.then_some(gone), removed))
    });
    let removed = removed.await?;
    if removed {
        tracing::warn!(user, factor = id, "identity: a factor was removed");
    }
    Ok(removed)
}

impl Realm {
    /// What a person enrolled beside their password, without recovery codes.
    ///
    /// # Errors
    /// The store fails.
    pub async fn factors(&self, user: &str) -> Result<Vec<Factor>, Error> {
        Ok(get(self, user).await?.list())
    }

    /// Enrols an authenticator app whose secret is known: for a move from another provider,
    /// and for a demonstration. `secret` is the shared key itself, 16 to 64 bytes (RFC 4226
    /// §4), not its base32 text. Gives the factor's id.
    ///
    /// # Errors
    /// [`Error::Record`]: the secret is too short or too long, the person has an app of it, or
    /// [`FACTORS_MAX`] factors; the store fails.
    pub async fn put_totp(&self, user: &str, name: &str, secret: Secret<Vec<u8>>) -> Result<String, Error> {
        let id = crate::random::name(self.random.as_ref())?;
        let app = Authenticator::new(Label::new(id.clone(), name, self.now()), &secret)?;
        let added = add_authenticator(self, user, &app, &Transaction::new(), None).await;
        added.map_err(|refusal| fault(&refusal))?;
        Ok(id)
    }

    /// The same under an id of the caller's, in the place of an app that had it: whatever is done again
    /// changes nothing, and the codes that counted count no more.
    ///
    /// # Errors
    /// As [`Self::put_totp`]; [`Error::Record`] for an id that cannot be one or is a passkey's, and for
    /// somebody who is not there.
    pub async fn put_totp_as(
        &self,
        user: &str,
        id: &str,
        name: &str,
        secret: &TotpSecret,
    ) -> Result<(), Error> {
        let refused = |why: &str| Error::Record { what: format!("factor {id:?}"), why: why.to_owned() };
        if let Some(why) = factor_id_fault(id) {
            return Err(refused(&why));
        }
        if !self.records.exists(Kind::User, &[user]).await? {
            return Err(refused("there is no such user"));
        }
        let there = Transaction::new().require(self.records.key(Kind::User, &[user]), Expect::Present);
        let app = Authenticator::of(Label::new(id.to_owned(), name, self.now()), secret);
        let put = change(self, user, |factors| {
            if factors.passkeys.iter().any(|passkey| passkey.label.id == id) {
                return Err(Refusal::new(Code::InvalidRequest, "This id is a passkey's.", "a passkey's id"));
            }
            let known = factors.authenticators.iter().find(|known| known.is_of_secret_of(&app));
            match known {
                Some(known) if known.label.id == id => return Ok((None, ())),
                Some(_) => {
                    let told = "This app is set up already.";
                    return Err(Refusal::new(
                        Code::InvalidRequest,
                        told,
                        "the secret of an app that is known",
                    ));
                }
                None => factors.authenticators.retain(|known| known.label.id != id),
            }
            room(factors)?;
            factors.authenticators.push(app.clone());
            Ok((Some(there.clone()), ()))
        });
        put.await.map_err(|refusal| fault(&refusal))?;
        tracing::info!(user, factor = id, "identity: an authenticator app was given");
        Ok(())
    }

    /// Removes a factor of a person who lost it; with the last one the recovery codes.
    /// `false`: there is none of this id.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove_factor(&self, user: &str, id: &str) -> Result<bool, Error> {
        remove(self, user, id, &Transaction::new(), None).await.map_err(|refusal| fault(&refusal))
    }
}

/// What is wrong with the id of a factor, if anything is.
pub fn factor_id_fault(id: &str) -> Option<String> {
    let good =
        (1..=FACTOR_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    (!good).then(|| format!("expected an id of 1 to {FACTOR_ID_BYTES_MAX} visible ASCII characters"))
}

/// A refusal where nobody sent a request.
fn fault(refusal: &Refusal) -> Error {
    Error::Record { what: "factor".to_owned(), why: format!("{} {}", refusal.description, refusal.reason) }
}
