//! Configurations, policies and requests of the gateway benchmark.

use super::peer::{BOTH, Ground};
use crate::process::free_port;
use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Routes, and as many policies, of the whole way.
pub(super) const ROUTES: u32 = 100;
/// Tokens that rotate in the bounded row.
pub(super) const TOKENS: u32 = 1_000;
pub(super) const ISSUER: &str = "https://id.bench.example";
pub(super) const AUDIENCE: &str = "bench";

/// A configuration on disk and where it listens.
pub(super) struct Configured {
    pub(super) path: PathBuf,
    pub(super) tls: u16,
    pub(super) cleartext: u16,
    pub(super) admin: u16,
}

/// The name of a route.
pub(super) fn route_name(number: u32) -> String {
    format!("service-{number:02}")
}

/// Two public routes, with and without TLS on either side: plain proxying.
pub(super) fn plain(ground: &Ground) -> Result<Configured> {
    let rest = format!(
        "limits: {{ connections_per_address_max: 10000 }}
routes:
  - name: both
    match: localhost{BOTH}**
    to: secure
    authenticate: none
    allow: anyone
  - name: plain
    match: localhost/**
    to: files
    authenticate: none
    allow: anyone
"
    );
    write_configuration(ground, "plain", &rest)
}

/// 100 routes with a policy each, tokens, limits per user and address.
pub(super) fn whole(ground: &Ground) -> Result<Configured> {
    let folder = ground.folder.as_path();
    let mut policies = String::new();
    let mut rest = format!(
        "authentication:
  issuers:
    - issuer: {ISSUER}
      audience: [ {AUDIENCE} ]
      jwks_file: {}
      algorithms: [ ES256 ]
roles:
  customer: {{}}
policies: {}
routes:
",
        folder.join("jwks.json").display(),
        folder.join("whole.cedar").display()
    );
    for route in 0..ROUTES {
        let name = route_name(route);
        write!(
            rest,
            "  - name: {name}
    match: localhost/{name}/{{owner}}/**
    to: files
    authenticate: jwt
    limit: [ 1000000/second per user, 10000000/second per address ]
"
        )?;
        writeln!(
            policies,
            "permit(principal in Role::\"customer\", action == Action::\"GET\", resource == Route::\"{name}\")
when {{ resource.params has owner && resource.params.owner == principal.id }};"
        )?;
    }
    std::fs::write(folder.join("whole.cedar"), policies)?;
    write_configuration(ground, "whole", &rest)
}

fn write_configuration(ground: &Ground, name: &str, rest: &str) -> Result<Configured> {
    let (folder, pki) = (ground.folder.as_path(), &ground.pki);
    let ports = Configured {
        path: folder.join(format!("{name}.yaml")),
        tls: free_port()?,
        cleartext: free_port()?,
        admin: free_port()?,
    };
    let text = format!(
        "state: {state}
workers: 1
listen:
  - address: 127.0.0.1:{tls}
    tls: {{ certificates: [ {{ cert: {certificate}, key: {key} }} ] }}
  - address: 127.0.0.1:{cleartext}
admin: {{ address: 127.0.0.1:{admin} }}
services:
  files: [ http://127.0.0.1:{upstream} ]
  secure:
    endpoints: [ https://127.0.0.1:{upstream_tls} ]
    protocol: http1
    tls: {{ ca: {authority}, server_name: localhost }}
{rest}",
        state = folder.join(format!("{name}-state")).display(),
        tls = ports.tls,
        cleartext = ports.cleartext,
        admin = ports.admin,
        certificate = pki.certificate.display(),
        key = pki.key.display(),
        upstream = ground.upstream.cleartext,
        upstream_tls = ground.upstream.tls,
        authority = pki.authority.display(),
    );
    std::fs::write(&ports.path, text).with_context(|| format!("writing {}", ports.path.display()))?;
    Ok(ports)
}

/// Scripts for wrk: one that rotates [`TOKENS`] tokens, and for each round one whose
/// tokens were never sent before.
pub(super) struct Scripts {
    pub(super) known: PathBuf,
    pub(super) fresh: Vec<PathBuf>,
}

/// Signs the tokens and writes the scripts.
pub(super) fn scripts(folder: &Path, rounds: u32, fresh_per_round: u32) -> Result<Scripts> {
    println!("signing {} tokens", u64::from(TOKENS) + u64::from(rounds) * u64::from(fresh_per_round));
    let mut command = command::cargo(&workspace::root()?);
    command.args(["run", "--quiet", "--locked", "-p", "xtask", "--example", "mint_tokens", "--"]);
    command.arg(folder).args([ISSUER, AUDIENCE, &ROUTES.to_string(), &format!("known.txt={TOKENS}")]);
    for round in 0..rounds {
        command.arg(format!("fresh-{round}.txt={fresh_per_round}"));
    }
    command::run(&mut command)?;
    Ok(Scripts {
        known: script(folder, "known")?,
        fresh: (0..rounds).map(|round| script(folder, &format!("fresh-{round}"))).collect::<Result<_>>()?,
    })
}

fn script(folder: &Path, name: &str) -> Result<PathBuf> {
    let text = format!(
        "local requests, at = {{}}, 0
function init(args)
  for line in io.lines(\"{}\") do
    local path, token = line:match(\"(%S+) (%S+)\")
    requests[#requests + 1] = wrk.format(\"GET\", path, {{ [\"Authorization\"] = \"Bearer \" .. token }})
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
",
        folder.join(format!("{name}.txt")).display()
    );
    let path = folder.join(format!("{name}.lua"));
    std::fs::write(&path, text)?;
    Ok(path)
}

/// What the token cache has counted: lookups that hit, and all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CacheCount {
    pub(super) hits: f64,
    pub(super) lookups: f64,
}

impl CacheCount {
    /// Asks the admin listener's `/metrics`.
    pub(super) fn read(admin: u16) -> Result<Self> {
        let mut stream =
            TcpStream::connect(("127.0.0.1", admin)).context("connecting to the admin listener")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Self::parse(&text).context("/metrics has no bastide_token_cache_total{result=\"hit\"|\"miss\"}")
    }

    /// Hits among the lookups since `before`.
    pub(super) fn ratio_since(self, before: Self) -> f64 {
        (self.hits - before.hits) / (self.lookups - before.lookups).max(1.0)
    }

    fn parse(metrics: &str) -> Option<Self> {
        let sum = |result: &str| {
            let lines = metrics.lines().filter(|line| {
                line.starts_with("bastide_token_cache") && line.contains(&format!("\"{result}\""))
            });
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(|a, b| a + b)
        };
        let (hits, misses) = (sum("hit"), sum("miss"));
        hits.or(misses)?;
        let hits = hits.unwrap_or(0.0);
        Some(Self { hits, lookups: hits + misses.unwrap_or(0.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_read_from_the_metrics() {
        let text = "# TYPE x counter\nbastide_token_cache_total{core=\"0\",result=\"hit\"} 90\nbastide_token_cache_total{core=\"0\",result=\"miss\"} 10\n";
        let count = CacheCount::parse(text).unwrap();
        assert_eq!(count, CacheCount { hits: 90.0, lookups: 100.0 });
        assert!((count.ratio_since(CacheCount { hits: 40.0, lookups: 50.0 }) - 1.0).abs() < 1e-9);
        assert_eq!(CacheCount::parse("other 1\n"), None);
    }
}
