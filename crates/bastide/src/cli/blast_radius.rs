//! `bastide blast-radius`: what a compromised service, a stolen token or a role can reach,
//! through which policies, and what lies behind that.

mod radius;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueHint};
use model::suggestion::suggestion;
use model::{Clock as _, Credential, Principal, PrincipalKind};
use policy::testing::{Identity, Who};

use super::help::help;
use super::run::SHARED;
use super::{Output, exit_code, say, say_json};
use crate::config::{self, Configuration, Disk};
use crate::process::clock::SystemClock;
use crate::wire;
use radius::{Deployment, EnforcementPoint, Intruder};

/// Arguments of `bastide blast-radius`.
#[derive(Debug, Args)]
#[command(after_help = help(PROSE, CODES, EXAMPLES))]
pub struct BlastRadiusArguments {
    #[command(flatten)]
    who: WhoArguments,
    /// The gateway's configuration.
    #[arg(long, short, default_value = "bastide.yaml", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// The configuration shared by the mesh's services. Default: `mesh.yaml` beside the gateway's,
    /// if there is one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    mesh_config: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Who is in somebody else's hands.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhoArguments {
    /// A service of the mesh by its name, or any workload by its SPIFFE ID.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The file of a token; `-` reads standard input. Its signature is not verified: its claims are
    /// believed.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token: Option<PathBuf>,
    /// A holder of this role whom no policy names individually.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

const PROSE: &str = "\
It is worked out from the configuration and its policies alone: nothing is sent. What follows from who
asks is known (identity, roles, route, method, mutual TLS); everything else in a request is open. Thus

  exact             what is not listed is denied, whatever the request says;
                    what is listed as \"always\" is permitted, whatever it says
  over-approximated what is listed as \"when …\": each condition on something open
                    (path, parameters, headers, time, address, the end user of
                    a call) is assumed to be satisfiable by itself, and a forbid
                    that depends on one to be avoidable

A service that is reached is assumed to fall too: what it can reach from there is listed below it.
Services outside the mesh do not ask Bastide who calls: whoever reaches their ports can call them.";

const CODES: &str = "0 nothing is reached, 1 something is, 2 wrong usage, 3 something cannot be read";

const EXAMPLES: &str = "\
bastide blast-radius --service orders
bastide blast-radius --token alice.token --config /etc/bastide/bastide.yaml
bastide blast-radius --role merchant --output json";

/// Prints what can be reached; the exit code is 1 if anything can.
///
/// # Errors
/// A configuration or the token cannot be read, or names somebody who is unknown.
pub fn run(arguments: &BlastRadiusArguments) -> anyhow::Result<ExitCode> {
    let gateway = super::check::load_or_report(&arguments.config, arguments.output)?;
    let folder = arguments.config.parent().unwrap_or(Path::new(""));
    let shared =
        arguments.mesh_config.clone().or_else(|| Some(folder.join(SHARED)).filter(|path| path.is_file()));
    let mut points = vec![EnforcementPoint::gateway(&gateway)?];
    let mut services = Vec::new();
    if let Some(shared) = &shared {
        let found = config::mesh_services(shared, &super::check::environment, &Disk);
        let found = found.map_err(|refused| anyhow::anyhow!("{}", first(&refused.faults)))?;
        for service in found {
            let loaded = crate::process::run::configuration(&service.name, shared)?;
            let of_service = loaded.map_err(|faults| anyhow::anyhow!("{}", first(&faults)))?;
            let mesh = of_service
                .mesh
                .as_ref()
                .with_context(|| format!("{}: expected `mesh:`", shared.display()))?;
            let id = mesh.settings.workload(service.id.as_deref().unwrap_or(&service.name))?;
            points.push(EnforcementPoint::service(&service.name, &of_service)?);
            services.push((service.name, id));
        }
    }
    let gateway_id = gateway.mesh.as_ref().map(|mesh| mesh.identity.id.clone());
    let deployment = Deployment { points, services, gateway: gateway_id };
    let intruder = intruder(&arguments.who, &gateway, &deployment)?;
    let radius = deployment.radius(&intruder);
    match arguments.output {
        Output::Text => say(report::text(&intruder, &radius).trim_end()),
        Output::Json => say_json(&report::to_json(&intruder, &radius)),
    }
    Ok(exit_code(radius.is_empty()))
}

fn first(faults: &[config::Fault]) -> String {
    faults.first().map(ToString::to_string).unwrap_or_default()
}

fn intruder(
    who: &WhoArguments,
    gateway: &Configuration,
    deployment: &Deployment,
) -> anyhow::Result<Intruder> {
    if let Some(name) = &who.service {
        let known = deployment.services.iter().find(|(known, _)| known == name).map(|(_, id)| id.clone());
        let own = deployment.gateway.clone().filter(|id| id.path().strip_prefix('/') == Some(name));
        let id = match (known.or(own), name.parse()) {
            (Some(id), _) | (None, Ok(id)) => id,
            (None, Err(_)) => {
                let names: Vec<&str> = deployment.services.iter().map(|(name, _)| name.as_str()).collect();
                anyhow::ensure!(
                    !names.is_empty(),
                    "--service is about services of a mesh: expected {SHARED} beside the configuration, or --mesh-config FILE"
                );
                anyhow::bail!(
                    "the mesh has no service {name:?}{}; it has {}",
                    suggestion(name, names.iter().copied()),
                    names.join(", ")
                )
            }
        };
        return Ok(Intruder::service(name, id));
    }
    if let Some(role) = &who.role {
        let policies = wire::load_policies(gateway, 0)?;
        let holder = Identity {
            kind: PrincipalKind::User,
            id: "whoever".to_owned(),
            roles: vec![role.clone()],
            claims: std::collections::BTreeMap::new(),
            scopes: Vec::new(),
            acr: None,
            amr: Vec::new(),
            issuer: None,
            credential: None,
        };
        let principal = Who::Long(Box::new(holder)).principal(&policies).map_err(anyhow::Error::msg)?;
        return Ok(Intruder::role(role, principal));
    }
    let path = who.token.as_deref().context("name --service, --token or --role")?;
    let token = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin().lock())?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    Ok(Intruder::token(claimed(gateway, token.trim())?))
}

/// Whom a token says its holder is.
fn claimed(gateway: &Configuration, token: &str) -> anyhow::Result<Principal> {
    let issuers = wire::issuer_settings(&gateway.authentication)?;
    let roles = gateway.roles.iter().map(|role| role.name.clone()).collect();
    let now = SystemClock::start().now();
    let claimed = keys::jwt::unproven(token.as_bytes(), &issuers, &roles, now);
    let principal = claimed.context("the token is refused")?;
    Ok(Principal { credential: Credential::Jwt, ..Principal::clone(&principal) })
}
