//! What an ACME server issued, once it is known to be what was ordered.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use model::Timestamp;
use proxy::tls::Identity;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Largest certificate chain with its key, bytes of PEM.
pub(super) const PEM_BYTES_MAX: usize = 256 * 1024;
/// Most certificates of a chain.
const CHAIN_MAX: usize = 10;
/// How far ahead of ours the clock of an authority may be.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(300);

/// A certificate with its key, for one name.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) identity: Identity,
    pub(super) not_before: Timestamp,
    /// The first moment at which it does not count any more.
    pub(super) not_after: Timestamp,
}

impl Issued {
    /// Reads chain and key, and holds them against the order: the key is the
    /// certificate's, it is for this name and no other, and it has not ended.
    ///
    /// # Errors
    /// What is not as it was ordered.
    pub(super) fn check(chain: &[u8], key: &[u8], name: &str, now: Timestamp) -> anyhow::Result<Self> {
        ensure!(chain.len() <= PEM_BYTES_MAX, "expected at most {PEM_BYTES_MAX} bytes of certificates");
        let identity = Identity::from_pem("what was issued", chain, key)?;
        ensure!(identity.chain.len() <= CHAIN_MAX, "expected at most {CHAIN_MAX} certificates");
        CertifiedKey::from_der(
            identity.chain.clone(),
            identity.key.clone_key(),
            &aws_lc_rs::default_provider(),
        )
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                anyhow::anyhow!("the certificate is for another key than the order's")
            }
            other => anyhow::anyhow!("the certificate cannot be used: {other}"),
        })?;
        let leaf = identity.chain.first().context("no certificate")?;
        let (_, leaf) = X509Certificate::from_der(leaf).context("the certificate cannot be read")?;
        let names = leaf.subject_alternative_name().context("the certificate's names cannot be read")?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let fits = |found: &GeneralName<'_>| matches!(found, GeneralName::DNSName(found) if found.eq_ignore_ascii_case(name));
        if names.is_empty() || !names.iter().all(fits) {
            let found: Vec<String> = names.iter().map(ToString::to_string).collect();
            bail!("expected a certificate for {name} alone, found one for [{}]", found.join(", "));
        }
        ensure!(!leaf.is_ca(), "the certificate is an authority's");
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let not_before = Timestamp::from_unix_seconds(seconds(leaf.validity().not_before.timestamp()));
        // `notAfter` is the last good second (RFC 5280 §4.1.2.5).
        let last = seconds(leaf.validity().not_after.timestamp());
        let not_after = Timestamp::from_unix_seconds(last.saturating_add(1));
        ensure!(not_after > now, "the certificate has ended");
        ensure!(not_before <= now.plus(CLOCKS_APART_MAX), "the certificate begins in the future");
        ensure!(not_before < not_after, "the certificate ends before it begins");
        Ok(Self { identity, not_before, not_after })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        params
    }

    /// What is said about a certificate of these parameters.
    fn said(params: &CertificateParams, key: &KeyPair, other: Option<&KeyPair>) -> String {
        let chain = params.self_signed(key).unwrap().pem();
        let key = other.unwrap_or(key).serialize_pem();
        // 2026-02-01
        let now = Timestamp::from_unix_seconds(1_769_904_000);
        match Issued::check(chain.as_bytes(), key.as_bytes(), "shop.example.org", now) {
            Ok(issued) => issued.not_after.since(now).as_secs().to_string(),
            Err(fault) => format!("{fault:#}"),
        }
    }

    #[test]
    fn only_what_was_ordered_counts() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let shop = || params(&["shop.example.org"]);
        let mut ended = shop();
        ended.not_after = date_time_ymd(2026, 1, 31);
        let mut authority = shop();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut future = shop();
        future.not_before = date_time_ymd(2026, 2, 2);
        let table = [
            (shop(), None, "5097601"),
            (params(&["SHOP.example.org"]), None, "5097601"),
            (shop(), Some(&other), "the certificate is for another key than the order's"),
            (params(&["api.example.org"]), None, "expected a certificate for shop.example.org alone"),
            (
                params(&["shop.example.org", "evil.example"]),
                None,
                "expected a certificate for shop.example.org alone",
            ),
            (params(&["*.example.org"]), None, "expected a certificate for shop.example.org alone"),
            (
                params(&["shop.example.org", "10.0.0.1"]),
                None,
                "expected a certificate for shop.example.org alone",
            ),
            (params(&[]), None, "expected a certificate for shop.example.org alone, found one for []"),
            (ended, None, "the certificate has ended"),
            (future, None, "the certificate begins in the future"),
            (authority, None, "the certificate is an authority's"),
        ];
        for (number, (params, other, wanted)) in table.iter().enumerate() {
            let said = said(params, &key, *other);
            assert!(said.starts_with(wanted), "{number}: {said}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = params(&["shop.example.org"]).self_signed(&key).unwrap().pem();
        let endless = good.repeat(CHAIN_MAX + 1);
        for chain in
            ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &endless]
        {
            let now = Timestamp::from_unix_seconds(1_769_904_000);
            let checked =
                Issued::check(chain.as_bytes(), key.serialize_pem().as_bytes(), "shop.example.org", now);
            assert!(checked.is_err(), "{chain}");
        }
    }
}
