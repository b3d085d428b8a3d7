//! Tokens that are bound to a key: stolen, they are worth nothing.

use model::Clock as _;
use model::event::Step;

use crate::demo::environment::{HOST, SHOP};
use crate::demo::jose::{Proof, SigningKey};
use crate::demo::login::TokenRequest;
use crate::demo::tour::visitor::{Ask, Refusal, Visitor, refusal};
use crate::process::clock::SystemClock;

const TARGET: &str = "/orders/alice/1001";
const REFUSED: Refusal = refusal(401, Step::Authenticate);

/// Alice's token for her key, and a way to prove it.
struct Owner {
    key: SigningKey,
    token: String,
}

impl Owner {
    async fn meet(visitor: &Visitor<'_>) -> anyhow::Result<Self> {
        let key = SigningKey::generate("alice's")?;
        let wanted = TokenRequest { resource: SHOP, acr: None, key: Some(&key) };
        let token = visitor.demo.log_in("alice", &wanted).await?;
        Ok(Self { key, token })
    }

    fn proof_by(&self, key: &SigningKey, target: &str, id: &str) -> anyhow::Result<String> {
        let url = format!("https://{HOST}{target}");
        let seconds = SystemClock::start().now().unix_seconds();
        key.prove(&Proof { method: "GET", url: &url, token: Some(&self.token), id, seconds })
    }

    fn ask(&self, proof: &str) -> Ask {
        Ask::get(TARGET).field("authorization", &format!("DPoP {}", self.token)).field("dpop", proof)
    }
}

pub(in crate::demo::tour) async fn token(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = Owner::meet(visitor).await?;
    visitor.attack("a stolen token as a bearer token", &Ask::get(TARGET).bearer(&alice.token), REFUSED).await;
    visitor.because("DPoP");
    let thief = SigningKey::generate("a thief's")?;
    let proof = alice.proof_by(&thief, TARGET, "1")?;
    visitor.attack("with a proof by the thief's own key", &alice.ask(&proof), REFUSED).await;
    let elsewhere = alice.proof_by(&alice.key, "/orders/alice", "2")?;
    visitor.attack("with a proof for another address", &alice.ask(&elsewhere), REFUSED).await;
    visitor.innocent("its owner", &alice.ask(&alice.proof_by(&alice.key, TARGET, "3")?), 200).await;
    Ok(())
}

pub(in crate::demo::tour) async fn proof(visitor: &mut Visitor<'_>) -> anyhow::Result<()> {
    let alice = Owner::meet(visitor).await?;
    let proof = alice.proof_by(&alice.key, TARGET, "1")?;
    visitor.innocent("its owner", &alice.ask(&proof), 200).await;
    visitor.attack("token and proof, overheard and sent again", &alice.ask(&proof), REFUSED).await;
    visitor.because("used before");
    visitor.innocent("its owner's next", &alice.ask(&alice.proof_by(&alice.key, TARGET, "2")?), 200).await;
    Ok(())
}
