//! An authority that was given, tried before anything rests on it: what will be issued below it has
//! to verify everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom;
use keys::svid::{AuthorityTerms, WorkloadKey, X509Authority};
use keys::{Algorithm, LocalSigner, Signer};
use model::{SpiffeId, Timestamp};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Error;
use crate::settings::Given;
use crate::verify::Verifier;

/// How long the certificate lasts that is made to be verified.
const TRIAL_LIFETIME: Duration = Duration::from_secs(60);

impl Given {
    /// Whether workloads of this trust domain can be vouched for by issuing authorities below it.
    /// Whether its time has come, or is over, is not asked.
    ///
    /// # Errors
    /// [`Error::Settings`], with what is wrong with which certificate.
    pub fn check(&self, trust_domain: &str, random: &dyn SecureRandom) -> Result<(), Error> {
        let refused = |why: String| Error::Settings(why);
        let (mut from, mut until) = (Timestamp::from_unix_seconds(0), None::<Timestamp>);
        for (place, der) in self.chain.iter().enumerate() {
            let number = place + 1;
            let unreadable = |_| refused(format!("certificate {number} of the file is not X.509"));
            let (_, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
            let constraints = certificate.basic_constraints().ok().flatten();
            let length = constraints.and_then(|constraints| constraints.value.path_len_constraint);
            if let Some(found) = length.filter(|length| usize::try_from(*length).is_ok_and(|it| it < number))
            {
                return Err(refused(format!(
                    "certificate {number} of the file has pathlen {found}: it takes {number} or more, or none, \
                     because the mesh's issuing authorities stand below it"
                )));
            }
            let moment = |seconds: i64| Timestamp::from_unix_seconds(u64::try_from(seconds).unwrap_or(0));
            from = from.max(moment(certificate.validity().not_before.timestamp()));
            let end = moment(certificate.validity().not_after.timestamp());
            until = Some(until.map_or(end, |until| until.min(end)));
        }
        match until.filter(|until| from < *until) {
            Some(until) => self.try_out(trust_domain, (from, until), random),
            None => Err(refused("the certificates of the file are valid at no time together".to_owned())),
        }
    }

    /// Makes an issuing authority and a workload's certificate, and verifies that by the last
    /// certificate alone, as others will.
    fn try_out(
        &self,
        trust_domain: &str,
        (from, until): (Timestamp, Timestamp),
        random: &dyn SecureRandom,
    ) -> Result<(), Error> {
        let refused = |why: String| {
            Error::Settings(format!("what is issued below this certificate does not verify: {why}"))
        };
        let Some((own, anchor)) = self.chain.first().zip(self.chain.last()) else {
            return Err(Error::Settings("the file holds no certificate".to_owned()));
        };
        let signer = || -> Result<Arc<dyn Signer>, Error> {
            Ok(Arc::new(LocalSigner::generate(Algorithm::Es256, random)?.0))
        };
        let terms = AuthorityTerms { trust_domain, from, until, signs_authorities: false };
        let given = X509Authority::from_parts(own.clone(), Arc::clone(&self.signer))?;
        let issuing = given.subordinate(signer()?, &terms, random)?;
        let id = format!("spiffe://{trust_domain}/trial").parse::<SpiffeId>();
        let id = id.map_err(|error| refused(error.to_string()))?;
        let svid = issuing.issue(&id, &WorkloadKey::of(signer()?)?, from, TRIAL_LIFETIME, random)?;

        let anchors = BTreeMap::from([(trust_domain.to_owned(), vec![anchor.clone()])]);
        let verifier = Verifier::new(&anchors, Some(vec![id]), &Arc::new(provider::default_provider()))?;
        let above = self.chain.iter().take(self.chain.len() - 1).map(Vec::as_slice);
        let above: Vec<CertificateDer<'_>> =
            [issuing.certificate()].into_iter().chain(above).map(CertificateDer::from).collect();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(from.unix_seconds()));
        let verified = verifier.verify_client_cert(&svid.certificate.into(), &above, time);
        verified.map(drop).map_err(|error| refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use keys::SystemRandom;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

    use super::*;

    /// A root, and an intermediate below it with this constraint.
    struct Organisation {
        root: Vec<u8>,
        root_key: KeyPair,
        intermediate: Vec<u8>,
        key: KeyPair,
    }

    fn authority(length: BasicConstraints) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(length);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn organisation(of_root: BasicConstraints, of_intermediate: BasicConstraints) -> Organisation {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = authority(of_root);
        params.distinguished_name.push(rcgen::DnType::CommonName, "root");
        let root = params.self_signed(&root_key).unwrap().der().to_vec();
        let mut below = authority(of_intermediate);
        below.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
        let intermediate = below.signed_by(&key, &Issuer::from_params(&params, &root_key)).unwrap();
        Organisation { root, root_key, intermediate: intermediate.der().to_vec(), key }
    }

    fn check(chain: Vec<Vec<u8>>, key: &KeyPair) -> String {
        let signer = Arc::new(LocalSigner::from_pkcs8(&key.serialize_der()).unwrap());
        let checked = Given { chain, signer }.check("shop.example", &SystemRandom::new());
        checked.map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn what_nobody_could_verify_is_refused_and_what_all_can_is_taken() {
        use BasicConstraints::{Constrained, Unconstrained};
        let good = organisation(Unconstrained, Unconstrained);
        let both = |it: &Organisation| vec![it.intermediate.clone(), it.root.clone()];
        assert_eq!(check(both(&good), &good.key), "good");
        assert_eq!(check(vec![good.root.clone()], &good.root_key), "good");
        assert_eq!(check(vec![good.intermediate.clone()], &good.key), "good", "it is the anchor itself");
        let just = organisation(Constrained(2), Constrained(1));
        assert_eq!(check(both(&just), &just.key), "good");

        for (of_root, of_intermediate, expected) in [
            (Unconstrained, Constrained(0), "certificate 1 of the file has pathlen 0: it takes 1 or more"),
            (Constrained(1), Unconstrained, "certificate 2 of the file has pathlen 1: it takes 2 or more"),
        ] {
            let it = organisation(of_root, of_intermediate);
            let said = check(both(&it), &it.key);
            assert!(said.starts_with(expected), "{said}");
        }
        // As the anchor itself: our own proxies would take what others refuse.
        let usual = organisation(Unconstrained, Constrained(0));
        let said = check(vec![usual.intermediate.clone()], &usual.key);
        assert!(said.starts_with("certificate 1 of the file has pathlen 0"), "{said}");
        // Under another's root.
        let said = check(vec![good.intermediate.clone(), just.root.clone()], &good.key);
        assert!(said.contains("does not verify"), "{said}");
    }
}
