//! The decision.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Principal, Timestamp};
use serde::{Deserialize, Serialize};

use crate::load::Policies;
use crate::permit::{Denied, Permit, Subject};

/// What the connection and the clock say about a request. Made once per request; the
/// certificate is shared by all requests of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Now.
    pub now: Timestamp,
    /// The client's address: the socket's, or the one a trusted proxy vouched for.
    pub address: IpAddr,
    /// `"1.2"` or `"1.3"`; `None` for cleartext.
    pub tls_version: Option<&'static str>,
    /// The verified client certificate.
    pub certificate: Option<Arc<Certificate>>,
}

/// What policies can read of a verified client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// The subject's distinguished name (RFC 4514).
    pub subject: String,
    /// The issuer's distinguished name (RFC 4514).
    pub issuer: String,
    /// SHA-256 of the DER, 64 lower-case hexadecimal digits.
    pub fingerprint: String,
    /// The SPIFFE ID, when it carries one.
    pub spiffe_id: Option<String>,
    /// DNS names of the subject alternative name, lower case.
    pub dns_names: Vec<String>,
}

/// Decides. On a route with [`crate::Access::Policy`] a policy must permit; on the
/// others everybody, or everybody who proved who they are, is permitted unless a
/// `forbid` applies. A `forbid` always wins, and an error denies.
///
/// # Errors
/// Not permitted: the subject comes back inside the denial.
pub fn decide<S: Subject>(
    policies: &Policies,
    principal: &Arc<Principal>,
    circumstances: &Circumstances,
    subject: S,
) -> Result<Permit<S>, Box<Denied<S>>> {
    Err(Box::new(Denied {
        subject,
        principal: Arc::clone(principal),
        generation: policies.generation(),
        circumstances: circumstances.clone(),
        determining: crate::permit::Determining::new(),
        reason: crate::permit::Reason::Default,
    }))
}
