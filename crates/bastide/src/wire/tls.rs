//! Listeners and their certificates.

use anyhow::Context;
use bytes::Bytes;
use keys::LocalCa;
use model::{Switch, Timestamp};
use proxy::ListenerKey;
use proxy::address::AddressList;
use proxy::tls::{
    ClientCertificates, Identity, ServerOffer, ServerTls, ServerTlsSettings, TlsVersion,
    certificates_from_pem, revocations_from_pem,
};
use proxy::world::{ListenerSettings, Speaks, find_listener};

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
        Some(tls) => server(tls, listener.speaks, sources, before)
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

fn server(
    tls: &ListenerTls,
    speaks: config::Speaks,
    sources: &Sources<'_>,
    before: Option<&ServerTls>,
) -> anyhow::Result<ServerTls> {
    let Sources { configuration, ca, parts, now, .. } = *sources;
    let local = || ca.context("the local certificate authority was not opened");
    let identities = match &tls.certificates {
        config::Certificates::Local => {
            let leaf =
                local()?.server_certificate(&local_names(configuration), now, parts.random.as_ref())?;
            let key = leaf.key_pem.expose();
            vec![Identity::from_pem("the local certificate", leaf.chain_pem.as_bytes(), key.as_bytes())?]
        }
        config::Certificates::Files(files) => files
            .iter()
            .map(|files| {
                let name = files.certificate.display().to_string();
                Ok(Identity::from_pem(&name, &read(&files.certificate)?, &read(&files.key)?)?)
            })
            .collect::<anyhow::Result<_>>()?,
        config::Certificates::Acme(acme) => parts.acme.identities(acme),
        config::Certificates::Mesh => vec![parts.mesh.member()?.identity()],
    };
    // A certificate for another name would only be refused by the client.
    let strict_names = matches!(tls.certificates, config::Certificates::Acme(_));
    let client = match &tls.client {
        None if matches!(tls.certificates, config::Certificates::Mesh) => {
            ClientCertificates::Verified(parts.mesh.member()?.clients()?)
        }
        None => ClientCertificates::None,
        Some(client) => {
            let roots = match &client.authorities {
                config::ClientAuthorities::Local => {
                    certificates_from_pem("the local authority", local()?.certificate_pem().as_bytes())?
                }
                config::ClientAuthorities::File(path) => {
                    certificates_from_pem(&path.display().to_string(), &read(path)?)?
                }
            };
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
    let mut revocations = Vec::new();
    for path in tls.client.iter().flat_map(|client| &client.revocations) {
        revocations.extend(revocations_from_pem(&path.display().to_string(), &read(path)?)?);
    }
    let offers = match speaks {
        config::Speaks::Tcp => ServerOffer::Nothing,
        config::Speaks::Http | config::Speaks::Detect => ServerOffer::Http,
    };
    let settings = ServerTlsSettings { identities, strict_names, client, version_min, offers, revocations };
    let tls = ServerTls::renew(&settings, before)?;
    Ok(if strict_names { tls.with_challenges(&parts.process.challenges) } else { tls })
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
