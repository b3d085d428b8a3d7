use super::*;

use serde_json::{Value, json};

const JSON: &str = "application/json";

#[test]
fn json_bodies_keep_their_schema() {
    let shop = api(SHOP);
    for (body, expected) in [
        (r#"{"item":"tea","quantity":1}"#, ""),
        (r#"{"item":"tea","quantity":1,"note":null,"secret":"s"}"#, ""),
        (r#"{"item":"tea","quantity":1,"lines":[{"sku":"a","parts":[{"sku":"b"}]}]}"#, ""),
        (r#"{"item":"tea","quantity":0}"#, "body /quantity: minimum"),
        (r#"{"item":"tea","quantity":2147483648}"#, "/quantity: maximum"),
        (r#"{"item":"tea","quantity":"1"}"#, "/quantity: type"),
        (r#"{"item":"Tea","quantity":1}"#, "/item: pattern"),
        (r#"{"item":null,"quantity":1}"#, "/item: type"),
        (r#"{"item":"tea"}"#, "required"),
        (r#"{"item":"tea","quantity":1,"admin":true}"#, "additionalProperties"),
        (r#"{"item":"tea","quantity":1,"id":7}"#, "/id: not"),
        (r#"{"item":"tea","quantity":1,"lines":[{"sku":"a","parts":[{}]}]}"#, "/lines/0/parts/0: required"),
        (r#"{"item":"tea","quantity":1,"quantity":2}"#, "body: duplicate key"),
        (r#"{"item":"tea","quantity":1} {}"#, "body: JSON"),
        ("", "body: JSON"),
        ("[]", "body: type"),
    ] {
        let found = post(&shop, "/orders", JSON, body);
        assert_says(&found, expected, body);
    }
}

#[test]
fn a_number_is_judged_as_it_is_written() {
    let schema = br#"{"properties":{"n":{"maximum":5}}}"#;
    let contract = Arc::new(load_schema(schema, settings()).unwrap());
    for (number, expected) in [
        ("0.1", ""),
        ("1.10", ""),
        ("1e-3", ""),
        ("3.141592653589793", ""),
        ("5.0", ""),
        ("5.1", "/n: maximum"),
        ("5.00000000000000001", "body: precision"),
        ("3.141592653589793238", "body: precision"),
    ] {
        let found = post(&contract, "/", JSON, &format!("{{\"n\":{number}}}"));
        assert_says(&found, expected, number);
    }
}

#[test]
fn what_is_wrong_is_told_without_values() {
    let shop = api(SHOP);
    let found = post(&shop, "/orders", JSON, r#"{"item":"SECRET","quantity":1}"#);
    assert!(found.contains("/item: pattern") && !found.contains("SECRET"), "{found}");
    assert!(!get(&shop, "/orders?limit=SECRET").contains("SECRET"));
    let many: String = (0..20).map(|n| format!("\"x{n}\":1,")).collect();
    let found = post(
        &shop,
        "/orders",
        JSON,
        &format!(r#"{{{many}"item":1,"quantity":"x","note":1,"lines":1,"secret":1}}"#),
    );
    assert!(found.split("; ").count() <= VIOLATIONS_MAX, "{found}");
}

#[test]
fn media_types_and_encodings_are_those_of_the_document() {
    let shop = api(SHOP);
    let good = r#"{"item":"tea","quantity":1}"#;
    for (media, expected) in [
        ("application/json", ""),
        ("Application/JSON; charset=utf-8", ""),
        ("application/json; charset=utf-16", "charset"),
        ("text/plain", "media type"),
        ("application/xml", "media type"),
        ("json", "media type"),
        ("application/json, text/plain", "media type"),
    ] {
        let found = post(&shop, "/orders", media, good);
        assert_says(&found, expected, media);
    }
    for headers in [
        &[("content-type", JSON), ("content-encoding", "gzip")][..],
        &[("content-type", JSON), ("content-type", "text/plain")],
        &[],
    ] {
        let ask = Ask { method: "POST", target: "/orders", headers, body: Some(good) };
        assert!(!wrong(&shop, &ask).is_empty(), "{headers:?}");
    }
}

#[test]
fn a_body_is_there_when_it_has_to_and_only_then() {
    let shop = api(SHOP);
    let ask = |method, target, body| Ask { method, target, headers: &[], body };
    assert!(wrong(&shop, &ask("POST", "/orders", None)).contains("body: required"));
    assert_eq!(wrong(&shop, &ask("POST", "/form", None)), "");
    assert_eq!(wrong(&shop, &ask("GET", "/orders/5", Some(""))), "");
    assert!(wrong(&shop, &ask("GET", "/orders/5", Some("x"))).contains("body: undeclared"));
    let sure = shop.open(&ask("GET", "/orders/5", None), HasBody::Yes).unwrap_err();
    assert_eq!(sure.violations.first().class, Class::Body);
}

#[test]
fn forms_are_read_by_their_properties() {
    let shop = api(SHOP);
    for (body, expected) in [
        ("n=1", ""),
        ("n=1&tags=a&tags=b&list=1,2", ""),
        ("n=x", "body /n: type"),
        ("tags=a", "required"),
        ("n=1&n=2", "duplicate"),
        ("n=1&list=1&list=2", "duplicate"),
        ("n=1&other=2", "additionalProperties"),
        ("n=%", "encoding"),
        ("n=1&_charset_=utf-7", "/_charset_: charset"),
        ("n=1&%5Fcharset_=iso-8859-1", "/_charset_: charset"),
        ("n=1&_charset_=UTF-8", "additionalProperties"),
    ] {
        let found = post(&shop, "/form", "application/x-www-form-urlencoded", body);
        assert_says(&found, expected, body);
    }
}

#[test]
fn multipart_bodies_are_read_by_their_properties() {
    let shop = api(SHOP);
    let part = |head: &str, content: &str| {
        format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
    };
    let file = part("name=\"file\"; filename=\"a\"\r\nContent-Type: image/png", "12345");
    for (parts, expected) in [
        (file.clone(), ""),
        (file.clone() + &part("name=\"meta\"", "{\"a\":1}") + &part("name=\"n\"", "5"), ""),
        (file.clone() + &part("name=\"meta\"", "{}"), "body /meta: required"),
        (file.clone() + &part("name=\"meta\"", "{\"a\":1,\"a\":2}"), "/meta: duplicate key"),
        (file.clone() + &part("name=\"n\"", "x"), "/n: type"),
        (file.clone() + &part("name=\"o\"", "x"), "additionalProperties"),
        (file.clone() + &file, "/file: duplicate"),
        (file.replace("image/png", "text/html"), "/file: media type"),
        (file.replace("12345", "12345678901"), "/file: maxLength"),
        (part("name=\"n\"", "5"), "required"),
        (file.replace("image/png", "image/png; charset=iso-8859-1"), ""),
        (file.clone() + &part("name=\"n\"\r\nContent-Type: text/plain; charset=UTF-8", "5"), ""),
        (file.clone() + &part("name=\"n\"\r\nContent-Type: text/plain; charset=us-ascii", "5"), ""),
        (
            file.clone() + &part("name=\"n\"\r\nContent-Type: text/plain; charset=us-ascii", "é"),
            "/n: encoding",
        ),
        (
            file.clone() + &part("name=\"n\"\r\nContent-Type: text/plain; charset=utf-16le", "5"),
            "/n: charset",
        ),
        (
            file.clone()
                + &part("name=\"meta\"\r\nContent-Type: application/json; charset=utf-7", "{\"a\":1}"),
            "/meta: charset",
        ),
        (file.clone() + &part("name=\"n\"; filename=\"\"", "5"), "body: multipart"),
        // The field that says in which set the others are: a service that follows it reads
        // `<script>` where the schema sees other letters.
        (file.clone() + &part("name=\"_charset_\"", "utf-7"), "/_charset_: charset"),
        (file.clone() + &part("name=\"_Charset_\"", "utf-16le"), "/_charset_: charset"),
        (file.clone() + &part("name=\"_charset_\"; filename=\"a\"", "utf-7"), "/_charset_: charset"),
        (
            part("name=\"_charset_\"", "UTF-8") + &part("name=\"_charset_\"", "utf-7") + &file,
            "/_charset_: charset",
        ),
        (file.clone() + &part("name=\"_charset_\"", "UTF-8"), "additionalProperties"),
        (file.clone() + &part("name=\"_charset_\"", " us-ascii"), "additionalProperties"),
    ] {
        let found = post(&shop, "/upload", "multipart/form-data; boundary=x", &format!("{parts}--x--\r\n"));
        assert_says(&found, expected, parts);
    }
    assert!(post(&shop, "/upload", "multipart/form-data", &file).contains("multipart"));
    let body = format!("{file}--x--\r\n");
    for (parameters, expected) in [
        ("boundary=\"x\"", ""),
        ("charset=UTF-8; boundary=x", ""),
        // PHP takes the first that begins with the word, wherever it stands.
        ("a=\"boundary=y\"; boundary=x", "multipart"),
        ("xboundary=y; boundary=x", "multipart"),
        ("boundary=x; a=b", "multipart"),
    ] {
        let found = post(&shop, "/upload", &format!("multipart/form-data; {parameters}"), &body);
        assert_says(&found, expected, parameters);
    }
    assert_eq!(post(&shop, "/upload", "application/octet-stream", "\u{1}anything"), "");
    assert_eq!(post(&shop, "/upload", "text/plain", "12345"), "");
    assert!(post(&shop, "/upload", "text/plain", "123456").contains("maxLength"));
    assert_eq!(post(&shop, "/upload", "text/plain; charset=utf-8", "é"), "");
    assert!(post(&shop, "/upload", "text/plain; charset=us-ascii", "é").contains("encoding"));
}

#[test]
fn a_schema_alone_judges_json_bodies() {
    let schema = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"n":{"type":"integer"}},
        "type":"object","properties":{"a":{"$ref":"#/$defs/n"}},"required":["a"]}"##;
    let contract = Arc::new(load_schema(schema.as_bytes(), settings()).unwrap());
    assert_eq!(post(&contract, "/any", JSON, r#"{"a":1}"#), "");
    assert_eq!(post(&contract, "/any", "application/merge-patch+json", r#"{"a":1}"#), "");
    assert!(post(&contract, "/any", JSON, r#"{"a":"x"}"#).contains("body /a: type"));
    assert!(post(&contract, "/any", "text/plain", r#"{"a":1}"#).contains("media type"));
    assert!(
        wrong(&contract, &Ask { method: "POST", target: "/", headers: &[], body: None }).contains("required")
    );
    assert_eq!(get(&contract, "/any?x=1"), "");
}

#[test]
fn a_contract_that_reports_excuses_and_one_that_enforces_does_not() {
    let undocumented = |contract: &Arc<Contract>| {
        contract
            .open(&Ask { method: "GET", target: "/other", headers: &[], body: None }, HasBody::No)
            .unwrap_err()
    };
    let broken = |contract: &Arc<Contract>| {
        let ask = Ask { method: "GET", target: "/orders?limit=0", headers: &[], body: None };
        contract.open(&ask, HasBody::No).unwrap_err()
    };
    for (mode, other) in [
        (Mode::Enforce, Mode::Enforce),
        (Mode::Enforce, Mode::Report),
        (Mode::Report, Mode::Enforce),
        (Mode::Report, Mode::Report),
    ] {
        let settings = Settings { mode, undocumented: other, ..settings() };
        let contract = Arc::new(load_openapi(SHOP.as_bytes(), settings).unwrap());
        let excused = |unmet: Unmet| contract.excuse(unmet.violations, unmet.operation).is_ok();
        assert_eq!(excused(broken(&contract)), mode == Mode::Report);
        assert_eq!(excused(undocumented(&contract)), other == Mode::Report);
        if let Ok(pass) = contract.excuse(broken(&contract).violations, None) {
            assert_eq!(pass.contract(), contract.digest());
        }
    }
    assert_eq!(Pass::without_contract().contract(), 0);
}

struct Response<'t>(&'t [(&'t str, &'t str)]);

impl Fields for Response<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    }
}

#[test]
fn answers_are_those_of_the_document() {
    let shop = api(SHOP);
    let operation = |method, target| {
        let body = (method == "POST").then_some(r#"{"item":"tea","quantity":1}"#);
        let ask = Ask { method, target, headers: &[("content-type", JSON)], body };
        let has = if body.is_some() { HasBody::Perhaps } else { HasBody::No };
        match shop.open(&ask, has).unwrap() {
            Opened::Done(pass) => pass.operation(),
            Opened::Body(check) => check.operation(),
        }
    };
    let wrong = |operation, status, headers: &[(&str, &str)], body: Option<&str>| {
        let has = if body.is_some() { HasBody::Perhaps } else { HasBody::No };
        match shop.answer(operation, status, &Response(headers), has) {
            Err(violations) => violations.to_string(),
            Ok(Answer::Done) => String::new(),
            Ok(Answer::Body(check)) => check
                .judge(body.unwrap_or_default().as_bytes())
                .err()
                .map(|v| v.to_string())
                .unwrap_or_default(),
        }
    };
    let list = operation("GET", "/orders");
    let total = ("x-total", "1");
    let json = ("content-type", JSON);
    let order = r#"{"id":1,"item":"tea","quantity":1}"#;
    assert_eq!(wrong(list, 200, &[total, json], Some(&format!("[{order}]"))), "");
    assert!(wrong(list, 200, &[json], Some("[]")).contains("response header \"x-total\": required"));
    assert!(wrong(list, 200, &[("x-total", "x"), json], Some("[]")).contains("type"));
    assert!(wrong(list, 500, &[], None).contains("status 500: undocumented"));
    assert!(wrong(list, 200, &[total, ("content-type", "text/html")], Some("")).contains("media type"));
    let make = operation("POST", "/orders");
    assert_eq!(wrong(make, 201, &[json], Some(order)), "");
    assert!(
        wrong(make, 201, &[json], Some(r#"{"item":"tea","quantity":1}"#)).contains("response body: required")
    );
    let leak = r#"{"id":1,"item":"tea","quantity":1,"secret":"s"}"#;
    assert!(wrong(make, 201, &[json], Some(leak)).contains("/secret: not"));
    assert_eq!(wrong(make, 404, &[("content-type", "application/problem+json")], Some("{}")), "");
    assert!(wrong(make, 404, &[("content-type", "application/problem+json")], Some("{")).contains("JSON"));
    assert_eq!(wrong(operation("DELETE", "/orders/5"), 204, &[], None), "");
    assert!(wrong(operation("DELETE", "/orders/5"), 204, &[json], Some("{}")).contains("undeclared"));
    // What a service writes goes on as it wrote it.
    let exact = r#"{"n":5.00000000000000001}"#;
    assert_eq!(wrong(make, 404, &[("content-type", "application/problem+json")], Some(exact)), "");
    assert_eq!(wrong(None, 500, &[], Some("x")), "");
}

/// A union whose every branch comes back to it: `children` in two, `child` in `not`.
fn unions(of: &str) -> String {
    let branch = |name: &str, key: &str| {
        format!(
            "    {name}: {{type: object, required: [type], properties: {{type: {{const: {name}}}, {key}}}}}\n"
        )
    };
    let children = "children: {type: array, items: {$ref: '#/components/schemas/Expr'}}";
    format!(
        "openapi: 3.1.0\ninfo: {{title: t, version: '1'}}\npaths:\n  /s:\n    post:\n      parameters:\n        \
         - {{name: q, in: query, content: {{application/json: {{schema: {{$ref: '#/components/schemas/Expr'}}}}}}}}\n      \
         requestBody: {{content: {{application/json: {{schema: {{$ref: '#/components/schemas/Expr'}}}}}}}}\n      \
         responses: {{'200': {{description: ok, content: {{application/json: {{schema: {{$ref: '#/components/schemas/Expr'}}}}}}}}}}\n\
         components:\n  schemas:\n    Expr: {of}\n{}{}{}",
        branch("and", children),
        branch("or", children),
        branch("not", "child: {$ref: '#/components/schemas/Expr'}"),
    )
}

const BRANCHES: &str = "[{$ref: '#/components/schemas/and'}, {$ref: '#/components/schemas/or'}, \
                        {$ref: '#/components/schemas/not'}]";

fn nested(levels: usize, leaf: &str) -> String {
    "{\"children\":[".repeat(levels) + leaf + &"],\"type\":\"or\"}".repeat(levels)
}

/// Time would double with each level: whoever sees this test hang sees the attack.
#[test]
fn nested_unions_take_bounded_time() {
    for of in [
        format!("{{oneOf: {BRANCHES}}}"),
        format!("{{anyOf: {BRANCHES}}}"),
        format!("{{not: {{not: {{oneOf: {BRANCHES}}}}}}}"),
        format!("{{oneOf: {BRANCHES}, unevaluatedProperties: false}}"),
        // Without the constants, every branch is to be looked into.
        "{oneOf: [{$ref: '#/components/schemas/List'}, {$ref: '#/components/schemas/Other'}, {properties: {type: {const: not}}, required: [type], maxProperties: 1}]}\n    \
         List: {type: object, required: [children], properties: {children: {items: {$ref: '#/components/schemas/Expr'}}, type: {const: or}}}\n    \
         Other: {type: object, required: [children], properties: {children: {items: {$ref: '#/components/schemas/Expr'}}, type: {const: and}}}"
            .to_owned(),
    ] {
        let api = api(&unions(&of));
        for levels in [1, 3, 31] {
            let (good, bad) = (nested(levels, r#"{"type":"not"}"#), nested(levels, r#"{"type":"bad"}"#));
            assert_eq!(post(&api, "/s", JSON, &good), "", "{of} {levels}");
            assert_says(&post(&api, "/s", JSON, &bad), "body", format!("{of} {levels}"));
            let wide = nested(levels, &vec![r#"{"type":"bad"}"#; 500].join(","));
            assert_says(&post(&api, "/s", JSON, &wide), "body", format!("{of} {levels}"));
            let encoded = bad.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
            let encoded = encoded.replace('[', "%5B").replace(']', "%5D");
            let ask = Ask { method: "POST", target: &format!("/s?q={encoded}"), headers: &[], body: None };
            assert_says(&wrong(&api, &ask), "query parameter", format!("{of} {levels}"));
            let answer = api.answer(Some(0), 200, &Response(&[("content-type", JSON)]), HasBody::Yes).unwrap();
            let Answer::Body(check) = answer else { panic!("a body is expected") };
            assert!(check.judge(good.as_bytes()).is_ok() && check.judge(bad.as_bytes()).is_err());
        }
    }
}

/// 600 branches that each fail at the last of 2,000 items: `not` of them would hold.
#[test]
fn a_value_that_takes_more_steps_than_its_size_allows_is_refused() {
    let branches: Vec<_> =
        (0..600).map(|least| format!(r#"{{"minItems":{least},"items":{{"type":"integer"}}}}"#)).collect();
    let schema = format!(r#"{{"not":{{"anyOf":[{}]}}}}"#, branches.join(","));
    let contract = Arc::new(load_schema(schema.as_bytes(), settings()).unwrap());
    let body = |items: usize| format!("[{}\"x\"]", "1,".repeat(items));
    assert_eq!(post(&contract, "/", JSON, &body(20)), "");
    let headers = &[("content-type", JSON)];
    let body = body(2_000);
    let ask = Ask { method: "POST", target: "/", headers, body: Some(&body) };
    let Ok(Opened::Body(check)) = contract.open(&ask, HasBody::Yes) else { panic!("a body is expected") };
    let violations = check.judge(body.as_bytes()).unwrap_err();
    assert_eq!(violations.first().class, Class::Complexity, "{violations}");
}

/// What a schema says about a JSON body.
fn by(schema: &Value, body: &str) -> String {
    let contract = load_schema(schema.to_string().as_bytes(), settings()).unwrap();
    post(&Arc::new(contract), "/", JSON, body)
}

/// Whatever a keyword looks at, and however much of it stands in one value.
#[test]
fn every_look_takes_steps() {
    fn times(count: usize, schema: impl Fn(usize) -> Value) -> Vec<Value> {
        (0..count).map(schema).collect()
    }
    fn list(last: usize) -> Value {
        json!([vec![0; 999], vec![last]].concat())
    }
    let name = "k".repeat(100_000);
    let named = format!("{{\"{name}\":1}}");
    let texts = format!("[\"{name}\",\"x{name}\"]");
    let numbers = format!("[{}0]", "0,".repeat(2_000));
    let other = list(1_000).to_string();
    // Twenty of each, and so many.
    type Schema = fn(usize) -> Value;
    let cases: [(&str, usize, Schema, &str); 6] = [
        (
            "names by patterns",
            300,
            |count| {
                let patterns = (0..count).map(|n| (format!("^{n}"), json!(false)));
                json!({ "patternProperties": patterns.collect::<serde_json::Map<_, _>>() })
            },
            &named,
        ),
        (
            "names as values",
            300,
            |count| {
                let not = |n| json!({ "not": { "pattern": format!("^{n}") } });
                json!({ "propertyNames": { "allOf": times(count, not) } })
            },
            &named,
        ),
        ("lists by equality", 400, |count| json!({ "not": { "enum": times(count, list) } }), &other),
        (
            "texts by uniqueness",
            300,
            |count| json!({ "allOf": times(count, |_| json!({ "uniqueItems": true })) }),
            &texts,
        ),
        (
            "numbers",
            1_000,
            |count| json!({ "items": { "allOf": times(count, |n| json!({ "maximum": n })) } }),
            &numbers,
        ),
        (
            "types",
            500,
            |count| {
                let kind = |n| json!({ "not": { "type": "string", "minLength": n } });
                json!({ "items": { "allOf": times(count, kind) } })
            },
            &numbers,
        ),
    ];
    for (what, many, schema, body) in cases {
        assert_eq!(by(&schema(20), body), "", "{what}");
        assert_says(&by(&schema(many), body), "more steps than the limit", what);
    }
}

#[test]
fn a_long_text_has_the_steps_for_a_long_text() {
    let schema = json!({ "properties": { "file": { "pattern": "^[A-Za-z0-9+/=]*$", "format": "byte" } } });
    let body = |last: &str| format!("{{\"file\":\"{}{last}\"}}", "A".repeat(7_000_000));
    assert_eq!(by(&schema, &body("AAA=")), "");
    assert_says(&by(&schema, &body("AAA-")), "/file: pattern", "another letter");
}

/// Lists that hash alike where hashes do not tell `[1,[1]]` from `[[1],1]`, and integers that are
/// one double: whoever sees this test hang sees the attack.
#[test]
fn unique_items_take_linear_time() {
    let lists = |wrap: fn(String) -> String| {
        let list = |number: usize| {
            let items: Vec<_> = (0..16).map(|bit| if number >> bit & 1 == 1 { "[1]" } else { "1" }).collect();
            wrap(format!("[{}]", items.join(",")))
        };
        (0..6_000).map(list).collect::<Vec<_>>()
    };
    let whole = (0..10_000u64).map(|number| ((1 << 63) + number).to_string()).collect();
    let objects = json!({ "uniqueItems": true, "items": { "type": "object" } });
    let any = json!({ "uniqueItems": true });
    for (schema, mut items) in
        [(&any, lists(|list| list)), (&objects, lists(|list| format!("{{\"v\":{list}}}"))), (&any, whole)]
    {
        assert_eq!(by(schema, &format!("[{}]", items.join(","))), "");
        items.push(items[7].clone());
        assert_says(&by(schema, &format!("[{}]", items.join(","))), "body: uniqueItems", &items[7]);
    }
}

#[test]
fn what_is_wrong_with_a_long_body_is_told_as_far_as_that_takes_little() {
    let schema = json!({ "additionalProperties": { "items": { "type": "integer" } } });
    let body =
        |name: usize, items: usize| format!("{{\"{}\":[{}1]}}", "k".repeat(name), "\"x\",".repeat(items));
    let told = by(&schema, &body(3, 20));
    assert_eq!(told.split("; ").count(), VIOLATIONS_MAX, "{told}");
    let told = by(&schema, &body(3, 20_000));
    assert!(told.starts_with("body /kkk/0: type") && told.split("; ").count() == 1, "{told}");
    assert_eq!(by(&schema, &body(100_000, 20_000)), "body: schema");
}

#[test]
fn a_pattern_that_a_client_sends_is_read_up_to_a_length() {
    let schema = json!({ "format": "regex" });
    for (pattern, expected) in [
        ("^a(b|c)*$".to_owned(), ""),
        ("(?=a)b".to_owned(), ""),
        ("(".to_owned(), "body: format"),
        ("a".repeat(4 * 1024), ""),
        ("a".repeat(4 * 1024 + 1), "body: format"),
    ] {
        assert_says(&by(&schema, &format!("\"{pattern}\"")), expected, &pattern);
    }
}

#[test]
fn a_nested_union_is_judged_as_written_and_says_where_it_is_broken() {
    let api = api(&unions(&format!("{{oneOf: {BRANCHES}}}")));
    for (body, expected) in [
        (r#"{"type":"and","children":[{"type":"not","child":{"type":"or","children":[]}}]}"#, ""),
        (r#"{"type":"and","children":[{"type":"not","child":{"type":"xor"}}]}"#, "body: oneOf"),
        (r#"{"type":"and","children":[{"type":"not","child":{"type":"or","children":{}}}]}"#, "body: oneOf"),
        (r#"{"type":"and","children":[1]}"#, "body: oneOf"),
    ] {
        assert_says(&post(&api, "/s", JSON, body), expected, body);
    }
}

/// A form that may hold more than the document names, as is usual.
const OPEN_FORM: &str = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  /f:\n    post:\n      \
    requestBody:\n        content:\n          \
    application/x-www-form-urlencoded: {schema: {$ref: '#/components/schemas/F'}}\n          \
    multipart/form-data: {schema: {$ref: '#/components/schemas/F'}, encoding: {json: {contentType: application/json}}}\n      \
    responses: {default: {description: any}}\n\
    components:\n  schemas:\n    F: {type: object, properties: {role: {type: string, enum: [user]}, n: {type: integer}, \
    json: {type: string}, user_id: {type: integer}, 'sort[by]': {type: string}, tags: {type: array, items: {enum: [a]}}}}\n";

/// Express, PHP and Rails read `role[]` and `role[a]` into `role`, PHP also ` role`, and `user.id`
/// into `user_id`; Django trims the names of parts.
#[test]
fn no_other_name_gives_a_declared_property_a_value() {
    let api = api(OPEN_FORM);
    for (name, expected) in [
        ("role", "enum"),
        ("role[]", "name"),
        ("role[a]", "name"),
        ("role[", "name"),
        (" role", "name"),
        ("role ", "name"),
        (" role[]", "name"),
        ("tags[]", "name"),
        ("user.id", "name"),
        ("user id", "name"),
        ("role\0", "name"),
        ("role\0a", "name"),
        ("user[id]", ""),
        ("other", ""),
        ("other[]", ""),
        ("rolea", ""),
        ("roles[]", ""),
        ("sort[by]", ""),
        ("sort[in]", ""),
    ] {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for form in [encoded, name.replace(' ', "+")] {
            let found = post(&api, "/f", "application/x-www-form-urlencoded", &format!("{form}=admin"));
            assert_says(&found, expected, form);
        }
        let part =
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nadmin\r\n--x--\r\n");
        // Control characters stand in no head of a part.
        let expected = if name.contains('\0') { "multipart" } else { expected };
        assert_says(&post(&api, "/f", "multipart/form-data; boundary=x", &part), expected, part);
    }
}

#[test]
fn nothing_declared_stands_behind_a_semicolon_of_a_form() {
    let api = api(OPEN_FORM);
    for (body, expected) in [
        ("other=1;role=admin", "body: separator"),
        ("other=1;%20role%5B%5D=admin", "body: separator"),
        ("role=user;n=5", "body: separator"),
        ("other;user_id=5", "body: separator"),
        ("other=1;2;a=b;role", ""),
        ("other=1%3Brole=admin", ""),
        ("other=1;%ff=2", "encoding"),
    ] {
        let found = post(&api, "/f", "application/x-www-form-urlencoded", body);
        assert_says(&found, expected, body);
    }
    let many = format!("other={}", ";a=".repeat(QUERY_PAIRS_MAX + 1));
    assert_says(&post(&api, "/f", "application/x-www-form-urlencoded", &many), "too many pairs", "many");
    assert_eq!(post(&api, "/f", "application/x-www-form-urlencoded", &many[..many.len() - 3]), "");
}

/// Most readers of forms take a part's text as it stands, whatever media type it says.
#[test]
fn a_part_that_is_no_list_and_no_map_is_what_its_text_says() {
    let api = api(OPEN_FORM);
    for (name, content, expected) in [
        ("role", "user", "JSON"),
        ("role", "\"user\"", "/role: media type"),
        ("role", "\"\\u0075ser\"", "/role: media type"),
        ("other", "\"a\"", "/other: media type"),
        ("n", "5", ""),
        ("n", " 5", "/n: media type"),
        ("n", "5.0", "/n: media type"),
        ("json", "\"a\"", ""),
        ("other", "{\"a\":\"b\"}", ""),
    ] {
        let part = format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: application/json\r\n\r\n{content}\r\n--x--\r\n"
        );
        assert_says(&post(&api, "/f", "multipart/form-data; boundary=x", &part), expected, part);
    }
}
