//! `bastide mesh revoke` and `lift` for certificates and workloads: by the administration of the
//! running process, or on the store when none runs. Either way an event of the audit log.

use std::process::ExitCode;

use clap::Args;
use model::SpiffeId;
use model::suggestion::suggestion;
use serde_json::{Value, json};

use super::{because, tell};
use crate::admin::client::AdminClient;
use crate::admin::resource::encoded;
use crate::cli::admin_context::text;
use crate::cli::{Output, warn};
use crate::config::Mesh;

/// A certificate or a workload: one of them.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct Whom {
    /// The serial number of a certificate, hexadecimal, as events and `openssl x509 -serial` name it.
    #[arg(long, value_name = "NUMBER")]
    serial: Option<String>,
    /// The SPIFFE ID of a workload.
    #[arg(long, value_name = "SPIFFE-ID")]
    identity: Option<SpiffeId>,
}

impl Whom {
    fn name(&self) -> &str {
        self.identity.as_ref().map_or(self.serial.as_deref().unwrap_or_default(), SpiffeId::as_str)
    }

    fn body(&self) -> Value {
        match &self.identity {
            Some(id) => json!({ "identity": id }),
            None => json!({ "certificate": self.serial }),
        }
    }
}

/// Revokes: whatever is meant, at once. That it may miss whom it was meant for is said besides.
///
/// # Errors
/// There is no answer.
pub(super) fn revoke(
    admin: &AdminClient,
    mesh: Option<&Mesh>,
    whom: &Whom,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/revocations{}", because(why));
    let answer = admin.call("POST", &path, Some(&whom.body()))?;
    let doubt = whom.identity.as_ref().filter(|_| answer.is_done()).and_then(|id| doubt(admin, mesh, id));
    if let Some(doubt) = &doubt {
        warn(doubt);
    }
    let revoked = || match &doubt {
        None => json!({ "revoked": answer.body }),
        Some(doubt) => json!({ "revoked": answer.body, "warning": doubt }),
    };
    Ok(tell(&answer, output, revoked, || format!("revoked: {}", whom.name())))
}

/// Why the revocation of an identity may have hit nobody; `None`: it has, or nobody can tell.
fn doubt(admin: &AdminClient, mesh: Option<&Mesh>, id: &SpiffeId) -> Option<String> {
    let workloads = admin.list("/v1/workloads", false).ok()?;
    let own = mesh.map(|mesh| mesh.identity.id.as_str());
    let known: Vec<&str> = workloads.iter().map(|one| text(one, "id")).chain(own).collect();
    if known.contains(&id.as_str()) {
        return None;
    }
    let hint = suggestion(id.as_str(), known.iter().copied());
    let lift = format!("it is revoked all the same, until `bastide mesh lift --identity {id}`");
    let domain = mesh.map(|mesh| mesh.settings.trust_domain.clone());
    let domain = domain.or_else(|| Some(known.first()?.parse::<SpiffeId>().ok()?.trust_domain().to_owned()));
    let other = id.trust_domain();
    if domain.is_some_and(|domain| domain != other) {
        let is_partner = match mesh {
            Some(mesh) => mesh.partners.iter().any(|one| one.trust_domain == other),
            // The file has faults: the process knows whom it federates with.
            None => {
                let partners = admin.list("/v1/partners", false).ok()?;
                partners.iter().any(|one| text(one, "trust_domain") == other)
            }
        };
        return Some(match is_partner {
            true => format!(
                "{id} is of the trust domain {other}, which goes on issuing certificates to it: \
                 it is refused here, and what else trusts {other} is told nothing"
            ),
            false => {
                format!("{id} is of {other}, which is no trust domain that is trusted here{hint}; {lift}")
            }
        });
    }
    // Whoever was removed has certificates until they end, and those were meant.
    let revoked = admin.list("/v1/revocations", false).ok()?;
    let is_its = |one: &Value| one.get("certificate").is_some() && text(one, "identity") == id.as_str();
    let nobody =
        || format!("no workload is registered as {id}, and no certificate of it was valid{hint}; {lift}");
    (!revoked.iter().any(is_its)).then(nobody)
}

/// Lifts.
///
/// # Errors
/// There is no answer.
pub(super) fn lift(
    admin: &AdminClient,
    whom: &Whom,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/revocations/{}{}", encoded(whom.name()), because(why));
    let answer = admin.call("DELETE", &path, None)?;
    let lifted = || json!({ "lifted": whom.name() });
    Ok(tell(&answer, output, lifted, || format!("lifted: {}", whom.name())))
}
