//! nginx to nginx and Envoy to Envoy, each by mutual TLS with the ground's certificate.

use super::chain::Three;
use crate::bench::peer::{EXTENSIONS, Ground, ensure_envoy, nginx};
use crate::bench::server::{PROXY_CORE, Server};
use crate::process::free_port;
use anyhow::Result;
use serde_json::{Value, json};

/// One worker each, connections to the next kept, nothing spooled to disk.
pub(super) fn nginx(ground: &Ground, outbound: u16, between: u16) -> Result<Three> {
    let (folder, pki) = (ground.folder.as_path(), &ground.pki);
    let (certificate, key, authority) =
        (pki.certificate.display(), pki.key.display(), pki.authority.display());
    let common = |name: &str, next: u16| {
        format!(
            "{}  access_log off;
{}  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_max_temp_file_size 0;
",
            nginx::opening(folder, name),
            nginx::upstream_group("next", next)
        )
    };
    let service = format!(
        "{}  server {{
    listen 127.0.0.1:{between} ssl reuseport;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_client_certificate {authority};
    ssl_verify_client on;
    location / {{ proxy_pass http://next; }}
  }}
}}
",
        common("nginx-service", ground.upstream.cleartext)
    );
    let caller = format!(
        "{}  server {{
    listen 127.0.0.1:{outbound} reuseport;
    proxy_ssl_certificate {certificate};
    proxy_ssl_certificate_key {key};
    proxy_ssl_trusted_certificate {authority};
    proxy_ssl_verify on;
    proxy_ssl_name localhost;
    proxy_ssl_protocols TLSv1.3;
    location / {{ proxy_pass https://next; }}
  }}
}}
",
        common("nginx-caller", between)
    );
    let service = nginx::run(folder, "nginx-service", PROXY_CORE, &service, between)?;
    let caller = nginx::run(folder, "nginx-caller", PROXY_CORE, &caller, outbound)?;
    Ok((None, service, caller))
}

/// HTTP/2 between the two, no request ids, no headers of their own.
pub(super) fn envoy(ground: &Ground, outbound: u16, between: u16) -> Result<Three> {
    let pki = &ground.pki;
    let common = |validates: &str| {
        json!({
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{
                "certificate_chain": { "filename": pki.certificate },
                "private_key": { "filename": pki.key },
            }],
            "validation_context": {
                "trusted_ca": { "filename": pki.authority },
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": validates } }],
            },
        })
    };
    let server = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common("localhost"),
        },
    });
    let client = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "localhost",
            "common_tls_context": common("localhost"),
        },
    });
    let service = start("envoy-service", ground, between, Some(server), ground.upstream.cleartext, None)?;
    let caller = start("envoy-caller", ground, outbound, None, between, Some(client))?;
    Ok((None, service, caller))
}

fn start(
    name: &'static str,
    ground: &Ground,
    port: u16,
    server: Option<Value>,
    next: u16,
    client: Option<Value>,
) -> Result<Server> {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "bench",
            "generate_request_id": false,
            "use_remote_address": true,
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "next" } }],
            }] },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
                    "suppress_envoy_headers": true,
                },
            }],
        },
    }] });
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(next) } }] }],
        },
    });
    if let (Some(socket), Some(chain)) = (server, chain.as_object_mut()) {
        chain.insert("transport_socket".to_owned(), socket);
    }
    if let (Some(socket), Some(cluster)) = (client, cluster.as_object_mut()) {
        cluster.insert("transport_socket".to_owned(), socket);
        let options = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        } });
        cluster.insert("typed_extension_protocol_options".to_owned(), options);
    }
    let listener = json!({ "name": "in", "address": address(port), "filter_chains": [chain] });
    let text = json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } });
    let path = ground.folder.join(format!("{name}.json"));
    std::fs::write(&path, text.to_string())?;
    let (program, path) = (ensure_envoy()?.display().to_string(), path.display().to_string());
    let base = free_port()?.to_string();
    let words = [
        program.as_str(),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--base-id",
        base.as_str(),
        "--log-level",
        "warn",
        "-c",
        path.as_str(),
    ];
    Server::start(name, PROXY_CORE, &ground.folder, &words, port)
}
