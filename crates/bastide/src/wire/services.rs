//! Upstream services.

use std::time::Duration;

use proxy::tls::{ClientTls, ClientTlsSettings, Identity, certificates_from_pem};
use proxy::upstream::{Eject, EndpointSettings, Protocol, ServiceSettings, Timeouts};

use super::read;
use crate::config::{self, Service};

/// No failures are enough.
const NEVER: Eject = Eject { failures: 0, duration: Duration::ZERO };

/// A service, with its certificates read.
pub(super) fn settings(service: &Service) -> anyhow::Result<ServiceSettings> {
    let endpoints = service.endpoints.iter().map(|endpoint| EndpointSettings {
        tls: endpoint.tls,
        host: endpoint.host.clone(),
        port: endpoint.port,
    });
    let secure = service.endpoints.iter().any(|endpoint| endpoint.tls);
    Ok(ServiceSettings {
        name: service.name.clone(),
        endpoints: endpoints.collect(),
        protocol: match service.protocol {
            config::Protocol::Http1 => Protocol::Http1,
            config::Protocol::Http2 => Protocol::Http2,
            config::Protocol::Negotiated => Protocol::Auto,
        },
        tls: if secure { Some(tls(service)?) } else { None },
        eject: service
            .eject
            .map_or(NEVER, |eject| Eject { failures: eject.failures, duration: eject.duration }),
        connections_per_core_max: service.connections_per_core_max,
    })
}

fn tls(service: &Service) -> anyhow::Result<ClientTls> {
    let roots = match &service.tls.authorities {
        Some(path) => certificates_from_pem(&path.display().to_string(), &read(path)?)?,
        None => Vec::new(),
    };
    let identity = match &service.tls.client {
        Some(files) => Some(Identity::from_pem(
            &files.certificate.display().to_string(),
            &read(&files.certificate)?,
            &read(&files.key)?,
        )?),
        None => None,
    };
    Ok(ClientTls::build(&ClientTlsSettings {
        roots,
        identity,
        server_name: service.tls.server_name.clone(),
    })?)
}

/// How long to wait for an upstream.
pub(super) fn timeouts(timeouts: &config::Timeouts) -> Timeouts {
    Timeouts {
        connect: timeouts.connect,
        first_byte: timeouts.first_byte,
        idle: timeouts.idle,
        total: timeouts.total,
    }
}
