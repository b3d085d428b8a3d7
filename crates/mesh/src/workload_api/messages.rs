//! The messages of the SPIFFE Workload API (SPIFFE Workload API §6, `workload.proto`), as
//! the specification numbers them.

use std::collections::BTreeMap;

use prost::Message;

use crate::directory::ServiceAt;

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509SvidRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    /// Revocation lists, DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub crl: Vec<Vec<u8>>,
    /// By trust domain id: certificates one behind the other, DER.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub federated_bundles: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The certificate and those between it and the bundle, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    /// PKCS #8, DER.
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub hint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509BundlesRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct X509BundlesResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub crl: Vec<Vec<u8>>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    pub bundles: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub audience: Vec<String>,
    #[prost(string, tag = "2")]
    pub spiffe_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    #[prost(string, tag = "2")]
    pub svid: String,
    #[prost(string, tag = "3")]
    pub hint: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtBundlesRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtBundlesResponse {
    /// By trust domain id: a JWK Set.
    #[prost(btree_map = "string, bytes", tag = "1")]
    pub bundles: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateJwtSvidRequest {
    #[prost(string, tag = "1")]
    pub audience: String,
    #[prost(string, tag = "2")]
    pub svid: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidateJwtSvidResponse {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    #[prost(message, optional, tag = "2")]
    pub claims: Option<prost_types::Struct>,
}

/// Ours: asks for what is revoked, now and whenever that is something else.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RevocationsRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RevocationsResponse {
    /// Serial numbers of certificates, hexadecimal.
    #[prost(string, repeated, tag = "1")]
    pub serials: Vec<String>,
    /// Names of workloads.
    #[prost(string, repeated, tag = "2")]
    pub identities: Vec<String>,
}

/// Ours: an address of a workload that the caller is: to be registered, or to be taken out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointRequest {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// Address and port; of `0.0.0.0` and `[::]` the machine's own address.
    #[prost(string, tag = "2")]
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointResponse {
    /// What that comes to.
    #[prost(string, tag = "1")]
    pub address: String,
}

/// Ours: asks where these services are, now and whenever one is elsewhere.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointsRequest {
    #[prost(string, repeated, tag = "1")]
    pub spiffe_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointsResponse {
    /// All that there are at first, then those that are different.
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<ServiceAt>,
}
