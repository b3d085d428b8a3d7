//! What is revoked, told to whoever verifies: a call of ours beside the five of the Workload
//! API, which know of no such thing.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::World;
use super::calls::{Updates, told_no};
use super::messages::{RevocationsRequest, RevocationsResponse};
use crate::attest::Caller;
use crate::revocation::{Revoked, serial};

pub(super) const WATCH: &str = "/bastide.mesh.v1.Revocations/Watch";

impl From<&Revoked> for RevocationsResponse {
    fn from(revoked: &Revoked) -> Self {
        Self {
            serials: revoked.serials().map(str::to_owned).collect(),
            identities: revoked.identities().map(|id| id.as_str().to_owned()).collect(),
        }
    }
}

/// What an answer says.
///
/// # Errors
/// What of it cannot be read: then nothing of it is taken, because what is not understood
/// revokes nobody.
pub(super) fn read(response: RevocationsResponse) -> Result<Revoked, String> {
    let number = |text: &String| serial(text).ok_or_else(|| format!("{text:?} is no serial number"));
    let serials: Vec<String> = response.serials.iter().map(number).collect::<Result<_, _>>()?;
    let name = |text: &String| text.parse().map_err(|why| format!("{text:?}: {why}"));
    let identities: Vec<model::SpiffeId> = response.identities.iter().map(name).collect::<Result<_, _>>()?;
    Ok(Revoked::of(serials, identities))
}

pub(super) async fn watch(
    world: Arc<World>,
    caller: Arc<Caller>,
    _: Request<RevocationsRequest>,
) -> Result<Response<Updates<RevocationsResponse>>, Status> {
    let mut is = match world.attest(&caller).await {
        Ok(is) => is,
        Err(refused) => return Err(told_no(&world, &caller, WATCH, &refused).await),
    };
    let (mut revoked, mut workloads) = (world.domain.watch_revoked(), world.workloads.clone());
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut is_news = true;
        loop {
            if is_news {
                let message = RevocationsResponse::from(revoked.borrow_and_update().as_ref());
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = revoked.changed() => if changed.is_err() { return } else { is_news = true },
                changed = workloads.changed() => if changed.is_err() { return } else { is_news = false },
            }
            // Who is somebody no more is told no more. News waits for nobody's executable to be read.
            let still = if is_news { world.not_revoked(is) } else { world.attest(&caller).await };
            is = match still {
                Ok(is) => is,
                Err(refused) => {
                    let status = told_no(&world, &caller, WATCH, &refused).await;
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            };
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}
