//! Logout tokens, over the hop's guarded client, as far as their realm lets them go.

use http::{HeaderMap, StatusCode};
use identity::NoDelivery;
use identity::deliver::{Deliver, Delivery};
use proxy::fetch::{FetchError, FetchRules};
use proxy::tls::{ClientTls, ClientTlsSettings, certificates_from_pem};

use super::fetch::{FETCH_TIME_MAX, post_form};
use crate::config::{BackChannel, PRIVATE_SWITCH};

/// Most bytes of an answer to a logout token.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The way to the clients of one realm.
pub struct BackChannelWay {
    settings: BackChannel,
    rules: FetchRules,
}

impl BackChannelWay {
    /// As far as the realm lets it go.
    ///
    /// # Errors
    /// The authorities cannot be read, or TLS cannot be set up.
    pub fn new(settings: &BackChannel) -> Result<Self, String> {
        let roots = settings.ca.as_ref().map(|pem| certificates_from_pem("back_channel_logout.ca", pem));
        let roots = roots.transpose().map_err(|error| error.to_string())?.unwrap_or_default();
        let tls = ClientTls::build(&ClientTlsSettings { roots, ..ClientTlsSettings::default() });
        let rules = FetchRules {
            allow_private_addresses: settings.allow_private_addresses,
            body_bytes_max: ANSWER_BYTES_MAX,
            timeout: FETCH_TIME_MAX,
            ..FetchRules::new(tls.map_err(|error| error.to_string())?)
        };
        Ok(Self { settings: settings.clone(), rules })
    }

    /// Posts a logout token: 200 and 204 are good.
    async fn tell(&self, url: &str, form: &str) -> Result<(), String> {
        match post_form(url, form.as_bytes(), HeaderMap::new(), &self.rules).await {
            Ok(reply) if matches!(reply.status, StatusCode::OK | StatusCode::NO_CONTENT) => Ok(()),
            Ok(reply) => Err(format!("{url}: expected 200 or 204, found {}", reply.status)),
            Err(FetchError::Private { host, address }) => {
                Err(format!("{host} is at {address}, which is not a public address; {PRIVATE_SWITCH}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Deliver for BackChannelWay {
    fn deliver(&self, url: String, form: String) -> Delivery<'_> {
        Box::pin(async move { self.tell(&url, &form).await })
    }

    fn refusal(&self, url: &str) -> Option<String> {
        self.settings.refusal(url)
    }
}

/// For commands: clients are registered as by the process that tells them, which does that later.
pub struct DeliveredElsewhere(pub BackChannel);

impl Deliver for DeliveredElsewhere {
    fn deliver(&self, url: String, form: String) -> Delivery<'_> {
        const NOWHERE: &NoDelivery = &NoDelivery;
        NOWHERE.deliver(url, form)
    }

    fn refusal(&self, url: &str) -> Option<String> {
        self.0.refusal(url)
    }
}
