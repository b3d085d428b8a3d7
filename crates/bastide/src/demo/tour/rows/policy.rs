//! People who are who they say, and still may not.

use model::event::Step;
use serde_json::json;

use crate::demo::environment::{ADMIN_HOST, SHOP};
use crate::demo::login::TokenRequest;
use crate::demo::tour::visitor::{Ask, Refusal, Visitor, refusal};

const REFUSED: Refusal = refusal(403, Step::Authorize);

pub(in crate::demo::tour) async fn other_owner(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (alice, bob, eve) = (demo.token("alice"), demo.token("bob"), demo.token("eve"));
    let order = json!({ "product": 4, "cents": 1 });
    visitor.attack("alice reads bob's order", &Ask::get("/orders/bob/2001").bearer(alice), REFUSED).await;
    visitor
        .attack("the same over HTTP/2", &Ask::get("/orders/bob/2001").bearer(alice).http2(), REFUSED)
        .await;
    let place = Ask::new("POST", "/orders/bob").bearer(alice).json(&order);
    visitor.attack("alice orders in bob's name", &place, REFUSED).await;
    visitor.attack("eve, without a role, reads orders", &Ask::get("/orders/eve").bearer(eve), REFUSED).await;
    visitor
        .attack("eve sees alice's profile", &Ask::get("/accounts/alice/profile").bearer(eve), REFUSED)
        .await;
    visitor.innocent("alice reads her own", &Ask::get("/orders/alice").bearer(alice), 200).await;
    visitor.innocent("bob, a merchant, reads his", &Ask::get("/orders/bob/2001").bearer(bob), 200).await;
    visitor.innocent("eve sees her own profile", &Ask::get("/accounts/eve/profile").bearer(eve), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn administration(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (alice, bob) = (demo.token("alice"), demo.token("bob"));
    let endpoint = demo.endpoint_of(ADMIN_HOST)?;
    let at = |mut ask: Ask, token: &str| {
        ADMIN_HOST.clone_into(&mut ask.request.host);
        ask.bearer(token).at(endpoint.clone())
    };
    const USERS: &str = "/v1/realms/town/users";
    let list = Ask::get(USERS);
    visitor.attack_administration("alice, a customer, lists the people", &at(list.clone(), alice)).await;
    let add = Ask::new("POST", USERS).json(&json!({ "username": "mallory", "roles": ["merchant"] }));
    visitor.attack_administration("bob, a merchant, adds one", &at(add, bob)).await;
    let keys = Ask::get("/v1/realms/town/keys");
    visitor.attack_administration("bob lists the keys that sign", &at(keys, bob)).await;
    visitor.innocent("bob lists the people", &at(list, bob), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn refund(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let ask = |token: &str| {
        Ask::new("POST", "/payments/refunds").bearer(token).json(&json!({ "charge": "ch-1001" }))
    };
    visitor.attack("eve refunds", &ask(demo.token("eve")), REFUSED).await;
    visitor.attack("alice, a customer, refunds", &ask(demo.token("alice")), REFUSED).await;
    let weak = demo.log_in("bob", &TokenRequest { resource: SHOP, ..TokenRequest::default() }).await?;
    let told =
        visitor.attack("bob refunds with a password alone", &ask(&weak), refusal(401, Step::Authorize)).await;
    // He is told that a stronger login would do (RFC 9470).
    if let Some(told) = told {
        let challenge = told.field("www-authenticate").unwrap_or_default();
        let asks =
            challenge.contains("insufficient_user_authentication") && challenge.contains("acr_values=\"2\"");
        anyhow::ensure!(asks, "expected to be asked for acr 2, found {challenge:?}");
    }
    visitor.innocent("bob refunds with one", &ask(demo.token("bob")), 201).await;
    Ok(())
}
