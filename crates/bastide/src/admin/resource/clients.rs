//! Clients and their secrets.

use ::keys::SecureRandom as _;
use identity::claim::ClaimRule;
use identity::{Client, ClientAuthentication, GrantType, Realm, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Expect, Version};

use super::holder::{Holder, check_claims};
use super::{ATTEMPTS_MAX, Made, Page, paging};
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};
use crate::config::Area;
use crate::process::realms::DECLARED;

/// Random bytes of a secret that is made: 256 bits.
const SECRET_BYTES: usize = 32;

/// A client as it is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClientOut {
    #[serde(flatten)]
    #[allow(missing_docs, reason = "its members are described")]
    pub client: Client,
    /// Whether the configuration declares it: changes are made there.
    pub declared: bool,
}

/// How a secret is made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The one before stays good, until the next is made without this.
    #[serde(default)]
    pub keep_previous: bool,
}

impl ClientOut {
    fn of(mut client: Client, hashes: bool) -> Self {
        let declared = client.attributes.remove(DECLARED).is_some();
        if !hashes && let ClientAuthentication::Secret { hashes } = &mut client.authentication {
            hashes.clear();
        }
        Self { client, declared }
    }
}

/// `GET …/clients`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (limit, after) = paging(asked)?;
    let hashes = with_hashes(asked)?;
    let page = realm.clients_page(after.as_ref(), limit).await?;
    let items = page.items.into_iter().map(|(client, _)| ClientOut::of(client, hashes)).collect();
    Reply::ok(&Page { items, next: page.next.map(|cursor| cursor.to_text()) })
}

/// Whether hashes are asked for, by somebody who may read them.
fn with_hashes(asked: &Call) -> Result<bool, Problem> {
    let hashes = asked.flag("hashes");
    if hashes {
        asked.also(Area::Hashes, "GET", &[])?;
    }
    Ok(hashes)
}

async fn find(asked: &Call, realm: &Realm) -> Result<(Client, Version), Problem> {
    let id = asked.parameter("client");
    let found = realm.find_client(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("client {id:?}")))
}

/// `GET …/clients/{client}`
pub async fn get(asked: &Call) -> Result<Reply, Problem> {
    let hashes = with_hashes(asked)?;
    let (client, version) = find(asked, &*asked.realm()?).await?;
    Ok(Reply::ok(&ClientOut::of(client, hashes))?.of(version))
}

/// A client as it is written, with the grants that the configuration would give it if none are.
fn written(asked: &Call) -> Result<Client, Problem> {
    let mut client: Client = asked.body()?;
    if !asked.body::<Map<String, Value>>()?.contains_key("grant_types") {
        client.grant_types = GrantType::defaults(&client.redirect_uris);
    }
    Ok(client)
}

/// One that the configuration declares is changed there: the next start would undo it.
fn check_undeclared(client: &Client) -> Result<(), Problem> {
    if client.attributes.contains_key(DECLARED) && !client.disabled {
        let detail =
            format!("client {:?} is declared by the configuration; change it in `realms:`", client.id);
        return Err(Problem::conflict(detail));
    }
    Ok(())
}

/// `PUT …/clients/{client}`
pub async fn put(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let id = asked.parameter("client");
    let client = written(asked)?;
    if client.id != id {
        return Err(Problem::unfit(format!("id: expected {id:?} as in the path, found {:?}", client.id)));
    }
    if client.attributes.contains_key(DECLARED) {
        return Err(Problem::unfit(format!("attribute {DECLARED:?} is the configuration's")));
    }
    for _ in 0..ATTEMPTS_MAX {
        let mut client = client.clone();
        let found = realm.find_client(id).await?;
        let before = found.as_ref().map(|(client, _)| client);
        if let Some(before) = before {
            check_undeclared(before)?;
            keep_secret(&mut client, before);
        }
        check_access(asked, &realm, before, &client)?;
        if asked.is_dry_run() {
            asked.check_expected(found.as_ref().map(|(_, version)| *version))?;
            client.check(realm.settings())?;
            return Ok(Reply::ok(&ClientOut::of(client, false))?.judged());
        }
        // What was judged is what is written over.
        let expect = match (asked.expect(), &found) {
            (Expect::Any, None) => Expect::Absent,
            (Expect::Any | Expect::Present, Some((_, version))) => Expect::Version(*version),
            (wanted, _) => wanted,
        };
        if realm.write_client(&client, expect).await? == Written::Done {
            let (client, version) = find(asked, &realm).await?;
            return Ok(Reply::ok(&ClientOut::of(client, false))?.of(version));
        }
        if expect == asked.expect() {
            return Err(Problem::changed());
        }
    }
    Err(Problem::conflict("others changed the client at the same time; try again"))
}

/// Roles that a client is given or loses take the permit that giving and taking them does; so does
/// every other change of one that has roles, which may be about who can be it. It may be switched off.
/// The same holds for what it may do without its users' consent, and what policies read of it in claims.
fn check_access(asked: &Call, realm: &Realm, before: Option<&Client>, after: &Client) -> Result<(), Problem> {
    if let Some(before) = before {
        for role in before.roles.difference(&after.roles) {
            asked.also(Area::Roles, "DELETE", &[("client", &after.id), ("role", role)])?;
        }
        let switched_off = Client { disabled: true, ..before.clone() };
        if after == before || *after == switched_off {
            return Ok(());
        }
    }
    check_trust(asked, after)?;
    let shown = |rule: &ClaimRule| before.and_then(|before| rule.of_client(before));
    check_claims(asked, realm, ("client", &after.id), |rule| shown(rule) != rule.of_client(after))?;
    Holder::client(asked, realm, after).check(asked)
}

/// Who makes a client, or can be it, acts for its users by it. One that does so without asking them,
/// or that learns about or goes on with tokens that were not issued to it, takes a permit of its own.
fn check_trust(asked: &Call, client: &Client) -> Result<(), Problem> {
    let exchanges = client.allows(GrantType::TokenExchange) && !client.serves.is_empty();
    match client.trusted || client.may_introspect || exchanges {
        true => asked.also(Area::Trust, "PUT", &[("client", &client.id)]),
        false => Ok(()),
    }
}

/// What is not shown is not taken away by writing back what was shown.
pub fn keep_secret(client: &mut Client, before: &Client) {
    if let ClientAuthentication::Secret { hashes } = &mut client.authentication
        && let ClientAuthentication::Secret { hashes: known } = &before.authentication
        && hashes.is_empty()
    {
        hashes.clone_from(known);
    }
}

/// `DELETE …/clients/{client}`
pub async fn remove(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let (client, _) = find(asked, &realm).await?;
    check_undeclared(&client)?;
    match realm.remove_client(&client.id, asked.expect()).await? {
        Written::Done => Ok(Reply::done()),
        Written::Conflict => Err(Problem::changed()),
    }
}

/// `POST …/clients/{client}/secret`
pub async fn make_secret(asked: &Call) -> Result<Reply, Problem> {
    let realm = asked.realm()?;
    let wanted: NewSecret = asked.body()?;
    let (mut client, version) = find(asked, &realm).await?;
    check_undeclared(&client)?;
    check_trust(asked, &client)?;
    Holder::client(asked, &realm, &client).check(asked)?;
    let mut bytes = [0; SECRET_BYTES];
    asked.state.random.fill(&mut bytes).map_err(|_| Problem::random())?;
    let secret = ::keys::encoding::encode_base64url(&bytes);
    let hash = Client::secret_hash(&secret)?;
    let ClientAuthentication::Secret { hashes } = &mut client.authentication else {
        return Err(Problem::conflict(format!("client {:?} does not authenticate by a secret", client.id)));
    };
    hashes.truncate(usize::from(wanted.keep_previous));
    hashes.insert(0, hash);
    match realm.write_client(&client, Expect::Version(version)).await? {
        Written::Done => Reply::ok(&Made { secret: Some(secret) }),
        Written::Conflict => Err(Problem::conflict("others changed the client at the same time; try again")),
    }
}
