//! The table of operations: it makes the router, the document and what policies may name.

use std::pin::Pin;

use axum::http::Method;
use schemars::{Schema, SchemaGenerator};

use super::problem::Problem;
use super::resource::{
    ApiKeyOut, AuthorityOut, ClientOut, CreatedApiKey, EvictedOut, FactorIn, FactorOut, GrantOut, GroupOut,
    KeyOut, Made, NewApiKeyIn, NewAuthority, NewRevocation, NewSecret, NewToken, Page, PartnerOut,
    PasswordIn, RealmOut, RevocationOut, RoleOut, Rotate, SessionOut, SignedOut, TokenOut, UserIn, UserOut,
    WorkloadOut, api_keys, authorities, clients, keys, nodes, partners, realms, revocations, sessions, users,
    workloads,
};
use super::serve::{Call, Reply};
use crate::config::{Area, NewWorkload};

/// What an operation gives.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send + 'a>>;
/// What an operation does.
pub type Run = for<'a> fn(&'a Call) -> Answering<'a>;
/// How a type is described.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its JSON type: `string`, `integer`, `boolean`.
    pub kind: &'static str,
}

/// One operation.
pub struct Operation {
    /// The method: `GET` reads, all others write.
    pub method: Method,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// What it belongs to: what policies allow.
    pub area: Area,
    /// Its name in the document.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What the query may say.
    pub queries: &'static [Query],
    /// The body that it takes.
    pub takes: Option<Describe>,
    /// The status when done, and the body that it gives.
    pub gives: (u16, Option<Describe>),
    /// Whether it takes `If-Match` and `If-None-Match`.
    pub conditional: bool,
    /// What it does.
    pub run: Run,
}

const LIMIT: Query = Query { name: "limit", about: "Most items of a page: 1 to 1000; 100.", kind: "integer" };
const CURSOR: Query =
    Query { name: "cursor", about: "Where to go on: `next` of the page before.", kind: "string" };
const fn text(name: &'static str, about: &'static str) -> Query {
    Query { name, about, kind: "string" }
}
const USERS: &[Query] = &[
    LIMIT,
    CURSOR,
    text("username", "Only the user of this name, without case."),
    text("email", "Only users with this e-mail address, without case."),
    text("role", "Only users with this role."),
    text("group", "Only users in this group."),
];
const DRY_RUN: Query = Query {
    name: "dry_run",
    about: "Judges the call, and changes nothing: what would be refused is, and the rest answered as if it were done.",
    kind: "boolean",
};
const ANY_ROLE: &[Query] = &[
    Query {
        name: "any_role",
        about: "Takes roles that the configuration does not declare; policies know no such role.",
        kind: "boolean",
    },
    DRY_RUN,
];
const JUDGED: &[Query] = &[DRY_RUN];
const HASH: Query = Query {
    name: "hashes",
    about: "With the hashes of secrets, for an export: who may not read those (`administration:hashes`) may not say this.",
    kind: "boolean",
};
const HASHES: &[Query] = &[HASH];
const CLIENTS: &[Query] = &[LIMIT, CURSOR, HASH];
const WHY: &[Query] = &[text("why", "What moved you, for the audit log: one line.")];
const NONE: &[Query] = &[];

fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! operation {
    ($method:ident $path:literal, $area:ident, $name:literal, $about:literal, $queries:expr,
     $takes:expr, $status:literal $gives:expr, $conditional:literal, $run:path) => {
        Operation {
            method: Method::$method,
            path: $path,
            area: Area::$area,
            name: $name,
            about: $about,
            queries: $queries,
            takes: $takes,
            gives: ($status, $gives),
            conditional: $conditional,
            run: |asked| Box::pin($run(asked)),
        }
    };
}

/// Every operation.
#[rustfmt::skip]
pub static OPERATIONS: &[Operation] = &[
    operation!(GET "/v1/realms", Realms, "listRealms", "Lists the realms.",
        NONE, None, 200 Some(of::<Page<RealmOut>>), false, realms::list),
    operation!(GET "/v1/realms/{realm}", Realms, "getRealm", "Shows the settings of a realm.",
        NONE, None, 200 Some(of::<RealmOut>), false, realms::get),
    operation!(GET "/v1/realms/{realm}/settings", Realms, "getSettings", "Shows the settings of a realm that were changed over this API.",
        NONE, None, 200 Some(of::<identity::SettingsChange>), false, realms::settings),
    operation!(PUT "/v1/realms/{realm}/settings", Realms, "changeSettings", "Changes settings of a realm: what is left out is as configured. What the configuration writes is changed there.",
        JUDGED, Some(of::<identity::SettingsChange>), 200 Some(of::<identity::SettingsChange>), true, realms::change_settings),
    operation!(GET "/v1/realms/{realm}/users", Users, "listUsers", "Lists the users.",
        USERS, None, 200 Some(of::<Page<UserOut>>), false, users::list),
    operation!(POST "/v1/realms/{realm}/users", Users, "addUser", "Adds a user, under an id that is made.",
        ANY_ROLE, Some(of::<UserIn>), 201 Some(of::<UserOut>), false, users::add),
    operation!(GET "/v1/realms/{realm}/users/{user}", Users, "getUser", "Shows a user.",
        NONE, None, 200 Some(of::<UserOut>), false, users::get),
    operation!(PUT "/v1/realms/{realm}/users/{user}", Users, "putUser", "Adds a user of this id, or replaces one. Switching one off ends their sessions, grants and tokens.",
        ANY_ROLE, Some(of::<UserIn>), 200 Some(of::<UserOut>), true, users::put),
    operation!(DELETE "/v1/realms/{realm}/users/{user}", Users, "removeUser", "Removes a user and all that is theirs.",
        NONE, None, 204 None, true, users::remove),
    operation!(PUT "/v1/realms/{realm}/users/{user}/password", Users, "setPassword", "Gives a user a password: the given one, the given hash, or one that is made. Ends their sessions, grants and tokens.",
        NONE, Some(of::<PasswordIn>), 200 Some(of::<Made>), false, users::set_password),
    operation!(GET "/v1/realms/{realm}/users/{user}/password", Hashes, "getPasswordHash", "Shows the hash of a user's password, for an export.",
        NONE, None, 200 Some(of::<PasswordIn>), false, users::password_hash),
    operation!(POST "/v1/realms/{realm}/users/{user}/verification", Users, "askVerification", "Sends a user a link by which they show that their e-mail address is theirs.",
        NONE, None, 204 None, false, users::ask_verification),
    operation!(GET "/v1/realms/{realm}/users/{user}/factors", Users, "listFactors", "Lists what a user enrolled beside their password.",
        NONE, None, 200 Some(of::<Page<FactorOut>>), false, users::factors),
    operation!(PUT "/v1/realms/{realm}/users/{user}/factors/{factor}", Users, "putFactor", "Gives a user an authenticator app that they have from elsewhere, under an id of your choice: the same again changes nothing.",
        NONE, Some(of::<FactorIn>), 204 None, false, users::put_factor),
    operation!(DELETE "/v1/realms/{realm}/users/{user}/factors/{factor}", Users, "removeFactor", "Removes a factor that a user lost; with the last one their recovery codes.",
        NONE, None, 204 None, false, users::remove_factor),
    operation!(PUT "/v1/realms/{realm}/users/{user}/roles/{role}", Roles, "grantRole", "Gives a user a role.",
        ANY_ROLE, None, 200 Some(of::<UserOut>), false, users::grant_role),
    operation!(DELETE "/v1/realms/{realm}/users/{user}/roles/{role}", Roles, "takeRole", "Takes a role from a user.",
        NONE, None, 200 Some(of::<UserOut>), false, users::take_role),
    operation!(PUT "/v1/realms/{realm}/users/{user}/groups/{group}", Groups, "joinGroup", "Puts a user into a group.",
        NONE, None, 200 Some(of::<UserOut>), false, users::join_group),
    operation!(DELETE "/v1/realms/{realm}/users/{user}/groups/{group}", Groups, "leaveGroup", "Takes a user out of a group.",
        NONE, None, 200 Some(of::<UserOut>), false, users::leave_group),
    operation!(GET "/v1/realms/{realm}/groups", Groups, "listGroups", "Lists the groups that somebody is in.",
        NONE, None, 200 Some(of::<Page<GroupOut>>), false, users::groups),
    operation!(GET "/v1/roles", Roles, "listRoles", "Lists the roles that the configuration declares.",
        NONE, None, 200 Some(of::<Page<RoleOut>>), false, realms::roles),
    operation!(GET "/v1/realms/{realm}/users/{user}/sessions", Sessions, "listSessions", "Lists the sessions of a user.",
        NONE, None, 200 Some(of::<Page<SessionOut>>), false, sessions::list),
    operation!(DELETE "/v1/realms/{realm}/users/{user}/sessions", Sessions, "signOut", "Ends everything that a user began: sessions, grants and tokens, at the gateways too.",
        NONE, None, 200 Some(of::<SignedOut>), false, sessions::sign_out),
    operation!(DELETE "/v1/realms/{realm}/sessions/{session}", Sessions, "endSession", "Ends a session and its tokens.",
        NONE, None, 204 None, false, sessions::end),
    operation!(GET "/v1/realms/{realm}/users/{user}/grants", Sessions, "listGrants", "Lists what a user allowed clients.",
        NONE, None, 200 Some(of::<Page<GrantOut>>), false, sessions::grants),
    operation!(DELETE "/v1/realms/{realm}/grants/{grant}", Sessions, "endGrant", "Ends a grant and its tokens.",
        NONE, None, 204 None, false, sessions::end_grant),
    operation!(GET "/v1/realms/{realm}/clients", Clients, "listClients", "Lists the clients.",
        CLIENTS, None, 200 Some(of::<Page<ClientOut>>), false, clients::list),
    operation!(GET "/v1/realms/{realm}/clients/{client}", Clients, "getClient", "Shows a client.",
        HASHES, None, 200 Some(of::<ClientOut>), false, clients::get),
    operation!(PUT "/v1/realms/{realm}/clients/{client}", Clients, "putClient", "Adds a client of this id, or replaces one. A secret's hashes that are left out stay.",
        JUDGED, Some(of::<identity::Client>), 200 Some(of::<ClientOut>), true, clients::put),
    operation!(DELETE "/v1/realms/{realm}/clients/{client}", Clients, "removeClient", "Removes a client.",
        NONE, None, 204 None, true, clients::remove),
    operation!(POST "/v1/realms/{realm}/clients/{client}/secret", Clients, "makeSecret", "Makes a secret for a client and shows it, this once.",
        NONE, Some(of::<NewSecret>), 200 Some(of::<Made>), false, clients::make_secret),
    operation!(GET "/v1/realms/{realm}/keys", Keys, "listKeys", "Lists the signing keys, without what signs.",
        NONE, None, 200 Some(of::<Page<KeyOut>>), false, keys::list),
    operation!(POST "/v1/realms/{realm}/keys/rotate", Keys, "rotateKeys", "Ends the signing of every key now and makes others.",
        NONE, Some(of::<Rotate>), 200 Some(of::<Page<KeyOut>>), false, keys::rotate),
    operation!(GET "/v1/api-keys", ApiKeys, "listApiKeys", "Lists the API keys of the gateway.",
        NONE, None, 200 Some(of::<Page<ApiKeyOut>>), false, api_keys::list),
    operation!(POST "/v1/api-keys", ApiKeys, "makeApiKey", "Makes an API key and shows it, this once.",
        NONE, Some(of::<NewApiKeyIn>), 201 Some(of::<CreatedApiKey>), false, api_keys::make),
    operation!(DELETE "/v1/api-keys/{key}", ApiKeys, "revokeApiKey", "Revokes an API key.",
        NONE, None, 204 None, false, api_keys::revoke),
    operation!(GET "/v1/revocations", Revocations, "listRevocations", "Lists what the gateway's own list and the mesh revoke.",
        NONE, None, 200 Some(of::<Page<RevocationOut>>), false, revocations::list),
    operation!(POST "/v1/revocations", Revocations, "revoke", "Revokes a token, a grant, a session, or everything that a subject was issued; in the mesh, a certificate or a workload.",
        WHY, Some(of::<NewRevocation>), 201 Some(of::<RevocationOut>), false, revocations::revoke),
    operation!(DELETE "/v1/revocations/{name}", Revocations, "undoRevocation", "Takes the revocations of this name back.",
        WHY, None, 204 None, false, revocations::undo),
    operation!(GET "/v1/workloads", Workloads, "listWorkloads", "Lists the workloads of the mesh: those of the configuration, and those that were registered.",
        NONE, None, 200 Some(of::<Page<WorkloadOut>>), false, workloads::list),
    operation!(GET "/v1/workloads/{workload}", Workloads, "getWorkload", "Shows a workload.",
        NONE, None, 200 Some(of::<WorkloadOut>), false, workloads::get),
    operation!(PUT "/v1/workloads/{workload}", Workloads, "putWorkload", "Registers a workload of this name, or redefines which processes it is. It takes effect at once; its SPIFFE ID stays.",
        NONE, Some(of::<NewWorkload>), 200 Some(of::<WorkloadOut>), true, workloads::put),
    operation!(DELETE "/v1/workloads/{workload}", Workloads, "removeWorkload", "Removes a registered workload: its processes get nothing more, and what they have is revoked unless others are of the same SPIFFE ID.",
        NONE, None, 204 None, true, workloads::remove),
    operation!(PUT "/v1/nodes/{node}/eviction", Nodes, "evictNode", "Takes a node's attestation back and keeps it out, whatever it shows. The certificates that were issued on it are revoked; tokens stay good until they end.",
        WHY, None, 200 Some(of::<EvictedOut>), false, nodes::evict),
    operation!(DELETE "/v1/nodes/{node}/eviction", Nodes, "admitNode", "Lets a node come again that was evicted.",
        WHY, None, 204 None, false, nodes::admit),
    operation!(POST "/v1/nodes/{node}/token", Nodes, "makeJoinToken", "Makes a token with which a node of this name may join, once, and shows it, this once. An evicted one may come again.",
        WHY, Some(of::<NewToken>), 200 Some(of::<TokenOut>), false, nodes::token),
    operation!(GET "/v1/authorities", Authorities, "listAuthorities", "Lists the authorities of the mesh, without what signs.",
        NONE, None, 200 Some(of::<Page<AuthorityOut>>), false, authorities::list),
    operation!(POST "/v1/authorities", Authorities, "prepareAuthority", "Makes another authority of the mesh: trusted at once, it signs when its turn comes. Shows all of them.",
        WHY, Some(of::<NewAuthority>), 200 Some(of::<Page<AuthorityOut>>), false, authorities::prepare),
    operation!(POST "/v1/authorities/{authority}/activate", Authorities, "activateAuthority", "Lets a prepared authority sign from now on.",
        WHY, None, 200 Some(of::<Page<AuthorityOut>>), false, authorities::activate),
    operation!(POST "/v1/authorities/{authority}/taint", Authorities, "taintAuthority", "Stops an authority from signing; what it signed is replaced at once.",
        WHY, None, 200 Some(of::<Page<AuthorityOut>>), false, authorities::taint),
    operation!(POST "/v1/authorities/{authority}/revoke", Authorities, "revokeAuthority", "Removes a tainted authority from the bundle: what it signed is no longer valid.",
        WHY, None, 200 Some(of::<Page<AuthorityOut>>), false, authorities::revoke),
    operation!(GET "/v1/partners", Authorities, "listPartners", "Lists the trust domains that the mesh federates with, and how current their bundles are.",
        NONE, None, 200 Some(of::<Page<PartnerOut>>), false, partners::list),
    operation!(GET "/v1/openapi.json", Realms, "getDocument", "This document.",
        NONE, None, 200 None, false, realms::document),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_contradicts_itself_nowhere() {
        let mut names = BTreeSet::new();
        let mut places = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(names.insert(operation.name), "{}", operation.name);
            assert!(places.insert((operation.path, operation.method.to_string())), "{}", operation.name);
            assert!(operation.path.starts_with("/v1/"));
            assert_eq!(
                operation.gives.0 == 204,
                operation.gives.1.is_none() && operation.name != "getDocument"
            );
            let parameters = super::super::serve::parameters(operation.path);
            for parameter in parameters {
                assert!(Area::PARAMETERS.contains(&parameter), "{parameter}: policies cannot read it");
            }
            assert!(!operation.conditional || operation.method != Method::GET);
        }
    }
}
