//! The bundles of other trust domains: fetched from their endpoints as often as they ask,
//! and kept while an endpoint does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::mesh::bundle::{BUNDLE_BYTES_MAX, Bundle};
use ::mesh::verify::Verifier;
use ::mesh::workload_api::Foreign;
use proxy::fetch::{FetchRules, fetch};
use proxy::tls::{ClientTls, ClientTlsSettings, ServerVerifier, certificates_from_pem};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Partner;

/// For one document, redirects included.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// An endpoint is asked no more often than this, whatever it says, and no more seldom.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// The first wait after a failure; it doubles up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Keeps the bundles of these domains, of which those `before` were kept until now. Ends when it is
/// aborted.
pub(super) async fn keep(
    partners: Vec<Partner>,
    before: Vec<Partner>,
    foreign: Arc<watch::Sender<Arc<Foreign>>>,
) {
    foreign.send_modify(|current| *current = Arc::new(known(current, &before, &partners)));
    let mut tasks = JoinSet::new();
    for partner in partners.into_iter().filter(|partner| partner.endpoint.is_some()) {
        tasks.spawn(follow(partner, Arc::clone(&foreign)));
    }
    while tasks.join_next().await.is_some() {}
    std::future::pending().await
}

/// The bundles of these domains before anything else was fetched.
fn known(current: &Foreign, before: &[Partner], partners: &[Partner]) -> Foreign {
    let of_file = |bundle: &Bundle| before.iter().any(|partner| partner.bundle.as_ref() == Some(bundle));
    let one = |partner: &Partner| {
        // What was fetched of a partner that stays is kept, and its file counts until then, as it is
        // now: whoever is no longer in it is no longer trusted. Without an endpoint it is all there is.
        let current = current.get(&partner.trust_domain);
        let fetched = current.filter(|bundle| partner.endpoint.is_some() && !of_file(bundle));
        let bundle = fetched.or(partner.bundle.as_ref())?;
        Some((partner.trust_domain.clone(), bundle.clone()))
    };
    partners.iter().filter_map(one).collect()
}

async fn follow(partner: Partner, foreign: Arc<watch::Sender<Arc<Foreign>>>) {
    let mut failures = 0_u32;
    loop {
        let known = foreign.borrow().get(&partner.trust_domain).cloned();
        let pause = match fetched(&partner, known.as_ref()).await {
            Ok(bundle) => {
                failures = 0;
                let pause = bundle.refresh.clamp(REFRESH.0, REFRESH.1);
                if known.as_ref() != Some(&bundle) {
                    let (name, sequence) = (partner.trust_domain.as_str(), bundle.sequence);
                    tracing::info!(
                        trust_domain = name,
                        sequence,
                        "mesh: another domain's bundle has changed"
                    );
                    foreign.send_modify(|current| {
                        let mut next: Foreign = BTreeMap::clone(current);
                        next.insert(name.to_owned(), bundle);
                        *current = Arc::new(next);
                    });
                }
                pause
            }
            Err(fault) => {
                let name = partner.trust_domain.as_str();
                tracing::warn!(
                    trust_domain = name,
                    fault,
                    "mesh: a bundle cannot be fetched; the last one stays in use"
                );
                failures = failures.saturating_add(1);
                RETRY.0.saturating_mul(1 << failures.min(6)).min(RETRY.1)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn fetched(partner: &Partner, known: Option<&Bundle>) -> Result<Bundle, String> {
    let url = partner.endpoint.as_deref().unwrap_or_default();
    let rules = FetchRules {
        allow_private_addresses: partner.allow_private_addresses,
        body_bytes_max: BUNDLE_BYTES_MAX as u64,
        timeout: FETCH_TIME_MAX,
        // SPIFFE Federation §5.2.1: a bundle comes from the endpoint itself.
        redirects_max: 0,
        ..FetchRules::new(tls(partner, known)?)
    };
    let found = fetch(url, &rules).await.map_err(|error| error.to_string())?;
    Bundle::parse(&partner.trust_domain, &found.body).map_err(|error| error.to_string())
}

/// How the endpoint proves itself: by its host name (`https_web`), or by its SPIFFE ID under
/// what is trusted so far (`https_spiffe`).
fn tls(partner: &Partner, known: Option<&Bundle>) -> Result<ClientTls, String> {
    let mut settings = ClientTlsSettings::default();
    if let Some((path, pem)) = &partner.ca {
        let roots = certificates_from_pem(&path.display().to_string(), pem);
        settings.roots = roots.map_err(|error| error.to_string())?;
    }
    if let Some(id) = &partner.endpoint_id {
        let own = known.filter(|known| known.trust_domain == id.trust_domain());
        let anchors = own.map(|own| own.x509.clone()).unwrap_or_default();
        let mark = [id.as_str().as_bytes(), &anchors.concat()].concat();
        let anchors = BTreeMap::from([(id.trust_domain().to_owned(), anchors)]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new(&anchors, Some(vec![id.clone()]), &provider);
        let verifier = Arc::new(verifier.map_err(|error| error.to_string())?);
        settings.verifier = Some(ServerVerifier { verifier, mark: mark.into() });
    }
    ClientTls::build(&settings).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(sequence: u64) -> Bundle {
        let (refresh, trust_domain) = (Duration::from_secs(60), "partner.example".to_owned());
        Bundle { trust_domain, x509: Vec::new(), jwt: Vec::new(), sequence, refresh }
    }

    fn partner(endpoint: Option<&str>, file: Option<u64>) -> Partner {
        Partner {
            trust_domain: "partner.example".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            endpoint_id: None,
            bundle: file.map(bundle),
            ca: None,
            allow_private_addresses: false,
        }
    }

    #[test]
    fn a_file_counts_as_it_is_now_until_something_was_fetched() {
        let there = Some("https://partner.example/bundle");
        let of = |sequence| Foreign::from([("partner.example".to_owned(), bundle(sequence))]);
        for (current, partner, expected) in [
            (Foreign::new(), partner(None, Some(1)), of(1)),
            (of(1), partner(None, Some(2)), of(2)),
            (of(2), partner(None, Some(1)), of(1)),
            (Foreign::new(), partner(there, Some(1)), of(1)),
            (of(7), partner(there, Some(1)), of(7)),
            (of(7), partner(there, None), of(7)),
            (of(7), partner(None, Some(1)), of(1)),
            (Foreign::new(), partner(there, None), Foreign::new()),
        ] {
            assert_eq!(known(&current, &[], &[partner]), expected);
        }
        assert_eq!(known(&of(7), &[], &[]), Foreign::new(), "who is no partner any more");
        // Of an endpoint that has not answered the file of before is known.
        let before = [partner(there, Some(1))];
        assert_eq!(known(&of(1), &before, &[partner(there, Some(2))]), of(2));
        assert_eq!(known(&of(1), &before, &before), of(1));
        assert_eq!(known(&of(7), &before, &[partner(there, Some(2))]), of(7));
    }
}
