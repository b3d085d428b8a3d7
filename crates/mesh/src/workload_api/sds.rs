//! Envoy's secret discovery service, version 3: certificates and what verifies others', as
//! Envoy takes them, by these names:
//!
//! | name | what |
//! |---|---|
//! | `default` | the caller's first certificate |
//! | `spiffe://DOMAIN/PATH` | that one of its certificates |
//! | `ROOTCA` | the own trust domain's bundle |
//! | `spiffe://DOMAIN` | that trust domain's bundle |
//! | `ALL` | every bundle, for Envoy's SPIFFE validator, which holds each to its own domain |

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use keys::encoding::encode_pem;

use super::calls::{Updates, told_no};
use super::sds_messages::{
    DataSource, DiscoveryRequest, DiscoveryResponse, SECRET_TYPE, Secret, SecretKind, SpiffeValidator,
    TlsCertificate, TrustDomain, TypedExtension, VALIDATOR_NAME, VALIDATOR_TYPE, ValidationContext,
};
use super::source::{Asks, Document, Source, Told};
use super::{ANSWER_BYTES_MAX, Refused, World};
use crate::attest::Caller;
use crate::bundle::Bundle;

pub(super) const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub(super) const FETCH_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// Most names of one request.
const NAMES_MAX: usize = 256;

pub(super) async fn fetch_secrets(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<DiscoveryRequest>,
) -> Result<Response<DiscoveryResponse>, Status> {
    match fetched(&world, &caller, request.into_inner().resource_names).await {
        Ok(response) => Ok(Response::new(response)),
        Err(refused) => Err(told_no(&world, &caller, FETCH_SECRETS, &refused).await),
    }
}

async fn fetched(
    world: &Arc<World>,
    caller: &Arc<Caller>,
    names: Vec<String>,
) -> Result<DiscoveryResponse, Refused> {
    let names = each_once(names)?;
    let mut source = Source::new(Arc::clone(world), Asks::Process(Arc::clone(caller)), FETCH_SECRETS);
    source.want(bundles_alone(&names));
    secrets(&source.next().await?, &names, 1)
}

pub(super) async fn stream_secrets(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<Streaming<DiscoveryRequest>>,
) -> Result<Response<Updates<DiscoveryResponse>>, Status> {
    let (sender, receiver) = mpsc::channel(1);
    let source = Source::new(Arc::clone(&world), Asks::Process(Arc::clone(&caller)), STREAM_SECRETS);
    let stream = Stream { requests: request.into_inner(), source, names: None, version: 0, sender };
    tokio::spawn(async move {
        let sender = stream.sender.clone();
        if let Err(refused) = stream.run().await {
            let status = told_no(&world, &caller, STREAM_SECRETS, &refused).await;
            let _ = sender.send(Err(status)).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

struct Stream {
    requests: Streaming<DiscoveryRequest>,
    source: Source,
    /// What is subscribed to; nothing before the first request.
    names: Option<Vec<String>>,
    /// Of the last answer; its nonce too.
    version: u64,
    sender: mpsc::Sender<Result<DiscoveryResponse, Status>>,
}

impl Stream {
    async fn run(mut self) -> Result<(), Refused> {
        loop {
            tokio::select! {
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.take(request)?,
                    Some(Err(_)) | None => return Ok(()),
                },
                told = self.source.next(), if self.names.is_some() => {
                    self.version += 1;
                    let names = self.names.as_deref().unwrap_or_default();
                    let response = secrets(&told?, names, self.version)?;
                    if self.sender.send(Ok(response)).await.is_err() {
                        return Ok(());
                    }
                }
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// A subscription, or what Envoy says of the last answer.
    fn take(&mut self, request: DiscoveryRequest) -> Result<(), Refused> {
        let names = each_once(request.resource_names)?;
        if let Some(fault) = &request.error_detail {
            tracing::warn!(fault = fault.message, "mesh: Envoy rejected the secrets that it was sent");
            return Ok(());
        }
        let stale = !request.response_nonce.is_empty() && request.response_nonce != self.version.to_string();
        if !stale && self.names.as_ref() != Some(&names) {
            self.source.want(bundles_alone(&names));
            self.names = Some(names);
        }
        Ok(())
    }
}

/// The names of a request, each one time: what is named twice is not made twice.
fn each_once(mut names: Vec<String>) -> Result<Vec<String>, Refused> {
    if names.len() > NAMES_MAX {
        return Err(Refused::Argument("too many resource names"));
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

fn is_domain(name: &str) -> Option<&str> {
    name.strip_prefix("spiffe://").filter(|rest| !rest.contains('/'))
}

fn bundles_alone(names: &[String]) -> bool {
    let is_bundle = |name: &String| matches!(name.as_str(), "ROOTCA" | "ALL") || is_domain(name).is_some();
    !names.is_empty() && names.iter().all(is_bundle)
}

/// The secrets of these names; without names every certificate and bundle.
fn secrets(told: &Told, names: &[String], version: u64) -> Result<DiscoveryResponse, Refused> {
    let everything: Vec<String> = match names {
        [] => {
            let ids = told.documents.iter().map(|(workload, _)| workload.id.as_str().to_owned());
            let domains = bundles(told).map(|bundle| format!("spiffe://{}", bundle.trust_domain));
            ids.chain(domains).collect()
        }
        _ => Vec::new(),
    };
    let (mut resources, mut bytes) = (Vec::new(), 0);
    for name in names.iter().chain(&everything) {
        let Some(kind) = secret(told, name) else {
            return Err(Refused::Nobody(format!("there is no secret {name:?} for this process")));
        };
        let value = Secret { name: name.clone(), kind: Some(kind) }.encode_to_vec();
        bytes += value.len();
        if bytes > ANSWER_BYTES_MAX {
            return Err(Refused::Argument("the secrets of these names are more than one answer takes"));
        }
        resources.push(Any { type_url: SECRET_TYPE.to_owned(), value });
    }
    Ok(DiscoveryResponse {
        version_info: version.to_string(),
        resources,
        type_url: SECRET_TYPE.to_owned(),
        nonce: version.to_string(),
    })
}

fn bundles(told: &Told) -> impl Iterator<Item = &Bundle> {
    std::iter::once(&told.own).chain(told.foreign.values()).filter(|bundle| !bundle.x509.is_empty())
}

fn secret(told: &Told, name: &str) -> Option<SecretKind> {
    match name {
        "default" => told.documents.first().map(|(_, document)| certificate(document)),
        "ROOTCA" => Some(validation(&told.own)),
        "ALL" => Some(validator(told)),
        _ => match is_domain(name) {
            Some(domain) => bundles(told).find(|bundle| bundle.trust_domain == domain).map(validation),
            None => {
                let mut documents = told.documents.iter();
                documents.find(|(workload, _)| workload.id.as_str() == name).map(|(_, one)| certificate(one))
            }
        },
    }
}

fn certificate(document: &Document) -> SecretKind {
    let chain: String = document.issued.chain.iter().map(|der| encode_pem("CERTIFICATE", der)).collect();
    SecretKind::Certificate(TlsCertificate {
        certificate_chain: Some(DataSource { inline_bytes: chain.into_bytes() }),
        private_key: Some(DataSource { inline_bytes: encode_pem("PRIVATE KEY", &document.key).into_bytes() }),
    })
}

fn anchors(bundle: &Bundle) -> DataSource {
    let pem: String = bundle.x509.iter().map(|der| encode_pem("CERTIFICATE", der)).collect();
    DataSource { inline_bytes: pem.into_bytes() }
}

fn validation(bundle: &Bundle) -> SecretKind {
    SecretKind::Validation(ValidationContext {
        trusted_ca: Some(anchors(bundle)),
        custom_validator_config: None,
    })
}

fn validator(told: &Told) -> SecretKind {
    let trust_domains = bundles(told)
        .map(|bundle| TrustDomain { name: bundle.trust_domain.clone(), trust_bundle: Some(anchors(bundle)) });
    let config = SpiffeValidator { trust_domains: trust_domains.collect() };
    SecretKind::Validation(ValidationContext {
        trusted_ca: None,
        custom_validator_config: Some(TypedExtension {
            name: VALIDATOR_NAME.to_owned(),
            typed_config: Some(Any { type_url: VALIDATOR_TYPE.to_owned(), value: config.encode_to_vec() }),
        }),
    })
}
