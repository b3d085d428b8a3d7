//! Proof Key for Code Exchange (RFC 7636). S256 alone, and always: OAuth 2.1 §4.1.1.

use aws_lc_rs::digest::{SHA256, digest};
use keys::encoding::encode_base64url;
use subtle::ConstantTimeEq as _;

use crate::parameter::Parameters;
use crate::refusal::{Answer, Code, Refusal};

/// Reads `code_challenge` and `code_challenge_method`.
pub(crate) fn challenge(parameters: &Parameters) -> Answer<String> {
    let refused = |why| Err(Refusal::plain(Code::InvalidRequest, why));
    let Some(challenge) = parameters.get("code_challenge") else {
        return refused("parameter `code_challenge` is missing: PKCE is required (RFC 7636)");
    };
    // Left out means `plain` (§4.3), which shows the verifier to whoever sees the request.
    if parameters.get("code_challenge_method") != Some("S256") {
        return refused("`code_challenge_method` must be S256");
    }
    if challenge.len() != 43 || !challenge.bytes().all(is_base64url) {
        return refused("`code_challenge` must be 43 characters of base64url");
    }
    Ok(challenge.to_owned())
}

/// Whether `verifier` is what `challenge` was made of (§4.6).
pub(crate) fn verify(challenge: &str, verifier: &str) -> Answer<()> {
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
        let read = |text: &str| challenge(&Parameters::parse(text.as_bytes()).unwrap());
        let good = format!("code_challenge={CHALLENGE}");
        assert_eq!(read(&format!("{good}&code_challenge_method=S256")).unwrap(), CHALLENGE);
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
}
