//! Everything that a load refuses: which kind, where, and with which advice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use policy::fault::Kind;
use policy::{Access, Fault, Member, Severity, Source, Vocabulary, limits};
use testbed::*;

/// A mutation of the vocabulary and what must be said of it.
type VocabularyCase = (fn(&mut Vocabulary), Kind, &'static str);

/// Asserts that `text` has exactly one error, of this kind, there, that says this.
fn one(text: &str, kind: Kind, position: (u32, u32), says: &str) {
    let found = faults(text);
    let errors: Vec<&Fault> = found.iter().filter(|f| f.severity == Severity::Error).collect();
    let all: Vec<String> = found.iter().map(Fault::to_string).collect();
    assert_eq!(errors.len(), 1, "{text}\n{}", all.join("\n"));
    assert_eq!(errors[0].kind, kind, "{text}\n{}", errors[0]);
    assert_eq!((errors[0].line, errors[0].column), position, "{text}\n{}", errors[0]);
    assert!(errors[0].to_string().starts_with("shop.cedar:"), "{}", errors[0]);
    assert!(errors[0].message.contains(says), "{text}\n{}\nlacks {says:?}", errors[0]);
}

#[test]
fn a_typing_error_in_each_kind_of_entity_is_found_with_position_and_suggestion() {
    let table = [
        (
            r#"permit(principal in Role::"admni", action, resource);"#,
            (1, 21),
            r#"unknown role "admni" (did you mean "admin"?)"#,
        ),
        (
            r#"permit(principal is User in Role::"custmer", action, resource);"#,
            (1, 29),
            r#"(did you mean "customer"?)"#,
        ),
        (
            r#"permit(principal, action, resource == Route::"oders");"#,
            (1, 39),
            r#"unknown route "oders" (did you mean "orders"?)"#,
        ),
        (
            r#"permit(principal, action == Action::"GTE", resource);"#,
            (1, 29),
            r#"unknown action "GTE" (did you mean "GET"?)"#,
        ),
        (
            r#"permit(principal, action in [Action::"GET", Action::"PSOT"], resource);"#,
            (1, 45),
            r#"(did you mean "POST"?)"#,
        ),
        (
            r#"permit(principal == Service::"spiffe://shop.example/oders", action, resource);"#,
            (1, 21),
            r#"(did you mean "spiffe://shop.example/orders"?)"#,
        ),
        (
            r#"permit(principal == Service::"orders", action, resource);"#,
            (1, 21),
            "is not a SPIFFE ID: a SPIFFE ID starts with spiffe://",
        ),
        (
            r#"permit(principal == Client::"bacth", action, resource);"#,
            (1, 21),
            r#"unknown client "bacth" (did you mean "batch"?)"#,
        ),
        (
            r#"permit(principal == ApiKey::"deploy", action, resource);"#,
            (1, 21),
            r#"unknown API key "deploy": the configured API keys are ci"#,
        ),
        (
            r#"permit(principal == Anonymous::"anyone", action, resource);"#,
            (1, 21),
            r#"Anonymous::"anonymous""#,
        ),
        (
            r#"permit(principal == Usr::"alice", action, resource);"#,
            (1, 21),
            r#"unknown entity type Usr (did you mean "User"?)"#,
        ),
        (r#"permit(principal is Usr, action, resource);"#, (1, 21), r#"(did you mean "User"?)"#),
        // In conditions, too, and on later lines.
        (
            "permit(principal, action, resource)\nwhen { principal in Role::\"admni\" };",
            (2, 21),
            r#"(did you mean "admin"?)"#,
        ),
        (
            "permit(principal, action, resource)\nunless { principal in [Role::\"admin\", Role::\"auditr\"] };",
            (2, 39),
            r#"(did you mean "auditor"?)"#,
        ),
        (
            "permit(principal, action, resource)\nwhen { resource == Route::\"refund\" };",
            (2, 20),
            r#"(did you mean "refunds"?)"#,
        ),
        (
            "permit(principal, action, resource)\nwhen { context.tls && action == Action::\"get\" };",
            (2, 33),
            r#"(did you mean "GET"?)"#,
        ),
        (
            "permit(principal, action, resource)\nwhen { principal is Usr };",
            (2, 21),
            "unknown entity type Usr",
        ),
    ];
    for (text, position, says) in table {
        one(text, Kind::Unknown, position, says);
    }
    // Their neighbours load.
    for honest in [
        r#"permit(principal in Role::"admin", action == Action::"GET", resource == Route::"orders");"#,
        r#"permit(principal == Service::"spiffe://shop.example/orders", action, resource);"#,
        r#"permit(principal == Client::"batch", action, resource);"#,
        r#"permit(principal == ApiKey::"ci", action, resource);"#,
        r#"permit(principal == User::"whoever this is", action, resource);"#,
    ] {
        load(honest);
    }
}

#[test]
fn a_typing_error_in_each_kind_of_attribute_is_found() {
    let when = |condition: &str| format!("permit(principal, action, resource)\nwhen {{ {condition} }};");
    let table = [
        ("context.huor < 3", "context has no attribute \"huor\" (did you mean \"hour\"?)"),
        ("principal.di == \"x\"", "principal has no attribute \"di\""),
        ("resource.params has onwer && resource.params.onwer == \"x\"", "(did you mean \"owner\"?)"),
        ("resource.parms has owner", "(did you mean \"params\"?)"),
        ("context.headers has \"x-tennant\"", "(did you mean \"x-tenant\"?): name it under `policy.headers`"),
        ("context.claims has levle", "(did you mean \"level\"?): declare it under `authentication.claims`"),
        ("principal.claims has colour", "principal.claims has no attribute \"colour\""),
        ("context has certificat", "(did you mean \"certificate\"?)"),
        ("context has certificate.subjet", "(did you mean \"subject\"?)"),
        ("resource.service == \"oders\"", "resource.service is never \"oders\" (did you mean \"orders\"?)"),
        ("\"oders\" == resource.service", "resource.service is never \"oders\""),
        (
            "[\"orders\", \"paymets\"].contains(resource.service)",
            "never \"paymets\" (did you mean \"payments\"?)",
        ),
        ("resource.name == \"order\"", "resource.name is never \"order\""),
        ("context has tls_version && context.tls_version == \"1.1\"", "context.tls_version is never \"1.1\""),
        ("context.credential == \"jtw\"", "context.credential is never \"jtw\" (did you mean \"jwt\"?)"),
    ];
    for (condition, says) in table {
        let found = faults(&when(condition));
        assert!(!found.is_empty(), "{condition}");
        for fault in found.iter().filter(|fault| fault.severity == Severity::Error) {
            assert_eq!((fault.kind, fault.line), (Kind::Unknown, 2), "{condition}: {fault}");
            assert!(fault.message.contains(says), "{condition}: {fault}");
        }
    }
    for honest in [
        "context.hour < 3",
        "resource.params has owner && resource.params.owner == principal.id",
        "context.headers has \"x-tenant\"",
        "context.claims has level && context.claims.level == 1",
        "context has certificate && context.certificate has spiffe_id",
        "[\"orders\", \"payments\"].contains(resource.service)",
    ] {
        load(&when(honest));
    }
}

#[test]
fn types_and_unguarded_attributes_are_refused() {
    let when = |condition: &str| format!("permit(principal, action, resource)\nwhen {{ {condition} }};");
    let table = [
        ("context.hour == \"nine\"", (2, 8), "not compatible"),
        ("context.hour < \"nine\"", (2, 23), "expected Long"),
        ("resource.params.owner == principal.id", (2, 8), "has"),
        ("context.certificate.subject == \"x\"", (2, 8), "has"),
        ("context.headers[\"x-tenant\"] == [\"a\"]", (2, 8), "has"),
        ("context.headers has \"x-tenant\" && context.headers[\"x-tenant\"] == \"a\"", (2, 42), ""),
        ("context.address.isInRange(ip(\"10.0.0.0/99\"))", (2, 34), ""),
        ("context.address.isInRange(ip(principal.id))", (2, 34), ""),
        ("principal.id", (2, 8), "expected Bool"),
    ];
    for (condition, position, says) in table {
        let found = faults(&when(condition));
        let errors: Vec<&Fault> = found.iter().filter(|f| f.severity == Severity::Error).collect();
        assert!(!errors.is_empty(), "{condition}");
        for error in errors {
            assert_eq!(error.kind, Kind::Type, "{condition}: {error}");
            assert_eq!((error.line, error.column), position, "{condition}: {error}");
            assert!(error.message.contains(says), "{condition}: {error}");
        }
    }
}

#[test]
fn what_is_not_cedar_is_refused_where_it_stops_being_cedar() {
    let table = [
        ("permit(principal, action, resource)", (1, 36)),
        ("permit(principal, action);", (1, 25)),
        ("allow(principal, action, resource);", (1, 1)),
        ("permit(principal, action, resource) when { context.hour << 3 };", (1, 58)),
        ("permit(principal, action, resource)\nwhen { \"open };", (2, 8)),
        ("permit(principal, action, resource);\n}", (2, 1)),
    ];
    for (text, position) in table {
        let found = faults(text);
        assert!(!found.is_empty(), "{text}");
        assert_eq!(found[0].kind, Kind::Syntax, "{text}: {}", found[0]);
        assert_eq!((found[0].line, found[0].column), position, "{text}: {}", found[0]);
    }
}

#[test]
fn forms_that_look_past_the_request_are_refused() {
    let when = |condition: &str| format!("permit(principal, action, resource)\nwhen {{ {condition} }};");
    for condition in [
        r#"User::"bob" in Role::"admin""#,
        r#"User::"bob".id == principal.id"#,
        r#"User::"bob" has acr"#,
        r#"(if context.tls then principal else User::"bob").id == "x""#,
        r#"principal in (if context.tls then Role::"admin" else Role::"customer")"#,
    ] {
        let found = faults(&when(condition));
        assert!(found.iter().any(|fault| fault.kind == Kind::Unsupported), "{condition}: {found:?}");
    }
    let found = faults("permit(principal == ?principal, action, resource);");
    assert_eq!(found[0].kind, Kind::Unsupported);
    let found = faults(r#"permit(principal, action, resource) when { principal.hasTag("x") };"#);
    assert_eq!(found[0].kind, Kind::Unsupported, "{found:?}");
}

#[test]
fn ids_are_unique_and_printable() {
    one(
        "@id(\"a\")\npermit(principal, action, resource);\n@id(\"a\")\nforbid(principal, action, resource);",
        Kind::Duplicate,
        (3, 1),
        "already the id of the policy at shop.cedar:1",
    );
    one("@id(\"\") permit(principal, action, resource);", Kind::Unsupported, (1, 1), "empty");
    one("@id(\"a\\nb\") permit(principal, action, resource);", Kind::Unsupported, (1, 1), "control");
    let policies = load(
        "permit(principal, action, resource); forbid(principal, action, resource) when { context.tls };\n\
         @id(\"named\") permit(principal, action, resource);",
    );
    assert_eq!(policies.ids().collect::<Vec<_>>(), ["shop.cedar:1", "shop.cedar:1:38", "named"]);
}

#[test]
fn an_id_with_a_backtick_still_gets_its_faults_placed() {
    one(
        "@id(\"a`, b\")\npermit(principal, action, resource) when { context.hour < \"x\" };",
        Kind::Type,
        (2, 59),
        "expected Long",
    );
}

#[test]
fn all_faults_of_all_files_come_at_once() {
    let sources = [
        Source {
            name: "a.cedar".into(),
            text: "permit(principal in Role::\"admni\", action, resource);".into(),
        },
        Source { name: "b.cedar".into(), text: "\n\npermit(principal, actoin, resource);".into() },
        Source {
            name: "c.cedar".into(),
            text: "permit(principal, action, resource == Route::\"oders\") when { context.hour < \"x\" };"
                .into(),
        },
    ];
    let mut vocabulary = vocabulary();
    vocabulary.roles[0].includes.push("gust".into());
    let found = policy::load(vocabulary, &sources, 1).unwrap_err();
    let places: Vec<String> =
        found.iter().map(|fault| format!("{}:{}", fault.source_name, fault.line)).collect();
    for place in ["a.cedar:1", "b.cedar:3", "c.cedar:1", "bastide.yaml:3:3:0"] {
        assert!(places.iter().any(|found| found == place), "{place} not in {places:?}");
    }
    assert!(places.iter().filter(|found| *found == "c.cedar:1").count() >= 2, "{places:?}");
}

#[test]
fn the_vocabulary_itself_is_checked() {
    let table: [VocabularyCase; 11] = [
        (|v| v.roles[1].includes.push("custmer".into()), Kind::Unknown, "did you mean \"customer\"?"),
        (|v| v.roles[0].includes.push("admin".into()), Kind::Vocabulary, "includes itself"),
        (|v| v.roles[3].includes.push("auditor".into()), Kind::Vocabulary, "includes itself"),
        (|v| v.roles[3].name = "admin".into(), Kind::Duplicate, "role \"admin\" is declared twice"),
        (|v| v.routes[3].name = "orders".into(), Kind::Duplicate, "route \"orders\" is declared twice"),
        (|v| v.roles[3].name = "a\nb".into(), Kind::Vocabulary, "control characters"),
        (|v| v.routes[3].name = String::new(), Kind::Vocabulary, "empty"),
        (|v| v.headers.push("X-Upper".into()), Kind::Vocabulary, "not a field name in lower case"),
        (|v| v.claims.extend([(String::new(), model::ClaimType::Text)]), Kind::Vocabulary, "claim"),
        (|v| v.routes[0].parameters.push("a\0".into()), Kind::Vocabulary, "parameter"),
        (
            |v| {
                let nobody = Member { kind: model::PrincipalKind::Anonymous, id: "anonymous".into() };
                v.roles[0].members.push(nobody);
            },
            Kind::Vocabulary,
            "nobody is in no role",
        ),
    ];
    for (break_it, kind, says) in table {
        let mut broken = vocabulary();
        break_it(&mut broken);
        let found = policy::load(broken, &[], 1).unwrap_err();
        let fits = |fault: &Fault| fault.kind == kind && fault.message.contains(says);
        assert!(found.iter().any(fits), "{says}: {found:?}");
    }
    assert!(policy::load(vocabulary(), &[], 1).is_ok());
}

#[test]
fn odd_but_allowed_names_make_a_valid_schema() {
    let mut odd = vocabulary();
    odd.routes[0].name = "GET,POST shop.example/orders/{owner}/**".into();
    odd.routes[0].parameters = vec!["order-id".into(), "in".into(), "a \"b\" \\c".into(), "für".into()];
    odd.roles[0].name = "Kunde \"A\"".into();
    odd.roles[1].includes = vec!["Kunde \"A\"".into()];
    odd.claims.insert("https://id.example/claims#level".into(), model::ClaimType::Long);
    odd.routes[2].methods = vec!["PROPFIND".into(), "M-SEARCH".into(), "read".into()];
    let text = r#"permit(principal in Role::"Kunde \"A\"", action == Action::"M-SEARCH", resource)
        when { resource.params has "order-id" && resource.params has "a \"b\" \\c" && resource.params has "für"
            && context.claims has "https://id.example/claims#level" };
        permit(principal, action, resource == Route::"GET,POST shop.example/orders/{owner}/**");"#;
    if let Err(faults) = policy::load(odd, &source(text), 1) {
        panic!("{}", faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn what_can_never_apply_is_a_warning() {
    let warnings =
        |text: &str| -> Vec<String> { load(text).warnings().iter().map(Fault::to_string).collect() };
    let quiet = "permit(principal, action, resource);";
    assert_eq!(warnings(quiet), [""; 0]);
    let table = [
        // Types say so.
        (r#"permit(principal is Anonymous in Role::"admin", action, resource);"#, "shop.cedar:"),
        ("forbid(principal, action, resource) when { false };", "shop.cedar:"),
        // No route takes the method.
        (
            r#"forbid(principal, action == Action::"DELETE", resource == Route::"orders");"#,
            "no route takes a method that this policy is about",
        ),
    ];
    for (text, says) in table {
        let found = warnings(&format!("{quiet}\n{text}"));
        assert!(!found.is_empty() && found.iter().all(|w| w.contains(says)), "{text}: {found:?}");
    }
    let found = warnings(r#"permit(principal, action, resource == Route::"orders");"#);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("no policy can permit anything on route \"refunds\""), "{found:?}");
    assert!(found[0].starts_with("bastide.yaml:"), "{found:?}");
    assert!(found[1].contains("\"catalogue\""), "{found:?}");
}

#[test]
fn text_that_looks_like_other_text_is_a_warning() {
    let policies = load("permit(principal == User::\"\u{430}lice\", action, resource);");
    assert!(policies.warnings().iter().any(|w| w.kind == Kind::Confusable), "{:?}", policies.warnings());
    let policies = load("permit(principal == User::\"alice\", action, resource);");
    assert!(!policies.warnings().iter().any(|w| w.kind == Kind::Confusable));
}

/// At the limit it loads; one past it is a fault of that kind.
fn bounded(at: &str, past: &str) {
    let errors = |text: &str| {
        faults(text).into_iter().filter(|f| f.severity == Severity::Error).map(|f| f.kind).collect::<Vec<_>>()
    };
    assert_eq!(errors(at), []);
    assert_eq!(errors(past), [Kind::Limit]);
}

#[test]
fn each_limit_holds_at_the_limit_and_one_past() {
    let filled = |bytes: usize| {
        let policy = "permit(principal, action, resource);";
        format!("{policy}//{}", "x".repeat(bytes - policy.len() - 2))
    };
    bounded(&filled(limits::SOURCE_BYTES_MAX), &filled(limits::SOURCE_BYTES_MAX + 1));

    // The braces of the condition are one level.
    let nested = |depth: usize| {
        format!(
            "permit(principal, action, resource) when {{ {}context.tls{} }};",
            "(".repeat(depth - 1),
            ")".repeat(depth - 1)
        )
    };
    bounded(&nested(limits::NESTING_MAX), &nested(limits::NESTING_MAX + 1));

    // Two brackets and a dot, then one bang per further operator pair of a conjunct.
    let long = |operators: usize| {
        let (parts, rest) = ((operators - 3) / 3, (operators - 3) % 3);
        let conjuncts = " && context.tls".repeat(parts);
        format!("permit(principal, action, resource) when {{ {}context.tls{conjuncts} }};", "!".repeat(rest))
    };
    bounded(&long(limits::OPERATORS_MAX), &long(limits::OPERATORS_MAX + 1));
}

#[test]
fn counts_are_bounded() {
    let mut many = vocabulary();
    let template = many.roles[3].clone();
    let role = |number: usize| policy::Role { name: format!("r{number}"), ..template.clone() };
    many.roles = (0..limits::ROLES_MAX).map(role).collect();
    assert!(policy::load(many.clone(), &[], 1).is_ok());
    many.roles.push(role(limits::ROLES_MAX));
    assert_eq!(policy::load(many, &[], 1).unwrap_err()[0].kind, Kind::Limit);

    let mut methods = vocabulary();
    for route in &mut methods.routes {
        route.methods.clear();
        route.access = Access::Public;
    }
    methods.routes[0].methods = (0..limits::METHODS_MAX).map(|number| format!("M{number}")).collect();
    assert!(policy::load(methods.clone(), &[], 1).is_ok());
    methods.routes[0].methods.push("MORE".into());
    assert_eq!(policy::load(methods, &[], 1).unwrap_err()[0].kind, Kind::Limit);
}
