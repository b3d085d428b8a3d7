//! Moving bytes: both directions of one exchange in one future, each held back when
//! its receiver is slow.

use std::io;
use std::task::{Context, Poll};

use super::body::RequestBody;
use super::error::{ForwardError, Phase};
use super::{Chosen, Job};
use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::ResponseHead;
use crate::http1::response::Asked;
use crate::live::Cut;
use crate::upstream::{Connection, Holding, UpstreamFault};

/// Why moving bytes ended early.
pub(super) enum Stop {
    Client(io::Error),
    Request(BodyError),
    Upstream(UpstreamFault),
    Timeout,
    Cut(Box<Cut>),
}

/// Why an exchange has to give its connection up before its client is done.
pub(super) const STALLED: &str = "the client is slow, or has a tunnel, and others wait for its connection";

impl Stop {
    pub(super) fn into_error(self, phase: Phase) -> ForwardError {
        match self {
            Self::Client(error) => ForwardError::ClientGone(error),
            Self::Request(error) => ForwardError::of_body(error),
            Self::Upstream(fault) => ForwardError::Upstream(fault),
            Self::Timeout => ForwardError::Timeout(phase),
            Self::Cut(cut) => ForwardError::Cut(cut),
        }
    }
}

/// How far the request's body came in one poll.
struct Request {
    some: bool,
    /// Whether the upstream has all that came, and the client owes more.
    owed: bool,
}

/// Sends what there is of the request's body. An upstream that no longer takes it may
/// still answer, so that is no error here: reading its answer will tell.
fn poll_request<E: Exchange>(
    exchange: &mut E,
    connection: &mut Connection,
    body: &mut RequestBody<'_>,
    cx: &mut Context<'_>,
) -> Result<Request, Stop> {
    let mut request = Request { some: false, owed: false };
    loop {
        let mut blocked = false;
        while !body.is_over() {
            match connection.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Ok(request),
                Poll::Pending => {
                    blocked = true;
                    break;
                }
            }
            match body.poll_next(exchange, cx) {
                Poll::Ready(Ok(frame)) => {
                    request.some = true;
                    if connection.send_frame(frame).is_err() {
                        return Ok(request);
                    }
                }
                Poll::Ready(Err(error)) => return Err(Stop::Request(error)),
                Poll::Pending => break,
            }
        }
        match connection.poll_flush(cx) {
            // It takes more after all, and nobody would wake us for that.
            Poll::Ready(Ok(())) if blocked => {}
            Poll::Ready(Ok(())) => {
                request.owed = !body.is_over();
                return Ok(request);
            }
            _ => return Ok(request),
        }
    }
}

/// Sends the request and waits for the response's head. Interim ones go to the client as they come.
pub(super) async fn head<E: Exchange>(
    job: &Job<'_>,
    exchange: &mut E,
    connection: &mut Connection,
    body: &mut RequestBody<'_>,
    asked: Asked<'_>,
    holding: &Holding<'_>,
) -> Result<ResponseHead, Stop> {
    let timeouts = &job.settings.timeouts;
    let limits = job.upstreams.limits();
    let mut waits = false;
    let mut unflushed = false;
    job.watch.set(job.moment(timeouts.idle));
    std::future::poll_fn(|cx| {
        job.live.check(connection.peer()).map_err(Stop::Cut)?;
        let request = poll_request(exchange, connection, body, cx)?;
        if body.is_over() {
            if !waits {
                waits = true;
                job.watch.set(job.moment(timeouts.first_byte));
            }
        } else if request.some {
            job.watch.set(job.moment(timeouts.idle));
        }
        let interim = &mut |head| unflushed |= job.send_interim(exchange, head);
        if let Poll::Ready(answer) = connection.poll_head(cx, asked, limits, interim) {
            return Poll::Ready(answer.map_err(Stop::Upstream));
        }
        if unflushed {
            unflushed = exchange.poll_flush(cx).map_err(Stop::Client)?.is_pending();
        }
        if job.watch.poll(cx).is_ready() {
            // An upstream that has all that came is not the one that is slow.
            let slow = if request.owed { Stop::Request(BodyError::Timeout) } else { Stop::Timeout };
            return Poll::Ready(Err(slow));
        }
        if holding.poll_ended(request.owed, cx).is_ready() {
            job.count_stalled();
            return Poll::Ready(Err(Stop::Request(BodyError::Timeout)));
        }
        if body.is_over()
            && let Poll::Ready(error) = exchange.poll_gone(cx)
        {
            return Poll::Ready(Err(Stop::Client(error)));
        }
        Poll::Pending
    })
    .await
}

/// Moves the response's body to the client, and the rest of the request's to the
/// upstream, until the response is over.
pub(super) async fn bodies<E: Exchange>(
    job: &Job<'_>,
    exchange: &mut E,
    connection: Connection,
    body: &mut RequestBody<'_>,
    chosen: &Chosen<'_>,
    holding: Holding<'_>,
) -> Result<(), Stop> {
    let idle = job.settings.timeouts.idle;
    let ticker = job.watch.ticker();
    // Goes back to the pool as soon as the response is read, however slow the client is.
    let mut connection = Some((connection, holding));
    body.forget();
    job.watch.set(job.moment(idle));
    std::future::poll_fn(|cx| {
        let peer = connection.as_ref().and_then(|(upstream, _)| upstream.peer());
        job.live.check(peer).map_err(Stop::Cut)?;
        let waits = loop {
            let moved = match &mut connection {
                Some((upstream, _)) => poll_bodies(job, exchange, upstream, body, cx)?,
                None => Response { some: false, over: true, blocked: false, owed: false },
            };
            if moved.over
                && let Some((upstream, _holding)) = connection.take()
            {
                upstream.finish(chosen.pool, ticker.moment(idle));
            }
            let flushed = exchange.poll_flush(cx).map_err(Stop::Client)?;
            match (moved.over, flushed.is_ready()) {
                (true, true) => return Poll::Ready(Ok(())),
                (false, true) if moved.blocked => continue,
                _ => {}
            }
            // A slow client has its own time limit; only silence of the upstream counts.
            if moved.blocked || connection.is_none() {
                job.watch.set(job.total);
            } else if moved.some {
                job.watch.set(job.moment(idle));
            }
            // Of a body without an end in sight nobody knows who has to speak next: both may talk, or
            // the client listen.
            break moved.blocked || (moved.owed && body.is_announced());
        };
        if job.watch.poll(cx).is_ready() {
            return Poll::Ready(Err(Stop::Timeout));
        }
        if let Some((_, holding)) = &connection
            && holding.poll_ended(waits, cx).is_ready()
        {
            job.count_stalled();
            return Poll::Ready(Err(Stop::Client(io::Error::new(io::ErrorKind::TimedOut, STALLED))));
        }
        if body.is_over()
            && let Poll::Ready(error) = exchange.poll_gone(cx)
        {
            return Poll::Ready(Err(Stop::Client(error)));
        }
        Poll::Pending
    })
    .await
}

/// How far the response's body came in one poll.
struct Response {
    some: bool,
    over: bool,
    /// Whether the client takes no more for now.
    blocked: bool,
    /// Whether it owes more of the request's body.
    owed: bool,
}

fn poll_bodies<E: Exchange>(
    job: &Job<'_>,
    exchange: &mut E,
    connection: &mut Connection,
    body: &mut RequestBody<'_>,
    cx: &mut Context<'_>,
) -> Result<Response, Stop> {
    // Also when all of the body was taken: its last piece may still wait to leave.
    let Request { some, owed } = poll_request(exchange, connection, body, cx)?;
    let mut response = Response { some, over: false, blocked: false, owed };
    while !response.over {
        match exchange.poll_ready(cx).map_err(Stop::Client)? {
            Poll::Ready(()) => {}
            Poll::Pending => {
                response.blocked = true;
                connection.hold(cx);
                break;
            }
        }
        match connection.poll_frame(cx, job.upstreams.limits()).map_err(Stop::Upstream)? {
            Poll::Ready(frame) => {
                response.some = true;
                response.over = !matches!(frame, Frame::Data(_));
                exchange.send_frame(frame).map_err(Stop::Client)?;
            }
            Poll::Pending => break,
        }
    }
    Ok(response)
}
