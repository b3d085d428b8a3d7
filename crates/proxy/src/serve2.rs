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
use crate::http2::head::{as_http1, from_h2};
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
    let window = connection_window(&limits, carries_strangers(&*core.current().world, &info));
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
        streams: Rc::default(),
        quiet: false,
        leaving: false,
        served: 0,
        trust: Trust::default(),
    };
    connection.watch.set_after(limits.idle_ms_max);
    while let Some((request, respond)) = connection.next(&limits, core, &info).await? {
        core.count_request();
        let open = OpenStream::enter(&connection.streams);
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

/// A stream that is being served.
struct OpenStream(Rc<Cell<usize>>);

impl OpenStream {
    fn enter(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

struct Connection {
    h2: server::Connection<Metered, Bytes>,
    out: Shared,
    watch: Watch,
    core_listener: Rc<CoreListener>,
    streams: Rc<Cell<usize>>,
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
        let quiet = self.streams.get() == 0;
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
