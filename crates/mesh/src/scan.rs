//! Scans of the store: all records below a key prefix, read or deleted page by page.

use serde::de::DeserializeOwned;
use store::limits::{SCAN_RECORDS_MAX, TRANSACTION_OPERATIONS_MAX};
use store::{Expect, Key, Record, Store, Transaction};

use crate::error::Error;

/// Reads each record below the prefix.
pub(crate) async fn each<T: DeserializeOwned>(
    store: &Store,
    prefix: &Key,
    mut take: impl FnMut(T),
) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = store.scan(prefix, after.as_ref(), SCAN_RECORDS_MAX).await?;
        for record in &page.records {
            take(record.json()?);
        }
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => return Ok(()),
        }
    }
}

/// Deletes the records that `is_so` picks, in one transaction for each page that has some. Gives
/// how many they were.
pub(crate) async fn delete_where(
    store: &Store,
    prefix: &Key,
    is_so: impl Fn(&Record) -> Result<bool, Error>,
) -> Result<usize, Error> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.scan(prefix, after.as_ref(), TRANSACTION_OPERATIONS_MAX).await?;
        let (mut transaction, before) = (Transaction::new(), count);
        for record in page.records {
            if is_so(&record)? {
                transaction = transaction.delete(record.key, Expect::Any);
                count += 1;
            }
        }
        if count > before {
            store.commit(transaction).await?;
        }
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => return Ok(count),
        }
    }
}
