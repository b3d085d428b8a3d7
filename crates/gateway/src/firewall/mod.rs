//! The firewall on a request's way: what is configured ([`Firewall`]), and one request
//! under inspection ([`Inspection`]).
//!
//! The way through it: [`crate::step::inspect`] begins an inspection and takes the
//! request through its phases; `head` shows it heads as the rules know them; `exchange`
//! stands between the hop and the client while the answer is judged; `work` runs the engine
//! so that the core's other requests go on; `unpack` reads compressed bodies for the rules; `record` writes what was found into the audit event
//! and the firewall's log, `mask` takes secrets out of it; `allowance` bounds what is
//! spent on requests that are refused anyway; `spares` keeps the memory of inspections for the next ones.
//!
//! What it must never do: let a request pass because the engine could not say, let a
//! verdict change anything in detect mode, hold back a stream that no rule needs.

mod allowance;
mod exchange;
mod head;
mod inspection;
mod mask;
mod record;
mod spares;
#[cfg(test)]
mod testing;
mod unpack;
mod work;

use std::sync::Arc;

pub(crate) use allowance::Allowance;
pub(crate) use exchange::Inspected;
pub(crate) use head::Head;
pub(crate) use inspection::{Begin, Extent, Inspection, Reading, Shown, Side, Stopped};
pub(crate) use mask::MASK;
pub use mask::{mask, mask_name};
pub(crate) use record::Line;
pub(crate) use spares::Spares;

use crate::snapshot::Route;

/// What is done with what the rules find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The message is refused.
    Block,
    /// It is written down, and nothing else happens.
    Detect,
}

impl Mode {
    /// The configuration's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Detect => "detect",
        }
    }
}

/// What is done with request bodies that have a content coding, where the rules look at
/// bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressedRequests {
    /// They are refused: an upstream that does not unpack them would read another body
    /// than the rules.
    #[default]
    Refuse,
    /// The rules read what they unpack to; what cannot be unpacked is refused.
    Unpack,
    /// They pass unseen.
    Pass,
}

/// A firewall, as configured.
#[derive(Debug)]
pub struct Firewall {
    /// Its rules.
    pub rules: Arc<waf::RuleSet>,
    /// What it does.
    pub mode: Mode,
    /// What its rules remember from request to request.
    pub memory: Arc<waf::Memory>,
    /// What it does with compressed requests.
    pub compressed_requests: CompressedRequests,
    /// Whether an answer goes on whose body should be looked at and cannot be unpacked.
    pub unreadable_answers_pass: bool,
    /// What stands in its place on routes to the identity provider, where that is another.
    pub on_identity: Option<Arc<Firewall>>,
}

/// Which firewall a listener or a route has.
#[derive(Clone, Debug, Default)]
pub enum Choice {
    /// It says nothing: a route takes its listener's, a listener the default.
    #[default]
    Inherit,
    /// None.
    Off,
    /// This one.
    Is(Arc<Firewall>),
}

impl Choice {
    /// What counts when `self` says nothing: `behind`.
    pub fn or<'c>(&'c self, behind: &'c Self) -> &'c Self {
        match self {
            Self::Inherit => behind,
            _ => self,
        }
    }

    /// The firewall, when there is one.
    pub fn firewall(&self) -> Option<&Arc<Firewall>> {
        match self {
            Self::Is(firewall) => Some(firewall),
            Self::Inherit | Self::Off => None,
        }
    }
}

/// The firewalls of all that name none themselves.
#[derive(Debug, Default)]
pub struct Firewalls {
    /// Of whoever says nothing.
    pub default: Choice,
    /// Of the listeners.
    pub by_listener: Vec<(proxy::ListenerKey, Choice)>,
}

impl Firewalls {
    /// The firewall of a request that came to `listener`; `route` when it has one.
    pub fn of<'f>(
        &'f self,
        listener: &proxy::ListenerKey,
        route: Option<&'f Route>,
    ) -> Option<&'f Arc<Firewall>> {
        let by_listener = self.by_listener.iter().find(|(key, _)| key == listener);
        let behind = by_listener.map_or(&self.default, |(_, choice)| choice.or(&self.default));
        let Some(route) = route else { return behind.firewall() };
        let firewall = route.firewall.or(behind).firewall()?;
        Some(firewall.on_identity.as_ref().filter(|_| route.to_identity).unwrap_or(firewall))
    }

    /// Whether any request could have one.
    pub fn is_empty(&self) -> bool {
        self.default.firewall().is_none()
            && self.by_listener.iter().all(|(_, choice)| choice.firewall().is_none())
    }
}
