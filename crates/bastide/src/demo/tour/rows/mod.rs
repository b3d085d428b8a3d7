//! The rows, one file per subject. Each sends attacks beside innocents.

pub(super) mod bodies;
pub(super) mod bound;
pub(super) mod credentials;
pub(super) mod firewall;
pub(super) mod framing;
pub(super) mod headers;
pub(super) mod honest;
pub(super) mod limits;
pub(super) mod mesh;
pub(super) mod operator;
pub(super) mod paths;
pub(super) mod policy;
pub(super) mod sessions;
pub(super) mod tokens;
pub(super) mod upstream;
