//! Headers that lie, that weigh too much, or that tell too much.

use model::event::{Outcome, Step};
use serde_json::{Value, json};

use crate::demo::client::Answer;
use crate::demo::jose::{claims, tampered, verify};
use crate::demo::tour::visitor::{Ask, Expected, Kind, Trial, Visitor, refusal};

/// The header that tells a service who asks.
const PRINCIPAL: &str = "x-bastide-principal";
/// The header that proves it.
const TOKEN: &str = "x-bastide-identity";

fn told<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer.pointer(&format!("/told/headers/{name}")).and_then(Value::as_str).unwrap_or_default()
}

pub(in crate::demo::tour) async fn identity(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = visitor.demo.token("alice");
    let own = Ask::get("/orders/alice").bearer(alice);
    for name in [PRINCIPAL, "X-Bastide-Principal", "x-bastide-roles", "x-request-id"] {
        let ask = own.clone().field(name, "User:bob");
        lie(visitor, &format!("alice says {name}: User:bob"), &ask, "alice").await;
    }
    let http2 = own.clone().field(PRINCIPAL, "User:bob").http2();
    lie(visitor, "the same over HTTP/2", &http2, "alice").await;
    // Where nobody has to prove anything, nothing would overwrite the lie.
    let products = Ask::get("/products").field(PRINCIPAL, "User:bob");
    lie(visitor, "somebody unknown says so", &products, "").await;
    // A hop-by-hop list must not take away what the gateway sets.
    let named = own.clone().field("connection", PRINCIPAL);
    visitor.attack("alice says Connection: x-bastide-principal", &named, refusal(400, Step::Admit)).await;
    let alias = own.clone().field("x_bastide_principal", "User:bob");
    visitor.attack("an alias: x_bastide_principal", &alias, refusal(400, Step::Admit)).await;
    let alias = alias.http2();
    visitor.attack("the alias over HTTP/2", &alias, refusal(400, Step::Admit)).await;

    if let Some(answer) = visitor.innocent("alice says nothing of the kind", &own, 200).await {
        let body = answer.json();
        anyhow::ensure!(told(&body, PRINCIPAL).contains("alice"), "the service was not told that alice asks");
    }
    Ok(())
}

/// The request is served as `who`, but the lie must not have arrived.
async fn lie(visitor: &mut Visitor<'_>, tried: &str, ask: &Ask, who: &str) {
    let mut trial = Trial::new(Kind::Attack, tried);
    match visitor.ask(ask).await {
        Ok(answer) => {
            let body = answer.json();
            let fields = body.pointer("/told/headers").map(Value::to_string).unwrap_or_default();
            trial.id = answer.request_id();
            trial.expected = Expected::Event(Outcome::Allowed, Step::Forward);
            trial.came_back = format!("{}, told {:?}", answer.status, told(&body, PRINCIPAL));
            trial.require(!fields.contains("bob"), "the service was told the client's lie");
            trial.require(
                told(&body, PRINCIPAL).contains(who),
                format!("the service was not told that {who} asks"),
            );
        }
        Err(error) => trial.fault(format!("no answer: {error:#}")),
    }
    visitor.write_down(trial);
}

pub(in crate::demo::tour) async fn token(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let jwks = demo.admin("/.well-known/bastide/jwks.json").await?.json();
    let own = Ask::get("/orders/alice").bearer(demo.token("alice"));
    let Some(answer) = visitor.innocent("alice asks; the service checks the signed token", &own, 200).await
    else {
        return Ok(());
    };
    let honest = told(&answer.json(), TOKEN).to_owned();
    let claims_of = |token: &str| verify(&jwks, token);
    let said = claims_of(&honest)?;
    let is = |name: &str, value: &str| match said.get(name) {
        Some(Value::String(text)) => text == value,
        Some(Value::Array(list)) => list.contains(&json!(value)),
        _ => false,
    };
    anyhow::ensure!(is("sub", "alice"), "expected sub alice, found {said}");
    anyhow::ensure!(is("aud", "orders"), "expected aud orders, found {said}");
    let second = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
    let lifetime = second("exp").saturating_sub(second("iat"));
    anyhow::ensure!((1..=60).contains(&lifetime), "expected at most 60 s of life, found {lifetime}");

    // Somebody who saw such a token, or made one, sends it along.
    let forged = tampered(&honest, |claims| {
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("sub".to_owned(), json!("bob"));
        }
    })?;
    let mut trial = Trial::new(Kind::Attack, "alice brings an identity token of her own");
    let answer = visitor.ask(&own.field(TOKEN, &forged)).await?;
    let arrived = told(&answer.json(), TOKEN).to_owned();
    let subject = claims_of(&arrived).ok().and_then(|claims| claims.get("sub").cloned());
    trial.id = answer.request_id();
    trial.expected = Expected::Event(Outcome::Allowed, Step::Forward);
    trial.came_back = format!("{}, token of {}", answer.status, subject.clone().unwrap_or_default());
    trial.require(subject == Some(json!("alice")), "the service did not get alice's token");
    visitor.write_down(trial);
    anyhow::ensure!(claims(&arrived).is_ok(), "no token arrived");
    Ok(())
}

pub(in crate::demo::tour) async fn bomb(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let products = Ask::get("/products");
    let with = |count: usize| {
        (0..count).fold(products.clone(), |ask, number| ask.field(&format!("x-{number}"), "boom"))
    };
    let too_large = refusal(431, Step::Admit);
    visitor.attack("1,000 headers", &with(1000), too_large).await;
    visitor
        .attack("a header of 100 KiB", &products.clone().field("x-big", &"b".repeat(100 * 1024)), too_large)
        .await;
    let long = Ask::get(&format!("/products?q={}", "q".repeat(40 * 1024)));
    visitor.attack("a target of 40 KiB", &long, refusal(414, Step::Admit)).await;
    visitor.innocent("40 headers", &with(40), 200).await;
    visitor.innocent("40 headers over HTTP/2", &with(40).http2(), 200).await;
    Ok(())
}

const ALLOWED: &str = "https://app.shop.localhost";

fn allowed_origin(answer: &Answer) -> Option<&str> {
    answer.field("access-control-allow-origin")
}

pub(in crate::demo::tour) async fn cross_origin(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let preflight = |origin: &str| {
        Ask::new("OPTIONS", "/products/1")
            .field("origin", origin)
            .field("access-control-request-method", "GET")
    };
    let evil = preflight("https://evil.example");
    if let Some(answer) =
        visitor.attack("a preflight of evil.example", &evil, refusal(403, Step::Route)).await
    {
        anyhow::ensure!(allowed_origin(&answer).is_none(), "it was allowed to read");
    }
    let mut trial = Trial::new(Kind::Attack, "a simple request of evil.example");
    let answer = visitor.ask(&Ask::get("/products").field("origin", "https://evil.example")).await?;
    let readable = allowed_origin(&answer).unwrap_or("nothing").to_owned();
    trial.id = answer.request_id();
    trial.came_back = format!("{}, readable by {readable}", answer.status);
    trial.require(readable == "nothing", "the browser would let the page read it");
    visitor.write_down(trial);

    let mut trial = Trial::new(Kind::Innocent, "a preflight of the shop's own page");
    let answer = visitor.ask(&preflight(ALLOWED)).await?;
    trial.id = answer.request_id();
    trial.expected = Expected::Event(Outcome::Allowed, Step::Route);
    trial.came_back =
        format!("{}, readable by {}", answer.status, allowed_origin(&answer).unwrap_or("nothing"));
    trial.require(allowed_origin(&answer) == Some(ALLOWED), "the page may not call");
    visitor.write_down(trial);
    let simple = Ask::get("/products").field("origin", ALLOWED);
    if let Some(answer) = visitor.innocent("its simple request", &simple, 200).await {
        anyhow::ensure!(allowed_origin(&answer) == Some(ALLOWED), "the page may not read the answer");
    }
    Ok(())
}

pub(in crate::demo::tour) async fn what_clients_learn(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    // The refusal's own body is held by every attack: an id and nothing else.
    let own = Ask::get("/orders/alice");
    let refused =
        visitor.attack("a refusal keeps the reason to itself", &own, refusal(401, Step::Authenticate)).await;
    let served = visitor.innocent("an answer", &own.bearer(visitor.demo.token("alice")), 200).await;
    for answer in [refused, served].into_iter().flatten() {
        for must in ["strict-transport-security", "x-content-type-options", "x-frame-options"] {
            anyhow::ensure!(answer.field(must).is_some(), "the {} answer has no {must}", answer.status);
        }
        for never in ["server", "x-powered-by", "via"] {
            anyhow::ensure!(answer.field(never).is_none(), "the {} answer has {never}", answer.status);
        }
    }
    Ok(())
}
