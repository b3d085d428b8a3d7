//! Browsers: a login by real requests, what other sites and thieves do with its session, a
//! second factor where money moves, and the end of a session while it is in use.

use std::time::Duration;

use model::event::Step;
use serde_json::json;

use crate::demo::browser::Browser;
use crate::demo::client::http1::Connection;
use crate::demo::environment::HOST;
use crate::demo::tour::visitor::{Ask, Kind, Refusal, Trial, Visitor, refusal};

const ORDERS: &str = "/orders/alice";
/// How long an open WebSocket may go on after its session was revoked.
const CUT_WITHIN: Duration = Duration::from_secs(20);

fn with_session(browser: &Browser, ask: Ask) -> Ask {
    ask.field("cookie", &browser.cookies(HOST))
}

pub(in crate::demo::tour) async fn login(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    const REFUSED: Refusal = refusal(401, Step::Authenticate);
    visitor.attack("a script calls without a session", &at(demo, Ask::get(ORDERS)), REFUSED).await;
    let mut browser = demo.browser()?;
    let page = demo.open(&mut browser, "alice", ORDERS).await?;
    anyhow::ensure!(page.status == 200, "alice logged in and got {}", page.status);
    let own = with_session(&browser, at(demo, Ask::get(ORDERS)));
    visitor.innocent("alice logged in: her page, with its session", &own, 200).await;
    let cookies = browser.cookies(HOST);
    let tampered = format!("{}AAAA", cookies.get(..cookies.len().saturating_sub(4)).unwrap_or_default());
    visitor
        .attack("her cookie, tampered with", &at(demo, Ask::get(ORDERS)).field("cookie", &tampered), REFUSED)
        .await;
    let elsewhere = Ask::get(ORDERS).field("cookie", &cookies);
    visitor.attack("her cookie under another name of the shop", &elsewhere, REFUSED).await;
    Ok(())
}

pub(in crate::demo::tour) async fn other_site(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    const REFUSED: Refusal = refusal(403, Step::Authenticate);
    let mut browser = demo.browser()?;
    demo.open(&mut browser, "alice", ORDERS).await?;
    let order = |from: &str| {
        let ask = at(demo, Ask::new("POST", ORDERS)).json(&json!({ "product": 2, "cents": 890 }));
        with_session(&browser, ask).field("origin", from)
    };
    visitor
        .attack("a page of another site orders in her name", &order("https://evil.example"), REFUSED)
        .await;
    visitor.because("Origin");
    visitor.attack("a page that hides where it is from", &order("null"), REFUSED).await;
    visitor.innocent("the shop's own page orders", &order(&demo.origin()), 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn step_up(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let mut browser = demo.browser()?;
    demo.open(&mut browser, "bob", "/orders/bob").await?;
    let refund = |browser: &Browser| {
        let ask = at(demo, Ask::new("POST", "/payments/refunds")).json(&json!({ "charge": "ch-2001" }));
        with_session(browser, ask).field("origin", &demo.origin())
    };
    let weak = refund(&browser);
    visitor.attack("bob refunds after a login with a password", &weak, refusal(401, Step::Authorize)).await;
    visitor.because("acr");
    demo.open(&mut browser, "bob", "/auth/login?return=/orders/bob&acr=2").await?;
    visitor.innocent("after the code of his authenticator app", &refund(&browser), 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn revoked(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let demo = visitor.demo;
    let (mut alice, mut dora) = (demo.browser()?, demo.browser()?);
    demo.open(&mut alice, "alice", ORDERS).await?;
    demo.open(&mut dora, "dora", "/orders/dora").await?;
    let mut kept = live(visitor, &alice).await?;
    let mut lost = live(visitor, &dora).await?;
    let (_, done) = demo.bastide(&["revoke", "subject", "dora", "--config", "bastide.yaml"]).await?;
    anyhow::ensure!(done, "dora could not be revoked");
    let mut trial = Trial::new(Kind::Attack, "dora's WebSocket, after her session was revoked");
    let (_, closed) = lost.leftovers(CUT_WITHIN).await;
    trial.came_back = if closed { "connection closed" } else { "still open" }.to_owned();
    trial.require(closed, "it goes on");
    visitor.write_down(trial);
    let again = with_session(&dora, at(demo, Ask::get("/orders/dora")));
    visitor.attack("dora's cookie afterwards", &again, refusal(401, Step::Authenticate)).await;
    let mut trial = Trial::new(Kind::Innocent, "alice's WebSocket meanwhile");
    let (_, closed) = kept.leftovers(Duration::from_millis(200)).await;
    trial.came_back = if closed { "connection closed" } else { "still open" }.to_owned();
    trial.require(!closed, "it was cut");
    visitor.write_down(trial);
    Ok(())
}

/// A WebSocket that said hello.
async fn live(visitor: &Visitor<'_>, browser: &Browser) -> anyhow::Result<Connection> {
    let demo = visitor.demo;
    let mut connection = Connection::open(&demo.endpoint()?).await?;
    let (authority, origin, cookies) = (demo.authority_name(), demo.origin(), browser.cookies(HOST));
    let head = format!(
        "GET /live HTTP/1.1\r\nhost: {authority}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\norigin: {origin}\r\ncookie: {cookies}\r\n\r\n"
    );
    connection.send(head.as_bytes()).await?;
    let mut seen = Vec::new();
    for _ in 0..300 {
        let (more, closed) = connection.leftovers(Duration::from_millis(100)).await;
        seen.extend(more);
        if seen.windows(5).any(|window| window == b"hello") {
            return Ok(connection);
        }
        anyhow::ensure!(!closed, "no WebSocket: {}", String::from_utf8_lossy(&seen));
    }
    anyhow::bail!("the WebSocket says nothing: {}", String::from_utf8_lossy(&seen))
}

/// Under the name with the port, as a browser writes it.
fn at(demo: &crate::demo::environment::DemoEnvironment, mut ask: Ask) -> Ask {
    ask.request.host = demo.authority_name();
    ask
}
