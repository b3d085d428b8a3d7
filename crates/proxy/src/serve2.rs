//! HTTP/2 towards clients: the `h2` crate multiplexes, each stream is a request that
//! goes the same way as one of HTTP/1.

mod exchange;
mod gather;
mod meter;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};

use crate::accept::CoreListener;
use crate::admit::admit;
use crate::deadline::Watch;
use crate::http2::head::{as_http1, from_h2, list_bytes};
use crate::limits::Limits;
use crate::link::Link;
use crate::listen::{Core, Trust};
use crate::proxy_protocol::Origin;
use crate::stream2::frame_budget;
use crate::way::Admitted;
use crate::world::{Arrival, ConnectionInfo, Handler, World};
use exchange::Exchange2;
use gather::{Gathering, Shared};
use meter::Metered;

/// What a client may send on one stream before the upstream has taken it, in bytes.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams of a connection together, when they are one client's: its stalled
/// uploads stop its own alone. See [`connection_window`].
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What waits to be sent on one stream, in bytes.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Streams that were reset before we took them up, after which the connection ends
/// (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;

/// Serves a connection to its end. `read` is what was read from it already.
pub(crate) async fn serve<W: World>(
    core: &Rc<Core<W>>,
    core_listener: &Rc<CoreListener>,
    link: Link,
    read: Bytes,
    info: Rc<ConnectionInfo>,
) -> io::Result<()> {
    let limits = Rc::clone(&core.current().limits);
    let ticker = &core.context().ticker;
    let hits = &core.context().limit_hits;
    let carries_strangers = carries_strangers(&*core.current().world, &info);
    let window = connection_window(&limits, carries_strangers);
    let out = Rc::new(RefCell::new(Gathering::new(link)));
    let metered = Metered::new(Rc::clone(&out), read, &limits, ticker, hits);
    let handshake = server::Builder::new()
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(limits.http2_header_list_bytes_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .data_frame_budget(frame_budget(window))
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .handshake::<_, Bytes>(metered);
    let h2 = tokio::time::timeout(limits.header_read_ms_max, handshake)
        .await
        .map_err(|_| {
            hits.count("header_read_ms_max");
            io::ErrorKind::TimedOut
        })?
        .map_err(crate::stream2::broken)?;
    out.borrow_mut().be_patient();
    let mut connection = Connection {
        h2,
        out,
        watch: Watch::new(ticker),
        core_listener: Rc::clone(core_listener),
        streams: Streams::new(heads_bytes_max(&limits, carries_strangers)),
        quiet: false,
        leaving: false,
        served: 0,
        trust: Trust::default(),
    };
    connection.watch.set_after(limits.idle_ms_max);
    while let Some((request, mut respond)) = connection.next(&limits, core, &info).await? {
        core.count_request();
        let Some(open) = connection.streams.enter(head_bytes(&request)) else {
            hits.count("http2_heads_bytes_max");
            // It may be sent again (RFC 9113 §8.7): nobody has looked at it.
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        };
        let (core, info) = (Rc::clone(core), Rc::clone(&info));
        let (pool, core_listener) = (Rc::clone(core.task_pool()), Rc::clone(core_listener));
        pool.spawn(Stream { core, core_listener, info, request, respond, open }, serve_stream);
    }
    connection.say_last().await;
    Ok(())
}

/// Whether requests of many clients come over one connection: it is that of a proxy in front of
/// us, or of another process of the mesh.
fn carries_strangers<W: World>(world: &W, info: &ConnectionInfo) -> bool {
    world.is_trusted_proxy(info) || info.tls.as_ref().is_some_and(|tls| !tls.chain.is_empty())
}

/// What may be sent on a connection before the upstreams have taken it, in bytes. Strangers on one
/// connection have room for all its streams, so that stalled uploads of one stop nobody else's: 16
/// MiB at 128 streams. Anybody may open many connections, and each holds one MiB at most.
fn connection_window(limits: &Limits, carries_strangers: bool) -> u32 {
    let all = STREAM_WINDOW.saturating_mul(limits.http2_streams_max);
    // No window is larger (RFC 9113 §6.9.1).
    let all = all.clamp(CONNECTION_WINDOW, i32::MAX.unsigned_abs());
    if carries_strangers { all } else { CONNECTION_WINDOW }
}

/// What the heads of the open streams of a connection may take, in bytes. They are copied out of
/// HPACK's table, where a few bytes on the wire stand for many. Strangers on one connection have room
/// for all its streams, as with [`connection_window`].
fn heads_bytes_max(limits: &Limits, carries_strangers: bool) -> usize {
    let all = (limits.http2_header_list_bytes_max as usize).saturating_mul(limits.http2_streams_max as usize);
    let one = limits.http2_heads_bytes_max;
    if carries_strangers { all.max(one) } else { one }
}

/// What the head of a request takes while its stream is open, in bytes.
fn head_bytes(request: &http::Request<RecvStream>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    list_bytes(request.headers()) + target
}

/// A request, and what it needs to be served.
pub(crate) struct Stream<W: World> {
    core: Rc<Core<W>>,
    /// It may outlive its connection, and is its listener's all the same.
    core_listener: Rc<CoreListener>,
    info: Rc<ConnectionInfo>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    open: OpenStream,
}

async fn serve_stream<W: World>(stream: Stream<W>) {
    let Stream { core, core_listener: _core_listener, info, request, respond, open: _open } = stream;
    let current = core.current();
    let (world, limits) = (&current.world, &current.limits);
    let (parts, body) = request.into_parts();
    let mut admitted = from_h2(&parts, body.is_end_stream(), Vec::new(), limits)
        .and_then(|raw| admit(raw, world.admission(), limits, world.is_trusted_proxy(&info)));
    let hits = &core.context().limit_hits;
    if let Err(refusal) = &mut admitted {
        if let Some(limit) = refusal.class.limit() {
            hits.count(limit);
        }
        if world.admission().keep_written {
            refusal.seen.raw = as_http1(&parts, limits.http2_header_list_bytes_max as usize);
        }
    }
    drop(parts);
    let ticker = &core.context().ticker;
    let head = admitted.as_ref().ok().map(Admitted::head);
    let mut exchange =
        Exchange2::new(head, body, respond, limits, &world.admission().identity_headers, ticker, hits);
    exchange.origin = Some(Origin { source: info.peer, destination: info.local });
    current.handler.serve(Arrival { connection: &info, admitted }, &mut exchange).await;
    exchange.finish().await;
}

/// The streams of a connection that are being served.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    heads_bytes: Cell<usize>,
    heads_bytes_max: usize,
}

impl Streams {
    fn new(heads_bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { open: Cell::default(), heads_bytes: Cell::default(), heads_bytes_max })
    }

    /// One more, unless its head is too much beside those of the others. Alone, each is served.
    fn enter(self: &Rc<Self>, head_bytes: usize) -> Option<OpenStream> {
        let heads_bytes = self.heads_bytes.get().saturating_add(head_bytes);
        if heads_bytes > self.heads_bytes_max && self.open.get() > 0 {
            return None;
        }
        self.heads_bytes.set(heads_bytes);
        self.open.set(self.open.get() + 1);
        Some(OpenStream { streams: Rc::clone(self), head_bytes })
    }
}

/// A stream that is being served.
#[derive(Debug)]
struct OpenStream {
    streams: Rc<Streams>,
    head_bytes: usize,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        self.streams.heads_bytes.set(self.streams.heads_bytes.get() - self.head_bytes);
    }
}

struct Connection {
    h2: server::Connection<Metered, Bytes>,
    out: Shared,
    watch: Watch,
    core_listener: Rc<CoreListener>,
    streams: Rc<Streams>,
    /// Whether the idle time is running.
    quiet: bool,
    /// Whether GOAWAY was sent.
    leaving: bool,
    served: u64,
    trust: Trust,
}

type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

impl Connection {
    /// The next stream; `None` when the connection has ended.
    async fn next<W: World>(
        &mut self,
        limits: &Limits,
        core: &Core<W>,
        info: &ConnectionInfo,
    ) -> io::Result<Option<Accepted>> {
        std::future::poll_fn(|cx| {
            if !self.trust.holds(core, info) {
                self.h2.abrupt_shutdown(Reason::NO_ERROR);
                // Sends the GOAWAY; who was cut is not waited for.
                let _ = self.h2.poll_accept(cx);
                return Poll::Ready(Ok(None));
            }
            let next = self.poll_next(cx, limits);
            if next.is_pending() {
                // Whoever has something to say has said it: now it leaves.
                let mut out = self.out.borrow_mut();
                match out.poll_send(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if self.quiet => out.shrink(),
                    _ => {}
                }
            }
            next
        })
        .await
    }

    /// Sends what was said at the end, as far as the client takes it at once.
    async fn say_last(&self) {
        std::future::poll_fn(|cx| {
            let _ = self.out.borrow_mut().poll_send(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<io::Result<Option<Accepted>>> {
        loop {
            // This also moves the frames of all streams.
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => {
                    self.quiet = false;
                    self.served += 1;
                    return Poll::Ready(Ok(Some(accepted)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(crate::stream2::broken(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending => {}
            }
            let used_up = self.served >= limits.requests_per_connection_max;
            if !self.leaving && (self.core_listener.is_draining() || used_up) {
                self.leave();
                continue;
            }
            break;
        }
        let quiet = self.streams.open.get() == 0;
        if quiet && !self.quiet {
            self.watch.set_after(limits.idle_ms_max);
        } else if !quiet {
            self.watch.set(0);
        }
        self.quiet = quiet;
        if self.watch.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.leaving {
            // It was told, and did not go.
            self.h2.abrupt_shutdown(Reason::NO_ERROR);
            return Poll::Ready(Ok(None));
        }
        self.leave();
        self.watch.set_after(limits.header_read_ms_max);
        // Sends the GOAWAY.
        match self.h2.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => Poll::Ready(Ok(Some(accepted))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(crate::stream2::broken(error))),
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.h2.graceful_shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_http2_heads_bytes_max() {
        let streams = Streams::new(100);
        let first = streams.enter(60).unwrap();
        let second = streams.enter(40).unwrap();
        assert!(streams.enter(1).is_none() && streams.enter(usize::MAX).is_none());
        drop(second);
        assert!(streams.enter(41).is_none());
        let second = streams.enter(40).unwrap();
        drop((first, second));
        // However large, one alone is served: its own limit has let it come.
        let large = streams.enter(1_000).unwrap();
        assert!(streams.enter(1).is_none());
        drop(large);
        assert!(streams.enter(100).is_some());
        assert_eq!((streams.open.get(), streams.heads_bytes.get()), (0, 0));
    }

    #[test]
    fn a_browser_with_many_cookies_may_use_all_the_streams_that_it_is_offered() {
        let limits = Limits::default();
        let streams = Streams::new(heads_bytes_max(&limits, false));
        let open: Vec<_> = (0..limits.http2_streams_max).map(|_| streams.enter(8 * 1024)).collect();
        assert!(open.iter().all(Option::is_some));
    }

    #[test]
    fn strangers_on_one_connection_leave_each_other_room_for_their_heads() {
        let limits = Limits::default();
        let list = limits.http2_header_list_bytes_max as usize;
        assert_eq!(heads_bytes_max(&limits, false), limits.http2_heads_bytes_max);
        assert_eq!(heads_bytes_max(&limits, true), list * limits.http2_streams_max as usize);
        let limits = Limits { http2_streams_max: 1, ..limits };
        assert_eq!(heads_bytes_max(&limits, true), limits.http2_heads_bytes_max);
    }
}
