//! decK files of our own writing, and what became of them.

use std::path::{Path, PathBuf};

use super::{Listen, import};
use crate::config::{Configuration, Memory, Proof, load};
use crate::import::{Finding, Imported, Outcome};

const SHOP: &str = include_str!("../../../tests/kong/shop.yaml");
const LEGACY: &str = include_str!("../../../tests/kong/legacy.yaml");

fn imported(text: &str) -> Imported {
    import(text, Listen::default()).unwrap_or_else(|fault| panic!("{fault}"))
}

fn text(imported: &Imported, name: &str) -> String {
    let file = imported.files.iter().find(|file| file.path == Path::new(name));
    file.map_or_else(String::new, |file| String::from_utf8(file.bytes.clone()).unwrap())
}

/// The result, loaded as the gateway loads it.
fn loaded(imported: &Imported) -> Configuration {
    let files = imported.files.iter().map(|file| (PathBuf::from(&file.path), file.bytes.clone()));
    let loaded = load(Path::new("bastide.yaml"), &|_| Some("1".to_owned()), &Memory::new(files));
    loaded.unwrap_or_else(|findings| {
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        panic!(
            "{}\n{}\n{}",
            said.join("\n"),
            text(imported, "bastide.yaml"),
            text(imported, "policies/kong.cedar")
        )
    })
}

fn outcome<'i>(imported: &'i Imported, what: &str, outcome: Outcome) -> &'i Finding {
    let found = imported.findings.iter().find(|f| f.what.contains(what) && f.outcome == outcome);
    found.unwrap_or_else(|| panic!("{what} is not {}: {:#?}", outcome.name(), imported.findings))
}

/// One service with one route and what stands in it.
fn one_route(route: &str, more: &str) -> String {
    format!(
        "_format_version: '3.0'\nservices:\n- name: s\n  url: http://127.0.0.1:1\n  routes:\n  - name: r\n    \
         hosts: [h.example]\n{route}\n{more}"
    )
}

fn is_closed(imported: &Imported, route: &str) -> bool {
    text(imported, "policies/kong.cedar").contains(&format!("@id(\"{route}: closed\")"))
}

#[test]
fn a_shop_is_translated_and_passes_the_check() {
    let imported = imported(SHOP);
    let configuration = loaded(&imported);
    let route = |name: &str| configuration.routes.iter().find(|route| route.name == name).unwrap();
    let orders = route("orders");
    assert_eq!(orders.matches.to_string(), "GET,POST shop.example.org/orders/**");
    assert_eq!(orders.authenticate, [Proof::ApiKey]);
    assert_eq!(orders.strip_prefix.as_deref(), Some("/orders"));
    assert_eq!(orders.add_prefix.as_deref(), Some("/v1"));
    assert_eq!((orders.limits[0].requests, orders.limits[0].period.as_secs()), (60, 60));
    assert_eq!(orders.body_max, Some(2 << 20));
    assert_eq!(orders.addresses.allow.len(), 2);
    assert_eq!(route("orders-2").matches.path, "/o/{id}");
    let service = configuration.service("orders").unwrap();
    assert_eq!(service.endpoints.len(), 2);
    assert_eq!(service.endpoints[0].weight, 2 * service.endpoints[1].weight);
    assert_eq!(service.retries, 3);
    assert!(service.resilience.health.is_some());
    // The global limit counts where no route says another.
    assert_eq!(route("accounts").limits[0].requests, 1_000);
    assert!(route("old").own_answer.is_some());
    assert_eq!(route("beta").matches.headers, [("x-beta".to_owned(), "yes".to_owned())]);
    for (route, closed) in [
        ("orders", false),
        ("orders-admin", true),
        ("accounts", false),
        ("accounts-by-number", true),
        ("site", false),
    ] {
        assert_eq!(is_closed(&imported, route), closed, "{route}");
    }
    assert!(configuration.routes.iter().all(|route| route.name != "database"));
}

#[test]
fn the_report_names_places_and_reasons_and_no_secret() {
    let imported = imported(SHOP);
    let basic = outcome(&imported, "plugin basic-auth", Outcome::Closed);
    let line = SHOP.lines().position(|line| line.contains("basic-auth")).unwrap() + 1;
    assert_eq!((basic.line as usize, basic.column), (line, 13));
    outcome(&imported, "plugin proxy-cache", Outcome::Dropped);
    outcome(&imported, "plugin bot-detection", Outcome::Dropped);
    outcome(&imported, "consumer \"legacy\": jwt_secrets", Outcome::Dropped);
    outcome(&imported, "route \"database\"", Outcome::Dropped);
    outcome(&imported, "vaults", Outcome::Dropped);
    outcome(&imported, "plugin cors", Outcome::Translated);
    let all: String =
        imported.files.iter().map(|file| String::from_utf8_lossy(&file.bytes).into_owned()).collect();
    let report = format!("{:?}{:?}", imported.findings, imported.next_steps);
    assert!(!all.contains("not-to-be-seen") && !report.contains("not-to-be-seen"));
    let step = "bastide key new --name importer --owner team-import";
    assert!(imported.next_steps.contains(&step.to_owned()));
    // The steps that are left name the files as they are written.
    let written = imported.written_to("out/kong".as_ref()).next_steps;
    assert!(written.contains(&format!("{step} --config out/kong/bastide.yaml")), "{written:?}");
    let closed = written.iter().find(|step| step.contains(" closed: see to ")).unwrap();
    assert!(closed.contains(" from out/kong/policies/kong.cedar"), "{closed}");
}

#[test]
fn what_is_the_same_of_many_routes_is_said_once() {
    let routes = |more: &str| {
        let route = |number| format!("{{ name: r{number}, paths: [ /r{number} ]{more} }}");
        let all: Vec<String> = (1..=50).map(route).collect();
        imported(&format!(
            "_format_version: '3.0'\nservices:\n- {{ name: a, url: 'http://127.0.0.1:1', routes: [ {} ] }}\n",
            all.join(", ")
        ))
    };
    let hosts = |imported: &Imported| {
        let said = format!("{:?}{:?}", imported.findings, imported.next_steps);
        said.matches("preserve_host").count()
    };
    let open = routes("");
    assert_eq!((open.findings.len(), hosts(&open)), (51, 1));
    assert!(open.next_steps.iter().any(|step| step.ends_with(", which 50 routes of the file did not have")));
    assert_eq!(hosts(&routes(", preserve_host: true")), 0);
    let closed = routes(", sources: [ { ip: 10.0.0.1 } ]");
    let step = closed.next_steps.iter().find(|step| step.starts_with("50 routes are closed: see to each"));
    assert!(step.unwrap().ends_with(", \"r49\", \"r50\""), "{step:?}");
}

#[test]
fn a_service_waits_for_answers_as_long_as_in_kong() {
    let waits = |keys: &str| {
        let written = format!(
            "_format_version: '3.0'\nservices:\n- {{ name: a, url: 'http://127.0.0.1:1'{keys}, routes: [ {{ name: r, paths: [ /a ] }} ] }}\n"
        );
        let imported = imported(&written);
        assert!(imported.next_steps.iter().any(|step| step.starts_with("limits that Kong does not have")));
        let timeouts = loaded(&imported).service("a").unwrap().timeouts;
        [timeouts.connect, timeouts.first_byte, timeouts.idle].map(|duration| duration.as_millis())
    };
    assert_eq!(waits(""), [2_000, 60_000, 60_000]);
    assert_eq!(waits(", read_timeout: 90000"), [2_000, 90_000, 90_000]);
    assert_eq!(waits(", connect_timeout: 5000, read_timeout: 1500"), [5_000, 1_500, 1_500]);
}

#[test]
fn the_path_of_a_grpc_call_stays_as_it_is() {
    let strips = |keys: &str| {
        let written = format!(
            "_format_version: '3.0'\nservices:\n- {{ name: a, url: 'grpc://127.0.0.1:1', routes: [ {{ name: r, paths: [ /pkg.Service ]{keys} }} ] }}\n"
        );
        loaded(&imported(&written)).routes[0].strip_prefix.clone()
    };
    assert_eq!(strips(", protocols: [ grpc ]"), None);
    assert_eq!(strips(", protocols: [ grpcs ], strip_path: true"), None);
    assert_eq!(strips(", protocols: [ http ]").as_deref(), Some("/pkg.Service"));
}

#[test]
fn the_result_is_laid_out() {
    for source in [SHOP, LEGACY] {
        let written = text(&imported(source), "bastide.yaml");
        assert_eq!(crate::config::format(Path::new("x"), &written).unwrap(), written);
    }
}

#[test]
fn the_old_format_has_its_own_regular_expressions() {
    let imported = imported(LEGACY);
    let configuration = loaded(&imported);
    let matches: Vec<String> = configuration.routes.iter().map(|route| route.matches.to_string()).collect();
    assert_eq!(matches, ["/plain/**", "/**", "/status"]);
    assert!(is_closed(&imported, "regex") && !is_closed(&imported, "plain"));
    assert_eq!(configuration.routes[0].limits[0].requests, 10);
    assert!(configuration.routes.iter().all(|route| !route.addresses.allow.is_empty()));
}

/// Whatever keeps somebody out and is not understood closes the route; its neighbour that
/// harms nobody does not.
#[test]
fn what_would_weaken_closes_and_what_would_not_does_not() {
    for (plugin, closes) in [
        ("basic-auth", true),
        ("hmac-auth", true),
        ("oauth2", true),
        ("ldap-auth", true),
        ("session", true),
        ("opa", true),
        ("bot-detection", true),
        ("request-validator", true),
        ("pre-function", true),
        ("some-plugin-of-ours", true),
        ("mocking", true),
        ("acl, config: { allow: [ g ] }", true),
        ("jwt", true),
        ("mtls-auth, config: { ca_certificates: [ x ] }", true),
        ("openid-connect, config: { issuer: 'http://x/', client_id: [ c ] }", true),
        ("openid-connect, config: { issuer: 'https://x/', client_id: [ c ], roles_required: [ r ] }", true),
        ("openid-connect, config: { issuer: 'https://x/', client_id: [ c ] }", false),
        ("request-termination, config: { trigger: x }", true),
        ("request-transformer, config: { remove: { querystring: [ admin ] } }", true),
        ("request-transformer, config: { add: { querystring: [ 'a:b' ] } }", false),
        ("response-transformer, config: { remove: { json: [ password ] } }", true),
        ("response-transformer, config: { remove: { headers: [ server ] } }", false),
        ("rate-limiting, config: { month: 3 }", true),
        ("rate-limiting, config: { month: 3000 }", false),
        ("rate-limiting, config: { second: 5 }", false),
        ("rate-limiting-advanced, config: { limit: [ 10 ], window_size: [ 30 ] }", false),
        ("rate-limiting-advanced, config: { limit: [ 10 ], window_size: [ 30, 60 ] }", true),
        ("key-auth", false),
        ("prometheus", false),
        ("zipkin", false),
        ("proxy-cache", false),
        ("cors", false),
        ("correlation-id", false),
    ] {
        let source = one_route("", &format!("plugins: [ {{ name: {plugin} }} ]"));
        let imported = imported(&source);
        assert_eq!(is_closed(&imported, "r"), closes, "{plugin}: {:#?}", imported.findings);
        assert_eq!(imported.is_closed(), closes, "{plugin}");
        loaded(&imported);
    }
    for (route, closes) in [
        ("    hosts: [ 'x.*' ]", true),
        ("    expression: 'http.path == \"/\"'", true),
        ("    paths: [ '~/a/(?!b)' ]", true),
        ("    paths: [ '/a/{b}' ]", true),
        ("    headers: { x-a: [ '~*^1' ] }", true),
        ("    headers: { x-a: [ '1' ] }", false),
        ("    paths: [ '~/a/[^/]+$' ]", false),
    ] {
        let source = one_route(route, "").replace("    hosts: [h.example]\n    hosts", "    hosts");
        let imported = imported(&source);
        assert_eq!(is_closed(&imported, "r"), closes, "{route}: {:#?}", imported.findings);
        loaded(&imported);
    }
}

#[test]
fn both_plugins_that_limit_do_so_and_count_in_one_process() {
    let basic = "{ name: rate-limiting, config: { minute: 120, second: 5, policy: redis } }";
    let advanced = "{ name: rate-limiting-advanced, config: { limit: [ 1000 ], window_size: [ 60 ], identifier: ip, strategy: local } }";
    let imported = imported(&one_route("", &format!("plugins: [ {basic}, {advanced} ]")));
    let limits = &loaded(&imported).routes[0].limits;
    assert_eq!(limits.iter().map(|limit| limit.requests).collect::<Vec<_>>(), [5, 120, 1000]);
    for (plugin, alone) in [("plugin rate-limiting", true), ("plugin rate-limiting-advanced", false)] {
        let finding = imported.findings.iter().find(|finding| finding.what == plugin).unwrap();
        let said = finding.note.ends_with("; each process counts by itself, not all together");
        assert_eq!(said, alone, "{}", finding.note);
    }
}

#[test]
fn several_proofs_are_all_asked_for_and_one_of_them_would_not_do() {
    let both = "plugins: [ { name: key-auth }, { name: openid-connect, config: { issuer: 'https://x/', client_id: [ c ] } } ]";
    assert!(is_closed(&imported(&one_route("", both)), "r"));
    // With an anonymous consumer that is ended, any of them does in Kong too.
    let either = "plugins:\n- { name: key-auth, config: { anonymous: nobody } }\n- { name: openid-connect, config: { issuer: 'https://x/', client_id: [ c ], anonymous: nobody } }\nconsumers:\n- username: nobody\n  plugins: [ { name: request-termination } ]";
    let imported = imported(&one_route("", either));
    assert!(!is_closed(&imported, "r"), "{:#?}", imported.findings);
    let policies = text(&imported, "policies/kong.cedar");
    assert!(!policies.contains("principal is Anonymous"), "{policies}");
    assert_eq!(loaded(&imported).routes[0].authenticate.len(), 2);
    // An empty name is nobody's.
    assert!(is_closed(
        &self::imported(&one_route("", &either.replace("anonymous: nobody", "anonymous: ''"))),
        "r"
    ));
}

#[test]
fn an_anonymous_consumer_that_is_not_ended_is_refused_and_said_to_be() {
    let source = one_route(
        "",
        "plugins: [ { name: key-auth, config: { anonymous: guest } } ]\nconsumers: [ { username: guest } ]",
    );
    let imported = imported(&source);
    assert!(!text(&imported, "policies/kong.cedar").contains("Anonymous"));
    assert_eq!(loaded(&imported).routes[0].authenticate, [Proof::ApiKey]);
    outcome(&imported, "plugin key-auth: anonymous", Outcome::Changed);
}

/// In Kong `/docs/` does not take `/docs`, unless another path of the route does.
#[test]
fn a_folder_that_kong_does_not_take_is_kept_out() {
    let policies = |paths: &str| {
        let imported = imported(&one_route(&format!("    paths: [ {paths} ]"), ""));
        loaded(&imported);
        text(&imported, "policies/kong.cedar")
    };
    let kept_out =
        "forbid (principal, action, resource == Route::\"r\")\nwhen { !(context.path like \"/docs/*\")";
    for (written, out) in [
        ("/docs/", true),
        ("'~/docs/.+'", true),
        ("'~/docs/.*', '/docs/'", true),
        ("/docs", false),
        ("/docs/, /docs", false),
        ("/docs, '~/docs/.+'", false),
        ("'~/docs/[^/]+$'", false),
    ] {
        let policies = policies(written);
        assert_eq!(policies.contains(kept_out), out, "{written}: {policies}");
        assert_eq!(policies.contains("forbid"), out, "{written}: {policies}");
    }
    assert!(!policies("'~/docs/.+', /docs/").contains("\"/docs/*/\""));
}

#[test]
fn the_most_specific_instance_of_a_plugin_runs() {
    let source = "_format_version: '3.0'\nservices:\n- name: s\n  url: http://127.0.0.1:1\n  plugins: [ { name: rate-limiting, config: { minute: 2 } } ]\n  routes:\n  - { name: a, paths: [ /a ], plugins: [ { name: rate-limiting, config: { minute: 1 } } ] }\n  - { name: b, paths: [ /b ] }\n- name: t\n  url: http://127.0.0.1:1\n  routes: [ { name: c, paths: [ /c ] } ]\nplugins:\n- { name: rate-limiting, config: { minute: 3 } }\n- { name: rate-limiting, route: b, service: s, config: { minute: 4 } }\n";
    let configuration = loaded(&imported(source));
    let rates: Vec<u32> = configuration.routes.iter().map(|route| route.limits[0].requests).collect();
    assert_eq!(rates, [1, 4, 3]);
}

/// A plugin may name what it is for by its id, and keeps out there all the same.
#[test]
fn references_by_id_are_followed() {
    let ids = "_format_version: '3.0'\nservices:\n- name: s\n  id: 11-22\n  url: http://127.0.0.1:1\n  routes: [ { name: a, id: 33-44, paths: [ /a ] }, { name: b, paths: [ /b ] } ]\n- { name: t, url: 'http://127.0.0.1:1', routes: [ { name: c, paths: [ /c ] } ] }\nplugins:\n";
    for (plugin, closed) in [
        ("- { name: basic-auth, service: { id: 11-22 } }", [true, true, false]),
        ("- { name: basic-auth, service: 11-22 }", [true, true, false]),
        ("- { name: basic-auth, route: { id: 33-44 } }", [true, false, false]),
        ("- { name: basic-auth, route: { name: a }, service: { name: s } }", [true, false, false]),
        ("- { name: basic-auth }", [true, true, true]),
    ] {
        let imported = imported(&format!("{ids}{plugin}\n"));
        assert_eq!(["a", "b", "c"].map(|route| is_closed(&imported, route)), closed, "{plugin}");
    }
    let of_consumer = "- { name: request-size-limiting, consumer: u-1, route: { id: 33-44 } }\nconsumers: [ { id: u-1, username: bob, keyauth_credentials: [ { key: k } ] } ]";
    let policies = text(&imported(&format!("{ids}{of_consumer}\n")), "policies/kong.cedar");
    assert!(
        policies.contains("forbid (principal == ApiKey::\"bob\", action, resource == Route::\"a\");"),
        "{policies}"
    );
    let filters = format!("{ids}- name: prometheus\nfilter_chains: [ {{ name: f }} ]\n");
    assert!(["a", "b", "c"].iter().all(|route| is_closed(&imported(&filters), route)));
}

#[test]
fn plugins_of_consumers_become_policies() {
    let with = |plugin: &str, global: &str| {
        imported(&one_route(
            "",
            &format!(
                "plugins: [ {{ name: key-auth }}{global} ]\nconsumers:\n- username: bob\n  keyauth_credentials: [ {{ key: x }} ]\n  plugins: [ {{ name: {plugin} }} ]"
            ),
        ))
    };
    let limited = with("rate-limiting, config: { minute: 5 }", "");
    let policies = text(&limited, "policies/kong.cedar");
    assert!(policies.contains("forbid (principal == ApiKey::\"bob\", action, resource);"), "{policies}");
    // A limit of the route that is as low does it.
    let lower =
        with("rate-limiting, config: { minute: 5 }", ", { name: rate-limiting, config: { minute: 5 } }");
    assert!(!text(&lower, "policies/kong.cedar").contains("ApiKey::\"bob\""));
    let higher =
        with("rate-limiting, config: { minute: 5 }", ", { name: rate-limiting, config: { minute: 6 } }");
    assert!(text(&higher, "policies/kong.cedar").contains("ApiKey::\"bob\""));
    let ranges = with("ip-restriction, config: { allow: [ 10.0.0.0/8 ] }", "");
    let policies = text(&ranges, "policies/kong.cedar");
    assert!(policies.contains("when { (!(context.address.isInRange(ip(\"10.0.0.0/8\")))) }"), "{policies}");
    for (plugin, out) in [
        ("request-size-limiting", true),
        ("request-transformer, config: { remove: { headers: [ x-admin ] } }", true),
        ("request-transformer, config: { add: { headers: [ 'x-a:b' ] } }", false),
        ("some-plugin-of-ours", true),
        ("http-log", false),
    ] {
        let policies = text(&with(plugin, ""), "policies/kong.cedar");
        assert_eq!(policies.contains("forbid (principal == ApiKey::\"bob\""), out, "{plugin}: {policies}");
    }
    let harmless = with("correlation-id", "");
    assert!(!text(&harmless, "policies/kong.cedar").contains("ApiKey::\"bob\""));
    for imported in [limited, lower, higher, ranges, harmless] {
        loaded(&imported);
    }
}

/// A route that is closed may be opened, and then the limit of the consumer has to be there.
#[test]
fn a_consumers_limit_is_kept_though_its_routes_are_closed() {
    let bob = "consumers:\n- username: bob\n  keyauth_credentials: [ { key: x } ]\n  plugins: [ { name: rate-limiting, config: { minute: 5 } } ]";
    let forbids = |plugins: &str| {
        let imported = imported(&one_route("", &format!("plugins: [ {plugins} ]\n{bob}")));
        loaded(&imported);
        assert!(is_closed(&imported, "r"), "{plugins}");
        text(&imported, "policies/kong.cedar")
            .contains("forbid (principal == ApiKey::\"bob\", action, resource);")
    };
    assert!(forbids("{ name: key-auth }, { name: basic-auth }"));
    assert!(!forbids(
        "{ name: key-auth }, { name: basic-auth }, { name: rate-limiting, config: { minute: 5 } }"
    ));
}

/// Kong refuses a file with a key that it does not know; what it was to keep out nobody can tell.
#[test]
fn a_key_that_kong_does_not_know_closes_and_is_said_where_it_stands() {
    let service = |key: &str| one_route("", "").replace("  url:", &format!("  {key}\n  url:"));
    for (source, what, note) in [
        (
            one_route("    plugin: [ { name: key-auth } ]", ""),
            "route \"r\"",
            "unknown key \"plugin\" (did you mean \"plugins\"?)",
        ),
        (one_route("    expresion: 'false'", ""), "route \"r\"", "(did you mean \"expression\"?)"),
        (one_route("    whatever: 1", ""), "route \"r\"", "unknown key \"whatever\", and what"),
        (service("plugin: [ { name: key-auth } ]"), "service \"s\"", "(did you mean \"plugins\"?)"),
        (service("routs: []"), "service \"s\"", "(did you mean \"routes\"?)"),
        (
            one_route(
                "    plugins: [ { name: ip-restriction, confg: { deny: [ 10.0.0.0/8 ] }, config: { allow: [ 10.0.0.0/8 ] } } ]",
                "",
            ),
            "plugin ip-restriction of route \"r\"",
            "(did you mean \"config\"?)",
        ),
        (
            one_route("    plugins: [ { name: cors, _config: gone } ]", ""),
            "plugin cors of route \"r\"",
            "not under _plugin_configs",
        ),
    ] {
        let imported = imported(&source);
        assert!(is_closed(&imported, "r"), "{note}: {:#?}", imported.findings);
        let found = imported.findings.iter().find(|f| f.what == what && f.note.contains(note));
        let found = found.unwrap_or_else(|| panic!("{note}: {:#?}", imported.findings));
        assert_eq!(found.outcome, Outcome::Closed);
        if let Some(key) = found.note.strip_prefix("unknown key \"").and_then(|rest| rest.split('"').next()) {
            let line = source.lines().nth(found.line as usize - 1).unwrap();
            assert!(line[found.column as usize - 1..].starts_with(&format!("{key}:")), "{line}");
        }
        loaded(&imported);
    }
    for honest in [
        "    tags: [ a ]\n    regex_priority: 0\n    path_handling: v1",
        "    _comment: plugin",
        "    created_at: 1",
    ] {
        assert!(!is_closed(&imported(&one_route(honest, "")), "r"), "{honest}");
    }
    for (key, said) in [
        ("plugin: [ { name: key-auth } ]", "9:1: unknown key \"plugin\" (did you mean \"plugins\"?)"),
        ("rotues: []", "9:1: unknown key \"rotues\" (did you mean \"routes\"?)"),
    ] {
        assert_eq!(
            import(&one_route("", key), Listen::default()).err().map(|fault| fault.to_string()).as_deref(),
            Some(said)
        );
    }
    for honest in ["vaults: []", "licenses: []", "partials: []", "_workspace: default", "keys: []"] {
        assert!(!imported(&one_route("", honest)).is_closed(), "{honest}");
    }
}

#[test]
fn who_has_a_key_that_kong_does_not_know_does_not_get_in() {
    let of_bob = |keys: &str, more: &str| {
        one_route(
            "",
            &format!(
                "plugins: [ {{ name: key-auth }} ]\nconsumers:\n- username: bob\n  keyauth_credentials: [ {{ key: x }} ]\n{keys}{more}"
            ),
        )
    };
    let group = "consumer_groups:\n- name: gold\n";
    for (source, what, note) in [
        (
            of_bob("  plugin: [ { name: request-termination } ]", ""),
            "consumer \"bob\"",
            "did you mean \"plugins\"?",
        ),
        (
            of_bob(
                "  plugins: [ { name: ip-restriction, confg: { deny: [ 10.0.0.0/8 ] }, config: { allow: [ 10.0.0.0/8 ] } } ]",
                "",
            ),
            "plugin ip-restriction of consumer \"bob\"",
            "did you mean \"config\"?",
        ),
        (
            of_bob(
                "  groups: [ { name: gold } ]\n",
                &format!("{group}  plugin: [ {{ name: request-termination }} ]"),
            ),
            "consumer group \"gold\"",
            "did you mean \"plugins\"?",
        ),
        (
            of_bob(
                "  groups: [ { name: gold } ]\n",
                &format!("{group}  plugins: [ {{ name: cors, _config: gone }} ]"),
            ),
            "plugin cors of consumer group \"gold\"",
            "not under _plugin_configs",
        ),
    ] {
        let imported = imported(&source);
        let found = imported.findings.iter().find(|f| f.what == what && f.note.contains(note));
        assert!(found.is_some_and(|f| f.outcome == Outcome::Closed), "{note}: {:#?}", imported.findings);
        let policies = text(&imported, "policies/kong.cedar");
        let is_forbidden = policies.contains("\nforbid (principal == ApiKey::\"bob\", action, resource);");
        assert!(is_forbidden, "{note}: {policies}");
        loaded(&imported);
    }
    let honest = of_bob("  groups: [ { name: gold } ]\n  tags: [ a ]\n", &format!("{group}  tags: [ b ]"));
    let imported = imported(&honest);
    assert!(!imported.is_closed(), "{:#?}", imported.findings);
}

/// A group of which only the group itself said who is in it kept nobody out.
#[test]
fn members_of_a_group_are_known_from_either_side() {
    let source = |of_bob: &str, of_gold: &str, plugin: &str| {
        one_route(
            "",
            &format!(
                "plugins:\n- name: key-auth\n{plugin}consumers:\n- {{ username: bob, id: b-1, custom_id: c-1, \
                 keyauth_credentials: [ {{ key: x }} ]{of_bob} }}\n- {{ username: eve, keyauth_credentials: [ {{ key: y }} \
                 ] }}\nconsumer_groups:\n- {{ name: gold, id: g-1{of_gold} }}\n"
            ),
        )
    };
    let forbids = |imported: &Imported, name: &str| {
        let policies = text(imported, "policies/kong.cedar");
        policies.contains(&format!("\nforbid (principal == ApiKey::\"{name}\", action, resource);"))
    };
    let ends = ", plugins: [ { name: request-termination } ]";
    let top = |group: &str| format!("- {{ name: request-termination, consumer_group: {group} }}\n");
    let (what, whole) = ("plugin request-termination of consumer group", "a forbid policy");
    for (of_bob, of_gold, plugin) in [
        (", groups: [ { name: gold } ]", ends.to_owned(), String::new()),
        (", groups: [ gold ]", ends.to_owned(), String::new()),
        (", groups: [ { id: g-1 } ]", ends.to_owned(), String::new()),
        ("", format!(", consumers: [ {{ username: bob }} ]{ends}"), String::new()),
        ("", format!(", consumers: [ {{ id: b-1 }} ]{ends}"), String::new()),
        ("", format!(", consumers: [ {{ custom_id: c-1 }} ]{ends}"), String::new()),
        ("", format!(", consumers: [ bob ]{ends}"), String::new()),
        ("", ", consumers: [ { username: bob } ]".to_owned(), top("gold")),
        (", groups: [ { name: gold } ]", String::new(), top("g-1")),
        ("", ", consumers: [ { username: bob } ]".to_owned(), top("{ id: g-1 }")),
    ] {
        let imported = imported(&source(of_bob, &of_gold, &plugin));
        assert_eq!(outcome(&imported, what, Outcome::Translated).note, whole, "{of_bob}{of_gold}");
        assert!(forbids(&imported, "bob") && !forbids(&imported, "eve"), "{of_bob}{of_gold}{plugin}");
        loaded(&imported);
    }
    // Whom the file only mentions could be given a key.
    let stranger = imported(&source("", &format!(", consumers: [ {{ username: zoe }} ]{ends}"), ""));
    assert!(forbids(&stranger, "zoe") && !forbids(&stranger, "bob") && !forbids(&stranger, "eve"));
    outcome(&stranger, "consumer \"zoe\" of consumer group \"gold\"", Outcome::Closed);
    assert!(outcome(&stranger, what, Outcome::Closed).note.contains("not in the file"));
    loaded(&stranger);
    let alone = imported(&source("", "", "- { name: request-termination, consumer: zoe }\n"));
    assert!(forbids(&alone, "zoe"));
    outcome(&alone, "plugin request-termination of consumer \"zoe\"", Outcome::Closed);
    // Of both a known one and a stranger, both are kept out.
    let both =
        imported(&source("", &format!(", consumers: [ {{ username: zoe }}, {{ id: b-1 }} ]{ends}"), ""));
    assert!(forbids(&both, "zoe") && forbids(&both, "bob") && both.is_closed());
    for empty in [source("", ends, ""), source("", "", &top("silver"))] {
        let empty = imported(&empty);
        let found = outcome(&empty, what, Outcome::Closed);
        assert!(found.note.contains("no consumer in the file is in the group"), "{}", found.note);
        assert!(!forbids(&empty, "bob") && !forbids(&empty, "eve"));
        loaded(&empty);
    }
}

/// Kong's `/admin` takes `/administrator`; ours does not, and the site behind it must not
/// get what was kept from everybody.
#[test]
fn what_a_prefix_guarded_does_not_fall_to_an_open_route() {
    let source = "_format_version: '3.0'\nservices:\n- name: s\n  url: http://127.0.0.1:1\n  routes:\n  - { name: site, paths: [ / ] }\n  - { name: admin, paths: [ /admin ], plugins: [ { name: key-auth } ] }\n";
    for (hosts, guarded) in [
        (["", ""], true),
        (["hosts: [ a.example.org ], ", "hosts: [ a.example.org ], "], true),
        (["hosts: [ '*.example.org' ], ", "hosts: [ a.example.org ], "], true),
        (["hosts: [ b.example.org ], ", "hosts: [ a.example.org ], "], false),
    ] {
        let source = source.replace("site, ", &format!("site, {}", hosts[0]));
        let imported = imported(&source.replace("admin, ", &format!("admin, {}", hosts[1])));
        let policies = text(&imported, "policies/kong.cedar");
        assert_eq!(policies.contains("context.path like \"/admin*\""), guarded, "{policies}");
        loaded(&imported);
    }
}

#[test]
fn two_routes_that_take_the_same_are_one_and_the_stricter_wins() {
    let source = "_format_version: '3.0'\nservices:\n- name: s\n  url: http://127.0.0.1:1\n  routes:\n  - { name: a, paths: [ /x ], methods: [ GET, POST ] }\n  - { name: b, paths: [ /x/ ], methods: [ POST, PUT ], plugins: [ { name: basic-auth } ] }\n";
    let imported = imported(source);
    let configuration = loaded(&imported);
    let matches: Vec<String> = configuration.routes.iter().map(|route| route.matches.to_string()).collect();
    assert_eq!(matches, ["GET,POST /x/**", "PUT /x/**"]);
    assert!(is_closed(&imported, "a") && is_closed(&imported, "b"));
    // Nor does the open one of two go before the one that asks for a proof.
    let keyed = super::import(&source.replace("basic-auth", "key-auth"), Listen::default()).unwrap();
    assert!(is_closed(&keyed, "a") && !is_closed(&keyed, "b"));
}

#[test]
fn a_consumer_can_neither_name_roles_nor_be_another() {
    let written = text(&imported(SHOP), "bastide.yaml");
    let issuer = written.split("- issuer: mobile-issuer").nth(1).unwrap();
    assert!(issuer.contains("prefix: mobile/") && issuer.contains("roles: []"), "{written}");
}

#[test]
fn variables_of_deck_are_variables_and_other_dollars_are_not() {
    let route = "    plugins: [ { name: request-transformer, config: { add: { headers: [ 'x-a:${{ env \"DECK_KEY\" }}', 'x-b:${HOME}' ] } } } ]";
    let written = text(&imported(&one_route(route, "")), "bastide.yaml");
    assert!(written.contains("x-a: \"${DECK_KEY}\""), "{written}");
    assert!(written.contains("x-b: \"$${HOME}\"") || written.contains("x-b: \"$${{HOME}\""), "{written}");
}

#[test]
fn what_is_no_deck_file_is_refused_with_its_place() {
    for (text, said) in [
        ("a: 1", "1:1: expected a decK file, which begins with _format_version"),
        ("_format_version: '9'", "1:18: expected _format_version 1.1 or 3.0, found \"9\""),
        ("_format_version: '3.0'\nservices: []\nservices: []\n", "3:1: key \"services\" stands here twice"),
    ] {
        assert_eq!(import(text, Listen::default()).err().unwrap().to_string(), said);
    }
    assert!(import("a: [", Listen::default()).is_err());
}

#[test]
fn an_empty_file_makes_a_configuration_that_the_check_explains() {
    let imported = imported("_format_version: '3.0'\n");
    assert!(text(&imported, "bastide.yaml").contains("routes:"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 192, ..Default::default() })]

    /// Bytes changed anywhere: taken or refused, never a panic.
    #[test]
    fn fuzz_smoke_mutated_deck_files_are_taken_or_refused(
        cuts in proptest::collection::vec((0usize..8000, 0usize..12, "[ -~\n]{0,6}"), 1..4),
    ) {
        let mut bytes = SHOP.as_bytes().to_vec();
        for (place, length, put) in cuts {
            let place = place % bytes.len();
            let end = (place + length).min(bytes.len());
            bytes.splice(place..end, put.bytes());
        }
        super::fuzz(&bytes);
    }

    /// An auth plugin whose name is spelt in any other way closes.
    #[test]
    fn a_plugin_of_any_unknown_name_closes(name in "[a-z][a-z0-9-]{1,14}") {
        let source = one_route("", &format!("plugins: [ {{ name: {name}x }} ]"));
        proptest::prop_assert!(is_closed(&imported(&source), "r"));
    }
}
