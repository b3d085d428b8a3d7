//! A copy of a request for a service that is only to watch.
//!
//! INVARIANT: this is the one place where a copy is minted, from a request that was
//! [`crate::Cleared`] and has been answered; the client's answer never waits for it and
//! nothing of its answer reaches the client. At most [`MIRRORS_AT_ONCE_MAX`] are under
//! way on a core, each for at most [`MIRROR_TIME_MAX`]; what does not fit is left out
//! and counted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Job;
use super::body::{RequestBody, Whole};
use crate::exchange::Frame;
use crate::head::{Additions, Framing, RequestHead};
use crate::http1::encode::{UpstreamRequest, request_framing};
use crate::http1::response::Asked;
use crate::limits::Limits;
use crate::proxy_protocol::Origin;
use crate::upstream::dial::Load;
use crate::upstream::{Guard, Pool};

/// Copies under way at the same time on one core.
pub const MIRRORS_AT_ONCE_MAX: u32 = 100;
/// How long a copy may take, its answer included.
pub const MIRROR_TIME_MAX: Duration = Duration::from_secs(10);
/// So much of the answer is read, and dropped, to keep the connection, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

struct Mirrored {
    head: RequestHead,
    path: Bytes,
    additions: Additions,
    body: Whole,
    pool: Rc<Pool>,
    limits: Arc<Limits>,
    origin: Option<Origin>,
    idle: Duration,
}

/// One of the copies under way.
struct Place(Rc<Cell<u32>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Sends a copy on its way, when the route wants one of this request and it can be had.
/// Returns at once.
pub(super) fn start(job: &Job<'_>, body: &RequestBody<'_>) {
    let Some(mirror) = &job.settings.mirror else { return };
    if !job.upstreams.draws(mirror.percent) || job.head.upgrade.is_some() {
        return;
    }
    let Some(chosen) = job.upstreams.choose(mirror.service, 0) else { return };
    let guard = Arc::clone(&chosen.service.guard);
    let at_once = job.upstreams.mirrors();
    let (Some(body), true) = (body.whole(), at_once.get() < MIRRORS_AT_ONCE_MAX) else {
        guard.mirrors.skipped();
        return;
    };
    at_once.set(at_once.get() + 1);
    let place = Place(Rc::clone(at_once));
    let copy = Mirrored {
        head: job.head.clone(),
        path: job.path.clone(),
        additions: job.additions.clone(),
        body,
        origin: job.origin_for(chosen.pool),
        pool: Rc::clone(chosen.pool),
        limits: job.upstreams.shared_limits(),
        idle: job.settings.timeouts.idle,
    };
    tokio::task::spawn_local(async move {
        let sent = tokio::time::timeout(MIRROR_TIME_MAX, copy.send()).await;
        guard.mirrors.ended(matches!(sent, Ok(Some(()))));
        drop::<(Place, Arc<Guard>)>((place, guard));
    });
}

impl Mirrored {
    /// `None`: it did not work out; nobody is told but the counter.
    async fn send(self) -> Option<()> {
        let opened = match self.pool.take(self.origin) {
            Some(connection) => Ok(connection),
            None => self.pool.connect(&self.limits, self.origin, Load::Requests, None).await,
        };
        let mut connection = opened.ok()?;
        let http2 = connection.is_http2();
        let framing = match self.head.framing {
            Framing::None => Framing::None,
            framing if http2 => framing,
            framing => request_framing(framing),
        };
        let request = UpstreamRequest {
            head: &self.head,
            path: &self.path,
            additions: &self.additions,
            framing,
            upgrade: false,
            expect: false,
        };
        connection.send_head(&request).ok()?;
        if framing != Framing::None {
            for piece in self.body.pieces {
                std::future::poll_fn(|cx| connection.poll_ready(cx)).await.ok()?;
                connection.send_frame(Frame::Data(piece)).ok()?;
            }
            connection.send_frame(self.body.trailers.map_or(Frame::End, Frame::Trailers)).ok()?;
        }
        std::future::poll_fn(|cx| connection.poll_flush(cx)).await.ok()?;
        let asked = Asked { method: &self.head.method, upgrade: None };
        let answer = std::future::poll_fn(|cx| connection.poll_head(cx, asked, &self.limits, &mut drop));
        let head = answer.await.ok()?;
        connection.recycle(head.fields);
        let mut read = 0;
        while read <= ANSWER_BYTES_MAX {
            let frame = std::future::poll_fn(|cx| connection.poll_frame(cx, &self.limits)).await.ok()?;
            let Frame::Data(piece) = frame else {
                let until = self.pool.ticker.moment(self.idle);
                connection.finish(&self.pool, until);
                break;
            };
            read += piece.len();
        }
        Some(())
    }
}
