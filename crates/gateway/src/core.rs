//! What one core keeps over reloads: its tokens, its queue, its counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use keys::CoreVerifier;
use policy::DecisionCache;
use proxy::deadline::Ticker;
use proxy::limits::Hits;
use proxy::{Additions, CoreContext};
use tokio::sync::Semaphore;

use crate::audit_wait::Turns;
use crate::caches::Caches;
use crate::firewall::{Allowance, Spares};
use crate::inventory::Inventory;
use crate::journey::RequestIds;
use crate::metric::CoreMetrics;
use crate::snapshot::{CoreParts, Snapshot};
use crate::step::contract::HANDED_OFF_MAX;

/// Buffers for texts that a core keeps: a decision takes one for each request under way.
const TEXTS_KEPT_MAX: usize = 128;
/// The largest that it keeps, bytes.
const TEXT_BYTES_KEPT_MAX: usize = 8 * 1024;

/// Lists of added fields that a core keeps: two for each request under way.
const FIELDS_KEPT_MAX: usize = 256;
/// What one has room for at first: fields, bytes. With an identity token they grow once.
const FIELDS_ROOM: (usize, usize) = (16, 1024);
/// The largest that it keeps, bytes.
const FIELDS_BYTES_KEPT_MAX: usize = 8 * 1024;

/// Of each second, what may be spent on inspecting requests without a credential or a
/// permit, and heads that are refused over HTTP/2, where the connection goes on.
const UNWELCOME_MAX: Duration = Duration::from_millis(50);
/// Of each second, what may be spent on inspecting heads that are refused over HTTP/1.
const UNREADABLE_HEADS_MAX: Duration = Duration::from_millis(200);

/// What a core keeps over reloads.
pub(crate) struct Core {
    /// Its tokens and its copy of the keys.
    pub(crate) verifier: RefCell<CoreVerifier>,
    /// Its way to the audit log; `None` only if more cores run than queues were made,
    /// and then everything is refused.
    pub(crate) audit: Option<Rc<audit::Queue>>,
    /// Whose turn it is when the audit queue is full.
    event_turns: Turns,
    /// The same for the firewall's log.
    firewall_turns: Turns,
    /// Its way to the firewall's log; `None` as with `audit`.
    pub(crate) firewall_log: Option<Rc<audit::Queue>>,
    /// What it may spend on showing the firewall requests that are refused anyway.
    pub(crate) unwelcome: Allowance,
    /// The same for those whose refusal costs the client its connection.
    pub(crate) unreadable_heads: Allowance,
    /// Its counters.
    pub(crate) metrics: Option<CoreMetrics>,
    /// Its way to whoever exports spans.
    pub(crate) spans: Option<proxy::telemetry::TraceSender>,
    /// Decisions that were made before, under this snapshot.
    pub(crate) decisions: RefCell<DecisionCache>,
    /// Endpoints that no document describes.
    pub(crate) inventory: Arc<Inventory>,
    /// The core's number.
    pub(crate) index: usize,
    /// Places for bodies that are judged, and values that are inspected, on other threads.
    pub(crate) handed_off: Arc<Semaphore>,
    /// How often each limit of the hop was met.
    pub(crate) limit_hits: Arc<Hits>,
    /// Makes request ids.
    pub(crate) ids: RequestIds,
    /// Its coarse clock.
    pub(crate) ticker: Rc<Ticker>,
    /// Buffers that were used, for the next requests' decisions and values of fields.
    spare_texts: RefCell<Vec<Vec<u8>>>,
    /// Lists of added fields that were used, for the next requests.
    spare_fields: RefCell<Vec<Additions>>,
    /// Memory of inspections that are over, for the next requests.
    pub(crate) spare_inspections: Spares,
    /// The snapshot of this moment, by which open exchanges are judged again.
    newest: RefCell<Arc<Snapshot>>,
    /// What is cached of it.
    caches: RefCell<Rc<Caches>>,
    /// Counts the times at which they must be.
    epoch: Cell<u64>,
    /// Whether somebody waits for an issuer's keys to judge again.
    pub(crate) waits_for_keys: Cell<bool>,
}

impl Core {
    /// Takes the core's own part of what outlives snapshots.
    pub(crate) fn new(snapshot: &Arc<Snapshot>, context: &CoreContext) -> Self {
        let index = context.index;
        let process = &snapshot.process;
        let mut parts = process.core_parts.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = parts.get_mut(index).and_then(Option::take);
        let (audit, firewall_log, metrics, spans) = match parts {
            Some(CoreParts { audit, firewall, metrics, spans }) => {
                (Some(Rc::new(audit)), Some(Rc::new(firewall)), Some(metrics), Some(spans))
            }
            None => (None, None, None, None),
        };
        Self {
            verifier: RefCell::new(CoreVerifier::new(Arc::clone(&snapshot.issuers))),
            audit,
            event_turns: Turns::default(),
            firewall_turns: Turns::default(),
            firewall_log,
            unwelcome: Allowance::new(UNWELCOME_MAX),
            unreadable_heads: Allowance::new(UNREADABLE_HEADS_MAX),
            metrics,
            spans,
            decisions: RefCell::default(),
            inventory: Arc::clone(&process.inventory),
            index,
            handed_off: Arc::new(Semaphore::new(HANDED_OFF_MAX)),
            limit_hits: Arc::clone(&context.limit_hits),
            ids: RequestIds::new(process.request_id_seed, index),
            ticker: Rc::clone(&context.ticker),
            spare_texts: RefCell::default(),
            spare_fields: RefCell::default(),
            spare_inspections: Spares::default(),
            newest: RefCell::new(Arc::clone(snapshot)),
            caches: RefCell::new(Rc::new(Caches::of(snapshot))),
            epoch: Cell::new(0),
            waits_for_keys: Cell::new(false),
        }
    }

    /// An empty buffer, used before when there is one.
    pub(crate) fn spare_text(&self) -> Vec<u8> {
        self.spare_texts.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next request, unless it has no room, has grown or there are enough.
    pub(crate) fn keep_text(&self, mut text: Vec<u8>) {
        let mut spare = self.spare_texts.borrow_mut();
        if (1..=TEXT_BYTES_KEPT_MAX).contains(&text.capacity()) && spare.len() < TEXTS_KEPT_MAX {
            text.clear();
            spare.push(text);
        }
    }

    /// Waits a little while the audit queue is full.
    pub(crate) async fn await_event_place(&self) {
        if let Some(queue) = &self.audit {
            self.event_turns.wait(|| queue.has_room()).await;
        }
    }

    /// The same for the queue of the firewall's log.
    pub(crate) async fn await_firewall_place(&self) {
        if let Some(queue) = &self.firewall_log {
            self.firewall_turns.wait(|| queue.has_room()).await;
        }
    }

    /// An empty list of added fields, used before when there is one.
    pub(crate) fn spare_fields(&self) -> Additions {
        let (fields, bytes) = FIELDS_ROOM;
        self.spare_fields.borrow_mut().pop().unwrap_or_else(|| Additions::with_capacity(fields, bytes))
    }

    /// Keeps a list for the next request, unless it has grown or there are enough.
    pub(crate) fn keep_fields(&self, mut fields: Additions) {
        let mut spare = self.spare_fields.borrow_mut();
        if fields.room_bytes() <= FIELDS_BYTES_KEPT_MAX && spare.len() < FIELDS_KEPT_MAX {
            fields.clear();
            spare.push(fields);
        }
    }

    /// The snapshot of this moment.
    pub(crate) fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.borrow())
    }

    /// What is cached of it.
    pub(crate) fn caches(&self) -> Rc<Caches> {
        Rc::clone(&self.caches.borrow())
    }

    /// Moves with everything after which an open exchange must be judged again.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Takes over a new snapshot: what was judged under the old one is forgotten. The
    /// same snapshot again means that a credential was revoked.
    pub(crate) fn adopt(&self, snapshot: &Arc<Snapshot>) {
        self.epoch.set(self.epoch.get() + 1);
        if Arc::ptr_eq(&self.newest.borrow(), snapshot) {
            return;
        }
        *self.newest.borrow_mut() = Arc::clone(snapshot);
        self.verifier.borrow_mut().adopt(Arc::clone(&snapshot.issuers));
        *self.caches.borrow_mut() = Rc::new(Caches::of(snapshot));
        self.decisions.borrow_mut().clear();
    }
}
