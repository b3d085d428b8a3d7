//! All durable bytes of Bastide: versioned records, encrypted, in SQLite or PostgreSQL.
//!
//! ```
//! use std::sync::Arc;
//! use store::{Error, Expect, Key, Store, Transaction, Value};
//! # struct Still;
//! # impl model::Clock for Still {
//! #     fn now(&self) -> model::Timestamp { model::Timestamp::from_unix_seconds(1_800_000_000) }
//! #     fn monotonic(&self) -> std::time::Duration { std::time::Duration::ZERO }
//! # }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Store::in_memory(Arc::new(Still))?;
//!
//! // Words of the program are readable in the database; what names somebody never is.
//! let alice = Key::new("user").hidden("acme").hidden("alice@example.org");
//! let version = store.put(alice.clone(), Value::from_json("a profile")?, None, Expect::Absent).await?;
//! let record = store.get(&alice).await?.unwrap();
//! assert_eq!(record.json::<String>()?, "a profile");
//!
//! // Compare and set: of two who read the same version, one wins.
//! store.put(alice.clone(), "changed", None, Expect::Version(version)).await?;
//! let late = store.put(alice.clone(), "too late", None, Expect::Version(version)).await;
//! assert!(matches!(late, Err(Error::Conflict { .. })));
//!
//! // Several records at one moment, one of them until an end.
//! let end = store.clock().now().plus(std::time::Duration::from_secs(60));
//! let code = Key::new("code").hidden("4711");
//! let both = Transaction::new()
//!     .require(alice.clone(), Expect::Present)
//!     .put(code.clone(), "for alice", Some(end), Expect::Absent);
//! store.commit(both).await?;
//!
//! // Everybody of one tenant.
//! let page = store.scan(&Key::new("user").hidden("acme"), None, 100).await?;
//! assert_eq!(page.records.len(), 1);
//!
//! // What changes, told as it happens.
//! let mut codes = store.watch(&Key::new("code"), store.version());
//! store.delete(code.clone(), Expect::Present).await?;
//! assert!(matches!(codes.next().await?, store::Event::Deleted { key, .. } if key == code));
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! The way of a write through it:
//!
//! ```text
//! Transaction ─ checked ─ Prepared (keys hashed) ─ Job ─ Group::judge ─ Barrier::seal ─ commit ─ watchers
//!                                                        one writer; whoever waits shares its commit
//! ```
//!
//! What it must never do:
//! - acknowledge a write that is not on disk, or leave a transaction half done;
//! - write a value, or a segment of a key that could identify somebody, readable;
//! - give a record that does not open as what was written under this key, version and end;
//! - read the clock: it is given one.

mod backend;
mod backup;
mod barrier;
mod cache;
mod error;
mod group;
mod key;
mod lease;
pub mod limits;
mod maintain;
mod postgres;
mod record;
mod rotate;
mod rows;
mod sqlite;
mod store;
mod transaction;
mod unseal;
mod watch;

pub use backup::{Backup, check_backup};
pub use error::Error;
pub use key::Key;
pub use lease::Lease;
pub use maintain::{Maintained, Status};
pub use postgres::PostgresSettings;
pub use record::{Record, Value, Version};
pub use rotate::Reencryption;
pub use store::{CacheLimits, Cursor, Page, Store};
pub use transaction::{Expect, Transaction};
pub use unseal::{SHARES_MAX, Share, Shares, UnsealKey, split};
pub use watch::{Event, Watch};
