//! The hop that gateway and mesh share: from a socket's bytes to a request that may
//! be judged, and from a [`Cleared`] request to an upstream and back.
//!
//! The way through it: [`listen`] accepts, [`tls`] decrypts, [`http1`] and [`http2`]
//! parse, [`admit`] refuses what two readers could read differently and makes
//! [`Admitted`]; [`route`] makes [`Routed`]; the caller asks `policy::decide`, which
//! wraps it into a [`policy::Permit`]; [`rate`] grants; [`clear`] makes [`Cleared`];
//! [`forward()`] takes it to an upstream of [`upstream`].
//!
//! What it must never do: hand bytes of a refused head to an upstream, forward
//! anything that is not [`Cleared`], hold a lock across cores on the way.

pub mod address;
pub mod admit;
pub mod concurrency;
pub mod exchange;
pub mod forwarded;
pub mod head;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod rate;
pub mod route;
pub mod way;

pub use admit::{Admission, Class, RawRequest, Refusal};
pub use exchange::{BodyError, Exchange, Frame};
pub use head::{Additions, Fields, Known, RequestHead, ResponseHead, Version};
pub use limits::Limits;
pub use route::{RouteId, Router};
pub use way::{Admitted, Cleared, Routed, clear};
