//! The trust domains that the mesh federates with, and how current their bundles are.

use ::mesh::Bundle;
use model::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};
use crate::admin::view::Trust;
use crate::config::Partner;
use crate::process::mesh::Attempts;

/// A partner.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PartnerOut {
    /// Its trust domain.
    trust_domain: String,
    /// Where its bundle is fetched; absent: the file is all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// The number of the bundle that counts; absent: there is none, and nobody of it is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// When this process fetched its bundle last, Unix seconds; absent: not since it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<u64>,
    /// When the last attempt failed, Unix seconds; absent: it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    /// Why it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl PartnerOut {
    /// What is known of a partner.
    pub fn of(partner: &Partner, bundle: Option<&Bundle>, attempts: Attempts) -> Self {
        let (failed, error) = attempts.failed.unzip();
        Self {
            trust_domain: partner.trust_domain.clone(),
            endpoint: partner.endpoint.clone(),
            sequence: bundle.map(|bundle| bundle.sequence),
            fetched: attempts.fetched.map(Timestamp::unix_seconds),
            failed: failed.map(Timestamp::unix_seconds),
            error,
        }
    }
}

/// `GET /v1/partners`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let mesh = asked.view.configuration.mesh.as_ref();
    let mesh = mesh.ok_or_else(|| Problem::unfit("the configuration has no `mesh:`"))?;
    let mut list = Vec::new();
    for partner in &mesh.partners {
        let (bundle, attempts) = match &asked.state.trust {
            Trust::Served(host) => host.partner(&partner.trust_domain).await,
            // Nobody fetches.
            Trust::Opened(_) => (partner.bundle.clone(), Attempts::default()),
        };
        list.push(PartnerOut::of(partner, bundle.as_ref(), attempts));
    }
    Reply::ok(&Page::whole(list))
}
