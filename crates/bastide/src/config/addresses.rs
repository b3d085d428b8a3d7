//! `addresses:`: which client addresses may come in.

use ipnet::IpNet;

/// Address lists. `deny` wins over `allow`; an empty `allow` allows all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses {
    /// When not empty, only these may come in.
    pub allow: Vec<IpNet>,
    /// These may not.
    pub deny: Vec<IpNet>,
}
