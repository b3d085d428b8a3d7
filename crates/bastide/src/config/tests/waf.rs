//! `waf:`: what counts where, what is refused, what the rules come to.

use std::sync::Arc;

use super::super::{Configuration, Excluded, WafChoice, WafCompressed, WafMode, identity_exclusions};
use super::{read_with, said_with};

const RULES: &str = "SecRule ARGS:q \"@contains x\" \"id:1,phase:2,deny,tag:'a'\"\n";
const SETUP: &str = "SecAction \"id:900990,phase:1,pass,nolog,setvar:tx.crs_setup_version=428,setvar:tx.inbound_anomaly_score_threshold=5,setvar:tx.blocking_paranoia_level=1\"\n";
const MARK: &str = "rules/REQUEST-901-INITIALIZATION.conf";

/// A configuration with one route, the files of rules beside it.
fn whole(top: &str, listener: &str, route: &str) -> String {
    format!(
        "listen:\n  - address: 127.0.0.1:0\n{listener}services: {{ a: [ http://10.0.0.1 ] }}\n{top}routes:\n  - match: /**\n    to: a\n    allow: anyone\n{route}"
    )
}

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("a.conf", RULES),
        ("waf/b.conf", RULES),
        ("waf/b2.conf", "SecRule ARGS:r \"@contains x\" \"id:2,phase:2,deny\"\n"),
        ("crs/crs-setup.conf", SETUP),
        ("crs/rules/REQUEST-901-INITIALIZATION.conf", RULES),
        ("broken.conf", "SecRule ARGS \"@contians x\" \"id:1,phase:2,deny\"\n"),
    ]
}

fn read(top: &str, listener: &str, route: &str) -> Configuration {
    read_with(&whole(top, listener, route), &files()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn without_a_word_there_is_none() {
    let read = read("", "", "");
    assert_eq!(
        (read.waf, read.listeners[0].waf, read.routes[0].waf),
        (WafChoice::Off, WafChoice::Inherit, WafChoice::Inherit)
    );
    assert!(read.firewalls.is_empty());
}

#[test]
fn short_and_long_forms_mean_the_same() {
    let long = read("waf: { mode: block, rules: [ a.conf ] }\n", "", "");
    for short in
        ["waf: a.conf\n", "waf: [ a.conf ]\n", "waf: { rules: a.conf }\n", "waf: { rules: \"a*.conf\" }\n"]
    {
        let mut read = read(short, "", "");
        read.firewalls[0].settings.rules.clone_from(&long.firewalls[0].settings.rules);
        assert_eq!(read.firewalls, long.firewalls, "{short}");
    }
    assert_eq!(long.firewalls[0].settings.mode, WafMode::Block);
    assert_eq!(long.firewalls[0].rules.statistics().rules, 1);
}

#[test]
fn listeners_and_routes_are_put_over_the_default() {
    let read = read(
        "waf: { rules: a.conf, exclusions: [ { rule: 1, target: \"ARGS:a\" } ] }\n",
        "    waf: detect\n",
        "    waf: { exclusions: [ { tag: a } ] }\n",
    );
    let [default, listener, route] =
        [read.waf, read.listeners[0].waf, read.routes[0].waf].map(|choice| match choice {
            WafChoice::Firewall(number) => &read.firewalls[number].settings,
            other => panic!("{other:?}"),
        });
    assert_eq!((default.mode, listener.mode, route.mode), (WafMode::Block, WafMode::Detect, WafMode::Block));
    assert_eq!([default, listener, route].map(|settings| settings.exclusions.len()), [1, 1, 2]);
    assert_eq!(route.exclusions[1].which, Excluded::Tag("a".to_owned()));
    assert_eq!(route.rules, default.rules);
}

#[test]
fn the_same_settings_are_loaded_once_and_off_is_nothing() {
    let read = read("waf: a.conf\n", "    waf: { mode: block }\n", "    waf: off\n");
    assert_eq!(read.firewalls.len(), 1);
    assert_eq!((read.listeners[0].waf, read.routes[0].waf), (read.waf, WafChoice::Off));
}

#[test]
fn the_engine_of_the_rule_files_counts_where_no_mode_is_written() {
    let rule = |engine: &str| format!("{engine}\nSecAction \"id:1,phase:1,deny\"\n");
    let (detects, off, on) =
        (rule("SecRuleEngine DetectionOnly"), rule("SecRuleEngine Off"), rule("SecRuleEngine On"));
    let files = [("detects.conf", detects.as_str()), ("off.conf", &off), ("on.conf", &on)];
    for (written, mode, warned) in [
        ("on.conf", Some(WafMode::Block), None),
        ("detects.conf", Some(WafMode::Detect), Some("SecRuleEngine DetectionOnly")),
        ("off.conf", None, Some("SecRuleEngine Off")),
        ("{ rules: detects.conf, mode: block }", Some(WafMode::Block), None),
        ("{ rules: off.conf, mode: block }", Some(WafMode::Block), None),
        ("{ rules: on.conf, mode: detect }", Some(WafMode::Detect), None),
    ] {
        let text = whole(&format!("waf: {written}\n"), "", "");
        let read = read_with(&text, &files).unwrap_or_else(|faults| panic!("{written}: {faults:#?}"));
        let mode_read = match read.waf {
            WafChoice::Firewall(number) => Some(read.firewalls[number].settings.mode),
            _ => None,
        };
        assert_eq!(mode_read, mode, "{written}");
        let engine = read.firewalls.first().map(|firewall| firewall.rules.settings().engine);
        assert_eq!(engine == Some(waf::EngineMode::On), mode == Some(WafMode::Block), "{written}");
        let warnings: Vec<_> = read.warnings.iter().map(|warning| warning.message.as_str()).collect();
        let said = warned.is_none_or(|word| warnings.iter().any(|warning| warning.contains(word)));
        assert!(said && (warned.is_some() || warnings.is_empty()), "{written}: {warnings:?}");
    }
}

#[test]
fn each_set_of_rule_files_that_refuses_nothing_is_told_of_once() {
    let detects = |id: u64| format!("SecRuleEngine DetectionOnly\nSecAction \"id:{id},phase:1,deny\"\n");
    let (one, other) = (detects(1), detects(2));
    let files = [("one.conf", one.as_str()), ("other.conf", &other)];
    for (route, count) in
        [("", 1), ("    waf: { exclusions: [ { rule: 1 } ] }\n", 1), ("    waf: other.conf\n", 2)]
    {
        let read = read_with(&whole("waf: one.conf\n", "", route), &files).unwrap();
        let said = read.warnings.iter().filter(|warning| warning.message.contains("DetectionOnly")).count();
        assert_eq!(said, count, "{route}: {:?}", read.warnings);
    }
}

#[test]
fn a_core_rule_set_is_known_by_its_files() {
    let read = read("waf: { rules: crs, paranoia: 2, thresholds: { inbound: 7 } }\n", "", "");
    // The base rules, the setup, what settings set, and its own rule.
    assert_eq!(read.firewalls[0].rules.statistics().rules, 5 + 1 + 6 + 1);
    assert!(read.firewalls[0].rules.settings().request_body_access);
    assert!(read.files.iter().any(|file| file.ends_with(MARK)), "a change of it is not seen");
}

#[test]
fn plugins_of_a_core_rule_set_are_loaded_where_they_belong() {
    let action = |id: u64| format!("SecAction \"id:{id},phase:1,pass,nolog\"\n");
    let (config, before, after) = (action(9_500_010), action(9_500_100), action(9_500_200));
    let mut all = files();
    all.extend([
        ("crs/plugins/a-after.conf", after.as_str()),
        ("crs/plugins/a-before.conf", &before),
        ("crs/plugins/a-config.conf", &config),
        ("crs/plugins/README.md", "no rules"),
    ]);
    let read = read_with(&whole("waf: crs\n", "", ""), &all).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let expected = [9_500_010, 9_500_100, 1, 9_500_200];
    let order: Vec<u64> = read.firewalls[0].rules.ids().filter(|id| expected.contains(id)).collect();
    assert_eq!(order, expected);
    assert!(
        read.files.iter().any(|file| file.ends_with("plugins/a-before.conf")),
        "a change of it is not seen"
    );
}

/// A hundred routes with an exclusion each, and settings of every kind.
#[test]
fn whoever_names_the_same_files_shares_their_compiled_rules() {
    let mut routes = String::new();
    for number in 0..100 {
        let waf = match number % 5 {
            0 => "paranoia: 2".to_owned(),
            1 => "mode: detect".to_owned(),
            2 => "thresholds: { inbound: 9 }".to_owned(),
            3 => "request_body: { limit: 1MiB }".to_owned(),
            _ => format!("exclusions: [ {{ rule: 1, target: \"ARGS:a{number}\" }} ]"),
        };
        routes.push_str(&format!(
            "    waf: {{ {waf} }}\n  - match: /{number}/**\n    to: a\n    allow: anyone\n"
        ));
    }
    let read = read("waf: crs\n", "    waf: { exclusions: [ { rule: 1 } ] }\n", &routes);
    let [first, others @ ..] = &read.firewalls[..] else { panic!("no firewall") };
    assert_eq!(others.len() + 1, 1 + 1 + 4 + 20, "the same settings are one firewall");
    assert!(
        others.iter().all(|other| other.rules.shares_rules(&first.rules)),
        "a rule set was compiled twice"
    );
    let apart = self::read("waf: a.conf\n", "", "    waf: { rules: [ a.conf, waf/b2.conf ] }\n");
    assert!(!apart.firewalls[0].rules.shares_rules(&apart.firewalls[1].rules), "other files are other rules");
}

#[test]
fn what_settings_say_counts_over_the_setup_file() {
    let inbound = |top: &str| {
        let read = read(top, "", "");
        let rules = Arc::clone(&read.firewalls[0].rules);
        let connection = waf::Connection {
            client_address: [127, 0, 0, 1].into(),
            client_port: 1,
            server_address: [127, 0, 0, 1].into(),
            server_port: 1,
        };
        let memory = Arc::new(waf::Memory::new(waf::MemoryLimits::default()));
        let mut transaction = waf::Transaction::new(rules, memory, connection, "id", 0);
        let head = waf::RequestHead {
            line: b"GET / HTTP/1.1",
            method: b"GET",
            target: b"/",
            protocol: b"HTTP/1.1",
            headers: &[],
        };
        let _ = transaction.request_headers(&head, waf::Budget::UNLIMITED);
        ["inbound_anomaly_score_threshold", "blocking_paranoia_level", "detection_paranoia_level"].map(
            |name| {
                let value = transaction.variable("TX", Some(name)).unwrap_or_default();
                String::from_utf8(value).unwrap()
            },
        )
    };
    assert_eq!(inbound("waf: crs\n"), ["5", "1", ""]);
    assert_eq!(inbound("waf: { rules: crs, thresholds: { inbound: 7 } }\n"), ["7", "1", ""]);
    assert_eq!(inbound("waf: { rules: crs, paranoia: 2 }\n"), ["5", "2", "2"]);
    assert_eq!(inbound("waf: { rules: crs, paranoia: 2, paranoia_detection: 3 }\n"), ["5", "2", "3"]);
}

#[test]
fn an_exclusion_that_excludes_nothing_is_told_once() {
    let told = |exclusions: &str, route: &str| {
        let top = format!("waf: {{ rules: a.conf, exclusions: [ {exclusions} ] }}\n");
        let found = read(&top, "", route).warnings;
        found.iter().filter(|finding| finding.to_string().contains("no rule is meant")).count()
    };
    assert_eq!(told("{ rule: 1 }", "    waf: detect\n"), 0);
    assert_eq!(told("{ rule: 7 }", "    waf: detect\n"), 1);
}

#[test]
fn what_is_wrong_with_an_exclusion_is_said_where_it_is_written() {
    let top =
        |second: &str| format!("waf:\n  rules: a.conf\n  exclusions:\n    - {{ rule: 1 }}\n    - {second}\n");
    let said = |top: &str, route: &str| said_with(&whole(top, "", route), &files());
    for (second, expected) in [
        ("{ rule: 7 }", "bastide.yaml:8:7: warning: no rule is meant"),
        ("{ rule: 1, target: \"ARG:a\" }", "bastide.yaml:8:7: an exclusion's target: unknown variable"),
    ] {
        let found = said(&top(second), "    waf: detect\n");
        assert!(found.len() == 1 && found[0].starts_with(expected), "{second}: {found:?}");
    }
    let found =
        said("waf: a.conf\n", "    waf:\n      exclusions:\n        - { tag: a }\n        - { tag: b }\n");
    assert!(
        found.len() == 1 && found[0].starts_with("bastide.yaml:12:11: warning: no rule is meant"),
        "{found:?}"
    );
    // Of rules that a default names, not where a route puts something over them.
    let found = said("waf: none.conf\n", "    waf: detect\n");
    assert_eq!(found, ["bastide.yaml:4:6: cannot read none.conf: no such file"]);
}

/// Two routes, of which the first leads to the identity provider.
fn with_identity(top: &str, listener: &str, route: &str) -> Configuration {
    let text = format!(
        "listen:\n  - address: 127.0.0.1:0\n{listener}services: {{ a: [ http://10.0.0.1 ] }}\nrealms: {{ town: {{ issuer: \"https://id.example.org\" }} }}\n{top}routes:\n  - match: id.example.org/**\n    to: identity\n    authenticate: none\n    allow: anyone\n{route}  - match: /**\n    to: a\n    allow: anyone\n"
    );
    let rule = |id| format!("SecRule ARGS \"@contains x\" \"id:{id},phase:2,deny\"\n");
    let attack = [920_230, 920_271, 942_100].map(rule).concat();
    let files = [files(), vec![("crs/rules/REQUEST-942.conf", attack.as_str())]].concat();
    read_with(&text, &files).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn routes_to_the_identity_provider_skip_its_parameters_unless_told_to_look() {
    let exclusions = |read: &Configuration, route: usize, choice| {
        let WafChoice::Firewall(number) = read.waf_on(&read.routes[route], choice) else { panic!() };
        read.firewalls[number].settings.exclusions.clone()
    };
    let skipped = identity_exclusions();
    let read = with_identity("waf: crs\n", "    waf: { exclusions: [ { rule: 1 } ] }\n", "");
    assert_eq!(exclusions(&read, 0, read.waf), skipped);
    assert_eq!(exclusions(&read, 1, read.waf), []);
    let by_listener = exclusions(&read, 0, read.listeners[0].waf);
    assert_eq!((by_listener.len(), &by_listener[1..]), (skipped.len() + 1, &skipped[..]));
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);

    let own = with_identity("waf: crs\n", "", "    waf: { paranoia: 2 }\n");
    assert_eq!(exclusions(&own, 0, own.routes[0].waf), skipped);
    for (top, route) in [
        ("waf: { rules: crs, identity_parameters: inspect }\n", ""),
        ("waf: crs\n", "    waf: { identity_parameters: inspect }\n"),
        ("waf: a.conf\n", ""),
    ] {
        let read = with_identity(top, "", route);
        let choice = if route.is_empty() { read.waf } else { read.routes[0].waf };
        assert_eq!(exclusions(&read, 0, choice), [], "{top}{route}");
    }
}

#[test]
fn compressed_bodies_are_refused_unless_something_else_is_said() {
    let both = |waf: &str| {
        let read = read(&format!("waf: {{ rules: a.conf, {waf} }}\n"), "", "");
        let settings = &read.firewalls[0].settings;
        (settings.request_body.compressed, settings.response_body.unreadable_passes)
    };
    assert_eq!(both("request_body: { limit: 1MiB }"), (None, None));
    assert_eq!(
        both("request_body: { compressed: refuse }, response_body: { unreadable: refuse }"),
        (Some(WafCompressed::Refuse), Some(false))
    );
    assert_eq!(
        both("request_body: { compressed: unpack }, response_body: { unreadable: pass }"),
        (Some(WafCompressed::Unpack), Some(true))
    );
    assert_eq!(both("request_body: { compressed: pass }").0, Some(WafCompressed::Pass));
}

#[test]
fn bodies_are_set_behind_the_files() {
    let read = read(
        "waf: { rules: a.conf, request_body: { access: true, limit: 1MiB, no_files_limit: 2KiB, over: partial }, response_body: { access: true, limit: 3KiB, over: reject, types: [ text/css ] } }\n",
        "",
        "",
    );
    let settings = read.firewalls[0].rules.settings();
    assert!(settings.request_body_access && settings.response_body_access);
    assert_eq!((settings.request_body_bytes_max, settings.request_body_no_files_bytes_max), (1 << 20, 2048));
    assert_eq!(settings.request_body_limit_action, waf::LimitAction::ProcessPartial);
    assert_eq!(
        (settings.response_body_bytes_max, settings.response_body_limit_action),
        (3072, waf::LimitAction::Reject)
    );
    assert_eq!(settings.response_body_types, ["text/css"]);
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    for (waf, said) in [
        ("{ mode: blok, rules: a.conf }", "unknown mode \"blok\""),
        ("{ rules: a.conf, paranoia: 5 }", "from 1 to 4"),
        ("{ rules: crs, paranoia: 3, paranoia_detection: 2 }", "at least paranoia"),
        ("{ rules: a.conf, paranoia: 1 }", "names no folder of one"),
        ("{ rules: a.conf, methods: PUT }", "names no folder of one"),
        ("{ rules: a.conf, content_types: [ application/grpc ] }", "names no folder of one"),
        ("{ rules: crs, methods: put }", "(write \"PUT\")"),
        ("{ rules: crs, methods: [ \"GET PUT\" ] }", "a method in capitals"),
        ("{ rules: crs, content_types: \"a/b| |c/d\" }", "a media type"),
        ("{ rules: crs, content_types: \"a/%{tx.a}\" }", "a media type"),
        ("{ mode: block }", "the firewall has no rules"),
        ("{ rules: none.conf }", "none.conf"),
        ("{ rules: \"none*.conf\" }", "matches no rule file"),
        ("{ rules: [ crs, crs ] }", "second Core Rule Set"),
        ("{ rules: broken.conf }", "broken.conf:1:"),
        ("{ rules: a.conf, exclusions: [ {} ] }", "found neither"),
        ("{ rules: a.conf, exclusions: [ { rule: 1, tag: a } ] }", "found both"),
        ("{ rules: a.conf, exclusions: [ { rule: 9-1 } ] }", "a rule's id"),
        ("{ rules: a.conf, exclusions: [ { rule: 1, target: \"ARGS:a\\\"b\" } ] }", "a target such as"),
        ("{ rules: a.conf, exclusions: [ { tag: \"a|b\" } ] }", "a tag such as"),
        ("{ rules: a.conf, exclusions: [ { rule: 1, target: \"ARG:a\" } ] }", "unknown variable \"ARG\""),
        ("{ rules: a.conf, request_body: { compressed: inflate } }", "unknown answer"),
        ("{ rules: a.conf, response_body: { unreadable: drop } }", "unknown answer"),
        ("{ rules: a.conf, identity_parameters: pass }", "unknown answer"),
        ("{ rules: a.conf, response_body: { types: [ text ] } }", "a media type"),
        ("{ rules: a.conf, request_body: { limit: 2GiB } }", "1GiB"),
        ("{ rules: a.conf, request_body: { over: drop } }", "unknown answer"),
        ("{ rule: a.conf }", "did you mean \"rules\""),
    ] {
        let findings = said_with(&whole(&format!("waf: {waf}\n"), "", ""), &files());
        assert!(findings.iter().any(|finding| finding.contains(said)), "{waf}: {findings:#?}");
        assert!(findings.iter().all(|finding| finding.contains("bastide.yaml:4:")), "{waf}: {findings:#?}");
    }
}

#[test]
fn a_body_that_is_held_fits_into_what_may_be_held() {
    let small = "limits: { body_bytes_max: 1MiB, held_bytes_max: 8MiB }\n";
    let firewall = "    waf: a.conf\n";
    let schema = "    validate: { body: any.json, body_max: 4MiB }\n";
    let of_address = "limits: { held_bytes_per_address_max: 3MiB }\n";
    let mut files = files();
    files.push(("any.json", "{}"));
    let said = |top: &str, route: &str| said_with(&whole(top, "", route), &files);
    for (top, route) in [
        // What nobody holds may have any length, and so may what the firewall does not read.
        (small, "    body_max: 1GiB\n".to_owned()),
        (small, "    body_max: 1GiB\n    waf: { mode: detect, rules: a.conf }\n".to_owned()),
        (
            small,
            "    body_max: 1GiB\n    waf: { rules: a.conf, request_body: { access: false } }\n".to_owned(),
        ),
        (small, "    body_max: 1GiB\n    waf: { rules: a.conf, request_body: { limit: 1MiB } }\n".to_owned()),
        (small, format!("    body_max: 3MiB\n{firewall}")),
        (small, firewall.to_owned()),
        // The route permits less than could be judged.
        (small, schema.to_owned()),
        ("", format!("    body_max: 64MiB\n{firewall}")),
        ("", format!("    body_max: 1GiB\n{firewall}")),
    ] {
        assert_eq!(said(top, &route), [""; 0], "{top}{route}");
    }
    let most = "which takes up to";
    for (top, listener, route, place, whom) in [
        (small, "", format!("    body_max: 4MiB\n{firewall}"), "9:15", "4MiB are held for the firewall"),
        (
            small,
            "    waf: a.conf\n",
            "    body_max: 4MiB\n".to_owned(),
            "10:15",
            "4MiB are held for the firewall",
        ),
        (of_address, "", firewall.to_owned(), "6:5", "16MiB are held for the firewall"),
        // What came, and what it unpacks to.
        (
            small,
            "",
            "    waf: { rules: a.conf, request_body: { limit: 3MiB, compressed: unpack } }\n".to_owned(),
            "6:5",
            "1MiB are held for the firewall",
        ),
        (of_address, "", schema.to_owned(), "9:15", "4MiB are held for validate"),
    ] {
        let said = said_with(&whole(top, listener, &route), &files);
        assert_eq!(said.len(), 1, "{said:?}");
        let begins = format!("bastide.yaml:{place}: bodies of up to {whom}, {most}");
        assert!(said[0].starts_with(&begins), "{begins}\n{}", said[0]);
    }
}
