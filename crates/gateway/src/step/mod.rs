//! The steps of the way, in its order. Each gives what the next one needs, or stops.

pub mod admit;
pub mod answer;
pub mod authenticate;
pub mod authorize;
pub mod challenge;
pub mod contract;
pub mod cors;
pub mod forward;
pub mod hygiene;
pub mod identity;
pub mod inspect;
pub mod limit;
pub mod opaque;
pub(crate) mod possession;
pub mod route;
pub(crate) mod session;
pub(crate) mod step_up;
pub mod user;
