//! A client of a Workload API, ours or another's: how `bastide run` and a proxy get their
//! documents.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use http::uri::PathAndQuery;
use keys::svid::split_certificates;
use model::SpiffeId;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use zeroize::Zeroizing;

use super::calls;
use super::messages::{
    EndpointRequest, EndpointResponse, EndpointsRequest, EndpointsResponse, JwtBundlesRequest,
    JwtBundlesResponse, JwtSvidRequest, JwtSvidResponse, RevocationsRequest, RevocationsResponse,
    ValidateJwtSvidRequest, ValidateJwtSvidResponse, X509SvidRequest, X509SvidResponse,
};
use super::{ANSWER_BYTES_MAX, SECURITY_HEADER, endpoints, revocations};
use crate::directory::{self, Endpoints};
use crate::error::Error;
use crate::grpc::Channel;
use crate::revocation::Revoked;

/// A connection to a Workload API.
#[derive(Debug)]
pub struct Client(Channel);

/// A document with its key.
#[derive(Clone)]
pub struct X509Identity {
    /// Whose.
    pub id: SpiffeId,
    /// The SVID, then what leads to the bundle, DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS #8, DER.
    pub key: Zeroizing<Vec<u8>>,
    /// What tells it apart from the others.
    pub hint: String,
}

impl X509Identity {
    /// Whether it is a service's: by its hint, or its path.
    pub fn is(&self, service: &str) -> bool {
        self.hint == service || self.id.path().strip_prefix('/') == Some(service)
    }
}

impl std::fmt::Debug for X509Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Documents, and what others' are verified with.
#[derive(Clone, Debug)]
pub struct X509Context {
    /// At least one; the first is the default.
    pub identities: Vec<X509Identity>,
    /// Anchors by trust domain, DER.
    pub anchors: BTreeMap<String, Vec<Vec<u8>>>,
}

/// Updates of the documents.
#[derive(Debug)]
pub struct X509Updates(Streaming<X509SvidResponse>);

impl X509Updates {
    /// The next; the first comes at once. `None`: the other side has ended.
    ///
    /// # Errors
    /// [`Status`], as the other side says it; also when it says something unreadable.
    pub async fn next(&mut self) -> Result<Option<X509Context>, Status> {
        match self.0.message().await? {
            Some(response) => context(response).map(Some).map_err(Status::internal),
            None => Ok(None),
        }
    }
}

/// Updates of what is revoked.
#[derive(Debug)]
pub struct RevokedUpdates(Streaming<RevocationsResponse>);

impl RevokedUpdates {
    /// The next; the first comes at once. `None`: the other side has ended.
    ///
    /// # Errors
    /// [`Status`], as the other side says it; also when it says something unreadable.
    pub async fn next(&mut self) -> Result<Option<Revoked>, Status> {
        match self.0.message().await? {
            Some(response) => revocations::read(response).map(Some).map_err(Status::internal),
            None => Ok(None),
        }
    }
}

/// Updates of where services are.
#[derive(Debug)]
pub struct EndpointUpdates {
    updates: Streaming<EndpointsResponse>,
    known: Endpoints,
}

impl EndpointUpdates {
    /// The next, whole; the first comes at once. `None`: the other side has ended.
    ///
    /// # Errors
    /// [`Status`], as the other side says it; also when it says something unreadable.
    pub async fn next(&mut self) -> Result<Option<Endpoints>, Status> {
        let Some(response) = self.updates.message().await? else { return Ok(None) };
        directory::apply(&mut self.known, response.services).map_err(Status::internal)?;
        Ok(Some(self.known.clone()))
    }
}

fn context(response: X509SvidResponse) -> Result<X509Context, String> {
    let mut context = X509Context { identities: Vec::new(), anchors: BTreeMap::new() };
    let broken = |what: &str| format!("the Workload API gave {what} that cannot be read");
    for (name, bundle) in &response.federated_bundles {
        let anchors = split_certificates(bundle).ok_or_else(|| broken("a bundle"))?;
        context.anchors.insert(name.trim_start_matches("spiffe://").to_owned(), anchors);
    }
    for svid in response.svids {
        let id: SpiffeId = svid.spiffe_id.parse().map_err(|_| broken("a SPIFFE ID"))?;
        let anchors = split_certificates(&svid.bundle).ok_or_else(|| broken("a bundle"))?;
        context.anchors.insert(id.trust_domain().to_owned(), anchors);
        let chain = split_certificates(&svid.x509_svid).ok_or_else(|| broken("a certificate"))?;
        let key = Zeroizing::new(svid.x509_svid_key);
        context.identities.push(X509Identity { id, chain, key, hint: svid.hint });
    }
    if context.identities.is_empty() {
        return Err(broken("no identity, or one"));
    }
    Ok(context)
}

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Socket { place: path.display().to_string(), source };
        let stream = UnixStream::connect(path).await.map_err(fault)?;
        Ok(Self(Channel::open(stream, ANSWER_BYTES_MAX).await.map_err(fault)?))
    }

    /// The caller's X.509 documents, now and whenever they are others.
    ///
    /// # Errors
    /// [`Status`]: `PermissionDenied` for a process that is no registered workload.
    pub async fn x509(&self) -> Result<X509Updates, Status> {
        let codec = ProstCodec::<X509SvidRequest, X509SvidResponse>::default();
        let mut grpc = self.0.grpc();
        let path = PathAndQuery::from_static(calls::FETCH_X509_SVID);
        let request = with_header(X509SvidRequest {});
        Ok(X509Updates(grpc.server_streaming(request, path, codec).await?.into_inner()))
    }

    /// What is revoked, now and whenever that is something else.
    ///
    /// # Errors
    /// [`Status`]: `Unimplemented` from a Workload API that is not ours.
    pub async fn revoked(&self) -> Result<RevokedUpdates, Status> {
        let codec = ProstCodec::<RevocationsRequest, RevocationsResponse>::default();
        let path = PathAndQuery::from_static(revocations::WATCH);
        let request = with_header(RevocationsRequest {});
        Ok(RevokedUpdates(self.0.grpc().server_streaming(request, path, codec).await?.into_inner()))
    }

    /// Registers the address at which the caller is reached as this workload, or renews that; gives
    /// what it comes to where every address of the machine was meant.
    ///
    /// # Errors
    /// [`Status`]: `PermissionDenied` for who is not that workload, `InvalidArgument` for an address
    /// that cannot be registered, `Unimplemented` from a Workload API that is not ours.
    pub async fn register(&self, id: &SpiffeId, address: SocketAddr) -> Result<SocketAddr, Status> {
        self.say_endpoint(endpoints::REGISTER, id, address).await
    }

    /// Takes it out again.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn withdraw(&self, id: &SpiffeId, address: SocketAddr) -> Result<SocketAddr, Status> {
        self.say_endpoint(endpoints::WITHDRAW, id, address).await
    }

    async fn say_endpoint(
        &self,
        path: &'static str,
        id: &SpiffeId,
        address: SocketAddr,
    ) -> Result<SocketAddr, Status> {
        let codec = ProstCodec::<EndpointRequest, EndpointResponse>::default();
        let request = EndpointRequest { spiffe_id: id.as_str().to_owned(), address: address.to_string() };
        let request = with_header(request);
        let answer = self.0.grpc().unary(request, PathAndQuery::from_static(path), codec).await?;
        directory::parse(&answer.into_inner().address).map_err(Status::internal)
    }

    /// Where these services are, now and whenever one is elsewhere.
    ///
    /// # Errors
    /// [`Status`]: `Unimplemented` from a Workload API that is not ours.
    pub async fn endpoints(&self, ids: &[SpiffeId]) -> Result<EndpointUpdates, Status> {
        let codec = ProstCodec::<EndpointsRequest, EndpointsResponse>::default();
        let path = PathAndQuery::from_static(endpoints::WATCH);
        let spiffe_ids = ids.iter().map(|id| id.as_str().to_owned()).collect();
        let request = with_header(EndpointsRequest { spiffe_ids });
        let updates = self.0.grpc().server_streaming(request, path, codec).await?.into_inner();
        Ok(EndpointUpdates { updates, known: Endpoints::new() })
    }

    /// JWT-SVIDs for these audiences, of this identity or of each.
    ///
    /// # Errors
    /// [`Status`].
    pub async fn jwt(
        &self,
        audience: Vec<String>,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<(SpiffeId, String)>, Status> {
        let codec = ProstCodec::<JwtSvidRequest, JwtSvidResponse>::default();
        let spiffe_id = id.map(|id| id.as_str().to_owned()).unwrap_or_default();
        let request = with_header(JwtSvidRequest { audience, spiffe_id });
        let path = PathAndQuery::from_static(calls::FETCH_JWT_SVID);
        let response = self.0.grpc().unary(request, path, codec).await?.into_inner();
        let read = |id: &str| id.parse().map_err(|_| Status::internal("unreadable SPIFFE ID"));
        response.svids.into_iter().map(|svid| Ok((read(&svid.spiffe_id)?, svid.svid))).collect()
    }

    /// Whose a JWT-SVID is, when it is good for this audience.
    ///
    /// # Errors
    /// [`Status`]: `InvalidArgument` for one that is not.
    pub async fn validate_jwt(&self, audience: &str, svid: &str) -> Result<String, Status> {
        let codec = ProstCodec::<ValidateJwtSvidRequest, ValidateJwtSvidResponse>::default();
        let (audience, svid) = (audience.to_owned(), svid.to_owned());
        let request = with_header(ValidateJwtSvidRequest { audience, svid });
        let path = PathAndQuery::from_static(calls::VALIDATE_JWT_SVID);
        Ok(self.0.grpc().unary(request, path, codec).await?.into_inner().spiffe_id)
    }

    /// JWK Sets by trust domain id, as they are now.
    ///
    /// # Errors
    /// [`Status`].
    pub async fn jwt_bundles(&self) -> Result<BTreeMap<String, Vec<u8>>, Status> {
        let codec = ProstCodec::<JwtBundlesRequest, JwtBundlesResponse>::default();
        let path = PathAndQuery::from_static(calls::FETCH_JWT_BUNDLES);
        let answer = self.0.grpc().server_streaming(with_header(JwtBundlesRequest {}), path, codec).await?;
        let first = answer.into_inner().message().await?;
        Ok(first.ok_or_else(|| Status::internal("no bundle came"))?.bundles)
    }
}

pub(super) fn with_header<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let (name, _) = SECURITY_HEADER;
    request.metadata_mut().insert(name, MetadataValue::from_static("true"));
    request
}
