//! What tests in several modules need.

use std::sync::Arc;
use std::time::Duration;

use keys::SystemRandom;
use model::{Clock, Timestamp};

use crate::mail::MailTransport;
use crate::realm::{Realm, World};
use crate::settings::RealmSettings;

/// A clock that stands still.
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A realm in memory, which tells nobody of anything.
pub(crate) async fn realm(mail_transport: Option<Arc<dyn MailTransport>>) -> Arc<Realm> {
    let world = World {
        store: store::Store::in_memory(Arc::new(Still)).unwrap(),
        clock: Arc::new(Still),
        random: Arc::new(SystemRandom::new()),
        deliver: Arc::new(crate::NoDelivery),
        observer: Arc::new(crate::NoObserver),
        mail_transport,
    };
    Realm::open(RealmSettings::new("shop", "https://id.example.org"), world).await.unwrap()
}
