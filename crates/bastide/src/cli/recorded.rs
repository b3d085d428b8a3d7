//! Requests of the audit log, as policies can be asked about them again.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use model::event::{AccessEvent, DecisionRecord};
use policy::testing::What;
use policy::{Beside, Policies};
use serde_json::Value;

use crate::admin::noted;
use crate::config::{ADMINISTRATION, Area};
use crate::process::generations::Generations;
use crate::wire::{Finder, Place};

/// Longest host and path that an event surely holds whole, bytes; and path of the administration.
const HOST_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 2047;
const ADMINISTRATION_PATH_BYTES_MAX: usize = 255;

/// The policies that made recorded decisions.
pub(super) struct Deciders {
    /// Those that are at hand.
    known: Vec<Arc<Policies>>,
    /// Where generations are kept.
    states: Vec<PathBuf>,
    /// By the hash of their content; `None`: not kept.
    kept: HashMap<String, Option<Arc<Policies>>>,
}

impl Deciders {
    /// Looks among these, then in these state folders.
    pub(super) fn new(known: Vec<Arc<Policies>>, states: Vec<PathBuf>) -> Self {
        Self { known, states, kept: HashMap::new() }
    }

    /// The policies that made a record.
    pub(super) fn of(&mut self, record: &DecisionRecord) -> Option<Arc<Policies>> {
        if let Some(policies) = self.known.iter().find(|policies| policies.snapshot() == record.snapshot) {
            return Some(Arc::clone(policies));
        }
        let states = &self.states;
        let look = || {
            let found = states.iter().filter_map(|state| Generations::of(state).get(record.generation).ok());
            found.into_iter().find(|policies| policies.snapshot() == record.snapshot).map(Arc::new)
        };
        self.kept.entry(record.snapshot.clone()).or_insert_with(look).clone()
    }
}

/// Whether an event is a call of the administration, which no route of the configuration takes.
pub(super) fn is_administration(event: &AccessEvent<'_>) -> bool {
    let is_area = |route: &str| Area::ALL.into_iter().any(|area| area.route() == route);
    event.upstream == ADMINISTRATION && (is_area(&event.route) || event.route == noted::ROUTE)
}

/// Where the request of an event arrived, as the routes of `finder` have it.
///
/// # Errors
/// They do not take it to the same route: why, in one line.
pub(super) fn place(finder: &Finder, event: &AccessEvent<'_>) -> Result<Place, String> {
    if !is_whole(event) {
        return Err("the log does not hold the whole path".to_owned());
    }
    let what = What {
        method: Some(event.method.clone().into_owned()),
        host: Some(event.host.clone().into_owned()),
        path: Some(event.path.clone().into_owned()),
        ..What::default()
    };
    let place = finder.place(&what)?;
    if place.route == event.route {
        return Ok(place);
    }
    Err(format!("route {:?} takes other requests now, or asks for more than the log holds", event.route))
}

/// Whether host and path stand in the event as they were.
fn is_whole(event: &AccessEvent<'_>) -> bool {
    let is_text = |text: &str, most: usize| text.len() <= most && !text.contains('\u{fffd}');
    let path_bytes_max =
        if is_administration(event) { ADMINISTRATION_PATH_BYTES_MAX } else { PATH_BYTES_MAX };
    is_text(&event.host, HOST_BYTES_MAX) && is_text(&event.path, path_bytes_max)
}

/// The path parameters that policies may name, at a place.
pub(super) fn parameters(policies: &Policies, parameters: &BTreeMap<String, String>, beside: &mut Beside) {
    for name in policies.vocabulary().routes.iter().flat_map(|route| &route.parameters) {
        let value = parameters.get(name).map(|value| Value::from(value.as_str()));
        beside.insert(format!("resource.params.{name}"), value);
    }
}

/// What an event says of a call of the administration besides: policies see neither a host nor
/// fields of the head there.
pub(super) fn of_administration(event: &AccessEvent<'_>, policies: &Policies) -> Beside {
    let mut beside = beside(event);
    beside.insert("context.host".to_owned(), Some("".into()));
    for name in &policies.vocabulary().headers {
        beside.insert(format!("context.headers.{name}"), None);
    }
    let named = policies.vocabulary().routes.iter().flat_map(|route| &route.parameters);
    for name in named.filter(|name| !Area::PARAMETERS.contains(&name.as_str())) {
        beside.insert(format!("resource.params.{name}"), None);
    }
    beside
}

/// What an event says of a request besides the record of its decision.
pub(super) fn beside(event: &AccessEvent<'_>) -> Beside {
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    let of_request = [("context.host", &event.host), ("context.path", &event.path)];
    let whole = of_request.into_iter().filter(|_| is_whole(event)).filter(|(_, said)| !said.is_empty());
    let whole = whole.map(|(name, said)| (name.to_owned(), text(said)));
    whole.chain(always(event, text)).collect()
}

fn always(event: &AccessEvent<'_>, text: impl Fn(&str) -> Option<Value>) -> Beside {
    [
        ("context.address", text(&event.client_address)),
        ("context.tls", Some(Value::from(!event.tls.is_empty()))),
        ("context.tls_version", text(&event.tls)),
        ("context.credential", Some(Value::from(event.credential.name()))),
        ("principal.issuer", text(&event.issuer)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
