//! Tokens that are missing, forged, stale or meant for somebody else.

use model::event::Step;
use serde_json::{Value, json};

use crate::demo::jose::{SigningKey, claims, hs256, tampered, unsigned};
use crate::demo::tour::visitor::{Ask, Refusal, Visitor, refusal};

const TARGET: &str = "/orders/alice/1001";
const REFUSED: Refusal = refusal(401, Step::Authenticate);

pub(in crate::demo::tour) async fn none(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.town.token("alice");
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
    let twice = Ask::get(TARGET).bearer(visitor.town.token("bob")).bearer(alice);
    visitor.attack("two tokens at once", &twice, refusal(400, Step::Admit)).await;
    visitor.innocent("with alice's token", &Ask::get(TARGET).bearer(alice), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn forged(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let honest = town.token("alice");
    let wishes = claims(honest)?;
    let keys = town.issuer_keys().await?;
    let jwk = keys.pointer("/keys/0").cloned().unwrap_or_default();
    let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
    let forgeries = [
        ("alg: none", unsigned(&wishes)),
        ("HS256 with the issuer's public key as secret", hs256(kid, jwk.to_string().as_bytes(), &wishes)),
        ("signed by a key of one's own under the issuer's kid", SigningKey::generate(kid)?.sign(&wishes)?),
        ("signed by a key that the issuer does not know", SigningKey::generate("mine")?.sign(&wishes)?),
        (
            "bob's token with his name changed to alice",
            tampered(town.token("bob"), |c| set(c, "sub", "alice"))?,
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
    let town = visitor.town;
    let expired = town.mint("alice", Some(-60), json!({})).await?;
    visitor.attack("a token that ended a minute ago", &Ask::get(TARGET).bearer(&expired), REFUSED).await;
    let end = claims(town.token("alice"))?.get("exp").cloned();
    let early = town.mint("alice", None, json!({ "nbf": end })).await?;
    visitor.attack("a token that begins in some hours", &Ask::get(TARGET).bearer(&early), REFUSED).await;
    let endless = town.mint("alice", None, json!({ "exp": null })).await?;
    visitor.attack("a token without an end", &Ask::get(TARGET).bearer(&endless), REFUSED).await;
    let fresh = town.mint("alice", Some(60), json!({})).await?;
    visitor.innocent("a token with a minute left", &Ask::get(TARGET).bearer(&fresh), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn foreign(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let town = visitor.town;
    let elsewhere = town.mint("alice", None, json!({ "aud": "bank" })).await?;
    visitor.attack("a token for the bank", &Ask::get(TARGET).bearer(&elsewhere), REFUSED).await;
    let list = town.mint("alice", None, json!({ "aud": ["bank", "baker"] })).await?;
    visitor.attack("a token for bank and baker", &Ask::get(TARGET).bearer(&list), REFUSED).await;
    let stranger = town.mint("alice", None, json!({ "iss": "https://id.example.org" })).await?;
    visitor.attack("a token that names another issuer", &Ask::get(TARGET).bearer(&stranger), REFUSED).await;
    let both = town.mint("alice", None, json!({ "aud": ["bank", "shop"] })).await?;
    visitor.innocent("a token for bank and shop", &Ask::get(TARGET).bearer(&both), 200).await;
    Ok(())
}

fn set(claims: &mut Value, name: &str, value: &str) {
    if let Some(claims) = claims.as_object_mut() {
        claims.insert(name.to_owned(), json!(value));
    }
}
