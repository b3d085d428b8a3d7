//! Tokens that are missing, forged, stale or meant for somebody else.

use std::time::Duration;

use model::event::Step;
use serde_json::{Value, json};

use crate::demo::environment::{BANK, BRIEF, SHOP};
use crate::demo::jose::{SigningKey, claims, hs256, key_id, tampered, unsigned};
use crate::demo::login::TokenRequest;
use crate::demo::tour::visitor::{Ask, Refusal, Visitor, refusal};
use anyhow::Context as _;

const TARGET: &str = "/orders/alice/1001";
const REFUSED: Refusal = refusal(401, Step::Authenticate);
/// So often a token of one second may be used too late.
const TRIES_MAX: u32 = 20;

pub(in crate::demo::tour) async fn none(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.demo.token("alice");
    let answer = visitor.attack("an order without a token", &Ask::get(TARGET), REFUSED).await;
    if let Some(answer) = answer {
        let challenge = answer.field("www-authenticate").unwrap_or_default().to_ascii_lowercase();
        anyhow::ensure!(
            challenge.starts_with("bearer"),
            "expected a Bearer challenge (RFC 6750 §3), found {challenge:?}"
        );
    }
    visitor.attack("the same over HTTP/2", &Ask::get(TARGET).http2(), REFUSED).await;
    let basic = Ask::get(TARGET).field("authorization", "Basic YWxpY2U6YWxpY2U=");
    visitor.attack("a password instead of a token", &basic, REFUSED).await;
    let twice = Ask::get(TARGET).bearer(visitor.demo.token("bob")).bearer(alice);
    visitor.attack("two tokens at once", &twice, refusal(400, Step::Admit)).await;
    visitor.innocent("with alice's token", &Ask::get(TARGET).bearer(alice), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn forged(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let honest = demo.token("alice");
    let wishes = claims(honest)?;
    let keys = demo.issuer_keys().await?;
    // The very key that signed the honest token.
    let kid = key_id(honest)?;
    let published = keys.get("keys").and_then(Value::as_array);
    let mut published = published.into_iter().flatten();
    let jwk = published.find(|key| key.get("kid").and_then(Value::as_str) == Some(kid.as_str()));
    let jwk = jwk.cloned().context("the provider does not publish the key that it signs with")?;
    let kid = kid.as_str();
    let forgeries = [
        ("alg: none", unsigned(&wishes)),
        ("HS256 with the issuer's public key as secret", hs256(kid, jwk.to_string().as_bytes(), &wishes)),
        ("signed by a key of one's own under the issuer's kid", SigningKey::generate(kid)?.sign(&wishes)?),
        ("signed by a key that the issuer does not know", SigningKey::generate("mine")?.sign(&wishes)?),
        (
            "bob's token with his name changed to alice",
            tampered(demo.token("bob"), |c| set(c, "sub", "alice"))?,
        ),
        (
            "alice's token without its signature",
            honest.rsplit_once('.').map_or("", |(t, _)| t).to_owned() + ".",
        ),
    ];
    for (what, token) in &forgeries {
        visitor.attack(what, &Ask::get(TARGET).bearer(token), REFUSED).await;
    }
    if let Some((_, token)) = forgeries.first() {
        visitor.attack("alg: none over HTTP/2", &Ask::get(TARGET).bearer(token).http2(), REFUSED).await;
    }
    visitor.innocent("the honest token", &Ask::get(TARGET).bearer(honest), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn stale(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let brief = TokenRequest { resource: BRIEF, ..TokenRequest::default() };
    let ended = demo.log_in("alice", &brief).await?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    visitor.attack("a token that has just ended", &Ask::get(TARGET).bearer(&ended), REFUSED).await;
    visitor.because("exp");
    let over_http2 = Ask::get(TARGET).bearer(&ended).http2();
    visitor.attack("the same over HTTP/2", &over_http2, REFUSED).await;
    // A second is short: the one that is fresh is used at once, and where the machine is busy elsewhere
    // for as long, another one.
    for tries in 1.. {
        let fresh = demo.log_in("alice", &brief).await?;
        let answer = visitor.ask(&Ask::get(TARGET).bearer(&fresh)).await;
        let late = answer.as_ref().is_ok_and(|answer| answer.status == REFUSED.status);
        if !late || tries == TRIES_MAX {
            visitor.judge_innocent("one of its kind in its second", answer, 200);
            break;
        }
    }
    Ok(())
}

pub(in crate::demo::tour) async fn foreign(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let bank = TokenRequest { resource: BANK, ..TokenRequest::default() };
    let elsewhere = demo.log_in("alice", &bank).await?;
    visitor.attack("a token for the bank", &Ask::get(TARGET).bearer(&elsewhere), REFUSED).await;
    visitor.because("aud");
    visitor.attack("the same over HTTP/2", &Ask::get(TARGET).bearer(&elsewhere).http2(), REFUSED).await;
    let shop = TokenRequest { resource: SHOP, ..TokenRequest::default() };
    let own = demo.log_in("alice", &shop).await?;
    visitor.innocent("a token for the shop", &Ask::get(TARGET).bearer(&own), 200).await;
    Ok(())
}

fn set(claims: &mut Value, name: &str, value: &str) {
    if let Some(claims) = claims.as_object_mut() {
        claims.insert(name.to_owned(), json!(value));
    }
}
