//! The partners' certificates: an authority that the gateway trusts for clients, the
//! warehouse's certificate from it, and the same name from an impostor's authority.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::client::ClientCertificate;

/// The warehouse's SPIFFE ID.
pub(crate) const WAREHOUSE: &str = "spiffe://partners.example/warehouse";

/// The authority and two certificates that claim to be the warehouse.
pub(crate) struct Partners {
    authority: String,
    /// By the authority.
    pub(crate) warehouse: ClientCertificate,
    /// By somebody else's.
    pub(crate) impostor: ClientCertificate,
}

impl Partners {
    /// Makes all of it anew.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let (authority, warehouse) = authority_and_warehouse()?;
        let (_, impostor) = authority_and_warehouse()?;
        Ok(Self { authority, warehouse, impostor })
    }

    /// The authority's certificate as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

fn authority_and_warehouse() -> anyhow::Result<(String, ClientCertificate)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "The shop's partners");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "warehouse");
    params.subject_alt_names = vec![SanType::URI(WAREHOUSE.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok((authority.pem(), ClientCertificate { chain: certificate.pem(), key: key.serialize_pem() }))
}
