//! Hears what other processes committed, and asks in case it was not told.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc;

use super::session::{self, ANSWER_WITHIN};
use super::{PostgresSettings, Shared, schema};
use crate::error::Error;

/// How often the last version is asked for: a notice that got lost is made up for then.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Before a broken connection is made anew.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Until the store is gone.
pub(super) async fn listen(settings: PostgresSettings, shared: Weak<Shared>) {
    while shared.strong_count() > 0 {
        if let Err(error) = hear(&settings, &shared).await {
            if let Some(held) = shared.upgrade() {
                held.found(Some(&error));
            }
            tracing::debug!(%error, "the connection that listens for changes broke; it is reopened");
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn hear(settings: &PostgresSettings, shared: &Weak<Shared>) -> Result<(), Error> {
    let (told, mut notices) = mpsc::unbounded_channel();
    let client = session::connect(settings, Some(told)).await?;
    let listen = format!("LISTEN {}", schema::CHANNEL);
    let listening = session::within(ANSWER_WITHIN, client.batch_execute(&listen)).await?;
    listening.map_err(|error| schema::fault(&error))?;
    loop {
        // What was committed before the first notice could come is asked for, too.
        let asking = client.query_one("SELECT revision FROM bastide.store_state", &[]);
        let state = session::within(ANSWER_WITHIN, asking).await?.and_then(|row| row.try_get(0));
        let state: i64 = match state {
            Ok(state) => state,
            // One connection that broke says nothing of the next.
            Err(error) if schema::ends(&error, &client) => return Ok(()),
            Err(error) => return Err(schema::fault(&error)),
        };
        let Some(held) = shared.upgrade() else { return Ok(()) };
        held.found(None);
        held.publish(u64::try_from(state).unwrap_or(0));
        drop(held);
        let hearing = async {
            while let Some(revision) = notices.recv().await {
                match shared.upgrade() {
                    Some(held) => held.publish(revision),
                    None => return,
                }
            }
        };
        // Ends when the connection does, or when it is time to ask.
        if tokio::time::timeout(ASK_EVERY, hearing).await.is_ok() {
            return Ok(());
        }
    }
}
