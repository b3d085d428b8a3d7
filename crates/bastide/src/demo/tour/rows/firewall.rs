//! Attacks on what stands behind a service, in arguments that the service is meant to
//! take: from people who may ask. The rules are the demo's own, or the Core Rule Set where
//! the demo found one: then its score refuses, and the explanation names what raised it.

use model::event::Step;
use serde_json::json;

use crate::demo::client::Answer;
use crate::demo::environment::Rules;
use crate::demo::tour::trail;
use crate::demo::tour::visitor::{Ask, Refusal, Visitor, refusal};

const REFUSED: Refusal = refusal(403, Step::Inspect);
const SQL_INJECTION: &str = "rule 1020 ";
const SCRIPTING: &str = "rule 1030 ";
const TRAVERSAL: &str = "rule 1040 ";
/// The rule of the Core Rule Set that refuses what the others have found.
const SCORE: &str = "rule 949110 ";

/// The rule that refuses an attack that `own` of the demo's rules would find.
fn decider(visitor: &Visitor<'_>, own: &'static str) -> &'static str {
    match visitor.demo.rules {
        Rules::Own(_) => own,
        Rules::CoreRuleSet(_) => SCORE,
    }
}

pub(in crate::demo::tour) async fn sql_injection(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let query = Ask::get("/products?q=1%27%20OR%20%271%27=%271");
    let answer = visitor.attack("1' OR '1'='1 in a query", &query, REFUSED).await;
    visitor.because(decider(visitor, SQL_INJECTION));
    is_explained(visitor, answer, &[decider(visitor, SQL_INJECTION).trim(), "attack-sqli", "ARGS:q"]).await?;
    let union = Ask::get("/products?q=-1%2BUNION%2BSELECT%2Bname,secret%2BFROM%2Busers--").http2();
    visitor.attack("UNION SELECT, encoded twice, over HTTP/2", &union, REFUSED).await;
    visitor.because(decider(visitor, SQL_INJECTION));
    let second = note(visitor, "1'; DROP TABLE orders--");
    let answer = visitor.attack("'; DROP TABLE in JSON", &second, REFUSED).await;
    visitor.because(decider(visitor, SQL_INJECTION));
    is_explained(visitor, answer, &[decider(visitor, SQL_INJECTION).trim(), "attack-sqli", "ARGS:json.note"])
        .await?;
    let cookie = Ask::get("/products").field("cookie", "basket=1' OR '1'='1");
    visitor.attack("the same in a cookie", &cookie, REFUSED).await;
    visitor.because(decider(visitor, SQL_INJECTION));

    visitor.innocent("O'Brien in a query", &Ask::get("/products?q=O%27Brien"), 200).await;
    let words = Ask::get("/products?q=select%20a%20table%20from%20the%20union").http2();
    visitor.innocent("select a table from the union", &words, 200).await;
    let honest = note(visitor, "For Mrs O'Brien: drop it at the table, please");
    visitor.innocent("a note for Mrs O'Brien in JSON", &honest, 201).await;
    // To the Core Rule Set it is an attack.
    if let Rules::Own(_) = visitor.demo.rules {
        let token = Ask::get("/products?q=5--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        visitor.innocent("a token that reads like SQL", &token, 200).await;
    }
    Ok(())
}

pub(in crate::demo::tour) async fn scripting(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let script = Ask::get("/products?q=%3Cscript%3Ealert(1)%3C/script%3E");
    let answer = visitor.attack("<script> in a query", &script, REFUSED).await;
    visitor.because(decider(visitor, SCRIPTING));
    is_explained(visitor, answer, &[decider(visitor, SCRIPTING).trim(), "attack-xss", "ARGS:q"]).await?;
    let image = note(visitor, "<img src=x onerror=alert(1)>");
    visitor.attack("<img onerror> in JSON", &image, REFUSED).await;
    visitor.because(decider(visitor, SCRIPTING));

    let sum = Ask::get("/products?q=1%20%3C%202%20and%203%20%3E%202%20%26%20so%20on");
    visitor.innocent("1 < 2 and 3 > 2 & so on", &sum, 200).await;
    let script = note(visitor, "The script of the play goes on, on error and all");
    visitor.innocent("a note about a script", &script, 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn traversal(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let file = Ask::get("/products?picture=../../etc/passwd");
    let answer = visitor.attack("../../etc/passwd in an argument", &file, REFUSED).await;
    visitor.because(decider(visitor, TRAVERSAL));
    is_explained(visitor, answer, &[decider(visitor, TRAVERSAL).trim(), "attack-lfi", "ARGS:picture"])
        .await?;
    let twice = Ask::get("/products?picture=%252e%252e%255cboot.ini").http2();
    visitor.attack("the same, encoded twice, with a backslash", &twice, REFUSED).await;
    visitor.because(decider(visitor, TRAVERSAL));

    visitor.innocent("a picture in a folder", &Ask::get("/products?picture=oil/1..2.png"), 200).await;
    let note = note(visitor, "Well... either/or, 3..5 pieces");
    visitor.innocent("a note with dots and strokes", &note, 201).await;
    Ok(())
}

pub(in crate::demo::tour) async fn unreadable(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    visitor.attack("a query with %zz", &Ask::get("/products?q=100%zz"), REFUSED).await;
    visitor.because("rule 1010 ");
    visitor.attack("an argument with NUL", &Ask::get("/products?q=oil%2500.png").http2(), REFUSED).await;
    visitor.because("rule 1012 ");
    let whole = note(visitor, "100 % olives");
    let mut half = whole.clone();
    half.request.body.pop();
    visitor.attack("JSON without its end", &half, refusal(400, Step::Inspect)).await;
    visitor.because("rule 1011 ");

    visitor.innocent("the JSON with its end", &whole, 201).await;
    visitor.innocent("100 % in a query", &Ask::get("/products?q=100%25%20olives,%20caf%C3%A9"), 200).await;
    Ok(())
}

/// Alice's order of walnuts, with a note.
fn note(visitor: &Visitor<'_>, note: &str) -> Ask {
    let order = json!({ "product": 2, "cents": 890, "note": note });
    Ask::new("POST", "/orders/alice").bearer(visitor.demo.token("alice")).json(&order)
}

/// `bastide explain` must say all these words about a refusal.
async fn is_explained(visitor: &Visitor<'_>, answer: Option<Answer>, words: &[&str]) -> anyhow::Result<()> {
    let Some(id) = answer.and_then(|answer| answer.request_id()) else { return Ok(()) };
    let demo = visitor.demo;
    trail::events(demo, &[id]).await;
    let (text, _) = demo.bastide(&["explain", "--config", "bastide.yaml", &id.to_string()]).await?;
    for word in words {
        anyhow::ensure!(text.contains(word), "the explanation does not mention {word:?}: {text}");
    }
    Ok(())
}
