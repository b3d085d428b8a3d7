//! Proof Key for Code Exchange (RFC 7636). S256 alone, and of every client that was not let off it:
//! OAuth 2.1 §4.1.1.

use aws_lc_rs::digest::{SHA256, digest};
use keys::encoding::encode_base64url;
use subtle::ConstantTimeEq as _;

use crate::client::Client;
use crate::parameter::Parameters;
use crate::refusal::{Answer, Code, Refusal};

/// Reads `code_challenge` and `code_challenge_method`; `None`: neither is there, and the client may
/// leave them out.
pub(crate) fn challenge(client: &Client, parameters: &Parameters) -> Answer<Option<String>> {
    let refused = |why| Err(Refusal::plain(Code::InvalidRequest, why));
    let Some(challenge) = parameters.get("code_challenge") else {
        if client.has_to_use_pkce() {
            return Err(missing(client));
        }
        if parameters.get("code_challenge_method").is_some() {
            return refused("`code_challenge_method` without `code_challenge`");
        }
        return Ok(None);
    };
    // Left out means `plain` (§4.3), which shows the verifier to whoever sees the request.
    if parameters.get("code_challenge_method") != Some("S256") {
        return refused("`code_challenge_method` must be S256");
    }
    if challenge.len() != 43 || !challenge.bytes().all(is_base64url) {
        return refused("`code_challenge` must be 43 characters of base64url");
    }
    Ok(Some(challenge.to_owned()))
}

fn missing(client: &Client) -> Box<Refusal> {
    let id = &client.id;
    let reason = if client.is_public() {
        format!("client {id:?} is public: have it use PKCE")
    } else {
        format!("client {id:?}: have it use PKCE, or let it off by its setting `pkce: optional`")
    };
    let told = "parameter `code_challenge` is missing: PKCE is required (RFC 7636)";
    Refusal::new(Code::InvalidRequest, told, reason)
}

/// Whether who comes with a code is who asked for it. INVARIANT: a code that was asked for without a
/// challenge is none for whoever brings a verifier: somebody took the challenge out of the request of
/// a client that sent one (RFC 9700 §2.1.1).
pub(crate) fn check(client: &Client, challenge: Option<&str>, verifier: Option<&str>) -> Answer<()> {
    let refused = |told| Err(Refusal::plain(Code::InvalidGrant, told));
    match (challenge, verifier) {
        (Some(challenge), Some(verifier)) => verify(challenge, verifier),
        (Some(_), None) => refused("`code_verifier` is missing"),
        (None, Some(_)) => refused("`code_verifier`, and the code was asked for without `code_challenge`"),
        (None, None) if client.has_to_use_pkce() => {
            refused("the code was asked for without `code_challenge`, which this client has to send")
        }
        (None, None) => Ok(()),
    }
}

/// Whether `verifier` is what `challenge` was made of (§4.6).
fn verify(challenge: &str, verifier: &str) -> Answer<()> {
    let shaped = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|byte| is_base64url(byte) || matches!(byte, b'.' | b'~'));
    if !shaped {
        return Err(Refusal::plain(
            Code::InvalidGrant,
            "`code_verifier` must be 43 to 128 unreserved characters",
        ));
    }
    let made = encode_base64url(digest(&SHA256, verifier.as_bytes()).as_ref());
    if bool::from(made.as_bytes().ct_eq(challenge.as_bytes())) {
        return Ok(());
    }
    Err(Refusal::plain(Code::InvalidGrant, "`code_verifier` does not belong to the code"))
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientAuthentication, Pkce};

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_specifications_example_holds_and_nothing_else() {
        assert!(verify(CHALLENGE, VERIFIER).is_ok());
        let long = "a".repeat(129);
        for wrong in ["", CHALLENGE, &VERIFIER[..42], &VERIFIER.replace('d', "e"), &long, &"ä".repeat(30)] {
            assert_eq!(verify(CHALLENGE, wrong).unwrap_err().code, Code::InvalidGrant, "{wrong}");
        }
    }

    #[test]
    fn no_downgrade() {
        let client = Client::new("web", ClientAuthentication::Secret { hashes: Vec::new() });
        let read = |text: &str| challenge(&client, &Parameters::parse(text.as_bytes()).unwrap());
        let good = format!("code_challenge={CHALLENGE}");
        assert_eq!(read(&format!("{good}&code_challenge_method=S256")).unwrap().unwrap(), CHALLENGE);
        for wrong in [
            String::new(),
            good.clone(),
            format!("{good}&code_challenge_method=plain"),
            format!("{good}&code_challenge_method=s256"),
            format!("{good}&code_challenge_method="),
            format!("code_challenge={}&code_challenge_method=S256", &CHALLENGE[1..]),
            format!("code_challenge={CHALLENGE}=&code_challenge_method=S256"),
            "code_challenge_method=S256".to_owned(),
        ] {
            assert_eq!(read(&wrong).unwrap_err().code, Code::InvalidRequest, "{wrong}");
        }
    }

    /// Only the log knows that there is a setting.
    #[test]
    fn who_operates_it_is_told_how_a_client_is_let_off() {
        let none = Parameters::default();
        let mut web = Client::new("web", ClientAuthentication::Secret { hashes: Vec::new() });
        let refused = challenge(&web, &none).unwrap_err();
        assert!(refused.reason.contains("`pkce: optional`"), "{}", refused.reason);
        assert!(!refused.description.contains("optional"), "{}", refused.description);
        let public = Client::new("spa", ClientAuthentication::None);
        assert!(!challenge(&public, &none).unwrap_err().reason.contains("optional"));
        web.pkce = Pkce::Optional;
        assert_eq!(challenge(&web, &none).unwrap(), None);
        // Whatever is registered of it.
        assert!(challenge(&Client { pkce: Pkce::Optional, ..public }, &none).is_err());
    }
}
