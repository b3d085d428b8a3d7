//! Too many, from the wrong place, or under a false address.

use model::RequestId;
use model::event::Step;
use serde_json::{Value, json};

use crate::demo::client::{Answer, http1, http2};
use crate::demo::tour::trail;
use crate::demo::tour::visitor::{Ask, Kind, Trial, Visitor, refusal};

/// `100/hour per user burst 120`: what fits at once. One more fits only after 36 s.
const QUOTA: usize = 120;
/// `5/hour per address`.
const SIGN_UPS: usize = 5;

pub(in crate::demo::tour) async fn quota(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let ask = Ask::get("/recommendations").bearer(demo.token("alice"));
    let before: u64 = demo.seen().await.values().sum();
    let answers = many(visitor, &ask, 200).await?;
    let after: u64 = demo.seen().await.values().sum();

    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    let (served, refused) = (count(200), count(429));
    let mut trial = Trial::new(Kind::Attack, "200 requests at once, over 8 connections, of 120 that fit");
    trial.came_back = format!("{served} × 200, {refused} × 429");
    trial.require(served == QUOTA, format!("expected exactly {QUOTA} × 200"));
    trial.require(served + refused == 200, "some answers were neither 200 nor 429");
    trial.require(after - before == served as u64, format!("the services saw {} of them", after - before));
    let polite =
        answers.iter().filter(|answer| answer.status == 429).all(|a| a.field("retry-after").is_some());
    trial.require(polite, "a 429 does not say when to come back (Retry-After)");
    let ids: Vec<RequestId> = answers.iter().filter_map(Answer::request_id).collect();
    let events = trail::events(demo, &ids).await;
    trial.require(ids.len() == 200 && events.len() == 200, format!("only {} are audited", events.len()));
    visitor.write_down(trial);

    visitor.attack("one more", &ask, refusal(429, Step::LimitPrincipal)).await;
    visitor.attack("one more over HTTP/2", &ask.http2(), refusal(429, Step::LimitPrincipal)).await;
    let bob = Ask::get("/recommendations").bearer(demo.token("bob"));
    if let Some(answer) = visitor.innocent("bob, who has a quota of his own", &bob, 200).await {
        anyhow::ensure!(
            answer.field("ratelimit").is_some(),
            "the answer does not say what is left (RateLimit)"
        );
    }
    Ok(())
}

/// Sends a request `count` times: over four HTTP/1.1 and four HTTP/2 connections.
async fn many(visitor: &Visitor<'_>, ask: &Ask, count: usize) -> anyhow::Result<Vec<Answer>> {
    let endpoint = visitor.endpoint(ask)?;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let (endpoint, request) = (endpoint.clone(), ask.request.clone());
        clients.spawn(async move {
            let mut answers = Vec::new();
            if client % 2 == 0 {
                let mut connection = http1::Connection::open(&endpoint).await?;
                for _ in 0..count / 8 {
                    answers.push(connection.ask(&request).await?);
                }
            } else {
                let connection = http2::Connection::open(&endpoint).await?;
                for _ in 0..count / 8 {
                    answers.push(connection.ask(&request).await?);
                }
            }
            anyhow::Ok(answers)
        });
    }
    let mut all = Vec::new();
    while let Some(answers) = clients.join_next().await {
        all.extend(answers??);
    }
    Ok(all)
}

fn sign_up(name: &str) -> Ask {
    Ask::new("POST", "/accounts/sign-up").json(&json!({ "name": name, "town": "Eymet" }))
}

pub(in crate::demo::tour) async fn address_quota(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    for number in 1..=SIGN_UPS {
        visitor
            .innocent(&format!("sign-up {number} from one address"), &sign_up("mallory").coming_from(21), 201)
            .await;
    }
    let over = sign_up("mallory").coming_from(21);
    visitor.attack("one more from there", &over, refusal(429, Step::LimitAddress)).await;
    visitor.attack("one more over HTTP/2", &over.http2(), refusal(429, Step::LimitAddress)).await;
    visitor.innocent("somebody else from another address", &sign_up("carol").coming_from(22), 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn denied_address(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let products = Ask::get("/products");
    let refused = refusal(403, Step::LimitAddress);
    visitor.attack("from an address on the deny list", &products.clone().coming_from(66), refused).await;
    visitor.attack("the same over HTTP/2", &products.clone().coming_from(66).http2(), refused).await;
    visitor.innocent("from its neighbour", &products.coming_from(65), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn forwarded_for(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let mut trial = Trial::new(Kind::Attack, "12 sign-ups, each under another X-Forwarded-For");
    let mut served = 0;
    for number in 0..12 {
        let ask = sign_up("mallory").coming_from(31).field("x-forwarded-for", &format!("10.0.0.{number}"));
        served += usize::from(visitor.ask(&ask).await?.status == 201);
    }
    trial.came_back = format!("{served} × 201, {} × 429", 12 - served);
    trial.require(
        served == SIGN_UPS,
        format!("expected exactly {SIGN_UPS} × 201: the socket's address counts"),
    );
    visitor.write_down(trial);

    let products = |said: &str, from| Ask::get("/products").field("x-forwarded-for", said).coming_from(from);
    let refused = refusal(403, Step::LimitAddress);
    visitor.attack("a denied address claims to be another", &products("127.0.0.1", 66), refused).await;
    visitor.attack("a trusted proxy brings a denied address", &products("127.0.0.66", 10), refused).await;

    // What the services are told: a stranger's word never, a trusted proxy's word yes.
    for (what, from, must) in
        [("a stranger names an address", 32, false), ("a trusted proxy names an address", 10, true)]
    {
        let Some(answer) = visitor.innocent(what, &products("192.0.2.7", from), 200).await else { continue };
        let body = answer.json();
        let told = body.pointer("/told/headers").map(Value::to_string).unwrap_or_default();
        anyhow::ensure!(
            told.contains("192.0.2.7") == must,
            "{what}: the service was told {told}, which must {}name it",
            if must { "" } else { "not " }
        );
    }
    Ok(())
}
