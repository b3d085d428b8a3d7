//! The reverse proxy that gateway and mesh share: from a socket's bytes to a request that
//! may be judged, and from a [`Cleared`] request to an upstream and back.
//!
//! The way through it: [`listen`] holds the cores, a thread with a runtime and listeners of its own
//! each, and gives them the newest [`World`]; `accept` takes connections, bounded, and [`tls`]
//! decrypts; `serve1` and `serve2` loop over the requests of a connection, which [`http1`] and
//! [`http2`] parse; [`admit`] refuses what two readers could read differently and makes
//! [`Admitted`]; [`route`] makes [`Routed`]. Then the connection calls [`Handler::serve`] with an
//! [`Exchange`], the request and the way to answer it. The handler is the caller's: it asks
//! `policy::decide`, which wraps the request into a [`policy::Permit`]; [`rate`] grants; [`clear`]
//! makes [`Cleared`]; [`forward()`] takes it to an upstream of [`upstream`]. While it is under way,
//! [`live`] has the handler's [`Judge`] repeat its judgement when something was published.
//!
//! Where to look: towards the client `accept`, `plain_http`, [`proxy_protocol`], [`tls`], `serve1`,
//! `serve2`, `stream2`, `opaque`; on the way [`head`], [`admit`], [`route`], [`rate`],
//! [`concurrency`], `held`, [`way`]; towards the upstream [`forward`](mod@forward), [`forwarded`],
//! [`upstream`]; for the control plane [`fetch`] and [`telemetry`].
//!
//! What it must never do: hand bytes of a refused head to an upstream, forward
//! anything that is not [`Cleared`], hold a lock across cores on the way.

mod accept;
pub mod address;
pub mod admit;
mod by_network;
pub mod challenge;
pub mod concurrency;
mod control_bytes;
pub mod deadline;
pub mod exchange;
pub mod fetch;
pub mod forward;
pub mod forwarded;
mod handshakes;
pub mod head;
mod held;
pub mod http1;
pub mod http2;
mod layer;
pub mod limits;
mod link;
pub mod listen;
pub mod live;
mod opaque;
mod plain_http;
pub mod proxy_protocol;
pub mod rate;
pub mod route;
mod serve1;
mod serve2;
mod stream2;
mod task_pool;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod way;
pub mod world;

#[doc(hidden)]
pub use accept::connection_bytes;
pub use admit::{Admission, Class, RawRequest, Refusal};
pub use exchange::{BodyError, Exchange, Frame};
pub use forward::{ForwardError, Outcome, ResponseEdit, forward};
pub use head::{Additions, Fields, Known, RequestHead, ResponseHead, Version};
pub use held::{Ahead, Held, HeldBudget, HeldShare, held_bytes, held_bytes_of_one_max};
pub use layer::Layer;
pub use limits::Limits;
pub use listen::{Cores, ListenError};
pub use live::{Cut, Judge, Standing};
pub use route::{RouteId, Router};
pub use upstream::{CoreUpstreams, Upstreams};
pub use way::{Admitted, Cleared, Routed, clear};
pub use world::{
    Arrival, ConnectionInfo, CoreContext, Handler, ListenerKey, ListenerSettings, RefusedHandshake, Speaks,
    World,
};
