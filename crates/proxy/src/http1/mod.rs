//! HTTP/1 without sockets: bytes in, heads and body frames out, and the way back.
//!
//! The way through it: [`request`] and [`response`] find and parse heads, [`body`]
//! reads what follows by its framing ([`chunk`] for chunked), [`encode`] writes.
//! Nothing here waits, and nothing scans a byte twice however slowly it comes.

pub mod body;
pub mod chunk;
pub mod encode;
mod lines;
pub mod request;
pub mod response;
