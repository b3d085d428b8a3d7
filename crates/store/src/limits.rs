//! Every bound of the store, with its unit.

/// Segments of a key.
pub const KEY_SEGMENTS_MAX: usize = 16;
/// One segment of a key, bytes.
pub const KEY_SEGMENT_BYTES_MAX: usize = 512;
/// One value, bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Operations of one transaction.
pub const TRANSACTION_OPERATIONS_MAX: usize = 512;
/// Values of one transaction together, bytes.
pub const TRANSACTION_BYTES_MAX: usize = 8 << 20;
/// Records of one page of a scan.
pub const SCAN_RECORDS_MAX: usize = 1_000;
/// Records that one search looks at before it gives a cursor.
pub const SEARCH_RECORDS_MAX: usize = 10_000;
/// Transactions that wait to be written; the next caller waits for room.
pub const WAITING_TRANSACTIONS_MAX: usize = 4_096;
/// Transactions that share one commit.
pub const GROUP_TRANSACTIONS_MAX: usize = 512;
/// Values that share one commit, bytes; one transaction is always taken whole.
pub const GROUP_BYTES_MAX: usize = 16 << 20;
/// Revisions for which deletions are remembered. A watcher that is further behind is told
/// to read anew.
pub const HISTORY_REVISIONS: u64 = 20_000;
/// Records in the read cache, by default. SQLite only.
pub const CACHE_RECORDS_DEFAULT: usize = 10_000;
/// Values and keys in the read cache together, bytes, by default. SQLite only.
pub const CACHE_BYTES_DEFAULT: usize = 16 << 20;
