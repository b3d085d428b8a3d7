//! Listeners and their certificates.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use gateway::serve::TrustedProxies;
use gateway::step::challenge::HttpsRedirect;
use keys::LocalCa;
use model::{Switch, Timestamp};
use proxy::ListenerKey;
use proxy::address::AddressList;
use proxy::tls::{
    ClientCertificates, Identity, ServerOffer, ServerTls, ServerTlsSettings, TlsVersion,
    certificates_from_pem, revocations_from_pem,
};
use proxy::world::{ListenerSettings, Speaks, keyed};

use super::{Parts, read};
use crate::config::{self, Configuration, HostMatch, Listener, ListenerTls};

/// The TLS of a listener that has some, with its certificates read or issued.
///
/// # Errors
/// A file cannot be used, or there is nothing yet that issues its certificate.
pub(super) fn server(
    listener: &Listener,
    configuration: &Configuration,
    from: (Option<&LocalCa>, &Parts, Timestamp),
    before: Option<&ServerTls>,
) -> anyhow::Result<Option<ServerTls>> {
    match &listener.tls {
        Some(tls) if Switch::MutualTls.is_off() && matches!(tls.certificates, config::Certificates::Mesh) => {
            Ok(None)
        }
        Some(tls) => build(tls, listener.speaks, configuration, from, before)
            .map(Some)
            .with_context(|| format!("TLS of listener {}", listener.address)),
        None => Ok(None),
    }
}

/// A listener.
pub(super) fn listener(listener: &Listener, tls: Option<ServerTls>) -> ListenerSettings {
    let senders = AddressList::new(listener.proxy_protocol.iter().copied());
    let proxy_protocol = (!listener.proxy_protocol.is_empty()).then(|| senders.into());
    let name = || Bytes::from(listener.to.clone().unwrap_or_default());
    ListenerSettings {
        address: listener.address,
        tls,
        http2_cleartext: true,
        proxy_protocol,
        speaks: match listener.speaks {
            config::Speaks::Http => Speaks::Http,
            config::Speaks::Tcp => Speaks::Opaque(name()),
            config::Speaks::Detect => Speaks::Either(name()),
        },
        takes_cleartext: listener.tls.as_ref().is_some_and(|tls| tls.plain_text),
    }
}

/// The listeners that are for one service.
pub(super) fn listener_services(
    configuration: &Configuration,
    listeners: &[ListenerSettings],
) -> Vec<(ListenerKey, Arc<str>)> {
    let keys = keyed(listeners).map(|(key, _)| key);
    let each = configuration.listeners.iter().zip(keys);
    each.filter_map(|(listener, key)| Some((key, listener.to.as_deref()?.into()))).collect()
}

/// The trusted proxies of the listeners that have some.
pub(super) fn trusted_proxies(
    configuration: &Configuration,
    listeners: &[ListenerSettings],
) -> TrustedProxies {
    let by_listener = configuration
        .listeners
        .iter()
        .zip(keyed(listeners))
        .filter(|(listener, _)| !listener.trusted_proxies.is_empty())
        .map(|(listener, (key, _))| (key, AddressList::new(listener.trusted_proxies.iter().copied())));
    TrustedProxies { by_listener: by_listener.collect() }
}

/// The listeners that send everybody to https.
pub(super) fn https_redirects(
    configuration: &Configuration,
    listeners: &[ListenerSettings],
) -> Vec<HttpsRedirect> {
    let keys = keyed(listeners).map(|(key, _)| key);
    let each = configuration.listeners.iter().zip(keys);
    each.filter_map(|(listener, key)| Some(HttpsRedirect { listener: key, port: listener.https_redirect? }))
        .collect()
}

fn build(
    tls: &ListenerTls,
    speaks: config::Speaks,
    configuration: &Configuration,
    (ca, parts, now): (Option<&LocalCa>, &Parts, Timestamp),
    before: Option<&ServerTls>,
) -> anyhow::Result<ServerTls> {
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
