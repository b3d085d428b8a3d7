//! Opaque connections: bytes of any protocol, of which nothing is read but, where a
//! listener takes both, whether they are HTTP. Each goes the way of a request: routed by
//! the name that its listener is for, judged, counted, and cut when it would not be let
//! through any more.
//!
//! What it must never do: write a byte of its own into the connection, or read one before
//! the connection was let through, except to tell HTTP from the rest.

mod detect;
mod exchange;

use std::io;
use std::rc::Rc;

use bytes::Bytes;

pub(crate) use detect::is_http;

use crate::admit;
use crate::link::Wire;
use crate::listen::Core;
use crate::proxy_protocol::Origin;
use crate::world::{Arrival, ConnectionInfo, Handler, World};
use exchange::OpaqueExchange;

/// Serves a connection to its end, as one request to be let through to `name`.
pub(crate) async fn serve<W: World>(
    core: &Rc<Core<W>>,
    wire: Wire,
    info: &ConnectionInfo,
    name: &Bytes,
) -> io::Result<()> {
    let origin = Origin { source: info.peer, destination: info.local };
    let mut exchange = OpaqueExchange::new(wire, origin);
    // The world may have changed since the handshake: from here on every change is heard.
    if !core.trusts(info) {
        return exchange.finish().await;
    }
    let current = core.current();
    core.count_request();
    let arrival = Arrival { connection: info, admitted: Ok(admit::opaque(name)) };
    current.handler.serve(arrival, &mut exchange).await;
    drop(current);
    exchange.finish().await
}
