//! Listeners and their certificates.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use keys::LocalCa;
use model::{Switch, Timestamp};
use proxy::ListenerKey;
use proxy::address::AddressList;
use proxy::tls::{
    ClientCertificates, Identity, ServerOffer, ServerTls, ServerTlsSettings, TlsVersion,
    certificates_from_pem, check_authorities, check_revocations, revocations_from_pem,
};
use proxy::world::{ListenerSettings, Speaks, find_listener};
use rustls_pki_types::CertificateDer;

use super::{Parts, Reading, read};
use crate::config::{self, Configuration, HostMatch, Listener, ListenerTls};

/// What listeners are made from.
pub(super) struct Sources<'s> {
    pub(super) configuration: &'s Configuration,
    /// The local authority, where a listener needs it.
    pub(super) ca: Option<&'s LocalCa>,
    pub(super) parts: &'s Parts,
    pub(super) now: Timestamp,
    /// How files are read, and what is served until now.
    pub(super) reading: &'s Reading<'s>,
}

impl Sources<'_> {
    fn local(&self) -> anyhow::Result<&LocalCa> {
        self.ca.context("the local certificate authority was not opened")
    }

    /// What a listener was until now.
    pub(super) fn before(&self, key: ListenerKey) -> Option<&ListenerSettings> {
        find_listener(&self.reading.before()?.listeners, key)
    }
}

/// A listener, with its certificates read or issued.
///
/// # Errors
/// A file cannot be used, and nothing of before may stay in its place; or there is nothing yet that
/// issues its certificate.
pub(super) fn listener(
    listener: &Listener,
    key: ListenerKey,
    sources: &Sources<'_>,
) -> anyhow::Result<ListenerSettings> {
    let before = sources.before(key).and_then(|settings| settings.tls.as_ref());
    let tls = match &listener.tls {
        Some(tls) if Switch::MutualTls.is_off() && matches!(tls.certificates, config::Certificates::Mesh) => {
            Ok(None)
        }
        Some(tls) => server(tls, listener, sources, before)
            .map(Some)
            .with_context(|| format!("TLS of listener {}", listener.address)),
        None => Ok(None),
    };
    let tls = sources.reading.or_before(tls, |_| before.cloned().map(Some))?;
    let senders = AddressList::new(listener.proxy_protocol.iter().copied());
    let proxy_protocol = (!listener.proxy_protocol.is_empty()).then(|| senders.into());
    let name = || Bytes::from(listener.to.clone().unwrap_or_default());
    Ok(ListenerSettings {
        address: key.address,
        ordinal: key.ordinal,
        closing: false,
        tls,
        http2_cleartext: true,
        proxy_protocol,
        speaks: match listener.speaks {
            config::Speaks::Http => Speaks::Http,
            config::Speaks::Tcp => Speaks::Opaque(name()),
            config::Speaks::Detect => Speaks::Either(name()),
        },
        takes_cleartext: listener.tls.as_ref().is_some_and(|tls| tls.plain_text),
    })
}

/// Each part by itself: of one that cannot be used, what it was before stays.
fn server(
    tls: &ListenerTls,
    listener: &Listener,
    sources: &Sources<'_>,
    before: Option<&ServerTls>,
) -> anyhow::Result<ServerTls> {
    let Sources { reading, parts, .. } = *sources;
    let made_of = before.map(ServerTls::settings);
    let identities = identities(&tls.certificates, sources, made_of)?;
    // A certificate for another name would only be refused by the client.
    let strict_names = matches!(tls.certificates, config::Certificates::Acme(_));
    let client = match &tls.client {
        None if listener.asks_clients() => ClientCertificates::Verified(parts.mesh.member()?.clients()?),
        None => ClientCertificates::None,
        Some(client) => {
            let roots = client_roots(&client.authorities, sources, made_of)?;
            if client.required {
                ClientCertificates::Required(roots)
            } else {
                ClientCertificates::Optional(roots)
            }
        }
    };
    let version_min = match tls.version_min {
        config::TlsVersion::Tls12 => TlsVersion::Tls12,
        config::TlsVersion::Tls13 => TlsVersion::Tls13,
    };
    let lists = tls.client.iter().flat_map(|client| &client.revocations).enumerate();
    let revocations = lists.map(|(place, path)| {
        let before = made_of.and_then(|before| before.revocations.get(place));
        let name = path.display().to_string();
        let list = read(path).and_then(|pem| Ok(revocations_from_pem(&name, &pem)?));
        reading.part(list, before, |list| check_revocations(list).context(name))
    });
    let revocations = revocations.collect::<anyhow::Result<_>>()?;
    let offers = match listener.speaks {
        config::Speaks::Tcp => ServerOffer::Nothing,
        config::Speaks::Http | config::Speaks::Detect => ServerOffer::Http,
    };
    let settings = ServerTlsSettings { identities, strict_names, client, version_min, offers, revocations };
    let tls = ServerTls::renew(&settings, before)?;
    Ok(if strict_names { tls.with_challenges(&parts.process.challenges) } else { tls })
}

fn identities(
    certificates: &config::Certificates,
    sources: &Sources<'_>,
    before: Option<&ServerTlsSettings>,
) -> anyhow::Result<Vec<Identity>> {
    let Sources { configuration, parts, now, reading, .. } = *sources;
    let before = |place: usize| before.and_then(|before| before.identities.get(place));
    Ok(match certificates {
        config::Certificates::Local => {
            let issue = || {
                let names = local_names(configuration);
                let leaf = sources.local()?.server_certificate(&names, now, parts.random.as_ref())?;
                let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.key_pem.expose().as_bytes());
                Ok(Identity::from_pem("the local certificate", chain, key)?)
            };
            vec![reading.or_before(issue(), |_| before(0).cloned())?]
        }
        config::Certificates::Files(files) => {
            let each = files.iter().enumerate();
            each.map(|(place, files)| identity(files, before(place), reading)).collect::<Result<_, _>>()?
        }
        config::Certificates::Acme(acme) => parts.acme.identities(acme),
        config::Certificates::Mesh => vec![parts.mesh.member()?.identity()],
    })
}

/// A certificate with its key, out of files; or what they held `before`.
pub(super) fn identity(
    files: &config::CertificateFiles,
    before: Option<&Identity>,
    reading: &Reading<'_>,
) -> anyhow::Result<Identity> {
    let name = files.certificate.display().to_string();
    let load = || Ok(Identity::from_pem(&name, &read(&files.certificate)?, &read(&files.key)?)?);
    reading.part(load(), before, |identity| identity.check().context(name.clone()))
}

/// Authorities out of a file; or those that it held `before`.
pub(super) fn authorities(
    path: &Path,
    before: Option<&Vec<CertificateDer<'static>>>,
    reading: &Reading<'_>,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = path.display().to_string();
    let roots = read(path).and_then(|pem| Ok(certificates_from_pem(&name, &pem)?));
    reading.part(roots, before, |roots| check_authorities(roots).context(name))
}

/// Who may have issued clients' certificates.
fn client_roots(
    of: &config::ClientAuthorities,
    sources: &Sources<'_>,
    before: Option<&ServerTlsSettings>,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let before = before.and_then(|before| match &before.client {
        ClientCertificates::Optional(roots) | ClientCertificates::Required(roots) => Some(roots),
        ClientCertificates::None | ClientCertificates::Verified(_) => None,
    });
    match of {
        config::ClientAuthorities::Local => {
            let pem = sources.local().map(LocalCa::certificate_pem);
            let roots = pem.and_then(|pem| Ok(certificates_from_pem("the local authority", pem.as_bytes())?));
            sources.reading.or_before(roots, |_| before.cloned())
        }
        config::ClientAuthorities::File(path) => authorities(path, before, sources.reading),
    }
}

/// Whom the local certificate is for: the hosts of the routes and this machine.
fn local_names(configuration: &Configuration) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for route in &configuration.routes {
        let name = match &route.matches.host {
            HostMatch::Any => continue,
            HostMatch::Exact(host) => host.clone(),
            HostMatch::Wildcard(host) => format!("*.{host}"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
