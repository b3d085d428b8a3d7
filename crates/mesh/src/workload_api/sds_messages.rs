//! What Envoy's secret discovery service says (`envoy.service.discovery.v3`,
//! `envoy.extensions.transport_sockets.tls.v3`): the fields that are used here.

use prost::{Message, Oneof};
use prost_types::Any;

pub(super) const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
pub(super) const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
pub(super) const VALIDATOR_NAME: &str = "envoy.tls.cert_validator.spiffe";

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryRequest {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Fault>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fault {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Secret {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "SecretKind", tags = "2, 4")]
    pub kind: Option<SecretKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum SecretKind {
    #[prost(message, tag = "2")]
    Certificate(TlsCertificate),
    #[prost(message, tag = "4")]
    Validation(ValidationContext),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TlsCertificate {
    #[prost(message, optional, tag = "1")]
    pub certificate_chain: Option<DataSource>,
    #[prost(message, optional, tag = "2")]
    pub private_key: Option<DataSource>,
}

/// `envoy.config.core.v3.DataSource` with bytes in it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DataSource {
    #[prost(bytes = "vec", tag = "2")]
    pub inline_bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValidationContext {
    #[prost(message, optional, tag = "1")]
    pub trusted_ca: Option<DataSource>,
    #[prost(message, optional, tag = "12")]
    pub custom_validator_config: Option<TypedExtension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypedExtension {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub typed_config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SpiffeValidator {
    #[prost(message, repeated, tag = "1")]
    pub trust_domains: Vec<TrustDomain>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrustDomain {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub trust_bundle: Option<DataSource>,
}
