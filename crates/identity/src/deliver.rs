//! Delivery: logout tokens to the clients that asked for them.

use std::future::Future;
use std::pin::Pin;

/// A running delivery.
pub type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Posts a form to a client, bounded in time and size and without following redirects.
/// The real one stands over the guarded client of the gateway.
pub trait Deliver: Send + Sync {
    /// POST with `application/x-www-form-urlencoded`. Any status but 200 and 204 is a
    /// failure, of which the text tells the operator.
    fn deliver(&self, url: String, form: String) -> Delivery<'_>;

    /// Why nothing is ever delivered to an address, where its text tells: it is not registered then.
    fn refusal(&self, url: &str) -> Option<String> {
        let _ = url;
        None
    }
}

/// Delivers nothing, and says so: for realms without back-channel logout.
#[derive(Clone, Copy, Debug)]
pub struct NoDelivery;

impl Deliver for NoDelivery {
    fn deliver(&self, url: String, _: String) -> Delivery<'_> {
        Box::pin(async move { Err(format!("{url}: this process sends no outbound requests")) })
    }
}
