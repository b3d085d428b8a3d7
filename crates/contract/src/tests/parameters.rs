use super::*;

/// A target that is kept beside one that is not, with what is wrong.
fn table(rows: &[(&str, &str)]) {
    let shop = api(SHOP);
    for (target, expected) in rows {
        let found = get(&shop, target);
        if expected.is_empty() {
            assert_eq!(found, "", "{target}");
        } else {
            assert!(found.contains(expected), "{target}: found {found:?}");
        }
    }
}

#[test]
fn primitive_parameters_are_one_exact_value() {
    table(&[
        ("/orders", ""),
        ("/orders?limit=5", ""),
        ("/orders?limit=100", ""),
        ("/orders?limit=101", "query parameter \"limit\": maximum"),
        ("/orders?limit=0", "minimum"),
        ("/orders?limit=05", "type"),
        ("/orders?limit=5.5", "type"),
        ("/orders?limit=", "type"),
        ("/orders?limit=five", "type"),
        ("/orders?limit=1000e-2", "type"),
        ("/orders?limit=1e1", "type"),
        ("/orders?limit=5.0", "type"),
        ("/orders?limit=5&limit=6", "duplicate"),
        ("/orders?limit=5&limit=5", "duplicate"),
        ("/orders?limit=%35", ""),
        ("/orders?l%69mit=101", "maximum"),
        ("/orders?limit=%zz", "encoding"),
        ("/orders?limit[]=5", "undeclared parameter"),
        ("/orders?Limit=5", "undeclared parameter"),
        ("/orders?empty", ""),
        ("/orders?empty=", ""),
        ("/orders?empty=x", "type"),
    ]);
}

#[test]
fn lists_stand_in_their_style_and_no_other() {
    table(&[
        ("/orders?tag=a&tag=b", ""),
        ("/orders?tag=a,b", ""),
        ("/orders?tag=123456789", "query parameter \"tag\" /0: maxLength"),
        ("/orders?tag=a&tag=b&tag=c&tag=d", "maxItems"),
        ("/orders?ids=1,2,3", ""),
        ("/orders?ids=1,x", "query parameter \"ids\" /1: type"),
        ("/orders?ids=1&ids=2", "duplicate"),
        ("/orders?ids=1%2C2", "/0: type"),
        ("/orders?bars=1%7C2", ""),
        ("/orders?bars=1|2", ""),
        ("/orders?bars=1,2", "/0: type"),
        ("/orders?gaps=1%202", ""),
        ("/orders?gaps=1+2", ""),
        ("/orders?gaps=1,2", "/0: type"),
        ("/items/;ids=1;ids=2", ""),
        ("/items/;ids=1;ids=x", "/1: type"),
        ("/items/1,2", "style"),
        ("/labels/.1,2", ""),
        ("/labels/1,2", "style"),
        ("/labels/.1,x", "/1: type"),
    ]);
}

#[test]
fn maps_stand_in_their_style_and_no_other() {
    table(&[
        ("/orders?near[lat]=1.5&near[lon]=2", ""),
        ("/orders?near%5Blat%5D=1.5", ""),
        ("/orders?near[lon]=2", "query parameter \"near\": required"),
        ("/orders?near[lat]=x", "/lat: type"),
        ("/orders?near[lat]=1&near[lat]=2", "duplicate"),
        ("/orders?near[lat]=1&near[other]=2", "additionalProperties"),
        ("/orders?near[lat][x]=1", "undeclared parameter"),
        ("/search?R=100&G=200", ""),
        ("/search?R=100&R=200", "duplicate"),
        ("/search?R=x", "/R: type"),
        ("/search?B=1", "undeclared parameter"),
        ("/orders?filter=%7B%22a%22:1%7D", ""),
        ("/orders?filter=%7B%7D", "required"),
        ("/orders?filter=%7B%22a%22:1,%22a%22:2%7D", "duplicate key"),
    ]);
}

#[test]
fn a_parameter_that_may_be_a_map_or_a_text_is_judged_as_either() {
    const EITHER: &str = r#"
openapi: 3.1.0
info: { title: Either, version: "1" }
paths:
  /spread:
    get:
      parameters:
        - { name: q, in: query, schema: { type: [object, string], maxLength: 5, properties: { R: { type: integer } } } }
        - { name: limit, in: query, schema: { type: integer } }
      responses: { "200": { description: Good. } }
  /deep:
    get:
      parameters:
        - name: q
          in: query
          style: deepObject
          schema: { type: [object, string], maxLength: 5, properties: { a: { type: integer } } }
      responses: { "200": { description: Good. } }
  /needed:
    get:
      parameters:
        - { name: q, in: query, required: true, schema: { type: [array, object, string], maxLength: 5, maxItems: 2 } }
      responses: { "200": { description: Good. } }
  /form:
    post:
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema: { type: object, properties: { q: { type: [object, string], maxLength: 5 } } }
            encoding: { q: { style: deepObject } }
      responses: { "200": { description: Good. } }
"#;
    let strict = api(EITHER);
    let lax = Settings { undeclared_query: true, ..settings() };
    let lax = Arc::new(load_openapi(EITHER.as_bytes(), lax).unwrap());
    for (target, strict_says, lax_says) in [
        ("/spread?q=short", "", ""),
        ("/spread?q=longer", "query parameter \"q\": maxLength", "maxLength"),
        ("/spread?q=short&x=1", "undeclared parameter", ""),
        ("/spread?q=longer&x=1", "maxLength", "maxLength"),
        ("/spread?q=short&R=1", "query parameter \"q\": duplicate", "duplicate"),
        ("/spread?q=short&limit=1", "", ""),
        ("/spread?q=short&q=other", "duplicate", "duplicate"),
        ("/spread?R=1&x=1", "", ""),
        ("/spread?R=x", "/R: type", "/R: type"),
        ("/spread?limit=1", "", ""),
        ("/spread", "", ""),
        ("/deep?q=short", "", ""),
        ("/deep?q=longer", "maxLength", "maxLength"),
        ("/deep?q[a]=1", "", ""),
        ("/deep?q[a]=x", "/a: type", "/a: type"),
        ("/deep?q[a]=1&q[a]=2", "duplicate", "duplicate"),
        ("/deep?q[a]=1&q=longer", "duplicate", "duplicate"),
        ("/needed", "required", "required"),
        ("/needed?q=1&q=2", "", ""),
        ("/needed?q=1&q=2&q=3", "maxItems", "maxItems"),
        ("/needed?q=1&q=2&q=3&x=1", "maxItems", "maxItems"),
        ("/needed?x=1", "", ""),
    ] {
        for (contract, says) in [(&strict, strict_says), (&lax, lax_says)] {
            let found = get(contract, target);
            assert_says(&found, says, target);
        }
    }
    let form = |body: &str| post(&strict, "/form", "application/x-www-form-urlencoded", body);
    assert_eq!(form("q=short"), "");
    assert_eq!(form("q[a]=1"), "");
    assert!(form("q=longer").contains("maxLength"));
    assert!(form("q=short&q[a]=1").contains("duplicate"));
}

#[test]
fn a_map_in_pairs_takes_nothing_that_is_declared_beside_it() {
    const BESIDE: &str = r#"
openapi: 3.1.0
info: { title: Beside, version: "1" }
paths:
  /query:
    get:
      parameters:
        - { name: tags, in: query, schema: { type: [array, object], additionalProperties: { maxLength: 5 } } }
        - { name: q, in: query, schema: { type: [object, string] } }
        - { name: range, in: query, schema: { type: object, properties: { R: { type: integer, maximum: 10 } } } }
      responses: { "200": { description: Good. } }
  /needed:
    get:
      parameters:
        - { name: tags, in: query, required: true, schema: { type: [array, object] } }
        - { name: q, in: query, schema: { type: [object, string] } }
      responses: { "200": { description: Good. } }
  /form:
    post:
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [amount]
              properties:
                tags: KINDS
                amount: { type: integer, maximum: 10 }
                range: { type: object, properties: { R: { type: integer, maximum: 10 } } }
            encoding: { tags: { explode: true }, range: { explode: true } }
      responses: { "200": { description: Good. } }
"#;
    let list_or_map = api(&BESIDE.replace("KINDS", "{ type: [array, object] }"));
    for (target, expected) in [
        ("/query?R=5", ""),
        ("/query?R=99999", "query parameter \"range\" /R: maximum"),
        ("/query?q=longer", ""),
        ("/query?x=short", ""),
        ("/query?x=longer", "query parameter \"tags\" /x: maxLength"),
        ("/needed?q=a", "query parameter \"tags\": required"),
        ("/needed?tags=a&q=a", ""),
        ("/needed?x=a&q=a", ""),
    ] {
        let found = get(&list_or_map, target);
        assert_says(&found, expected, target);
    }
    for kinds in [
        "{ type: [array, object] }",
        "{ type: object }",
        "{ type: [object, string] }",
        "{ oneOf: [{ type: array }, { type: object }] }",
    ] {
        let contract = api(&BESIDE.replace("KINDS", kinds));
        for (body, expected) in [
            ("amount=5", ""),
            ("amount=99999", "/amount: maximum"),
            ("amount=5&x=1", ""),
            ("amount=99999&x=1", "/amount: maximum"),
            ("amount=5&R=99999", "/range/R: maximum"),
            ("x=1", "required"),
        ] {
            let found = post(&contract, "/form", "application/x-www-form-urlencoded", body);
            assert_says(&found, expected, format_args!("{kinds} {body}"));
        }
    }
}

#[test]
fn a_field_of_a_form_that_comes_as_a_map_and_by_its_name_is_refused() {
    const TWICE: &str = r#"
openapi: 3.1.0
info: { title: Twice, version: "1" }
paths:
  /form:
    post:
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              properties:
                deep: { properties: { a: { type: integer } } }
                spread: { properties: { b: { type: integer } }, additionalProperties: false }
            encoding: { deep: { style: deepObject }, spread: { explode: true } }
      responses: { "200": { description: Good. } }
"#;
    let contract = api(TWICE);
    for (body, expected) in [
        ("deep[a]=1&b=1", ""),
        ("deep=text&spread=text", ""),
        ("deep[a]=x", "type"),
        ("deep[a]=x&deep=text", "duplicate"),
        ("b=x", "type"),
        ("b=x&spread=text", "duplicate"),
    ] {
        let found = post(&contract, "/form", "application/x-www-form-urlencoded", body);
        assert_says(&found, expected, body);
    }
}

#[test]
fn headers_and_cookies_are_judged_too() {
    let shop = api(SHOP);
    for (name, values, expected) in [
        ("x-tags", &["1,2"][..], ""),
        ("x-tags", &["1", "2"], ""),
        ("x-tags", &["1", "x"], "header parameter \"x-tags\" /1: type"),
        ("x-one", &["1"], ""),
        ("x-one", &["1", "2"], "duplicate"),
        ("x-one", &["é"], "type"),
        ("cookie", &["session=0123abcd; other=1"], ""),
        ("cookie", &["other=1", "session=0123abcd"], ""),
        ("cookie", &["session=nope"], "cookie parameter \"session\": pattern"),
        ("cookie", &["session=0123abcd; session=0123abcd"], "duplicate"),
        // Django, Express and Starlette trim names.
        ("cookie", &["session =nope"], "cookies: name"),
        ("cookie", &["session=0123abcd; session\t=nope"], "cookies: name"),
        ("cookie", &["session=0123abcd; \u{a0}session=nope"], "cookies: name"),
        ("cookie", &["session=0123abcd; other =1"], ""),
    ] {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| (name, *value)).collect();
        let found = wrong(&shop, &Ask { method: "GET", target: "/orders", headers: &headers, body: None });
        assert_says(&found, expected, format_args!("{values:?}"));
    }
}

#[test]
fn paths_and_methods_are_those_of_the_document() {
    table(&[
        ("/orders/5", ""),
        ("/orders/2147483648", "maximum"),
        ("/orders/x", "path parameter \"id\": type"),
        ("/orders/", "undocumented"),
        ("/other", "undocumented"),
        ("/Orders", "undocumented"),
    ]);
    let shop = api(SHOP);
    let unmet = shop
        .open(&Ask { method: "PUT", target: "/orders/5", headers: &[], body: None }, HasBody::No)
        .unwrap_err();
    assert_eq!(
        (unmet.violations.first().class, unmet.violations.allow.as_str()),
        (Class::Method, "DELETE, GET")
    );
    assert_eq!(wrong(&shop, &Ask { method: "HEAD", target: "/orders/5", headers: &[], body: None }), "");
    let based = Settings { base: Some("/api".into()), ..settings() };
    let based = Arc::new(load_openapi(SHOP.as_bytes(), based).unwrap());
    assert_eq!(get(&based, "/api/orders/5"), "");
    assert!(get(&based, "/orders/5").contains("undocumented"));
    assert!(get(&based, "/apiorders/5").contains("undocumented"));
}

#[test]
fn undeclared_queries_pass_only_where_that_is_said() {
    assert!(get(&api(SHOP), "/orders?x=1").contains("undeclared parameter"));
    let lax = Settings { undeclared_query: true, ..settings() };
    let lax = Arc::new(load_openapi(SHOP.as_bytes(), lax).unwrap());
    assert_eq!(get(&lax, "/orders?x=1"), "");
    assert!(get(&lax, "/orders?x=1&limit=0").contains("minimum"));
}

#[test]
fn the_number_of_pairs_has_a_limit() {
    let lax =
        Arc::new(load_openapi(SHOP.as_bytes(), Settings { undeclared_query: true, ..settings() }).unwrap());
    assert_eq!(get(&lax, &format!("/orders?{}", "x=1&".repeat(QUERY_PAIRS_MAX))), "");
    assert!(get(&lax, &format!("/orders?{}", "x=1&".repeat(QUERY_PAIRS_MAX + 1))).contains("too many pairs"));
}

/// Where more parameters may stand than the document names, none of them gives a declared one a value.
#[test]
fn undeclared_parameters_are_no_other_names_of_declared_ones() {
    let settings = Settings { undeclared_query: true, ..settings() };
    let shop = Arc::new(load_openapi(SHOP.as_bytes(), settings).unwrap());
    for (query, expected) in [
        ("page=2", ""),
        ("page[]=2&page[a]=3", ""),
        ("limit=5&page=2", ""),
        ("limit[]=1000", "undeclared parameter"),
        ("limit=5&limit%5Ba%5D=1000", "undeclared parameter"),
        ("+limit=1000", "undeclared parameter"),
        ("near[lat]=1&near[lat][]=x", "undeclared parameter"),
        ("page=2;limit=1000", "separator"),
        ("page=2;limit[]=1000", "separator"),
        ("page=2;size=3", ""),
    ] {
        assert_says(&get(&shop, &format!("/orders?{query}")), expected, query);
    }
}
