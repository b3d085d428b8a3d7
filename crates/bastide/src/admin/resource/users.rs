//! Users, their passwords, roles and groups.

use std::collections::{BTreeMap, BTreeSet};

use ::keys::SecureRandom as _;
use identity::{Realm, TotpSecret, User, Written};
use model::{Secret, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Expect, Version};

use super::holder::{Holder, check_claims};
use super::{ATTEMPTS_MAX, Made, Page, encoded, paging};
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};
use crate::config::Area;

/// Users that one call looks at for those that are asked for; `next` goes on.
const EXAMINED_MAX: usize = 10_000;
/// Random bytes of a password that is made: 120 bits.
const PASSWORD_BYTES: usize = 15;

/// A user as they are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserIn {
    /// What they log in with, without case.
    pub username: String,
    /// The full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether they showed that it is theirs.
    #[serde(default)]
    pub email_verified: bool,
    /// The roles.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// The groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Everything else, by name; claims can show it.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Switched off: no login, no refresh, no token is good.
    #[serde(default)]
    pub disabled: bool,
}

/// A user as they are shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserOut {
    /// `sub`.
    pub id: String,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its members are described")]
    pub user: UserIn,
    /// When they were made, Unix seconds.
    pub created: u64,
    /// When they were changed, Unix seconds.
    pub updated: u64,
}

impl UserIn {
    /// The user of this id.
    pub fn into_user(self, id: &str, before: Option<&User>, now: Timestamp) -> User {
        let mut user = before.cloned().unwrap_or_else(|| User::new(id, &self.username, now));
        user.username = self.username;
        user.name = self.name;
        user.email = self.email;
        user.email_verified = self.email_verified;
        user.roles = self.roles;
        user.groups = self.groups;
        user.attributes = self.attributes;
        user.disabled = self.disabled;
        user.updated = now;
        user
    }
}

impl From<User> for UserOut {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            user: UserIn {
                username: user.username,
                name: user.name,
                email: user.email,
                email_verified: user.email_verified,
                roles: user.roles,
                groups: user.groups,
                attributes: user.attributes,
                disabled: user.disabled,
            },
            created: user.created.unix_seconds(),
            updated: user.updated.unix_seconds(),
        }
    }
}

/// A password.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordIn {
    /// The password. Neither this nor `hash`: one is made, and shown in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Its hash as a PHC string, from an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Instead of either: the person gets a letter, and chooses it by the link in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invite: bool,
}

/// What a user enrolled beside their password.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FactorOut {
    /// Its id.
    pub id: String,
    /// `totp` or `passkey`.
    pub kind: String,
    /// What its owner calls it.
    pub name: String,
    /// When it was enrolled, Unix seconds.
    pub created: u64,
    /// When it was last used, Unix seconds.
    pub used: Option<u64>,
}

/// An authenticator app that a user has from elsewhere.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactorIn {
    /// What its owner calls it.
    pub name: String,
    /// Its secret in base32: the key of codes of six digits every 30 seconds, by SHA-1.
    pub secret: String,
}

/// A group that somebody is in.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GroupOut {
    /// Its name.
    pub name: String,
    /// How many users are in it.
    pub members: u64,
}

/// `GET …/users`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (limit, mut after) = paging(asked)?;
    if let Some(name) = asked.query("username") {
        let found = realm.find_user(name).await?.filter(|user| is_wanted(asked, user));
        return Reply::ok(&Page::whole(found.map(UserOut::from).into_iter().collect()));
    }
    let (mut items, mut examined) = (Vec::new(), 0);
    loop {
        let page = realm.users_page(after.as_ref(), limit - items.len()).await?;
        examined += page.items.len();
        let wanted = page.items.into_iter().map(|(user, _)| user).filter(|user| is_wanted(asked, user));
        items.extend(wanted.map(UserOut::from));
        after = page.next;
        if after.is_none() || items.len() >= limit || examined >= EXAMINED_MAX {
            return Reply::ok(&Page { items, next: after.map(|cursor| cursor.to_text()) });
        }
    }
}

fn is_wanted(asked: &Call, user: &User) -> bool {
    let email = asked.query("email").is_none_or(|email| {
        user.email.as_ref().is_some_and(|known| known.to_lowercase() == email.to_lowercase())
    });
    let role = asked.query("role").is_none_or(|role| user.roles.contains(role));
    let group = asked.query("group").is_none_or(|group| user.groups.contains(group));
    email && role && group
}

/// The user that the path names.
pub(super) async fn find(asked: &Call, realm: &Realm) -> Result<(User, Version), Problem> {
    let id = asked.parameter("user");
    let found = realm.find_user_by_id(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("user of id {id:?}")))
}

/// `POST …/users`
pub async fn add(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let given: UserIn = asked.body()?;
    check(asked, &realm, &given, None).await?;
    let id = realm.new_user_id()?;
    check_given(asked, &given, &id, None)?;
    let user = given.into_user(&id, None, asked.state.now());
    check_shown(asked, &realm, None, &user)?;
    let place = format!("/v1/realms/{}/users/{}", encoded(asked.parameter("realm")), encoded(&user.id));
    if asked.is_dry_run() {
        return Ok(judged(&realm, user).await?.created(place));
    }
    if realm.write_user(&user, Expect::Absent).await? == Written::Conflict {
        return Err(Problem::changed());
    }
    Ok(Reply::ok(&UserOut::from(user))?.created(place))
}

/// A user who would be written so.
async fn judged(realm: &Realm, user: User) -> Result<Reply, Problem> {
    realm.judge_user(&user).await?;
    Ok(Reply::ok(&UserOut::from(user))?.judged())
}

/// `GET …/users/{user}`
pub async fn get(asked: &Call) -> Result<Reply, Problem> {
    let (user, version) = find(asked, &*asked.realm()?).await?;
    Ok(Reply::ok(&UserOut::from(user))?.of(version))
}

/// `PUT …/users/{user}`
pub async fn put(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let id = asked.parameter("user");
    let given: UserIn = asked.body()?;
    check(asked, &realm, &given, Some(id)).await?;
    for _ in 0..ATTEMPTS_MAX {
        let found = realm.find_user_by_id(id).await?;
        let before = found.as_ref().map(|(user, _)| user);
        check_given(asked, &given, id, before)?;
        // What was judged is what is written over.
        let expect = match (asked.expect(), &found) {
            (Expect::Any, None) => Expect::Absent,
            (Expect::Any | Expect::Present, Some((_, version))) => Expect::Version(*version),
            (wanted, _) => wanted,
        };
        let user = given.clone().into_user(id, before, asked.state.now());
        check_access(asked, &realm, before, &user)?;
        check_shown(asked, &realm, before, &user)?;
        if asked.is_dry_run() {
            asked.check_expected(found.as_ref().map(|(_, version)| *version))?;
            return judged(&realm, user).await;
        }
        if realm.write_user(&user, expect).await? == Written::Done {
            return get(asked).await;
        }
        if expect == asked.expect() {
            return Err(Problem::changed());
        }
    }
    Err(contended())
}

/// Roles and groups that a user is given or loses with the rest of them take the permit that
/// giving and taking each alone does.
fn check_given(asked: &Call, given: &UserIn, id: &str, before: Option<&User>) -> Result<(), Problem> {
    let none = BTreeSet::new();
    let (roles, groups) = before.map_or((&none, &none), |user| (&user.roles, &user.groups));
    for (area, name, before, after) in
        [(Area::Roles, "role", roles, &given.roles), (Area::Groups, "group", groups, &given.groups)]
    {
        let added = after.difference(before).map(|value| ("PUT", value));
        let taken = before.difference(after).map(|value| ("DELETE", value));
        for (method, value) in added.chain(taken) {
            asked.also(area, method, &[("user", id), (name, value)])?;
            if area == Area::Groups {
                check_group(asked, method, id, value)?;
            }
        }
    }
    Ok(())
}

/// What decides who can log in as somebody takes the permit over the roles that they hold: their
/// address, to which a link to another password goes, that they are not switched off, an id that
/// the configuration gives roles, and the name by which they log in and others know them.
fn check_access(asked: &Call, realm: &Realm, before: Option<&User>, after: &User) -> Result<(), Problem> {
    let Some(before) = before else {
        // What they are given was judged with it.
        let nameless = User { roles: BTreeSet::new(), groups: BTreeSet::new(), ..after.clone() };
        return Holder::user(asked, realm, &nameless).check(asked);
    };
    let same_address = (&before.email, before.email_verified) == (&after.email, after.email_verified);
    let same_name = before.username == after.username;
    if same_address && same_name && (after.disabled || !before.disabled) {
        return Ok(());
    }
    // What is taken of them at the same time was judged with what is given.
    Holder::user(asked, realm, after).check(asked)
}

/// What policies read of a user in claims says what they may do, as roles do. The name of a new one is
/// nobody's yet.
fn check_shown(asked: &Call, realm: &Realm, before: Option<&User>, after: &User) -> Result<(), Problem> {
    let nobody = User::new(&after.id, &after.username, after.created);
    let before = before.unwrap_or(&nobody);
    check_claims(asked, realm, ("user", &after.id), |rule| rule.of_user(before) != rule.of_user(after))
}

/// A group that is called like a declared role takes the permit that the role does: a gateway that
/// reads roles from `groups` makes no difference between them.
fn check_group(asked: &Call, method: &'static str, user: &str, group: &str) -> Result<(), Problem> {
    if !asked.view.roles().contains(group) {
        return Ok(());
    }
    asked.also(Area::Roles, method, &[("user", user), ("role", group)])
}

fn contended() -> Problem {
    Problem::conflict("others changed the user at the same time; try again")
}

/// Refuses roles that nobody declared, and a name that is another's.
async fn check(asked: &Call, realm: &Realm, given: &UserIn, id: Option<&str>) -> Result<(), Problem> {
    if !asked.flag("any_role") {
        asked.view.check_roles(&given.roles)?;
    }
    match realm.find_user(&given.username).await? {
        Some(other) if Some(other.id.as_str()) != id => {
            Err(Problem::conflict(format!("there is a user {:?} already", given.username)))
        }
        _ => Ok(()),
    }
}

/// `DELETE …/users/{user}`
pub async fn remove(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    match realm.remove_user(&user.id, asked.expect()).await? {
        Written::Done => Ok(Reply::done()),
        Written::Conflict => Err(Problem::changed()),
    }
}

/// `PUT …/users/{user}/password`
pub async fn set_password(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let given: PasswordIn = asked.body()?;
    let (user, _) = find(asked, &realm).await?;
    if given.invite {
        if given.password.is_some() || given.hash.is_some() {
            return Err(Problem::unfit("expected `invite` without `password` and `hash`"));
        }
        realm.invite(&user).await?;
        return Reply::ok(&Made { secret: None });
    }
    Holder::user(asked, &realm, &user).check(asked)?;
    let most = identity::login::PASSWORD_BYTES_MAX;
    let made = match (given.password, given.hash) {
        (Some(_), Some(_)) => return Err(Problem::unfit("expected either `password` or `hash`")),
        (Some(password), None) => {
            if !(1..=most).contains(&password.len()) {
                return Err(Problem::unfit(format!("password: expected 1 to {most} bytes")));
            }
            realm.set_password(&user.id, Secret::new(password)).await?;
            None
        }
        (None, Some(hash)) => {
            realm.put_password_hash(&user.id, &hash).await?;
            None
        }
        (None, None) => {
            let mut bytes = [0; PASSWORD_BYTES];
            asked.state.random.fill(&mut bytes).map_err(|_| Problem::random())?;
            let made = ::keys::encoding::encode_base64url(&bytes);
            realm.set_password(&user.id, Secret::new(made.clone())).await?;
            Some(made)
        }
    };
    Reply::ok(&Made { secret: made })
}

/// `GET …/users/{user}/password`
pub async fn password_hash(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    let hash = realm.password_hash(&user.id).await?;
    let hash = hash.ok_or_else(|| Problem::not_found(format!("password of user {:?}", user.username)))?;
    Reply::ok(&PasswordIn { password: None, hash: Some(hash), invite: false })
}

/// `POST …/users/{user}/verification`
pub async fn ask_verification(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    if user.email_verified {
        return Err(Problem::conflict(format!(
            "the address of user {:?} is verified already",
            user.username
        )));
    }
    realm.ask_verification(&user).await?;
    Ok(Reply::done())
}

/// `GET …/users/{user}/factors`
pub async fn factors(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    let factors = realm.factors(&user.id).await?.into_iter().map(|factor| FactorOut {
        id: factor.id,
        kind: factor.kind.name().to_owned(),
        name: factor.name,
        created: factor.created.unix_seconds(),
        used: factor.used.map(Timestamp::unix_seconds),
    });
    Reply::ok(&Page::whole(factors.collect()))
}

/// `PUT …/users/{user}/factors/{factor}`
pub async fn put_factor(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let given: FactorIn = asked.body()?;
    let (user, _) = find(asked, &realm).await?;
    Holder::user(asked, &realm, &user).check(asked)?;
    let secret = TotpSecret::parse(&given.secret)?;
    realm.put_totp_as(&user.id, asked.parameter("factor"), &given.name, &secret).await?;
    Ok(Reply::done())
}

/// `DELETE …/users/{user}/factors/{factor}`
pub async fn remove_factor(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (user, _) = find(asked, &realm).await?;
    Holder::user(asked, &realm, &user).check(asked)?;
    let id = asked.parameter("factor");
    match realm.remove_factor(&user.id, id).await? {
        true => Ok(Reply::done()),
        false => Err(Problem::not_found(format!("factor of id {id:?}"))),
    }
}

/// Changes one member of a user, whatever others change of them at the same time.
async fn change(asked: &Call, change: impl Fn(&mut User)) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    for _ in 0..ATTEMPTS_MAX {
        let (before, version) = find(asked, &realm).await?;
        let mut user = before.clone();
        change(&mut user);
        if user == before {
            return Ok(Reply::ok(&UserOut::from(user))?.of(version));
        }
        user.updated = asked.state.now();
        if asked.is_dry_run() {
            return judged(&realm, user).await;
        }
        if realm.write_user(&user, Expect::Version(version)).await? == Written::Done {
            return get(asked).await;
        }
    }
    Err(contended())
}

/// `PUT …/users/{user}/roles/{role}`
pub async fn grant_role(asked: &Call) -> Result<Reply, Problem> {
    let role = asked.parameter("role").to_owned();
    if !asked.flag("any_role") {
        asked.view.check_roles([&role])?;
    }
    change(asked, |user| {
        let _ = user.roles.insert(role.clone());
    })
    .await
}

/// `DELETE …/users/{user}/roles/{role}`
pub async fn take_role(asked: &Call) -> Result<Reply, Problem> {
    let role = asked.parameter("role");
    change(asked, |user| {
        let _ = user.roles.remove(role);
    })
    .await
}

/// `PUT …/users/{user}/groups/{group}`
pub async fn join_group(asked: &Call) -> Result<Reply, Problem> {
    let group = asked.parameter("group");
    check_group(asked, "PUT", asked.parameter("user"), group)?;
    change(asked, |user| {
        let _ = user.groups.insert(group.to_owned());
    })
    .await
}

/// `DELETE …/users/{user}/groups/{group}`
pub async fn leave_group(asked: &Call) -> Result<Reply, Problem> {
    let group = asked.parameter("group");
    check_group(asked, "DELETE", asked.parameter("user"), group)?;
    change(asked, |user| {
        let _ = user.groups.remove(group);
    })
    .await
}

/// `GET …/groups`
pub async fn groups(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let mut members: BTreeMap<String, u64> = BTreeMap::new();
    for user in realm.users().await? {
        for group in user.groups {
            *members.entry(group).or_default() += 1;
        }
    }
    let items = members.into_iter().map(|(name, members)| GroupOut { name, members }).collect();
    Reply::ok(&Page::whole(items))
}
