//! `realms.NAME.factors`, and `acr` of a client.

use identity::claim::Source;

use super::{read_with, said_with};

fn around(realm: &str) -> String {
    format!(
        "listen: [ 127.0.0.1:0 ]
routes: [ {{ match: /**, to: identity, authenticate: none, allow: anyone }} ]
roles: {{ admin: {{}}, customer: {{}} }}
realms:
  town:
    issuer: https://id.example.org
{realm}"
    )
}

#[test]
fn who_is_asked_for_a_factor_is_what_it_says() {
    for (written, ask, roles, client) in [
        ("", true, &[][..], None),
        ("    factors: { ask: enrolled }\n", true, &[], None),
        ("    factors: { ask: needed, roles: { admin: \"2\" } }\n", false, &[("admin", "2")], None),
        (
            "    clients: { pay: { redirect_uris: [ https://pay.example.org/cb ], acr: \"2\" } }\n",
            true,
            &[],
            Some("2"),
        ),
    ] {
        let found = read_with(&around(written), &[]).unwrap();
        let realm = &found.realms[0];
        let roles: Vec<_> = roles.iter().map(|(role, class)| (role.to_string(), class.to_string())).collect();
        assert_eq!(realm.settings.factors.ask_enrolled, ask, "{written}");
        assert_eq!(realm.settings.factors.roles, roles.into_iter().collect(), "{written}");
        assert_eq!(realm.clients.first().and_then(|client| client.acr.as_deref()), client, "{written}");
    }
}

#[test]
fn scopes_are_named_in_the_order_in_which_they_are_written() {
    let found = read_with(&around("    scopes: { zebra: a, apple: b, middle: c }\n"), &[]).unwrap();
    assert_eq!(found.realms[0].settings.scope_order, ["zebra", "apple", "middle"]);
}

#[test]
fn a_slip_of_the_pen_asks_nobody_and_is_refused() {
    for (written, said) in [
        (
            "    factors: { roles: { admni: \"2\" } }\n",
            "bastide.yaml:7:25: unknown role \"admni\" (did you mean \"admin\"?)",
        ),
        (
            "    factors: { roles: { admin: \"3\" } }\n",
            "bastide.yaml:7:32: no class of authentication \"3\"; there are: 1, 2",
        ),
        (
            "    factors: { ask: always }\n",
            "bastide.yaml:7:21: unknown way of asking \"always\" (known: enrolled, needed)",
        ),
        (
            "    clients: { pay: { redirect_uris: [ https://pay.example.org/cb ], acr: gold } }\n",
            "bastide.yaml:7:16: client \"pay\": acr: no class of authentication \"gold\"; there are: 1, 2",
        ),
    ] {
        assert_eq!(said_with(&around(written), &[]), [said], "{written}");
    }
}

#[test]
fn a_mail_server_is_talked_to_by_tls_or_said_to_be_in_danger() {
    use crate::config::MailSecurity::{DangerNone, StartTls, Tls};
    let mail = |text: &str| format!("    mail: {{ from: town@example.org, {text} }}\n");
    for (written, port, security) in [
        ("server: Mail.example.org", 587, StartTls),
        ("server: \"mail.example.org:465\"", 465, Tls),
        ("server: \"mail.example.org:2525\"", 2525, StartTls),
        ("server: mail.example.org, tls: implicit", 465, Tls),
        ("server: \"mail.example.org:465\", tls: starttls", 465, StartTls),
        ("server: mail.example.org, danger_cleartext: true", 587, DangerNone),
    ] {
        let found = read_with(&around(&mail(written)), &[]).unwrap();
        let mail = found.realms[0].mail.as_ref().unwrap();
        assert_eq!((mail.host.as_str(), mail.port, mail.security), ("mail.example.org", port, security));
    }
    for (written, said) in [
        ("server: \"mail.example.org:0\"", "expected a host or host:port, such as mail.example.org:587"),
        ("server: \"mail example\"", "expected a host or host:port, such as mail.example.org:587"),
        ("server: m, tls: never", "unknown way of TLS \"never\""),
        (
            "server: m, danger_cleartext: true, tls: starttls",
            "`tls` cannot be combined with `danger_cleartext`",
        ),
        (
            "server: m, danger_cleartext: true, username: a, password: b",
            "`password` cannot be combined with `danger_cleartext`",
        ),
        ("server: m, username: town", "`username` and `password` belong together"),
        ("server: m, password: s3cret", "`username` and `password` belong together"),
    ] {
        let found = said_with(&around(&mail(written)), &[]);
        assert!(found.iter().any(|fault| fault.contains(said)), "{written}: {found:?}");
    }
    for from in ["town", "\"a@b.c, d@e.f\"", "\"Town\\r\\nBcc: eve@evil.example <town@example.org>\""] {
        let written = format!("    mail: {{ server: m, from: {from} }}\n");
        let found = said_with(&around(&written), &[]);
        assert!(found.iter().any(|fault| fault.contains("or a name and an address")), "{from}: {found:?}");
    }
}

#[test]
fn a_client_at_a_private_address_needs_its_realms_word() {
    let at = |uri: &str, disabled: bool, realm: &str| {
        let client = format!("redirect_uris: [ https://a.example/cb ], disabled: {disabled}");
        around(&format!("{realm}    clients: {{ a: {{ {client}, backchannel_logout_uri: \"{uri}\" }} }}\n"))
    };
    let switch = "    back_channel_logout: { allow_private_addresses: true }\n";
    for uri in [
        "http://127.0.0.1:9/bcl",
        "https://localhost./bcl",
        "https://[fd00::1]/bcl",
        "https://192.168.1.9/bcl",
    ] {
        let said = said_with(&at(uri, false, ""), &[]);
        assert!(
            said.len() == 1 && said[0].contains("back_channel_logout: { allow_private"),
            "{uri}: {said:?}"
        );
        assert!(said[0].starts_with("bastide.yaml:7:"), "{said:?}");
        assert!(!read_with(&at(uri, false, switch), &[]).unwrap().realms[0].clients.is_empty(), "{uri}");
        assert!(
            read_with(&at(uri, true, ""), &[]).is_ok(),
            "{uri}: nothing is sent to one that is switched off"
        );
    }
    for uri in ["https://app.example/bcl", "https://9.9.9.9/bcl", "https://[2620:fe::fe]/bcl"] {
        assert!(read_with(&at(uri, false, ""), &[]).is_ok(), "{uri}");
    }
    let empty = "    back_channel_logout: { ca: clients.pem }\n";
    let said = said_with(&at("https://app.example/bcl", false, empty), &[("clients.pem", "none")]);
    assert_eq!(said, ["bastide.yaml:7:32: expected a PEM file with certificates, found none in it"]);
}

#[test]
fn pages_of_other_origins_may_send_the_identity_provider_what_its_clients_send() {
    let cors = |written: &str| {
        let written = around("").replace("allow: anyone", &format!("allow: anyone, cors: {written}"));
        read_with(&written, &[]).unwrap().routes[0].cors.clone().unwrap()
    };
    for written in ["[ https://app.example ]", "{ origins: [ https://app.example ], max_age: 10m }"] {
        let cors = cors(written);
        assert_eq!(cors.headers, ["authorization", "content-type", "dpop"], "{written}");
        assert_eq!(cors.expose, ["dpop-nonce", "www-authenticate"], "{written}");
    }
    let said = cors("{ origins: [ https://app.example ], headers: [ x-a ], expose: [] }");
    assert_eq!((said.headers, said.expose.len()), (vec!["x-a".to_owned()], 0));
}

#[test]
fn grants_have_a_short_name_and_their_own() {
    use identity::GrantType::{
        AuthorizationCode, ClientCredentials, DeviceCode, RefreshToken, TokenExchange,
    };
    let urn = "urn:ietf:params:oauth:grant-type";
    let (certificate, _) = super::certificate();
    for (written, grants) in [
        ("redirect_uris: [ https://a.example/cb ]".to_owned(), vec![AuthorizationCode, RefreshToken]),
        (format!("certificates: [ a.pem ], grants: [ \"{urn}:token-exchange\" ]"), vec![TokenExchange]),
        ("certificates: [ a.pem ], grants: [ token_exchange ]".to_owned(), vec![TokenExchange]),
        ("certificates: [ a.pem ]".to_owned(), vec![ClientCredentials]),
        (format!("grants: [ \"{urn}:device_code\" ]"), vec![DeviceCode]),
        ("grants: [ device_code ]".to_owned(), vec![DeviceCode]),
    ] {
        let main = around(&format!("    clients: {{ a: {{ {written} }} }}\n"));
        let found = read_with(&main, &[("a.pem", certificate.as_str())]).unwrap();
        assert_eq!(found.realms[0].clients[0].grant_types, grants.into_iter().collect(), "{written}");
    }
    let said = said_with(&around("    clients: { a: { grants: [ password ] } }\n"), &[]);
    assert!(said[0].contains("expected authorization_code, refresh_token"), "{said:?}");
}

#[test]
fn a_group_of_a_realm_of_ours_is_no_role_unless_it_says_so() {
    let all = &["roles", "groups", "realm_access.roles"][..];
    for (issuers, roles) in [
        ("[ https://id.example.org ]", &["roles"][..]),
        ("[ { issuer: https://id.example.org, prefix: \"town:\" } ]", &["roles"]),
        ("[ { issuer: https://id.example.org, roles: [ roles, groups ] } ]", &["roles", "groups"]),
        ("[ { issuer: https://id.example.org, roles: [] } ]", &[]),
        ("[ https://other.example.org ]", all),
        ("[ https://id.example.org/other ]", all),
    ] {
        let written = format!("authentication: {{ audience: a.b, issuers: {issuers} }}\n{}", around(""));
        let found = read_with(&written, &[]).unwrap();
        assert_eq!(found.authentication.issuers[0].roles, roles, "{issuers}");
    }
}

#[test]
fn what_an_attribute_of_a_user_says_is_no_role() {
    let claim = "    claims: [ { claim: work, attribute: job }, { claim: roles, fixed: admin } ]\n";
    let none = "is none of roles";
    for (realm, issuer, refused) in [
        (claim, "issuer: https://id.example.org, roles: [ work ]", Some("claim \"work\"")),
        (claim, "issuer: https://id.example.org, roles: [ groups, work.place ]", Some("claim \"work\"")),
        // Who has no role of their record would have that one.
        (claim, "issuer: https://id.example.org", Some("claim \"roles\"")),
        ("", "issuer: https://id.example.org, roles: [ email ]", Some("claim \"email\"")),
        (claim, "issuer: https://id.example.org, roles: [ groups, workplace ]", None),
        (claim, "issuer: https://other.example.org, roles: [ work ]", None),
        ("", "issuer: https://id.example.org, roles: [ roles, groups ]", None),
    ] {
        let written =
            format!("authentication: {{ audience: a.b, issuers: [ {{ {issuer} }} ] }}\n{}", around(realm));
        let found = said_with(&written, &[]);
        let said = found.iter().find(|fault| fault.contains(none));
        assert_eq!(said.is_some(), refused.is_some(), "{issuer}: {found:?}");
        assert!(said.is_none_or(|said| said.contains(refused.unwrap_or_default())), "{issuer}: {found:?}");
    }
}

#[test]
fn a_claim_shows_what_a_user_is_an_attribute_or_one_value() {
    let read = |rest: &str| {
        let written = around(&format!("    claims: [ {{ claim: {rest} }} ]\n"));
        read_with(&written, &[]).map(|found| found.realms[0].settings.claims.last().unwrap().clone())
    };
    for (rest, from) in [
        ("groups, from: groups", Source::Groups),
        ("crew, from: roles", Source::Roles),
        ("login, from: username", Source::Username),
        ("who, from: name", Source::Name),
        ("mail, from: email", Source::Email),
        ("mail_verified, from: email_verified", Source::EmailVerified),
        ("changed, from: updated_at", Source::UpdatedAt),
        ("job, attribute: groups_of_work", Source::Attribute("groups_of_work".to_owned())),
        ("job, fixed: groups", Source::Fixed("groups".into())),
    ] {
        assert_eq!(read(rest).unwrap().from, from, "{rest}");
    }
    let said =
        |rest: &str| said_with(&around(&format!("    claims: [ {{ claim: {rest} }} ]\n")), &[]).join("\n");
    for (rest, expected) in [
        ("groups, into: [ id_token ]", "write from: groups"),
        ("job, into: [ id_token ]", "write attribute: job"),
        ("groups, from: groups, attribute: groups", "needs one of `from`, `attribute` and `fixed`"),
        ("groups, from: groupz", "did you mean \"groups\"?"),
        ("groups, attribute: groups", "not the user's groups"),
        ("r, attribute: roles", "write from: roles"),
    ] {
        assert!(said(rest).contains(expected), "{rest}: {}", said(rest));
    }
    assert!(!said("groups, from: groups").contains("groups"), "{}", said("groups, from: groups"));
}

#[test]
fn a_declared_client_can_have_what_others_are_given_by_the_interface() {
    let read = |keys: &str| {
        let written = around(&format!(
            "    algorithms: [ ES256, RS256 ]\n    clients: {{ job: {{ redirect_uris: [ https://a.example/cb ]{keys} }} }}\n"
        ));
        (
            said_with(&written, &[]),
            read_with(&written, &[]).ok().map(|mut found| found.realms[0].clients.remove(0)),
        )
    };
    let plain = read("").1.unwrap();
    assert_eq!(
        (plain.id_token_algorithm, plain.require_pushed_requests, plain.default_max_age),
        (None, false, None)
    );
    let keys = ", id_token_algorithm: ES256, require_pushed_requests: true, default_max_age: 1h";
    let client = read(keys).1.unwrap();
    assert_eq!(client.id_token_algorithm, Some(keys::Algorithm::Es256));
    assert_eq!((client.require_pushed_requests, client.default_max_age), (true, Some(3600)));
    assert_eq!(read(", default_max_age: 0s").1.unwrap().default_max_age, Some(0));
    let (said, none) = read(", id_token_algorithm: EdDSA");
    assert!(none.is_none() && said.join("\n").contains("is not among the realm's algorithms"), "{said:?}");
}

#[test]
fn what_a_role_needs_is_asked_of_all_who_have_it() {
    let testbed = |roles: &str, factors: &str| {
        let written = format!(
            "authentication: {{ audience: a.b, issuers: [ {{ issuer: https://id.example.org, prefix: \"town:\" }} ] }}\n{}",
            around(&format!("    factors: {{ roles: {{ {factors} }} }}\n"))
        );
        let written = written.replace("roles: { admin: {}, customer: {} }", &format!("roles: {{ {roles} }}"));
        read_with(&written, &[]).unwrap().realms.remove(0).settings.factors
    };
    for (roles, factors, by_role, by_user) in [
        (
            "admin: {}, owner: { includes: [ admin ] }, founder: { includes: [ owner ] }, customer: {}",
            "admin: \"2\"",
            &[("admin", "2"), ("founder", "2"), ("owner", "2")][..],
            &[][..],
        ),
        // Of two the stronger, whichever is written where.
        (
            "admin: {}, clerk: {}, owner: { includes: [ clerk, admin ] }",
            "admin: \"2\", clerk: \"1\"",
            &[("admin", "2"), ("clerk", "1"), ("owner", "2")],
            &[],
        ),
        (
            "admin: {}, owner: { includes: [ admin ] }",
            "admin: \"2\", owner: \"1\"",
            &[("admin", "2"), ("owner", "2")],
            &[],
        ),
        ("admin: { includes: [ clerk ] }, clerk: {}", "admin: \"2\"", &[("admin", "2")], &[]),
        // Members of the role, and of one that includes it; others' prefixes are other people.
        (
            "admin: { members: [ \"User:town:alice\", \"User:bob\", \"Client:town:job\" ] }, \
             owner: { includes: [ admin ], members: [ \"User:town:carol\" ] }",
            "admin: \"2\"",
            &[("admin", "2"), ("owner", "2")],
            &[("alice", "2"), ("carol", "2")],
        ),
    ] {
        let of = |rules: &[(&str, &str)]| {
            rules.iter().map(|(name, class)| ((*name).to_owned(), (*class).to_owned())).collect()
        };
        let found = testbed(roles, factors);
        assert_eq!(found.roles, of(by_role), "{roles}");
        assert_eq!(found.users, of(by_user), "{roles}");
    }
}

#[test]
fn a_realm_whose_tokens_no_route_could_accept_is_warned_of() {
    let whole = |realm: &str, authentication: &str, route: &str| {
        format!(
            "listen: [ 127.0.0.1:0 ]
services: {{ a: [ http://10.0.0.1 ] }}
realms: {{ town: {{ issuer: https://id.example.org{realm} }} }}
authentication: {{ issuers: [ https://id.example.org ]{authentication} }}
routes:
- {{ match: id.example.org/**, to: identity, authenticate: none, allow: anyone }}
- {{ match: api.example.org/**, to: a, allow: {route} }}
"
        )
    };
    let resource = ", resources: { \"https://api.example.org\": {} }";
    for (realm, authentication, route) in [
        ("", ", audience: https://id.example.org", "authenticated"),
        (resource, ", audience: [ x, https://api.example.org ]", "authenticated"),
        (resource, ", audience: https://id.example.org", "authenticated"),
        ("", "", "anyone"),
    ] {
        let read = read_with(&whole(realm, authentication, route), &[]).unwrap();
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }
    for (realm, authentication, suggestion) in [
        ("", "", "https://id.example.org"),
        (resource, "", "https://api.example.org"),
        (resource, ", audience: shop", "https://api.example.org"),
    ] {
        let read = read_with(&whole(realm, authentication, "authenticated"), &[]).unwrap();
        let [warning] = &read.warnings[..] else { panic!("{:?}", read.warnings) };
        assert_eq!(warning.line, 4);
        assert!(warning.message.starts_with("no token of realm \"town\" can be accepted: "), "{warning}");
        let advice = format!("write authentication.audience: {suggestion}");
        assert_eq!(warning.suggestion.as_deref(), Some(&*advice));
    }
}

#[test]
fn sessions_of_a_realm_whose_id_tokens_carry_no_roles_are_warned_of() {
    let whole = |realm: &str, session: &str, roles: &str| {
        format!(
            "listen: [ 127.0.0.1:0 ]
services: {{ a: [ http://10.0.0.1 ] }}
roles: {{ {roles} }}
realms: {{ town: {{ issuer: https://id.example.org, resources: {{ \"https://shop.example.org\": {{}} }}{realm} }} }}
authentication:
  audience: https://shop.example.org
  issuers: [ https://id.example.org ]
  session: {{ client: shop, secret: 0123456789abcdef0123456789abcdef{session} }}
routes:
- {{ match: id.example.org/**, to: identity, authenticate: none, allow: anyone }}
- {{ match: shop.example.org/auth/**, to: sessions, authenticate: none, allow: anyone }}
- {{ match: shop.example.org/**, to: a, authenticate: session, allow: authenticated }}
"
        )
    };
    let from_access = ", claims_from: access_token, resource: \"https://shop.example.org\"";
    let shown = ", claims: [ { claim: roles, attribute: roles, into: [ id_token ] } ]";
    let from_roles = shown.replace("attribute: roles", "from: roles");
    for (realm, session, roles, warned) in [
        ("", "", "customer: {}", true),
        ("", from_access, "customer: {}", false),
        (shown, "", "customer: {}", false),
        (&from_roles, "", "customer: {}", false),
        ("", "", "", false),
        ("", "", "customer: { members: [ \"User:town:alice\" ] }", false),
    ] {
        let said = said_with(&whole(realm, session, roles), &[]).join("\n");
        assert_eq!(
            said.contains("whose ID tokens carry no roles"),
            warned,
            "{realm}{session} {roles}: {said}"
        );
    }
}

#[test]
fn a_realm_whose_host_leads_nowhere_is_warned_of() {
    let whole = |issuer: &str, route: &str| {
        let text = format!(
            "listen: [ 127.0.0.1:0 ]\nservices: {{ a: [ http://10.0.0.1 ] }}\nrealms:\n  town: {{ issuer: {issuer} }}\nroutes:\n- {{ match: {route}, authenticate: none, allow: anyone }}\n- {{ match: /a/**, to: a, allow: anyone }}\n"
        );
        said_with(&text, &[])
    };
    for (issuer, route) in [
        ("https://id.example.org", "id.example.org/**, to: identity"),
        ("https://id.example.org:8443/town", "id.example.org/**, to: identity"),
        ("https://id.example.org", "\"*.example.org/**\", to: identity"),
        ("https://id.example.org", "/**, to: identity"),
    ] {
        assert_eq!(whole(issuer, route), [""; 0], "{issuer} {route}");
    }
    for route in [
        "ids.example.org/**, to: identity",
        "\"*.id.example.org/**\", to: identity",
        "id.example.org/**, to: a",
    ] {
        let found = whole("https://id.example.org", route);
        let expected = "bastide.yaml:4:3: warning: no route leads id.example.org to the provider, so nobody can use realm \"town\" (add { match: id.example.org/**, to: identity, authenticate: none, allow: anyone } to routes)";
        assert_eq!(found, [expected], "{route}");
    }
}
