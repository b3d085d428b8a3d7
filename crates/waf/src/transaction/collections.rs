//! The persistent collections that a transaction opened: a copy each, written back at the end.

use super::tx::Value;
use crate::{
    collection::{KEY_BYTES_MAX, Kept, Memory, NAME_BYTES_MAX, Record},
    transform::Transformation,
    variable::Variable,
};
use std::{borrow::Cow, sync::Arc};

/// A collection that is open in this transaction.
#[derive(Debug)]
struct Open {
    kind: Variable,
    key: Vec<u8>,
    /// The key in the memory, which rule sets of several applications share.
    place: Vec<u8>,
    record: Record,
    is_new: bool,
    /// What variables were when it was opened.
    before: Vec<Before>,
    changed: Vec<Vec<u8>>,
}

/// A variable as another transaction left it.
#[derive(Debug)]
struct Before {
    name: Vec<u8>,
    /// What a counter stood at: differences are written back, so that transactions at the same
    /// time all count.
    number: i64,
    /// Since when it has not been lowered for the time that passed.
    changed_ms: i64,
}

/// All open ones.
#[derive(Debug, Default)]
pub(super) struct Collections {
    memory: Option<Arc<Memory>>,
    timeout_ms: i64,
    open: Vec<Open>,
}

impl Collections {
    pub(super) fn attach(&mut self, memory: Arc<Memory>, timeout_s: u64) {
        self.memory = Some(memory);
        self.timeout_ms = i64::try_from(timeout_s).unwrap_or(i64::MAX).saturating_mul(1_000);
    }

    /// Opens a collection; a kind that is open stays what it is. Sessions, users and resources
    /// are an application's own (`SecWebAppId`); an address is the same to all.
    pub(super) fn open(&mut self, kind: Variable, key: &[u8], web_app_id: &str, now_ms: i64) {
        if key.is_empty() || self.open.iter().any(|open| open.kind == kind) {
            return;
        }
        let key = match key.len() > KEY_BYTES_MAX {
            true => Transformation::Sha1.apply(Cow::Borrowed(key)).into_owned(),
            false => key.to_vec(),
        };
        let place = match kind {
            Variable::Session | Variable::User | Variable::Resource => {
                [web_app_id.as_bytes(), b"\0", &key].concat()
            }
            _ => key.clone(),
        };
        let found =
            self.memory.as_ref().and_then(|memory| memory.load(kind, &place, now_ms, self.timeout_ms));
        let is_new = found.is_none();
        let mut record =
            found.unwrap_or(Record { created_ms: now_ms, updated_ms: now_ms, ..Record::default() });
        record.variables.retain(|kept| kept.is_live(now_ms));
        let kept = record.variables.iter();
        let before = kept.map(|kept| Before {
            name: kept.name.clone(),
            number: kept.value.number(),
            changed_ms: kept.changed_ms,
        });
        let before = before.collect();
        self.open.push(Open { kind, key, place, record, is_new, before, changed: Vec::new() });
    }

    pub(super) fn key(&self, kind: Variable) -> Option<&[u8]> {
        self.open.iter().find(|open| open.kind == kind).map(|open| open.key.as_slice())
    }

    /// Changes a variable of an open collection. Where none is open, nothing happens.
    pub(super) fn change(
        &mut self,
        kind: Variable,
        name: &[u8],
        now_ms: i64,
        change: impl FnOnce(&mut Value),
    ) {
        let Some(open) = self.open.iter_mut().find(|open| open.kind == kind) else { return };
        let kept = open.kept(name);
        change(&mut kept.value);
        kept.changed_ms = now_ms;
        if kept.value == Value::Unset {
            kept.expires_ms = None;
        }
        open.touch(name);
    }

    pub(super) fn expire(&mut self, kind: Variable, name: &[u8], at_ms: i64) {
        let Some(open) = self.open.iter_mut().find(|open| open.kind == kind) else { return };
        open.kept(name).expires_ms = Some(at_ms);
        open.touch(name);
    }

    /// Lowers a counter by `amount` for each whole period since an earlier transaction changed it:
    /// what this one adds does not begin the period anew.
    pub(super) fn deprecate(&mut self, kind: Variable, name: &[u8], amount: i64, period_s: i64, now_ms: i64) {
        let Some(open) = self.open.iter_mut().find(|open| open.kind == kind) else { return };
        let Some(before) = open.before.iter_mut().find(|before| before.name.eq_ignore_ascii_case(name))
        else {
            return;
        };
        let elapsed_s = now_ms.saturating_sub(before.changed_ms).max(0) / 1_000;
        let periods = elapsed_s / period_s.max(1);
        if periods == 0 {
            return;
        }
        before.changed_ms = now_ms;
        let kept = open.kept(name);
        if kept.value == Value::Unset {
            return;
        }
        let lowered = kept.value.number().saturating_sub(periods.saturating_mul(amount)).max(0);
        kept.value = Value::Number(lowered);
        kept.changed_ms = now_ms;
        open.touch(name);
    }

    /// All variables of an open collection, its built-in ones included.
    pub(super) fn members(&self, kind: Variable, now_ms: i64) -> Vec<(Vec<u8>, Value)> {
        let Some(open) = self.open.iter().find(|open| open.kind == kind) else { return Vec::new() };
        let record = &open.record;
        let live = record.variables.iter().filter(|kept| kept.is_live(now_ms));
        let mut all: Vec<_> = live.map(|kept| (kept.name.clone(), kept.value.clone())).collect();
        let minutes = (now_ms.saturating_sub(record.created_ms) / 60_000).max(1);
        let built_in = [
            ("create_time", record.created_ms / 1_000),
            ("is_new", i64::from(open.is_new)),
            ("last_update_time", record.updated_ms / 1_000),
            ("timeout", self.timeout_ms / 1_000),
            ("update_counter", record.updates),
            ("update_rate", record.updates / minutes),
        ];
        all.extend(built_in.map(|(name, number)| (name.as_bytes().to_vec(), Value::Number(number))));
        all.push((b"key".to_vec(), Value::Text(open.key.clone())));
        all
    }

    /// Writes back what changed.
    pub(super) fn close(&mut self, now_ms: i64) {
        let Some(memory) = &self.memory else { return };
        for open in self.open.drain(..) {
            memory.change(open.kind, &open.place, now_ms, self.timeout_ms, |record, limits| {
                for name in &open.changed {
                    let Some(kept) = open.record.variables.iter().find(|kept| kept.name == *name) else {
                        continue;
                    };
                    let stored = record.variables.iter().position(|stored| stored.name == *name);
                    let at = match stored {
                        Some(at) => at,
                        None if kept.value == Value::Unset
                            || name.len() > NAME_BYTES_MAX
                            || record.variables.len() >= limits.variables_max =>
                        {
                            continue;
                        }
                        None => {
                            record.variables.push(Kept { name: name.clone(), ..Kept::default() });
                            record.variables.len() - 1
                        }
                    };
                    let Some(stored) = record.variables.get_mut(at) else { continue };
                    stored.value = open.written(kept, &stored.value, limits.value_bytes_max);
                    (stored.changed_ms, stored.expires_ms) = (kept.changed_ms, kept.expires_ms);
                }
            });
        }
    }
}

impl Open {
    fn kept(&mut self, name: &[u8]) -> &mut Kept {
        let found = self.record.variables.iter().position(|kept| kept.name.eq_ignore_ascii_case(name));
        let at = found.unwrap_or_else(|| {
            self.record.variables.push(Kept { name: name.to_ascii_lowercase(), ..Kept::default() });
            self.record.variables.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found or made just now")]
        &mut self.record.variables[at]
    }

    fn touch(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        if !self.changed.contains(&name) {
            self.changed.push(name);
        }
    }

    /// What to write over `stored`: for counters the difference of this transaction.
    fn written(&self, kept: &Kept, stored: &Value, bytes_max: usize) -> Value {
        match (&kept.value, stored) {
            (Value::Number(now), Value::Number(theirs)) => {
                let before = self.before.iter().find(|before| before.name == kept.name);
                let before = before.map_or(0, |before| before.number);
                Value::Number(theirs.saturating_add(now.saturating_sub(before)).max(0))
            }
            (Value::Text(text), _) => Value::Text(text.get(..bytes_max).unwrap_or(text).to_vec()),
            (value, _) => value.clone(),
        }
    }
}
