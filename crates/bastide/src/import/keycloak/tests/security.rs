//! What protected somebody in Keycloak: it is taken, or closes what it protected, and is said.

use super::*;

/// What comes of a realm with these members.
struct Import {
    findings: Vec<Finding>,
    records: Value,
    yaml: String,
}

fn import_of(members: Value) -> Import {
    let mut realm = json!({ "realm": "shop", "enabled": true, "clients": [] });
    realm.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let imported = import(&[realm.to_string()], &wanted()).unwrap();
    let text = |place: usize| String::from_utf8(imported.files[place].bytes.clone()).unwrap();
    let (yaml, records) = (text(0), serde_json::from_str(&text(1)).unwrap());
    Import { findings: imported.findings, records, yaml }
}

impl Import {
    fn user(&self, name: &str) -> &Value {
        &self.records["users"][name]
    }

    fn client(&self, id: &str) -> &Value {
        &self.records["clients"][id]
    }

    /// What is said of a thing, and how it ended.
    fn said(&self, what: &str) -> (Outcome, &str) {
        let found = self.findings.iter().find(|finding| finding.what == what);
        let found = found.unwrap_or_else(|| panic!("{what}: {:#?}", self.findings));
        (found.outcome, &found.note)
    }

    /// What people of each role have to reach.
    fn factor_roles(&self) -> Value {
        json!(loaded(&self.yaml).realms[0].settings.factors.roles)
    }
}

fn names(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn roles_that_would_be_called_the_same_stay_apart() {
    let role = |name: &str| json!({ "name": name });
    let found = import_of(json!({
        "roles": {
            "realm": [role("a.b"), role("plain"), { "name": "both", "composites": { "realm": ["a.b"], "client": { "a": ["b"] } } }],
            "client": {
                "a": [role("b"), role("c.d"), role("free")],
                "a.c": [role("d")],
                "x": [role("y.z"), role("y:z")],
                "x.y": [role("z")],
                "x:y": [role("z")],
            },
        },
        "groups": [{ "name": "realm", "realmRoles": ["a.b"] }, { "name": "client", "clientRoles": { "a": ["b"] } }],
        "users": [
            { "username": "of-realm", "realmRoles": ["a.b"] },
            { "username": "of-client", "clientRoles": { "a": ["b"] } },
            { "username": "of-groups", "groups": ["/client"] },
            { "username": "of-both", "realmRoles": ["both"] },
            { "username": "of-two", "clientRoles": { "a": ["c.d"], "a.c": [] } },
            { "username": "of-other", "clientRoles": { "a.c": ["d"] } },
            { "username": "of-free", "clientRoles": { "a": ["free"] } },
            // A role that is not there is nobody's, whatever another one is called.
            { "username": "of-none", "realmRoles": ["a.free", "a:b"] },
        ],
    }));
    for (name, roles) in [
        ("of-realm", &["a.b"][..]),
        ("of-client", &["a:b"]),
        ("of-groups", &["a:b"]),
        ("of-both", &["both"]),
        ("of-two", &["a:c.d"]),
        ("of-other", &["a.c:d"]),
        ("of-free", &["a.free"]),
        ("of-none", &[]),
    ] {
        assert_eq!(names(&found.user(name)["roles"]), roles, "{name}");
    }
    let loaded = loaded(&found.yaml);
    let both = loaded.roles.iter().find(|role| role.name == "both").unwrap();
    assert_eq!(both.includes, ["a.b", "a:b"]);
    let (outcome, note) = found.said("role \"b\" of client \"a\"");
    assert_eq!(outcome, Outcome::Changed);
    assert!(note.contains("\"a.b\"") && note.contains("\"a:b\""), "{note}");
    for what in ["role \"c.d\" of client \"a\"", "role \"d\" of client \"a.c\""] {
        assert_eq!(found.said(what).0, Outcome::Changed, "{what}");
    }
    // What they would be called instead is another's name too.
    for what in ["role \"y.z\" of client \"x\"", "role \"z\" of client \"x.y\""] {
        assert_eq!(found.said(what).0, Outcome::Dropped, "{what}");
    }
    assert_eq!(found.said("role \"a.free\"").0, Outcome::Translated);
}

#[test]
fn a_role_that_no_name_is_left_for_is_nobodys() {
    let found = import_of(json!({
        "roles": {
            "realm": [{ "name": "a.b" }, { "name": "a:b" }],
            "client": { "a": [{ "name": "b" }] },
        },
        "users": [
            { "username": "alice", "clientRoles": { "a": ["b"] } },
            { "username": "bob", "realmRoles": ["a.b", "a:b"] },
        ],
    }));
    assert_eq!(names(&found.user("alice")["roles"]), [""; 0]);
    assert_eq!(names(&found.user("bob")["roles"]), ["a.b", "a:b"]);
    let (outcome, note) = found.said("role \"b\" of client \"a\"");
    assert!(outcome == Outcome::Dropped && note.contains("nobody has it"), "{note}");
}

#[test]
fn a_group_that_is_called_like_a_role_is_said() {
    let found = import_of(json!({
        "roles": { "realm": [{ "name": "admin" }] },
        "groups": [{ "name": "admin", "subGroups": [{ "name": "admin" }] }],
    }));
    assert_eq!(found.said("name of group \"/admin\"").0, Outcome::Changed);
    assert!(
        found
            .findings
            .iter()
            .all(|finding| !finding.what.contains("/admin/admin\"") || finding.outcome != Outcome::Changed)
    );
}

fn otp(secret: &str, about: Value) -> Value {
    let mut data =
        json!({ "subType": "totp", "digits": 6, "counter": 0, "period": 30, "algorithm": "HmacSHA1" });
    data.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
    json!({
        "type": "otp", "id": "c1", "userLabel": "phone",
        "secretData": json!({ "value": secret }).to_string(), "credentialData": data.to_string(),
    })
}

fn password() -> Value {
    json!({ "type": "password", "value": "correct horse" })
}

const LETTERS: &str = "dJRKNqYWzm4WbPVkpGmT";

#[test]
fn apps_come_with_their_secrets_where_they_compute_what_is_computed_here() {
    for (secret, about, base32) in [
        (LETTERS, json!({}), "MRFFES2OOFMVO6TNGRLWEUCWNNYEO3KU"),
        (
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            json!({ "secretEncoding": "BASE32" }),
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        ),
    ] {
        let found = import_of(
            json!({ "users": [{ "username": "alice", "totp": true, "credentials": [password(), otp(secret, about)] }] }),
        );
        let alice = found.user("alice");
        assert_eq!(alice["totp"], json!([{ "id": "c1", "name": "phone", "secret": base32 }]));
        assert_eq!((&alice["disabled"], names(&alice["roles"]).len()), (&json!(false), 0));
        assert!(alice["password_hash"].is_string());
        assert_eq!(found.said("credential \"otp\" of user \"alice\"").0, Outcome::Translated);
        let report = format!("{:?}", found.findings);
        assert!(!report.contains(secret) && !report.contains(base32), "{report}");
    }
}

#[test]
fn who_loses_their_second_factor_does_not_get_in_by_a_password_alone() {
    let other = |kind: &str| json!({ "type": kind, "secretData": "{}", "credentialData": "{}" });
    let lost = [
        ("sha256", otp(LETTERS, json!({ "algorithm": "HmacSHA256" }))),
        ("eight", otp(LETTERS, json!({ "digits": 8 }))),
        ("minute", otp(LETTERS, json!({ "period": 60 }))),
        ("counted", otp(LETTERS, json!({ "subType": "hotp" }))),
        ("short", otp("fifteen-letters", json!({}))),
        ("encoded", otp(LETTERS, json!({ "secretEncoding": "ROT13" }))),
        ("not-base32", otp("11111111111111111111111111", json!({ "secretEncoding": "BASE32" }))),
        ("bare", other("otp")),
        ("key", other("webauthn")),
        ("passkey", other("webauthn-passwordless")),
        ("old", other("totp")),
        ("foreign", other("sms-code")),
    ];
    let mut users: Vec<Value> = lost
        .iter()
        .map(|(name, credential)| json!({ "username": name, "credentials": [password(), credential] }))
        .collect();
    users.push(json!({ "username": "unsaid", "totp": true, "credentials": [password()] }));
    users.push(
        json!({ "username": "two", "credentials": [password(), other("webauthn"), otp(LETTERS, json!({}))] }),
    );
    users.push(json!({ "username": "plain", "totp": false, "credentials": [password(), other("recovery-authn-codes")] }));
    let found = import_of(json!({ "users": users }));
    for name in lost.iter().map(|(name, _)| *name).chain(["unsaid"]) {
        let user = found.user(name);
        assert_eq!(user["disabled"], true, "{name}");
        // And once they are switched on they are asked for one.
        assert_eq!(names(&user["roles"]), ["second-factor"], "{name}");
        let (outcome, note) = found.said(&format!("user {name:?}"));
        assert!(outcome == Outcome::Closed && note.contains("bastide user enable"), "{name}: {note}");
    }
    for name in ["two", "plain"] {
        let user = found.user(name);
        assert_eq!((&user["disabled"], names(&user["roles"]).len()), (&json!(false), 0), "{name}");
        assert_eq!(found.said(&format!("user {name:?}")).0, Outcome::Translated);
    }
    assert_eq!(found.said("credential \"webauthn\" of user \"two\"").0, Outcome::Dropped);
    assert_eq!(found.factor_roles(), json!({ "second-factor": "2" }));
}

#[test]
fn the_role_for_a_second_factor_is_nobody_elses() {
    let found = import_of(json!({
        "roles": { "realm": [{ "name": "second-factor" }] },
        "users": [
            { "username": "alice", "requiredActions": ["CONFIGURE_TOTP"] },
            { "username": "bob", "realmRoles": ["second-factor"] },
        ],
    }));
    assert_eq!(names(&found.user("alice")["roles"]), ["second-factor-"]);
    assert_eq!(names(&found.user("bob")["roles"]), ["second-factor"]);
    assert_eq!(found.factor_roles(), json!({ "second-factor-": "2" }));
}

#[test]
fn what_somebody_had_to_do_first_is_asked_of_them_or_keeps_them_out() {
    let user = |name: &str, more: Value| {
        let mut user = json!({ "username": name, "email": format!("{name}@example.org"), "emailVerified": true, "credentials": [password()] });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    let users = json!([
        user("update", json!({ "requiredActions": ["UPDATE_PASSWORD"] })),
        user(
            "temporary",
            json!({ "credentials": [{ "type": "password", "value": "correct horse", "temporary": true }] })
        ),
        user("verify", json!({ "emailVerified": false, "requiredActions": ["VERIFY_EMAIL"] })),
        user("verified", json!({ "requiredActions": ["VERIFY_EMAIL"] })),
        user("enrol", json!({ "requiredActions": ["CONFIGURE_TOTP"] })),
        user("enrol-key", json!({ "requiredActions": ["webauthn-register"] })),
        user("profile", json!({ "requiredActions": ["UPDATE_PROFILE", "update_user_locale"] })),
        user("unknown", json!({ "requiredActions": ["sign-the-contract"] })),
        user("off", json!({ "enabled": false })),
        user("unverified", json!({ "emailVerified": false })),
    ]);
    let found = import_of(json!({ "users": users.clone() }));
    for (name, has_password, is_off, roles) in [
        ("update", false, false, &[][..]),
        ("temporary", false, false, &[]),
        ("verify", false, false, &[]),
        ("verified", true, false, &[]),
        ("enrol", true, false, &["second-factor"]),
        ("enrol-key", true, false, &["second-factor"]),
        ("profile", true, false, &[]),
        ("unknown", true, true, &[]),
        ("off", true, true, &[]),
        ("unverified", true, false, &[]),
    ] {
        let user = found.user(name);
        assert_eq!(user["password_hash"].is_string(), has_password, "{name}");
        assert_eq!((&user["disabled"], names(&user["roles"])), (&json!(is_off), roles.to_vec()), "{name}");
    }
    for name in ["update", "temporary", "verify"] {
        let (outcome, note) = found.said(&format!("password of user {name:?}"));
        assert!(outcome == Outcome::Closed && note.contains("--invite"), "{name}: {note}");
    }
    assert_eq!(found.said("user \"unknown\"").0, Outcome::Closed);
    assert_eq!(found.said("user \"off\""), (Outcome::Translated, "a user, switched off"));
    assert_eq!(found.said("required action UPDATE_PROFILE of user \"profile\"").0, Outcome::Dropped);
    // A realm in which an address is shown first.
    let found = import_of(json!({ "verifyEmail": true, "users": users }));
    let taken = |name: &str| found.user(name)["password_hash"].is_string();
    assert!(!taken("unverified") && !taken("verify") && taken("verified") && taken("off"));
    assert_eq!(found.said("verifyEmail").0, Outcome::Changed);
    // And one that was switched off, or lets nobody choose another password by mail.
    let found = import_of(json!({
        "enabled": false, "resetPasswordAllowed": false, "notBefore": 1_700_000_000,
        "users": [{ "username": "alice", "notBefore": 1_700_000_000 }],
        "clients": [{ "clientId": "web", "publicClient": true, "redirectUris": ["https://app.example/cb"], "notBefore": 7 }],
    }));
    assert_eq!(
        (&found.user("alice")["disabled"], &found.client("web")["disabled"]),
        (&json!(true), &json!(true))
    );
    for (what, outcome) in [
        ("realm", Outcome::Closed),
        ("resetPasswordAllowed", Outcome::Changed),
        ("`notBefore`", Outcome::Translated),
        ("`notBefore` of user \"alice\"", Outcome::Translated),
        ("`notBefore` of client \"web\"", Outcome::Translated),
    ] {
        assert_eq!(found.said(what).0, outcome, "{what}");
    }
}

#[test]
fn an_address_that_several_have_verified_is_nobodys_until_it_is_shown() {
    let user = |name: &str, email: &str, verified: bool| json!({ "username": name, "email": email, "emailVerified": verified });
    let found = import_of(json!({
        "duplicateEmailsAllowed": true,
        "users": [
            user("one", "both@example.org", true),
            user("other", "Both@Example.org", true),
            user("alone", "alone@example.org", true),
            user("claims", "alone@example.org", false),
        ],
    }));
    let is_verified = |name: &str| found.user(name)["email_verified"] == json!(true);
    assert!(!is_verified("one") && !is_verified("other") && is_verified("alone") && !is_verified("claims"));
    assert_eq!(found.said("e-mail address of user \"one\"").0, Outcome::Changed);
}

#[test]
fn a_service_account_that_was_switched_off_gets_no_tokens() {
    let client = |id: &str| json!({ "clientId": id, "secret": "yWl8cXt3aHbq0SxVQm7dZ5uKp2Rf9TnE", "serviceAccountsEnabled": true, "standardFlowEnabled": false });
    let account = |of: &str, enabled: bool| json!({ "username": format!("service-account-{of}"), "serviceAccountClientId": of, "enabled": enabled });
    let found = import_of(json!({
        "clients": [client("on"), client("off")],
        "users": [account("on", true), account("off", false)],
    }));
    assert_eq!(found.client("on")["grant_types"], json!(["client_credentials"]));
    assert_eq!(found.client("off")["grant_types"], json!([]));
    assert_eq!(found.said("client_credentials of client \"off\"").0, Outcome::Closed);
}

/// The browser flow of Keycloak, and what stands in its forms.
fn flows(forms: Value) -> Value {
    json!([
        { "id": "f0", "alias": "browser", "topLevel": true, "authenticationExecutions": [
            { "authenticator": "auth-cookie", "requirement": "ALTERNATIVE", "authenticatorFlow": false },
            { "authenticator": "auth-spnego", "requirement": "DISABLED", "authenticatorFlow": false },
            { "authenticator": "identity-provider-redirector", "requirement": "ALTERNATIVE", "authenticatorFlow": false },
            { "flowAlias": "Organization", "requirement": "ALTERNATIVE", "authenticatorFlow": true },
            { "flowAlias": "forms", "requirement": "ALTERNATIVE", "authenticatorFlow": true },
        ] },
        { "id": "f1", "alias": "forms", "authenticationExecutions": forms },
        { "id": "f2", "alias": "Organization", "authenticationExecutions": [
            { "flowAlias": "Conditional Organization", "requirement": "CONDITIONAL", "authenticatorFlow": true },
        ] },
        { "id": "f3", "alias": "Conditional Organization", "authenticationExecutions": [
            { "authenticator": "conditional-user-configured", "requirement": "REQUIRED" },
            { "authenticator": "organization", "requirement": "ALTERNATIVE" },
        ] },
        { "id": "f4", "alias": "Conditional OTP", "authenticationExecutions": [
            { "authenticator": "conditional-user-configured", "requirement": "REQUIRED" },
            { "authenticator": "auth-otp-form", "requirement": "ALTERNATIVE" },
        ] },
        { "id": "f5", "alias": "Of a role", "authenticationExecutions": [
            { "authenticator": "conditional-user-role", "requirement": "REQUIRED", "authenticatorConfig": "role" },
            { "authenticator": "auth-otp-form", "requirement": "REQUIRED" },
        ] },
        { "id": "f6", "alias": "Level 1", "authenticationExecutions": [
            { "authenticator": "conditional-level-of-authentication", "requirement": "REQUIRED", "authenticatorConfig": "one" },
            { "authenticator": "auth-username-password-form", "requirement": "REQUIRED" },
        ] },
        { "id": "f7", "alias": "Level 2", "authenticationExecutions": [
            { "authenticator": "conditional-level-of-authentication", "requirement": "REQUIRED", "authenticatorConfig": "two" },
            { "authenticator": "auth-otp-form", "requirement": "REQUIRED" },
        ] },
        { "id": "f8", "alias": "strong", "topLevel": true, "authenticationExecutions": [
            { "authenticator": "auth-username-password-form", "requirement": "REQUIRED" },
            { "authenticator": "auth-otp-form", "requirement": "REQUIRED" },
        ] },
        { "id": "f9", "alias": "weak", "topLevel": true, "authenticationExecutions": [
            { "authenticator": "auth-username-password-form", "requirement": "REQUIRED" },
            { "authenticator": "auth-otp-form", "requirement": "DISABLED" },
        ] },
        { "id": "f10", "alias": "foreign", "topLevel": true, "authenticationExecutions": [
            { "authenticator": "auth-username-password-form", "requirement": "REQUIRED" },
            { "authenticator": "sms-authenticator", "requirement": "REQUIRED" },
        ] },
        { "id": "f11", "alias": "By place", "authenticationExecutions": [
            { "authenticator": "conditional-client-scope", "requirement": "REQUIRED" },
            { "authenticator": "auth-otp-form", "requirement": "REQUIRED" },
        ] },
        { "id": "f13", "alias": "by role", "topLevel": true, "authenticationExecutions": [
            { "authenticator": "auth-username-password-form", "requirement": "REQUIRED" },
            { "flowAlias": "Of a role", "requirement": "CONDITIONAL" },
        ] },
        { "id": "f14", "alias": "Conditional SMS", "authenticationExecutions": [
            { "authenticator": "conditional-user-configured", "requirement": "REQUIRED" },
            { "authenticator": "sms-authenticator", "requirement": "REQUIRED" },
        ] },
        { "id": "f15", "alias": "Conditional OTP or SMS", "authenticationExecutions": [
            { "authenticator": "conditional-user-configured", "requirement": "REQUIRED" },
            { "authenticator": "auth-otp-form", "requirement": "ALTERNATIVE" },
            { "authenticator": "sms-authenticator", "requirement": "ALTERNATIVE" },
            { "authenticator": "email-authenticator", "requirement": "DISABLED" },
        ] },
        { "id": "f12", "alias": "round", "authenticationExecutions": [ { "flowAlias": "round", "requirement": "REQUIRED" } ] },
    ])
}

fn step(authenticator: &str) -> Value {
    json!({ "authenticator": authenticator, "requirement": "REQUIRED" })
}

fn sub_flow(alias: &str, requirement: &str) -> Value {
    json!({ "flowAlias": alias, "requirement": requirement, "authenticatorFlow": true })
}

fn web(more: Value) -> Value {
    let mut web =
        json!({ "clientId": "web", "publicClient": true, "redirectUris": ["https://app.example/cb"] });
    web.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    web
}

fn with_forms(forms: Value, client: Value) -> Import {
    import_of(json!({
        "browserFlow": "browser",
        "authenticationFlows": flows(forms),
        "authenticatorConfig": [
            { "alias": "role", "config": { "condUserRole": "api.admin", "negate": "false" } },
            { "alias": "one", "config": { "loa-condition-level": "1" } },
            { "alias": "two", "config": { "loa-condition-level": "2" } },
        ],
        "roles": {
            "realm": [{ "name": "boss", "composites": { "client": { "api": ["admin"] } } }, { "name": "clerk" }],
            "client": { "api": [{ "name": "admin" }] },
        },
        "attributes": { "acr.loa.map": "{\"silver\":\"1\",\"gold\":\"2\"}" },
        "clients": [client, { "clientId": "job", "secret": "yWl8cXt3aHbq0SxVQm7dZ5uKp2Rf9TnE", "standardFlowEnabled": false, "serviceAccountsEnabled": true }],
    }))
}

#[test]
fn a_second_factor_that_a_login_demands_is_demanded_here() {
    let login = "login of the realm";
    let name = || step("auth-username-password-form");
    for (forms, acr, is_off, roles) in [
        (json!([name()]), Value::Null, false, json!({})),
        (json!([name(), sub_flow("Conditional OTP", "CONDITIONAL")]), Value::Null, false, json!({})),
        (json!([name(), step("auth-otp-form")]), json!("2"), false, json!({})),
        (json!([name(), step("webauthn-authenticator")]), json!("2"), false, json!({})),
        (json!([name(), sub_flow("strong", "REQUIRED")]), json!("2"), false, json!({})),
        (json!([name(), step("auth-conditional-otp-form")]), json!("2"), false, json!({})),
        // Whoever has the role by another one has it.
        (
            json!([name(), sub_flow("Of a role", "CONDITIONAL")]),
            Value::Null,
            false,
            json!({ "api.admin": "2", "boss": "2" }),
        ),
        (
            json!([sub_flow("Level 1", "CONDITIONAL"), sub_flow("Level 2", "CONDITIONAL")]),
            Value::Null,
            false,
            json!({}),
        ),
        (json!([sub_flow("Level 2", "CONDITIONAL")]), json!("2"), false, json!({})),
        // One of two is the weaker of them; beside what is required, neither counts.
        (
            json!([sub_flow("weak", "ALTERNATIVE"), sub_flow("strong", "ALTERNATIVE")]),
            Value::Null,
            false,
            json!({}),
        ),
        (
            json!([sub_flow("strong", "ALTERNATIVE"), sub_flow("foreign", "ALTERNATIVE")]),
            json!("2"),
            false,
            json!({}),
        ),
        (
            json!([sub_flow("weak", "ALTERNATIVE"), sub_flow("strong", "REQUIRED")]),
            json!("2"),
            false,
            json!({}),
        ),
        // What nobody knows here is nobody's way in.
        (json!([name(), step("sms-authenticator")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("foreign", "REQUIRED")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("Conditional SMS", "CONDITIONAL")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("Conditional OTP or SMS", "CONDITIONAL")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("By place", "CONDITIONAL")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("nowhere", "REQUIRED")]), json!("2"), true, json!({})),
        (json!([name(), sub_flow("round", "REQUIRED")]), json!("2"), true, json!({})),
        (json!([step("auth-cookie")]), json!("2"), true, json!({})),
    ] {
        let found = with_forms(forms.clone(), web(json!({})));
        let client = found.client("web");
        assert_eq!((&client["acr"], &client["disabled"]), (&acr, &json!(is_off)), "{forms}");
        assert_eq!(found.factor_roles(), roles, "{forms}");
        let closed = found.findings.iter().any(|one| one.what == login && one.outcome == Outcome::Closed);
        assert_eq!(closed, is_off, "{forms}");
        assert!(found.findings.iter().any(|one| one.what == login), "{forms}");
        // Nobody logs in for this one.
        assert_eq!(
            (&found.client("job")["acr"], &found.client("job")["disabled"]),
            (&Value::Null, &json!(false))
        );
    }
}

#[test]
fn what_a_client_demands_of_a_login_is_demanded_here() {
    let overridden =
        |flow: &str| json!({ "authenticationFlowBindingOverrides": { "browser": flow, "direct_grant": "" } });
    let attributes = |name: &str, value: &str| json!({ "attributes": { name: value } });
    let levels = || json!([sub_flow("Level 1", "CONDITIONAL"), sub_flow("Level 2", "CONDITIONAL")]);
    let plain = || json!([step("auth-username-password-form")]);
    let strong = || json!([step("auth-username-password-form"), step("auth-otp-form")]);
    for (forms, client, acr, is_off, what, outcome) in [
        (plain(), overridden("f8"), json!("2"), false, "browser flow", Outcome::Translated),
        (plain(), overridden("strong"), json!("2"), false, "browser flow", Outcome::Translated),
        (strong(), overridden("f9"), Value::Null, false, "browser flow", Outcome::Translated),
        (plain(), overridden("f13"), json!("2"), false, "browser flow", Outcome::Changed),
        (plain(), overridden("f10"), json!("2"), true, "", Outcome::Closed),
        (plain(), overridden("gone"), json!("2"), true, "", Outcome::Closed),
        (
            levels(),
            attributes("minimum.acr.value", "gold"),
            json!("2"),
            false,
            "minimum.acr.value \"gold\"",
            Outcome::Translated,
        ),
        (
            levels(),
            attributes("minimum.acr.value", "2"),
            json!("2"),
            false,
            "minimum.acr.value \"2\"",
            Outcome::Translated,
        ),
        (
            levels(),
            attributes("minimum.acr.value", "silver"),
            Value::Null,
            false,
            "minimum.acr.value \"silver\"",
            Outcome::Translated,
        ),
        (levels(), attributes("minimum.acr.value", "3"), json!("2"), true, "", Outcome::Closed),
        (levels(), attributes("minimum.acr.value", "platinum"), json!("2"), true, "", Outcome::Closed),
        (plain(), attributes("minimum.acr.value", "2"), json!("2"), true, "", Outcome::Closed),
        (
            levels(),
            attributes("default.acr.values", "gold"),
            json!("2"),
            false,
            "default.acr.values \"gold\"",
            Outcome::Changed,
        ),
        (
            levels(),
            attributes("default.acr.values", "silver"),
            Value::Null,
            false,
            "default.acr.values \"silver\"",
            Outcome::Translated,
        ),
        (
            levels(),
            attributes("default.acr.values", "platinum"),
            Value::Null,
            false,
            "default.acr.values \"platinum\"",
            Outcome::Dropped,
        ),
        (
            levels(),
            attributes("acr.loa.map", "{\"top\":2}"),
            Value::Null,
            false,
            "acr.loa.map",
            Outcome::Dropped,
        ),
        (
            levels(),
            json!({ "attributes": { "acr.loa.map": "{\"top\":2}", "minimum.acr.value": "top" } }),
            json!("2"),
            false,
            "minimum.acr.value \"top\"",
            Outcome::Translated,
        ),
    ] {
        let found = with_forms(forms.clone(), web(client.clone()));
        let one = found.client("web");
        assert_eq!((&one["acr"], &one["disabled"]), (&acr, &json!(is_off)), "{client} {:#?}", found.findings);
        let what =
            if what.is_empty() { "client \"web\"".to_owned() } else { format!("{what} of client \"web\"") };
        assert_eq!(found.said(&what).0, outcome, "{client}");
    }
    let found =
        with_forms(plain(), web(json!({ "authenticationFlowBindingOverrides": { "direct_grant": "f8" } })));
    assert_eq!(found.said("direct_grant flow of client \"web\"").0, Outcome::Dropped);
    assert_eq!(found.said("acr.loa.map").0, Outcome::Dropped);
}

#[test]
fn what_new_people_were_asked_first_is_said() {
    let action =
        |alias: &str, default: bool| json!({ "alias": alias, "enabled": true, "defaultAction": default });
    let found = import_of(
        json!({ "requiredActions": [action("CONFIGURE_TOTP", true), action("UPDATE_PROFILE", false)] }),
    );
    assert_eq!(found.said("default action CONFIGURE_TOTP").0, Outcome::Dropped);
    assert!(found.findings.iter().all(|finding| !finding.what.contains("UPDATE_PROFILE")));
}
