//! An upgraded connection (RFC 9110 §7.8) or an opaque one: bytes both ways, nothing
//! looked at, until both sides are done or silent for too long.

use std::io;
use std::task::{Context, Poll};

use super::Job;
use super::pump::{STALLED, Stop};
use crate::deadline::earlier;
use crate::exchange::{Exchange, Frame};
use crate::head::Version;
use crate::upstream::{Connection, Holding};

/// Which sides have ended.
#[derive(Default)]
struct Ended {
    client: bool,
    upstream: bool,
    /// Whether the upstream was told that the client has.
    told: bool,
}

impl Ended {
    /// An upgraded protocol ends when its server says so; of an opaque one either side may
    /// end first, and go on listening.
    fn both(&self, opaque: bool) -> bool {
        self.upstream && (!opaque || (self.client && self.told))
    }
}

/// The server's side of a tunnel. Ends with a reset unless the tunnel came to its own end: also
/// when it is dropped in the middle, by a drain that runs out of time.
struct Upstream {
    connection: Connection,
    in_order: bool,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if !self.in_order {
            self.connection.sever();
        }
    }
}

pub(super) async fn run<E: Exchange>(
    job: &Job<'_>,
    exchange: &mut E,
    connection: Connection,
    holding: Holding<'_>,
) -> Result<(), Stop> {
    holding.becomes_tunnel();
    let mut upstream = Upstream { connection, in_order: false };
    let idle = job.settings.timeouts.idle;
    let mut ended = Ended::default();
    exchange.limit_request(u64::MAX);
    let ticker = job.watch.ticker();
    let opaque = job.head.version == Version::Opaque;
    let longest = job.settings.timeouts.tunnel.map_or(0, |longest| ticker.moment(longest));
    let until = earlier(job.live.until_ms(), longest);
    job.watch.set(earlier(until, ticker.moment(idle)));
    let result = std::future::poll_fn(|cx| {
        let connection = &mut upstream.connection;
        job.live.check(connection.peer()).map_err(Stop::Cut)?;
        loop {
            let some = poll_both(job, exchange, connection, &mut ended, cx)?;
            let flushed = exchange.poll_flush(cx).map_err(Stop::Client)?.is_ready();
            if ended.both(opaque) && flushed {
                return Poll::Ready(Ok(()));
            }
            if !some {
                break;
            }
            job.watch.set(earlier(until, ticker.moment(idle)));
        }
        if job.watch.poll(cx).is_ready() {
            return Poll::Ready(Err(Stop::Timeout));
        }
        if holding.poll_ended(true, cx).is_ready() {
            job.count_stalled();
            return Poll::Ready(Err(Stop::Client(io::Error::new(io::ErrorKind::TimedOut, STALLED))));
        }
        Poll::Pending
    })
    .await;
    upstream.in_order = result.is_ok();
    result
}

/// Moves one piece each way. True when there was any.
fn poll_both<E: Exchange>(
    job: &Job<'_>,
    exchange: &mut E,
    connection: &mut Connection,
    ended: &mut Ended,
    cx: &mut Context<'_>,
) -> Result<bool, Stop> {
    let upstream = |error| Stop::Upstream(crate::upstream::UpstreamFault::Io(error));
    let mut some = false;
    let upstream_takes = connection.poll_ready(cx).map_err(upstream)?.is_ready();
    if !ended.client && upstream_takes {
        match exchange.poll_request(cx).map_err(Stop::Request)? {
            Poll::Ready(frame @ Frame::Data(_)) => {
                some = true;
                connection.send_frame(frame).map_err(upstream)?;
            }
            Poll::Ready(_) => {
                some = true;
                ended.client = true;
            }
            Poll::Pending => {}
        }
    }
    if connection.poll_flush(cx).map_err(upstream)?.is_ready() {
        // It takes more after all, and nobody would wake us for that.
        some |= !upstream_takes;
        if ended.client && !ended.told {
            // The upstream learns that the client has ended, and may still send. One that
            // cannot be told any more has ended itself.
            ended.told = connection.poll_shutdown(cx).is_ready();
            some |= ended.told;
        }
    }
    let client_takes = exchange.poll_ready(cx).map_err(Stop::Client)?.is_ready();
    if !client_takes && exchange.poll_flush(cx).map_err(Stop::Client)?.is_ready() {
        some = true;
    }
    if !ended.upstream && client_takes {
        match connection.poll_frame(cx, job.upstreams.limits()).map_err(Stop::Upstream)? {
            Poll::Ready(frame) => {
                some = true;
                ended.upstream = !matches!(frame, Frame::Data(_));
                exchange.send_frame(frame).map_err(Stop::Client)?;
            }
            Poll::Pending => {}
        }
    }
    Ok(some)
}
