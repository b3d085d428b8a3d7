//! Which route a request takes.

/// A route's number in the snapshot's list of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub u32);

/// Path parameters by name, percent-decoded.
#[derive(Debug, Default)]
pub struct Parameters {
    list: Vec<(std::sync::Arc<str>, String)>,
}

impl Parameters {
    /// The value of the parameter with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(n, _)| &**n == name).map(|(_, value)| value.as_str())
    }
}
