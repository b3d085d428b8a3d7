//! The five methods of the Workload API (SPIFFE Workload API §6).

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::structure;
use super::messages::{
    JwtBundlesRequest, JwtBundlesResponse, JwtSvid, JwtSvidRequest, JwtSvidResponse, ValidateJwtSvidRequest,
    ValidateJwtSvidResponse, X509BundlesRequest, X509BundlesResponse, X509Svid, X509SvidRequest,
    X509SvidResponse,
};
use super::source::{Asks, Given, Source, Told};
use super::{Event, Refused, World};
use crate::allowance::Asked;
use crate::attest::Caller;
use crate::bundle::Bundle;
use crate::jwt_svid;

pub(super) const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
pub(super) const FETCH_X509_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";
pub(super) const FETCH_JWT_SVID: &str = "/SpiffeWorkloadAPI/FetchJWTSVID";
pub(super) const FETCH_JWT_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchJWTBundles";
pub(super) const VALIDATE_JWT_SVID: &str = "/SpiffeWorkloadAPI/ValidateJWTSVID";

/// Updates that wait for a client that does not read.
const UPDATES_WAITING_MAX: usize = 1;

pub(super) type Updates<M> = ReceiverStream<Result<M, Status>>;

pub(super) async fn fetch_x509_svid(
    world: Arc<World>,
    caller: Arc<Caller>,
    _: Request<X509SvidRequest>,
) -> Result<Response<Updates<X509SvidResponse>>, Status> {
    let mut source = Source::new(Arc::clone(&world), Asks::Process(Arc::clone(&caller)), FETCH_X509_SVID);
    // The first answer decides the status of the call.
    let first = match source.next().await {
        Ok(told) => told,
        Err(refused) => return Err(told_no(&world, &caller, FETCH_X509_SVID, &refused).await),
    };
    let (sender, receiver) = mpsc::channel(UPDATES_WAITING_MAX);
    tokio::spawn(async move {
        let mut told = first;
        while sender.send(Ok(x509_response(&told))).await.is_ok() {
            told = tokio::select! {
                () = sender.closed() => return,
                next = source.next() => match next {
                    Ok(told) => told,
                    Err(refused) => {
                        let status = told_no(&world, &caller, FETCH_X509_SVID, &refused).await;
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                },
            };
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

fn x509_response(told: &Told) -> X509SvidResponse {
    let bundle = told.own.x509_concatenated();
    let svid = |(workload, document): &Given| X509Svid {
        spiffe_id: workload.id.as_str().to_owned(),
        x509_svid: document.issued.chain.concat(),
        x509_svid_key: document.key.to_vec(),
        bundle: bundle.clone(),
        hint: workload.hint.clone(),
    };
    let foreign = told.foreign.iter().filter(|(_, bundle)| !bundle.x509.is_empty());
    X509SvidResponse {
        svids: told.documents.iter().map(svid).collect(),
        crl: Vec::new(),
        federated_bundles: foreign.map(|(name, bundle)| (id(name), bundle.x509_concatenated())).collect(),
    }
}

/// A trust domain's own SPIFFE ID.
fn id(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}")
}

pub(super) async fn fetch_x509_bundles(
    world: Arc<World>,
    caller: Arc<Caller>,
    _: Request<X509BundlesRequest>,
) -> Result<Response<Updates<X509BundlesResponse>>, Status> {
    bundles(world, caller, FETCH_X509_BUNDLES, |all| {
        let all = all.iter().filter(|bundle| !bundle.x509.is_empty());
        let bundles = all.map(|bundle| (id(&bundle.trust_domain), bundle.x509_concatenated())).collect();
        X509BundlesResponse { crl: Vec::new(), bundles }
    })
    .await
}

pub(super) async fn fetch_jwt_bundles(
    world: Arc<World>,
    caller: Arc<Caller>,
    _: Request<JwtBundlesRequest>,
) -> Result<Response<Updates<JwtBundlesResponse>>, Status> {
    bundles(world, caller, FETCH_JWT_BUNDLES, |all| {
        let all = all.iter().filter(|bundle| !bundle.jwt.is_empty());
        let bundles = all.map(|bundle| (id(&bundle.trust_domain), bundle.jwks().into_bytes())).collect();
        JwtBundlesResponse { bundles }
    })
    .await
}

/// Every bundle that is trusted, now and whenever one is another.
async fn bundles<M: PartialEq + Clone + Send + 'static>(
    world: Arc<World>,
    caller: Arc<Caller>,
    call: &'static str,
    answer: impl Fn(&[Bundle]) -> M + Send + 'static,
) -> Result<Response<Updates<M>>, Status> {
    let (mut authorities, mut foreign, mut workloads) =
        (world.domain.watch(), world.foreign.clone(), world.workloads.clone());
    if let Err(refused) = world.attest(&caller).await {
        return Err(told_no(&world, &caller, call, &refused).await);
    }
    let (sender, receiver) = mpsc::channel(UPDATES_WAITING_MAX);
    tokio::spawn(async move {
        let mut sent = None;
        loop {
            let mut all = vec![authorities.borrow_and_update().bundle.clone()];
            all.extend(foreign.borrow_and_update().values().cloned());
            workloads.mark_unchanged();
            let message = answer(&all);
            if sent.as_ref() != Some(&message) {
                if sender.send(Ok(message.clone())).await.is_err() {
                    return;
                }
                sent = Some(message);
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = authorities.changed() => if changed.is_err() { return },
                changed = foreign.changed() => if changed.is_err() { return },
                changed = workloads.changed() => if changed.is_err() { return },
            }
            if let Err(refused) = world.attest(&caller).await {
                let status = told_no(&world, &caller, call, &refused).await;
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

pub(super) async fn fetch_jwt_svid(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<JwtSvidRequest>,
) -> Result<Response<JwtSvidResponse>, Status> {
    match jwt_svids(&world, &caller, request.get_ref()).await {
        Ok(svids) => Ok(Response::new(JwtSvidResponse { svids })),
        Err(refused) => Err(told_no(&world, &caller, FETCH_JWT_SVID, &refused).await),
    }
}

async fn jwt_svids(
    world: &World,
    caller: &Arc<Caller>,
    request: &JwtSvidRequest,
) -> Result<Vec<JwtSvid>, Refused> {
    if request.audience.is_empty() {
        return Err(Refused::Argument("audience must be specified"));
    }
    let workloads = world.attest(caller).await?;
    let wanted = request.spiffe_id.as_str();
    let wanted = workloads.into_iter().filter(|workload| wanted.is_empty() || workload.id.as_str() == wanted);
    let mut svids = Vec::new();
    for workload in wanted {
        world.allowances.take(&workload.id, Asked::Document)?;
        let issued = world.domain.jwt(&workload.id, &request.audience).await;
        let (svid, until) = issued.map_err(|error| match error {
            crate::Error::Token(_) => Refused::Argument("an audience is empty, too long, or one too many"),
            crate::Error::Exhausted(why) => Refused::Exhausted(why),
            other => Refused::Unavailable(other.to_string()),
        })?;
        let event = Event {
            id: Some(workload.id.clone()),
            document: format!("jwt for {}", request.audience.join(", ")),
            expires: Some(until),
            ..world.event(FETCH_JWT_SVID, caller)
        };
        world.give(event).await?;
        svids.push(JwtSvid { spiffe_id: workload.id.as_str().to_owned(), svid, hint: workload.hint });
    }
    if svids.is_empty() {
        return Err(Refused::Nobody(format!(
            "process {} asked to be {:?}, which it is not",
            caller.pid, request.spiffe_id
        )));
    }
    Ok(svids)
}

pub(super) async fn validate_jwt_svid(
    world: Arc<World>,
    caller: Arc<Caller>,
    request: Request<ValidateJwtSvidRequest>,
) -> Result<Response<ValidateJwtSvidResponse>, Status> {
    let ValidateJwtSvidRequest { audience, svid } = request.into_inner();
    if audience.is_empty() || svid.is_empty() {
        return Err(Status::invalid_argument("audience and svid must be specified"));
    }
    if let Err(refused) = world.attest(&caller).await {
        return Err(told_no(&world, &caller, VALIDATE_JWT_SVID, &refused).await);
    }
    match validated(&world, &audience, &svid) {
        Ok(valid) => Ok(Response::new(ValidateJwtSvidResponse {
            spiffe_id: valid.id.as_str().to_owned(),
            claims: Some(structure(&valid.claims)),
        })),
        Err(error) => Err(Status::invalid_argument(error.to_string())),
    }
}

fn validated(world: &World, audience: &str, svid: &str) -> Result<jwt_svid::Validated, crate::Error> {
    let valid = verified(world, audience, svid)?;
    match world.domain.revoked().token(&valid.id, valid.issued()) {
        None => Ok(valid),
        Some(why) => Err(crate::Error::Token(why)),
    }
}

fn verified(world: &World, audience: &str, svid: &str) -> Result<jwt_svid::Validated, crate::Error> {
    let (authorities, now) = (world.domain.authorities(), world.domain.now());
    let name = jwt_svid::unverified_trust_domain(svid)?;
    if name == authorities.bundle.trust_domain {
        let keys =
            authorities.jwt_keys.as_ref().ok_or(crate::Error::NoAuthority("there is no key for tokens"))?;
        return jwt_svid::validate(svid, audience, &name, keys, now);
    }
    let foreign = Arc::clone(&world.foreign.borrow());
    let Some(bundle) = foreign.get(&name) else {
        return Err(crate::Error::Token(format!("the trust domain {name} is not trusted here")));
    };
    jwt_svid::validate(svid, audience, &name, &bundle.jwt_keys()?, now)
}

/// Writes a refusal down, and gives what the client is told.
pub(super) async fn told_no(world: &World, caller: &Caller, call: &'static str, refused: &Refused) -> Status {
    world.refuse(call, caller, refused).await;
    refused.status()
}
