//! Tokens about end users: the honest one, and everything that is not.

use std::sync::Arc;
use std::time::Duration;

use keys::encoding::encode_base64;
use keys::svid::{AuthorityTerms, WorkloadKey, X509Authority};
use keys::{
    Algorithm, IdentityToken, LocalSigner, Refusal, Signer, SystemRandom, USER_TOKEN_LEEWAY, open_user_token,
    sign_identity, sign_token,
};
use model::{Credential, Principal, PrincipalKind};
use serde_json::Value;

use crate::support::{NOW_SECONDS, later, now, signer};

const AUDIENCE: &str = "spiffe://shop.example";
const GATEWAY: &str = "spiffe://shop.example/gateway";

struct Gateway {
    signer: Arc<LocalSigner>,
    chain: Vec<String>,
}

/// A gateway with an SVID of an authority of its own.
fn gateway() -> Gateway {
    let random = SystemRandom::new();
    let terms = AuthorityTerms {
        trust_domain: "shop.example",
        from: now(),
        until: later(86_400),
        signs_authorities: false,
    };
    let authority = X509Authority::self_signed(Arc::new(signer(Algorithm::Es256)), &terms, &random).unwrap();
    let signer = Arc::new(signer(Algorithm::Es256));
    let key = WorkloadKey::of(signer.clone()).unwrap();
    let id = GATEWAY.parse().unwrap();
    let svid = authority.issue(&id, &key, now(), Duration::from_secs(3600), &random).unwrap();
    Gateway { signer, chain: vec![encode_base64(&svid.certificate)] }
}

fn alice() -> Principal {
    Principal {
        kind: PrincipalKind::User,
        id: "alice".to_owned(),
        credential: Credential::Session,
        issuer: Some("https://id.shop.example".to_owned()),
        roles: vec!["customer".to_owned()],
        scopes: vec!["openid".to_owned(), "orders".to_owned()],
        acr: Some("2".to_owned()),
        amr: vec!["pwd".to_owned(), "otp".to_owned()],
        ..Principal::anonymous()
    }
}

impl Gateway {
    fn sign(&self, who: &Principal) -> String {
        let token = IdentityToken {
            issuer: GATEWAY,
            audience: AUDIENCE,
            now: now(),
            lifetime: Duration::from_secs(300),
            certificates: &self.chain,
        };
        sign_identity(self.signer.as_ref(), who, token, &SystemRandom::new()).unwrap()
    }
}

#[test]
fn a_token_says_who_the_end_user_is_and_who_signed_it() {
    let gateway = gateway();
    let opened = open_user_token(gateway.sign(&alice()).as_bytes(), AUDIENCE, later(10)).unwrap();
    let until = later(300).plus(USER_TOKEN_LEEWAY);
    assert_eq!(*opened.user, Principal { expires: Some(until), ..alice() });
    assert_eq!((opened.issuer.as_str(), opened.until), (GATEWAY, until));
    assert_eq!(opened.chain.len(), 1);
    // It ends with the credential.
    let brief = Principal { expires: Some(later(20)), ..alice() };
    let brief = gateway.sign(&brief);
    assert!(open_user_token(brief.as_bytes(), AUDIENCE, later(49)).is_ok());
    assert!(matches!(open_user_token(brief.as_bytes(), AUDIENCE, later(50)), Err(Refusal::Expired { .. })));
}

#[test]
fn what_is_not_such_a_token_is_refused() {
    let (gateway, other) = (gateway(), gateway_of_others());
    let good = gateway.sign(&alice());
    let code = |token: &str, audience: &str, time| {
        open_user_token(token.as_bytes(), audience, time).unwrap_err().code().to_owned()
    };
    assert_eq!(code(&good, "spiffe://other.example", now()), "audience");
    assert_eq!(code(&good, AUDIENCE, later(330)), "expired");
    let early = now().minus(Duration::from_secs(31));
    assert_eq!(code(&good, AUDIENCE, early), "issued_in_future");
    // Signed by one key, with the certificate of another.
    let swapped = Gateway { signer: other.signer, chain: gateway.chain.clone() }.sign(&alice());
    assert_eq!(code(&swapped, AUDIENCE, now()), "signature");
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let bobs = gateway.sign(&Principal { id: "bob".to_owned(), ..alice() });
    let payload = bobs.split('.').nth(1).unwrap();
    assert_eq!(code(&format!("{head}.{payload}.{signature}"), AUDIENCE, now()), "signature");
    // Without a chain, of another type, about a service.
    assert_eq!(
        code(&Gateway { chain: Vec::new(), ..gateway_of_others() }.sign(&alice()), AUDIENCE, now()),
        "token_malformed"
    );
    let claims = serde_json::json!({
        "sub": "alice", "aud": AUDIENCE, "iat": NOW_SECONDS, "exp": NOW_SECONDS + 60,
    });
    let plain = sign_token(gateway.signer.as_ref(), "JWT", &claims).unwrap();
    assert_eq!(code(&plain, AUDIENCE, now()), "token_malformed");
    for kind in [PrincipalKind::Service, PrincipalKind::Anonymous] {
        let token = gateway.sign(&Principal { kind, ..alice() });
        assert_eq!(code(&token, AUDIENCE, now()), "token_malformed", "{kind:?}");
    }
    let many = Gateway { chain: vec![gateway.chain[0].clone(); 5], signer: gateway.signer.clone() };
    assert_eq!(code(&many.sign(&alice()), AUDIENCE, now()), "token_malformed");
    assert!(open_user_token(good.as_bytes(), AUDIENCE, now()).is_ok());
}

fn gateway_of_others() -> Gateway {
    gateway()
}

#[test]
fn a_token_s_own_type_is_told_apart() {
    // A token of the same key and chain that is no user token: another `typ` in its header.
    let gateway = gateway();
    let good = gateway.sign(&alice());
    let (head, rest) = good.split_once('.').unwrap();
    let mut header: Value =
        serde_json::from_slice(&keys::encoding::decode_base64url(head.as_bytes()).unwrap()).unwrap();
    header["typ"] = "JWT".into();
    let payload = rest.split('.').next().unwrap();
    let signed = format!("{}.{payload}", keys::encoding::encode_base64url(header.to_string().as_bytes()));
    let signature = keys::encoding::encode_base64url(&gateway.signer.sign(signed.as_bytes()).unwrap());
    let refused = open_user_token(format!("{signed}.{signature}").as_bytes(), AUDIENCE, now()).unwrap_err();
    assert!(matches!(refused, Refusal::Type { .. }), "{refused}");
}
