//! The routes of one host by the segments of their paths.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::RouteId;
use super::pattern::{PathMatch, Segment};

/// A node, and everything below it.
#[derive(Debug, Default)]
pub(super) struct Trie {
    literals: HashMap<Box<[u8]>, Trie, RandomState>,
    parameter: Option<Box<Trie>>,
    /// Routes whose path ends here, the most specific first.
    exact: Vec<RouteId>,
    /// Routes that go on with `**`, the most specific first.
    rest: Vec<RouteId>,
}

impl Trie {
    /// The list in which a route with this path stands. Made when it is not there.
    pub(super) fn place(&mut self, path: &PathMatch) -> &mut Vec<RouteId> {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        if path.rest { &mut node.rest } else { &mut node.exact }
    }

    /// Offers matching routes, the most specific first, until one is taken. Each node
    /// is visited at most once, whatever the path.
    pub(super) fn find<T>(
        &self,
        segments: &[&[u8]],
        take: &mut impl FnMut(RouteId) -> Option<T>,
    ) -> Option<T> {
        let Some((first, below)) = segments.split_first() else {
            return self.exact.iter().chain(&self.rest).find_map(|&id| take(id));
        };
        if let Some(found) = self.literals.get(*first).and_then(|child| child.find(below, take)) {
            return Some(found);
        }
        let parameter = self.parameter.as_ref().filter(|_| !first.is_empty());
        if let Some(found) = parameter.and_then(|child| child.find(below, take)) {
            return Some(found);
        }
        self.rest.iter().find_map(|&id| take(id))
    }
}
