//! `bastide mesh revoke` and `lift` for certificates and workloads: by the administration of the
//! running process, or on the store when none runs. Either way an event of the audit log.

use std::process::ExitCode;

use clap::Args;
use model::SpiffeId;
use serde_json::{Value, json};

use super::{because, tell};
use crate::admin::client::AdminClient;
use crate::admin::resource::encoded;
use crate::cli::Output;

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

/// Revokes.
///
/// # Errors
/// There is no answer.
pub(super) fn revoke(
    admin: &AdminClient,
    whom: &Whom,
    why: Option<&str>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/revocations{}", because(why));
    let answer = admin.call("POST", &path, Some(&whom.body()))?;
    let revoked = || json!({ "revoked": answer.body });
    Ok(tell(&answer, output, revoked, || format!("revoked: {}", whom.name())))
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
