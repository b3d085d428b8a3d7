use super::*;

const HEAD: &str = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\n";

fn faults(text: &str) -> Vec<Fault> {
    load_openapi(text.as_bytes(), settings()).err().unwrap_or_default()
}

fn schema(text: &str) -> Vec<Fault> {
    faults(&format!("{HEAD}paths: {{}}\ncomponents:\n  schemas:\n    S: {text}\n"))
}

#[test]
fn faults_say_where() {
    let found = faults(&format!(
        "{HEAD}paths:\n  /a:\n    get:\n      parameters:\n        - {{ name: x, in: query, style: matrix, schema: {{}} }}\n"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].line, found[0].column), (7, 33), "{found:?}");
    assert_eq!(found[0].pointer, "/paths/~1a/get/parameters/0/style");
    let json =
        "{\"openapi\":\"3.0.0\",\n \"paths\":{\"/a\":\n  {\"get\":{\"parameters\":[{\"name\":\"x\"}]}}}}";
    assert_eq!(faults(json)[0].line, 3, "{:?}", faults(json));
    assert_eq!(faults("{\"openapi\":\"3.0.0\",\n\"openapi\":\"3.0.0\"}")[0].line, 2);
    assert_eq!(faults("openapi: 3.0.0\nopenapi: 3.0.0\n")[0].line, 2);
}

#[test]
fn a_parameter_that_is_there_twice_is_refused_where_it_is_again() {
    const COMPONENTS: &str = "components: { parameters: { Q: { name: q, in: query, schema: {} }, H: { name: X-H, in: header, schema: {} } } }";
    let document = |of_path: &str, of_operation: &str| {
        let lists =
            format!("    parameters: [ {of_path} ]\n    get:\n      parameters: [ {of_operation} ]\n");
        format!("{HEAD}{COMPONENTS}\npaths:\n  /a:\n{lists}")
    };
    let (q, other) =
        ("{ name: q, in: query, schema: {} }", "{ name: q, in: query, schema: { type: integer } }");
    let (q_ref, h_ref) = ("{ $ref: '#/components/parameters/Q' }", "{ $ref: '#/components/parameters/H' }");
    let h = "{ name: x-h, in: header, schema: {} }";
    for (first, second) in [(q, q), (q, other), (q_ref, q), (q, q_ref), (q_ref, q_ref), (h_ref, h)] {
        let twice = format!("{first}, {second}");
        let column = u32::try_from(first.len()).unwrap() + 4;
        for (text, line, before) in
            [(document(&twice, ""), 6, "    parameters: ["), (document("", &twice), 8, "      parameters: [")]
        {
            let [found] = faults(&text).try_into().unwrap_or_else(|found| panic!("{text}: {found:?}"));
            assert!(found.message.contains("is there twice"), "{found:?}");
            let column = usize::try_from(column).unwrap() + before.len();
            assert_eq!((found.line as usize, found.column as usize), (line, column), "{text}: {found:?}");
        }
    }
    // One of the same name elsewhere is another, and an operation's own takes the place of its path's.
    let elsewhere = "{ name: q, in: header, schema: {} }, { name: Q, in: query, schema: {} }";
    for (of_path, of_operation) in [(q, elsewhere), (q, other), (q_ref, q_ref), (h_ref, h), (q_ref, "")] {
        assert_eq!(faults(&document(of_path, of_operation)), [], "{of_path} {of_operation}");
    }
    let contract = api(&document(q, other));
    assert_eq!(get(&contract, "/a?q=1"), "");
    assert!(get(&contract, "/a?q=x").contains("type"), "{}", get(&contract, "/a?q=x"));
}

#[test]
fn what_cannot_be_held_is_refused() {
    for (text, message) in [
        ("{ $ref: 'other.yaml#/S' }", "leads out of this document"),
        ("{ $ref: 'https://example.org/s.json' }", "leads out of this document"),
        ("{ $ref: '#/components/schemas/T' }", "not in this document"),
        ("{ $ref: '#/components/schemas/S' }", "in a row"),
        ("{ allOf: [ { $ref: '#/components/schemas/S' } ] }", "comes back to itself"),
        (
            "{ type: object, properties: { a: { anyOf: [ { $ref: '#/components/schemas/S/properties/a' } ] } } }",
            "comes back",
        ),
        ("{ type: strng }", "this is no schema"),
        ("{ type: string, minLength: x }", "this is no schema"),
        ("{ type: string, maxlength: 5 }", "unknown keyword \"maxlength\""),
        ("{ type: object, aditionalProperties: false }", "unknown keyword"),
        ("{ $id: 'x', type: string }", "$id is not supported"),
        ("{ $dynamicRef: '#x' }", "not supported"),
    ] {
        let found = schema(text);
        assert!(found.iter().any(|fault| fault.message.contains(message)), "{text}: {found:?}");
    }
    for honest in [
        "{ type: object, properties: { a: { $ref: '#/components/schemas/S' } } }",
        "{ type: [ string, 'null' ], maxLength: 5, x-note: 1 }",
        "{ anyOf: [ { type: string }, { type: integer } ] }",
        "true",
    ] {
        assert_eq!(schema(honest), [], "{honest}");
    }
}

#[test]
fn documents_that_are_none_are_refused() {
    for (text, message) in [
        ("", "no OpenAPI document"),
        ("swagger: '2.0'", "Swagger 2.0"),
        ("openapi: 3.2.0\npaths: {}", "expected OpenAPI 3.0 or 3.1"),
        ("openapi: 3.0.0", "no paths"),
        ("openapi: 3.0.0\npaths: { '/a/{id}': { get: {} } }", "\"id\" is not declared"),
        (
            "openapi: 3.0.0\npaths: { /a: { get: { parameters: [ { name: id, in: path, required: true, schema: {} } ] } } }",
            "not in the path",
        ),
        ("openapi: 3.0.0\npaths: { '/{a}': {}, '/{b}': {} }", "same shape"),
        ("openapi: 3.0.0\npaths: { '/{a}{b}': {} }", "expected a path"),
        ("openapi: 3.0.0\nservers: [ { url: /a }, { url: /b } ]\npaths: {}", "do not name one path"),
        (
            "openapi: 3.0.0\npaths: { /a: { post: { requestBody: { content: { application/xml: { schema: { type: object } } } } } } }",
            "cannot be looked into",
        ),
        (
            "openapi: 3.0.0\npaths: { /a: { get: { parameters: [ { name: q, in: query } ] } } }",
            "neither schema nor content",
        ),
        ("openapi: 3.0.0\npaths: {}\ncomponents: { schemas: { S: { type: [ string ] } } }", "OpenAPI 3.1"),
    ] {
        let found = faults(text);
        assert!(found.iter().any(|fault| fault.message.contains(message)), "{text}: {found:?}");
    }
    assert_eq!(faults("openapi: 3.0.0\npaths: { /a: { get: {} } }"), []);
    assert_eq!(
        faults("openapi: 3.1\npaths: { /a: { get: { responses: { 200: { description: a } } } } }"),
        []
    );
}

#[test]
fn patterns_take_linear_time_or_are_refused() {
    let path = |pattern: &str| {
        format!(
            "{HEAD}paths:\n  /a:\n    get:\n      parameters:\n        - {{ name: q, in: query, schema: {{ type: string, pattern: '{pattern}' }} }}\n"
        )
    };
    let found = faults(&path("^(?=x)x$"));
    assert!(found.iter().any(|fault| fault.message.contains("linear time")), "{found:?}");
    let evil = api(&path("^(a+)+$"));
    assert!(get(&evil, &format!("/a?q={}b", "a".repeat(5000))).contains("pattern"));
    assert_eq!(get(&evil, &format!("/a?q={}", "a".repeat(5000))), "");
}

#[test]
fn opaque_media_types_are_taken_where_that_is_said() {
    let text = "openapi: 3.0.0\npaths: { /a: { post: { requestBody: { content: { application/xml: { schema: { type: object } } } } } } }";
    let taken = Settings { opaque: vec!["application/xml".into()], ..settings() };
    let contract = Arc::new(load_openapi(text.as_bytes(), taken).unwrap());
    assert_eq!(post(&contract, "/a", "application/xml", "<a/>"), "");
    assert!(post(&contract, "/a", "application/json", "{}").contains("media type"));
}

#[test]
fn the_size_and_depth_of_documents_have_limits() {
    let padded = |size: usize| {
        let head = "openapi: 3.0.0\npaths: {}\n#";
        format!("{head}{}", "x".repeat(size - head.len()))
    };
    assert!(load_openapi(padded(DOCUMENT_BYTES_MAX).as_bytes(), settings()).is_ok());
    assert!(load_openapi(padded(DOCUMENT_BYTES_MAX + 1).as_bytes(), settings()).is_err());
    let nested = |depth: usize| {
        format!("openapi: 3.0.0\npaths: {{}}\nx-deep: {}1{}", "[".repeat(depth), "]".repeat(depth))
    };
    assert_eq!(faults(&nested(DOCUMENT_DEPTH_MAX - 1)), []);
    assert_ne!(faults(&nested(DOCUMENT_DEPTH_MAX + 1)), []);
}

#[test]
fn a_schema_alone_refers_to_nothing_else() {
    for wrong in [
        r#"{"$ref":"https://example.org/s.json"}"#,
        r#"{"$ref":"file:///etc/passwd"}"#,
        r#"{"type":"strng"}"#,
        r#"{"pattern":"(?=x)"}"#,
        "[]",
        "{",
        r#"{"type":"object","type":"string"}"#,
    ] {
        assert!(load_schema(wrong.as_bytes(), settings()).is_err(), "{wrong}");
    }
    assert!(load_schema(b"type: object\nrequired: [ a ]\n", settings()).is_ok());
    assert!(load_schema(br##"{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{}},"$ref":"#/definitions/a"}"##, settings()).is_ok());
}

/// A document with something of every kind in it, `marked` put in the place of `what`.
fn everything(what: &str, marked: &str) -> String {
    const TEXT: &str = r#"openapi: 3.1.0
info: { title: t, version: '1', contact: { name: n, url: u, email: e }, license: { name: n, url: u }, x-logo: { url: u } }
servers: [ { url: 'https://{place}.example.org/v1', description: d, variables: { place: { default: a, enum: [ a, b ] } } } ]
tags: [ { name: t, externalDocs: { url: u }, x-displayName: T } ]
security: [ { key: [] } ]
x-tagGroups: [ { name: all, tags: [ t ] } ]
paths:
  x-note: of all paths
  /orders/{id}:
    summary: an order
    parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]
    x-internal: true
    post:
      operationId: change
      tags: [ t ]
      parameters:
        - { name: limit, in: query, required: true, description: d, example: 1, style: form, explode: true, schema: { type: integer } }
        - { $ref: '#/components/parameters/Page', description: beside it }
      requestBody:
        required: true
        content:
          multipart/form-data:
            schema: { type: object, required: [ file ], properties: { file: { type: string } } }
            encoding: { file: { contentType: text/plain, headers: { X-Part: { schema: { type: string } } } } }
            examples: { one: { summary: s, value: { requird: true } } }
      responses:
        200:
          description: done
          headers: { X-Total: { required: true, schema: { type: integer } } }
          content: { application/json: { schema: { $ref: '#/components/schemas/Order' }, example: { tpye: a } } }
          links: { next: { operationId: change, parameters: { id: $request.path.id } } }
        x-more: 1
      callbacks: { changed: { '{$request.body#/url}': { post: { responses: { 200: { description: d } } } } } }
      x-codeSamples: [ { lang: shell } ]
components:
  parameters: { Page: { name: page, in: query, schema: { type: integer } } }
  securitySchemes: { key: { type: oauth2, flows: { clientCredentials: { tokenUrl: u, scopes: {} } } } }
  schemas:
    Order:
      type: object
      properties: { id: { type: integer, readOnly: true }, tpye: { type: string, example: a, xml: { name: n } } }
      discriminator: { propertyName: tpye, mapping: { a: '#/components/schemas/Order' } }
      externalDocs: { url: u }
      x-tpye: 1
      vendorKeyword: 1
"#;
    assert!(TEXT.contains(what), "{what}");
    TEXT.replacen(what, marked, 1)
}

#[test]
fn a_misspelt_key_is_refused_wherever_it_stands() {
    let base = Settings { base: Some("/v1".to_owned()), ..settings() };
    let load = |text: &str| load_openapi(text.as_bytes(), base.clone()).err().unwrap_or_default();
    assert_eq!(load(&everything("openapi", "openapi")), []);
    for (what, misspelt, meant) in [
        ("components:\n", "componets:\n", "components"),
        ("paths:\n", "pahts:\n", "paths"),
        ("security:", "secuirty:", "security"),
        ("version: '1'", "verison: '1'", "version"),
        ("{ name: n, url: u, email: e }", "{ name: n, ulr: u }", "url"),
        ("variables:", "variabels:", "variables"),
        ("default: a,", "defualt: a,", "default"),
        ("parameters: [ { name: id", "paramters: [ { name: id", "parameters"),
        ("    post:\n", "    pots:\n", "post"),
        ("parameters:\n        - {", "paramters:\n        - {", "parameters"),
        ("requestBody:\n", "requestbody:\n", "requestBody"),
        ("query, required: true,", "query, requird: true,", "required"),
        ("- { $ref: '#/components/parameters/Page'", "- { ref: '#/components/parameters/Page'", "$ref"),
        ("explode: true", "explod: true", "explode"),
        ("required: true\n", "reqired: true\n", "required"),
        ("content:\n", "contents:\n", "content"),
        ("schema: { type: object, required", "shema: { type: object, required", "schema"),
        ("encoding:", "encodings:", "encoding"),
        ("contentType:", "content_type:", "contentType"),
        ("responses:\n        200", "response:\n        200", "responses"),
        ("headers: { X-Total: { required", "headrs: { X-Total: { required", "headers"),
        ("X-Total: { required: true", "X-Total: { requierd: true", "required"),
        ("tokenUrl:", "tokenURL_:", "tokenUrl"),
        ("parameters: { Page", "paramaters: { Page", "parameters"),
        ("schemas:\n", "shcemas:\n", "schemas"),
        ("type: integer, readOnly", "tpye: integer, readOnly", "type"),
        ("integer, readOnly: true", "integer, readnoly: true", "readOnly"),
        ("required: [ file ]", "requierd: [ file ]", "required"),
        ("properties: { id", "propertes: { id", "properties"),
    ] {
        let found = load(&everything(what, misspelt));
        let advice = format!("did you mean {meant:?}?");
        assert!(
            found.iter().any(|fault| fault.suggestion.as_deref() == Some(advice.as_str()) && fault.line > 0),
            "{misspelt}: {found:?}"
        );
    }
    // What nobody knows is refused where it may have been meant to keep something out.
    for (what, unknown) in [
        ("required: true, description", "mandatory: true, description"),
        ("query, required: true,", "query, required: true, maximum: 5,"),
        ("operationId: change\n", "consumes: [ text/plain ]\n"),
        ("schema: { $ref: '#/components/schemas/Order' }", "$ref: '#/components/schemas/Order'"),
    ] {
        let found = load(&everything(what, unknown));
        assert!(found.iter().any(|fault| fault.message.contains("unknown key")), "{unknown}: {found:?}");
    }
    for honest in ["contact: { name: n, phone: p }", "contact: { x-name: n }"] {
        assert_eq!(load(&everything("contact: { name: n, url: u, email: e }", honest)), [], "{honest}");
    }
}

#[test]
fn a_key_that_holds_something_else_than_it_can_is_refused() {
    let base = Settings { base: Some("/v1".to_owned()), ..settings() };
    for (what, wrong, message) in [
        ("query, required: true", "query, required: yes", "expected true or false, found \"yes\""),
        ("required: true\n", "required: 1\n", "expected true or false, found 1"),
        ("required: true\n", "required:\n", "expected true or false, found nothing"),
        ("style: form", "style: [ form ]", "expected a text, found a list"),
        (
            "parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]",
            "parameters: { id: {} }",
            "expected a list, found a map",
        ),
        (
            "headers: { X-Total: { required: true, schema: { type: integer } } }",
            "headers: [ X-Total ]",
            "expected a map, found a list",
        ),
    ] {
        let found = load_openapi(everything(what, wrong).as_bytes(), base.clone()).err().unwrap_or_default();
        assert!(found.iter().any(|fault| fault.message == message), "{wrong}: {found:?}");
    }
}

#[test]
fn what_a_reference_takes_from_another_place_is_judged_there() {
    let document = |key: &str| {
        format!(
            "{HEAD}x-shared: {{ q: {{ name: q, in: query, {key}: true, schema: {{}} }} }}\npaths: {{ /a: {{ get: {{ parameters: [ {{ $ref: '#/x-shared/q' }} ] }} }} }}\n"
        )
    };
    assert_eq!(faults(&document("required")), []);
    assert_eq!(faults(&document("requird")).len(), 1);
}

#[test]
fn a_misspelt_keyword_of_a_schema_alone_is_refused() {
    for (wrong, pointer) in [
        ("{ tpye: object }", "/tpye"),
        ("{ type: object, requierd: [ a ] }", "/requierd"),
        ("{ type: object, propertes: { a: {} } }", "/propertes"),
        ("{ properties: { a: { minlength: 5 } } }", "/properties/a/minlength"),
        ("{ dependencies: { a: { requried: [ b ] } } }", "/dependencies/a/requried"),
        ("{ $ref: '#/parts/a', parts: { a: { tpye: string } } }", "/parts/a/tpye"),
    ] {
        let found =
            load_schema(format!("# a schema\n{wrong}").as_bytes(), settings()).err().unwrap_or_default();
        assert!(found.iter().any(|fault| fault.pointer == pointer && fault.line == 2), "{wrong}: {found:?}");
    }
    for honest in [
        "{ type: object, properties: { tpye: { type: string, default: { requierd: 1 } } }, unit: euro, note: n, x-tpye: 1 }",
        "{ $schema: 'http://json-schema.org/draft-07/schema#', $id: 'https://example.org/s', dependencies: { a: [ b ] } }",
        "{ $schema: 'http://json-schema.org/draft-04/schema#', id: 'https://example.org/s', parts: { a: { tpye: string } } }",
        "true",
    ] {
        let loaded = load_schema(format!("# a schema\n{honest}").as_bytes(), settings());
        assert!(loaded.is_ok(), "{honest}: {loaded:?}");
    }
}

#[test]
fn what_is_not_yaml_is_said_in_our_own_words() {
    for (text, place, message) in [
        ("openapi: 3.0.0\npaths: {}\nopenapi: 3.0.0\n", (3, 1), "key \"openapi\" stands here twice"),
        ("openapi: 3.0.0\n---\npaths: {}\n", (2, 1), "a second document begins here"),
        ("openapi: 3.0.0\npaths:\n\t/a: {}\n", (3, 1), "a tab cannot indent a line"),
    ] {
        let found = faults(text);
        assert!(found[0].message.starts_with(message), "{text}: {found:?}");
        assert_eq!((found[0].line, found[0].column), place, "{text}: {found:?}");
    }
}
