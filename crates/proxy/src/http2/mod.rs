//! HTTP/2: the `h2` crate's messages become ours, and go through the same admission.

pub(crate) mod frames;
pub mod head;
