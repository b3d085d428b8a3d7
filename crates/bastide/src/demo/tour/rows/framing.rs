//! Bytes that two readers would read differently.

use model::event::Step;

use crate::demo::tour::visitor::{Ask, Refusal, Visitor, raw, refusal};

const REFUSED: Refusal = refusal(400, Step::Admit);

/// A request inside another one's body. Whoever disagrees about where the outer one
/// ends will serve it.
const HIDDEN: &str = "GET /stock HTTP/1.1\r\nhost: shop.localhost\r\nx-hidden: 1\r\n\r\n";

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /accounts/sign-up HTTP/1.1\r\nhost: shop.localhost\r\n{fields}\r\n{body}").into_bytes()
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET /products HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

pub(in crate::demo::tour) async fn smuggling(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let zero_and_hidden = format!("0\r\n\r\n{HIDDEN}");
    let length = zero_and_hidden.len();
    let cl = format!("content-length: {length}\r\n");
    let te = "transfer-encoding: chunked\r\n";
    let with_hidden = |fields: &str| post(fields, &zero_and_hidden);
    let attacks = [
        ("Content-Length and Transfer-Encoding", with_hidden(&format!("{cl}{te}"))),
        ("Transfer-Encoding and Content-Length", with_hidden(&format!("{te}content-length: 4\r\n"))),
        ("two Content-Lengths that differ", with_hidden(&format!("content-length: 0\r\n{cl}"))),
        ("two Content-Lengths that agree", with_hidden(&format!("{cl}{cl}"))),
        ("a list of Content-Lengths", with_hidden(&format!("content-length: {length}, {length}\r\n"))),
        ("Content-Length: +5", post("content-length: +5\r\n", "hello")),
        ("Content-Length: 0x5", post("content-length: 0x5\r\n", "hello")),
        ("Transfer-Encoding twice", with_hidden(&format!("{te}{te}"))),
        ("Transfer-Encoding: xchunked", with_hidden("transfer-encoding: xchunked\r\n")),
        ("Transfer-Encoding: chunked, identity", with_hidden("transfer-encoding: chunked, identity\r\n")),
        ("Transfer-Encoding behind a vertical tab", with_hidden("transfer-encoding:\x0bchunked\r\n")),
        ("Transfer-Encoding in HTTP/1.0", {
            let text = String::from_utf8(with_hidden(te))?;
            text.replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes()
        }),
        ("a folded Transfer-Encoding", with_hidden("transfer-encoding:\r\n chunked\r\n")),
        ("a space before the colon", with_hidden("transfer-encoding : chunked\r\n")),
        ("Connection: Content-Length", with_hidden(&format!("{cl}connection: content-length\r\n"))),
        ("lines that end in a bare LF", b"GET /products HTTP/1.1\nhost: shop.localhost\n\n".to_vec()),
        ("a bare CR inside a value", get("host: shop.localhost\r\nx-a: b\rcontent-length: 4\r\n")),
    ];
    for (what, bytes) in &attacks {
        visitor.attack_raw(what, bytes, REFUSED).await;
    }
    // The first chunk is read before an upstream hears of the request.
    let attacks = [
        ("a chunk size that overflows", post(te, &format!("ffffffffffffffff1\r\n{HIDDEN}"))),
        ("a chunk size with a sign", post(te, &format!("+0\r\n\r\n{HIDDEN}"))),
        ("a chunk line that ends in a bare LF", post(te, &format!("0\n\n{HIDDEN}"))),
    ];
    for (what, bytes) in &attacks {
        visitor.attack_raw(what, bytes, refusal(400, Step::Inspect)).await;
    }

    let body = r#"{"name":"Dave","town":"Domme"}"#;
    let json = "content-type: application/json\r\n";
    let honest = post(&format!("{json}content-length: {}\r\n", body.len()), body);
    visitor.innocent_raw("one honest Content-Length", &honest, 201).await;
    let chunked = post(&format!("{json}{te}"), &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    visitor.innocent_raw("one honest Transfer-Encoding", &chunked, 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn obscure_bytes(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let host = "host: shop.localhost\r\n";
    let attacks = [
        ("no Host", get("")),
        ("two Hosts", get("host: shop.localhost\r\nhost: bank.localhost\r\n")),
        ("a target that names another host", {
            b"GET http://bank.localhost/products HTTP/1.1\r\nhost: shop.localhost\r\n\r\n".to_vec()
        }),
        ("NUL in a value", get(&format!("{host}x-a: b\0c\r\n"))),
        ("an underscore alias: X_Bastide_Principal", get(&format!("{host}X_Bastide_Principal: bob\r\n"))),
        ("a header name with a bracket", get(&format!("{host}x[a]: b\r\n"))),
        ("a method in small letters", b"get /products HTTP/1.1\r\nhost: shop.localhost\r\n\r\n".to_vec()),
        ("X-HTTP-Method-Override: PUT", get(&format!("{host}x-http-method-override: PUT\r\n"))),
    ];
    for (what, bytes) in &attacks {
        visitor.attack_raw(what, bytes, REFUSED).await;
    }
    let products = Ask::get("/products");
    visitor.innocent_raw("the plain request", &raw(&products), 200).await;
    let absolute = b"GET https://SHOP.localhost/products HTTP/1.1\r\nhost: shop.localhost\r\n\r\n";
    visitor.innocent_raw("a target that names the same host", absolute, 200).await;
    Ok(())
}
