//! Bodies over the route's limit.

use model::event::Step;

use crate::demo::client::http1;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor, refusal};

/// `body_max: 64KiB` of the route `picture`.
const BODY_MAX: usize = 64 * 1024;

pub(in crate::demo::tour) async fn limit(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.demo.token("alice");
    let picture = |bytes: usize| {
        let ask = Ask::new("PUT", "/accounts/alice/picture").bearer(alice);
        ask.field("content-type", "image/png").body(vec![b'.'; bytes])
    };
    let refused = refusal(413, Step::Inspect);
    visitor.attack("a picture one byte over 64 KiB", &picture(BODY_MAX + 1), refused).await;
    chunked(visitor, alice).await?;
    visitor.innocent("a picture of exactly 64 KiB", &picture(BODY_MAX), 200).await;
    visitor.innocent("the same over HTTP/2", &picture(BODY_MAX).http2(), 200).await;
    Ok(())
}

/// What a price has to be stands in `price.schema.json`.
pub(in crate::demo::tour) async fn promises(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let key = visitor.demo.keys.importer.clone();
    let price = |body: &str| {
        let ask = Ask::new("PUT", "/products/2").field("x-api-key", &key);
        ask.field("content-type", "application/json").body(body.as_bytes().to_vec())
    };
    let refused = refusal(400, Step::Inspect);
    for (tried, body) in [
        ("a price below zero", r#"{"cents":-1}"#),
        ("a price in words", r#"{"cents":"nothing"}"#),
        ("a member that nobody knows", r#"{"cents":900,"owner":"eve"}"#),
        ("two prices under one name", r#"{"cents":900,"cents":1}"#),
        ("no price", "{}"),
    ] {
        visitor.attack(tried, &price(body), refused).await;
    }
    visitor.attack("a price below zero over HTTP/2", &price(r#"{"cents":-1}"#).http2(), refused).await;
    visitor.innocent("a price as promised", &price(r#"{"cents":900}"#), 200).await;
    visitor.innocent("the same over HTTP/2", &price(r#"{"cents":900}"#).http2(), 200).await;
    Ok(())
}

/// A chunked body does not say how long it will be: it is cut off where it passes the
/// limit, and the service never sees an end of it.
async fn chunked(visitor: &mut Visitor<'_>, token: &str) -> anyhow::Result<()> {
    let mut trial = Trial::new(Kind::Attack, "the same in chunks, without a length");
    let mut bytes = format!(
        "PUT /accounts/alice/picture HTTP/1.1\r\nhost: shop.localhost\r\nauthorization: Bearer {token}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..=BODY_MAX / 4096 {
        bytes.extend_from_slice(b"1000\r\n");
        bytes.extend_from_slice(&[b'.'; 4096]);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let mut connection = http1::Connection::open(&visitor.demo.endpoint()?).await?;
    // The gateway may answer and close before all of it is sent.
    let _ = connection.send(&bytes).await;
    match connection.answer(false).await {
        Ok(answer) => {
            trial.came_back = answer.status.to_string();
            trial.id = answer.request_id();
            trial.require(answer.status == 413, "expected 413");
        }
        Err(error) => trial.fault(format!("no answer: {error}")),
    }
    visitor.write_down(trial);
    Ok(())
}
