//! Who calls: what the gateway proved and says under names that no client can send, or the
//! user of this machine at the other end of the socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::step::identity::{
    HEADER_CALLER, HEADER_CLIENT_ADDRESS, HEADER_CLIENT_CERTIFICATE_FACTS, HEADER_CLIENT_TLS,
};
use model::principal::Credential;
use model::{Principal, PrincipalKind, Timestamp};
use policy::Circumstances;

/// Who calls, and from where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Arc<Principal>,
    /// The client's address.
    pub address: IpAddr,
    /// Its TLS version.
    pub tls_version: Option<&'static str>,
    /// Its verified certificate.
    pub certificate: Option<Arc<policy::Certificate>>,
    /// The trace of the request at the gateway, hexadecimal; empty without one.
    pub trace_id: String,
}

impl Caller {
    /// Whoever holds the state folder: `User::"local:1000"`, proved by the operating system.
    pub fn local(user: u32) -> Self {
        let principal = Principal {
            kind: PrincipalKind::User,
            id: format!("local:{user}"),
            credential: Credential::Local,
            claims: BTreeMap::new(),
            ..Principal::anonymous()
        };
        Self {
            principal: Arc::new(principal),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls_version: None,
            certificate: None,
            trace_id: String::new(),
        }
    }

    /// Whether it is whoever holds the state folder.
    pub fn is_local(&self) -> bool {
        self.principal.credential == Credential::Local
    }

    /// Whom the gateway says; `None` when it says nobody.
    pub fn by_gateway(fields: &HeaderMap) -> Option<Self> {
        let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
        let principal: Principal =
            serde_json::from_slice(&STANDARD.decode(text(HEADER_CALLER)?).ok()?).ok()?;
        // The socket's own word, which the gateway never says.
        if principal.kind == PrincipalKind::Anonymous || principal.credential == Credential::Local {
            return None;
        }
        let certificate = match text(HEADER_CLIENT_CERTIFICATE_FACTS) {
            None => None,
            Some(facts) => Some(serde_json::from_slice(&STANDARD.decode(facts).ok()?).ok().map(Arc::new)?),
        };
        let tls_version = match text(HEADER_CLIENT_TLS) {
            Some("1.2") => Some("1.2"),
            Some("1.3") => Some("1.3"),
            _ => None,
        };
        let trace_id = text("traceparent").and_then(|value| value.split('-').nth(1)).unwrap_or_default();
        Some(Self {
            principal: Arc::new(principal),
            address: text(HEADER_CLIENT_ADDRESS)?.parse().ok()?,
            tls_version,
            certificate,
            trace_id: trace_id.to_owned(),
        })
    }

    /// What policies can read of the call.
    pub fn circumstances(&self, now: Timestamp) -> Circumstances {
        Circumstances {
            now,
            address: self.address,
            tls_version: self.tls_version,
            certificate: self.certificate.clone(),
            user: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(principal: &Principal) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let text = STANDARD.encode(serde_json::to_vec(principal).unwrap());
        fields.insert(HEADER_CALLER, text.parse().unwrap());
        fields.insert(HEADER_CLIENT_ADDRESS, "192.0.2.7".parse().unwrap());
        fields
    }

    #[test]
    fn the_gateways_word_counts_and_no_other() {
        let alice = Principal {
            kind: PrincipalKind::User,
            id: "alice".to_owned(),
            credential: Credential::Jwt,
            ..Principal::anonymous()
        };
        let found = Caller::by_gateway(&fields(&alice)).unwrap();
        assert_eq!((found.principal.id.as_str(), found.address.to_string()), ("alice", "192.0.2.7".into()));
        assert!(Caller::by_gateway(&fields(&Principal::anonymous())).is_none());
        assert!(Caller::by_gateway(&fields(&Caller::local(0).principal)).is_none());
        assert!(Caller::by_gateway(&HeaderMap::new()).is_none());
        let mut broken = fields(&alice);
        broken.insert(HEADER_CLIENT_CERTIFICATE_FACTS, "AAAA".parse().unwrap());
        assert!(Caller::by_gateway(&broken).is_none(), "a certificate that cannot be read");
    }
}
