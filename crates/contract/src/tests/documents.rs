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
