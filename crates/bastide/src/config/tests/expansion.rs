//! `${NAME}`, `${file:PATH}`, `$${`.

use super::{read_with, said_with};

fn with_header(value: &str) -> String {
    format!(
        "listen: [ 127.0.0.1:0 ]
services: {{ a: [ http://10.0.0.1 ] }}
routes:
  - match: /**
    to: a
    allow: anyone
    headers: {{ request: {{ set: {{ x-token: {value} }} }} }}
"
    )
}

#[test]
fn expands_in_values() {
    for (written, expanded) in [
        ("\"${TOKEN}\"", "s3cret"),
        ("\"Bearer ${TOKEN}.${PORT}\"", "Bearer s3cret.8443"),
        ("\"${file:secrets/token}\"", "from a file"),
        ("\"${file:two-lines}\"", "one-newline-is-taken-off"),
        ("\"$${TOKEN}\"", "${TOKEN}"),
        ("\"$TOKEN $\"", "$TOKEN $"),
        ("\"a${EMPTY}b\"", "ab"),
        ("\"${BRACES}\"", "{not} a place"),
    ] {
        let more = [("secrets/token", "from a file\n"), ("two-lines", "one-newline-is-taken-off\n")];
        let configuration = read_with(&with_header(written), &more).unwrap();
        let set = &configuration.routes[0].request_headers.set;
        let literal = gateway::template::Template::text(expanded);
        assert_eq!(set, &[("x-token".to_owned(), literal)], "{written}");
    }
}

#[test]
fn expands_under_every_type_of_value() {
    let configuration = read_with(
        "listen: [ \"${LISTEN}\" ]\nservices: { a: [ \"http://10.0.0.1:${PORT}\" ] }\nroutes: [ { match: /**, to: a, allow: anyone } ]\n",
        &[],
    )
    .unwrap();
    assert_eq!(configuration.services[0].endpoints[0].port, 8443);
    assert_eq!(configuration.listeners[0].address.port(), 0);
}

#[test]
fn says_what_cannot_be_expanded_and_nothing_else() {
    for (written, said) in [
        ("\"${NOT_SET}\"", "environment variable \"NOT_SET\" is not set (set it before the start)"),
        ("\"${file:gone}\"", "cannot read gone: no such file"),
        ("\"${TOKEN\"", "${ without } (write $${ for a literal ${)"),
        (
            "\"${to ken}\"",
            "\"${to ken}\" is neither the name of an environment variable nor file:path (write $${ for a literal ${)",
        ),
        (
            "\"${}\"",
            "\"${}\" is neither the name of an environment variable nor file:path (write $${ for a literal ${)",
        ),
    ] {
        assert_eq!(
            said_with(&with_header(written), &[]),
            [format!("bastide.yaml:7:43: {said}")],
            "{written}"
        );
    }
}

#[test]
fn a_fault_never_shows_what_was_expanded() {
    for written in ["\"${TOKEN}\\n\"", "\" ${TOKEN}\""] {
        let said = said_with(&with_header(written), &[]);
        assert_eq!(said.len(), 1);
        assert!(!said[0].contains("s3cret") && said[0].contains("${TOKEN}"), "{said:?}");
    }
    let said = said_with(
        "listen: [ \"${TOKEN}\" ]\nservices: { a: [ \"${TOKEN}\" ] }\nroutes: [ { match: \"${TOKEN}\", to: \"${TOKEN}\", allow: \"${TOKEN}\" } ]",
        &[],
    );
    assert_eq!(said.len(), 5, "{said:#?}");
    assert!(!said.concat().contains("s3cret"), "{said:#?}");
}

#[test]
fn debug_does_not_show_header_values() {
    let configuration = read_with(&with_header("\"${TOKEN}\""), &[]).unwrap();
    let debug = format!("{configuration:?}");
    assert!(debug.contains("x-token") && !debug.contains("s3cret"));
}
