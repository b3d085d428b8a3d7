//! HTTP/1 towards clients: one request after the other on a connection, each answered
//! before the next is read.

mod exchange;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::accept::CoreListener;
use crate::admit::{RawRequest, Refusal, admit};
use crate::deadline::Watch;
use crate::http1::request::Reader;
use crate::limits::{Hits, Limits};
use crate::link::Wire;
use crate::listen::{Core, Trust};
use crate::proxy_protocol::Origin;
use crate::way::Admitted;
use crate::world::{Arrival, ConnectionInfo, Handler, World};
use exchange::{Closing, Exchange1};

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection may still wait for a request while we drain.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// So long what a client still sends after its answer is read and thrown away: the rest of a body
/// that nobody reads, or of a closed connection, so that the kernel does not reset it before the
/// client has read the answer (RFC 9112 §9.6).
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// At most so many of those bytes.
pub(crate) const LINGER_BYTES_MAX: usize = 512 * 1024;
/// After so many requests in a row others get their turn: pipelined ones are all there, and
/// their refusals wait for nothing.
const TURN_REQUESTS: u64 = 8;
/// A connection that was quiet for so long gives its buffers back: whoever asks again
/// soon finds them, and thousands that wait cost little.
const QUIET: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(crate) enum Ended {
    Done,
    /// The client speaks HTTP/2; what it sent is in the wire's input.
    Http2,
}

/// A client's connection between and during requests.
pub(crate) struct Connection {
    wire: Wire,
    reader: Reader,
    watch: Watch,
    core_listener: Rc<CoreListener>,
    /// Requests so far.
    served: u64,
    /// Whether its buffers were given back since its last request.
    rested: bool,
    /// Whether this may still turn out to be HTTP/2.
    may_be_http2: bool,
    hits: Arc<Hits>,
    /// Whether it waits for its last request.
    last_chance: bool,
    trust: Trust,
}

/// What came instead of nothing.
enum Next {
    Request(Result<RawRequest, Refusal>),
    Http2,
    Over,
}

/// Serves a connection to its end.
pub(crate) async fn serve<W: World>(
    core: &Rc<Core<W>>,
    connection: &mut Connection,
    info: &ConnectionInfo,
) -> io::Result<Ended> {
    loop {
        let limits = Rc::clone(&core.current().limits);
        connection.reader.keep_written = core.current().world.admission().keep_written;
        let raw = match connection.next(&limits, core, info).await? {
            Next::Request(raw) => raw,
            Next::Http2 => return Ok(Ended::Http2),
            Next::Over => {
                // The client has gone, or was told nothing yet: an orderly end.
                let _ = std::future::poll_fn(|cx| connection.wire.poll_shutdown(cx)).await;
                return Ok(Ended::Done);
            }
        };
        // Taken only now: a connection may have waited long for this request.
        let current = core.current();
        core.count_request();
        connection.served += 1;
        let world = &current.world;
        let admitted = raw.and_then(|mut raw| {
            raw.local = Some(info.local);
            admit(raw, world.admission(), &limits, world.is_trusted_proxy(info))
        });
        if let Err(refusal) = &admitted
            && let Some(limit) = refusal.class.limit()
        {
            connection.hits.count(limit);
        }
        let head = admitted.as_ref().ok().map(Admitted::head);
        let identity = &world.admission().identity_headers;
        let mut exchange = Exchange1::new(connection, head, &limits, identity);
        exchange.origin = Some(Origin { source: info.peer, destination: info.local });
        // In a box: between requests a connection is small. Made where it will stand: what is
        // large about it is room that nothing was written to yet.
        let room = Box::new_uninit();
        let served = current.handler.serve(Arrival { connection: info, admitted }, &mut exchange);
        Box::into_pin(Box::write(room, served)).await;
        let closing = exchange.finish().await;
        drop(current);
        match closing? {
            Closing::Keep => {
                connection.wire.shrink();
                if connection.served.is_multiple_of(TURN_REQUESTS) && !connection.wire.input.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            Closing::Linger => {
                connection.linger().await;
                return Ok(Ended::Done);
            }
            Closing::Cut => return Ok(Ended::Done),
        }
    }
}

impl Connection {
    pub(crate) fn new<W: World>(
        core: &Core<W>,
        core_listener: &Rc<CoreListener>,
        wire: Wire,
        may_be_http2: bool,
    ) -> Self {
        Self {
            wire,
            reader: Reader::new(),
            watch: Watch::new(&core.context().ticker),
            core_listener: Rc::clone(core_listener),
            served: 0,
            may_be_http2,
            hits: Arc::clone(&core.context().limit_hits),
            last_chance: false,
            rested: false,
            trust: Trust::default(),
        }
    }

    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }

    async fn next<W: World>(
        &mut self,
        limits: &Limits,
        core: &Core<W>,
        info: &ConnectionInfo,
    ) -> io::Result<Next> {
        self.watch.set_after(limits.idle_ms_max.min(QUIET));
        self.rested = limits.idle_ms_max <= QUIET;
        let mut begun = false;
        std::future::poll_fn(|cx| {
            if !self.trust.holds(core, info) {
                return Poll::Ready(Ok(Next::Over));
            }
            self.poll_next(cx, limits, &mut begun)
        })
        .await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        begun: &mut bool,
    ) -> Poll<io::Result<Next>> {
        loop {
            if self.may_be_http2 {
                let input = &self.wire.input;
                if input.starts_with(PREFACE) {
                    return Poll::Ready(Ok(Next::Http2));
                }
                self.may_be_http2 = PREFACE.starts_with(input);
            }
            if !self.may_be_http2 || self.wire.input.is_empty() {
                match self.reader.read(&mut self.wire.input, limits) {
                    Ok(Some(raw)) => return Poll::Ready(Ok(Next::Request(Ok(raw)))),
                    Ok(None) => {}
                    Err(refusal) => return Poll::Ready(Ok(Next::Request(Err(refusal)))),
                }
            }
            if !*begun && (self.reader.begun() || !self.wire.input.is_empty()) {
                // From its first byte on a head has its own time.
                *begun = true;
                self.watch.set_after(limits.header_read_ms_max);
            }
            match self.wire.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Next::Over)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if !*begun && self.core_listener.is_draining() && !self.last_chance {
            // Closing at once could meet a request on its way; its answer says `close`.
            self.last_chance = true;
            self.rested = true;
            self.watch.set_after(LAST_CHANCE);
        }
        ready!(self.watch.poll(cx));
        if !*begun && !self.rested {
            self.rested = true;
            self.wire.rest();
            self.watch.set_after(limits.idle_ms_max.saturating_sub(QUIET));
            ready!(self.watch.poll(cx));
        }
        if *begun || !self.last_chance {
            self.hits.count(if *begun { "header_read_ms_max" } else { "idle_ms_max" });
        }
        // A head that does not come to its end is no request: nothing to answer.
        Poll::Ready(Ok(Next::Over))
    }

    /// Ends our side and waits a little for the client to end its own.
    async fn linger(&mut self) {
        self.watch.set_after(LINGER);
        let mut left = LINGER_BYTES_MAX;
        let mut shut = false;
        std::future::poll_fn(|cx| {
            if !shut {
                // An error means that there is nobody left to be polite to.
                shut = ready!(self.wire.poll_shutdown(cx)).is_ok();
                if !shut {
                    return Poll::Ready(());
                }
            }
            loop {
                self.wire.input.clear();
                match self.wire.poll_fill(cx) {
                    Poll::Ready(Ok(count)) if count > 0 && count <= left => left -= count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => {
                        // A client that keeps us waiting holds no room for what it may still send.
                        self.wire.rest();
                        return self.watch.poll(cx);
                    }
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::accept::InUse;
    use crate::deadline::Ticker;
    use crate::link::Link;
    use crate::world::ListenerKey;

    fn local(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default());
        runtime.unwrap().block_on(test);
    }

    /// A client's connection, and the client.
    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let key = ListenerKey { address, ordinal: 0 };
        let connection = Connection {
            wire: Wire::new(Link::Plain(listener.accept().await.unwrap().0)),
            reader: Reader::new(),
            watch: Watch::new(&Ticker::start(tokio::time::Instant::now())),
            core_listener: CoreListener::new(key, &Rc::new(Cell::new(false)), Arc::new(InUse)),
            served: 0,
            rested: false,
            may_be_http2: false,
            hits: Arc::default(),
            last_chance: false,
            trust: Trust::default(),
        };
        (connection, client)
    }

    /// Of a flood thousands are answered at once and wait for their client to hang up.
    #[test]
    fn while_a_client_does_not_hang_up_after_its_last_answer_no_buffer_is_held() {
        local(async {
            let (mut connection, mut client) = connected().await;
            client.write_all(b"asked for").await.unwrap();
            std::future::poll_fn(|cx| connection.wire.poll_fill(cx)).await.unwrap();
            connection.wire.output().extend_from_slice(b"told");
            std::future::poll_fn(|cx| connection.wire.poll_flush(cx)).await.unwrap();
            assert!(connection.wire.input.capacity() > 0);
            let waits = async |connection: &mut Connection| {
                let mut lingering = Box::pin(connection.linger());
                let waits = std::future::poll_fn(|cx| Poll::Ready(lingering.as_mut().poll(cx).is_pending()));
                assert!(waits.await);
            };
            waits(&mut connection).await;
            assert_eq!((connection.wire.input.capacity(), connection.wire.output().capacity()), (0, 0));
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "told");
            // What it goes on to send is read away, and nothing of it is kept.
            client.write_all(&[b'x'; 1000]).await.unwrap();
            connection.wire.link().socket().readable().await.unwrap();
            waits(&mut connection).await;
            assert_eq!((connection.wire.input.capacity(), connection.wire.output().capacity()), (0, 0));
            drop(client);
            connection.linger().await;
        });
    }
}
