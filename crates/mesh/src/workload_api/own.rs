//! The documents of this very process, which holds the authorities itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::source::{Asks, Source};
use super::{World, X509Context, X509Identity};
use crate::error::Error;
use crate::workload::Workload;

/// What the audit log names the call.
const CALL: &str = "/own";

/// Keeps the documents of this process fresh.
pub struct Own(Source);

impl Own {
    /// Of this workload. Nobody is asked who this process is: the configuration says so.
    pub fn new(world: World, workload: Workload) -> Self {
        Self(Source::new(Arc::new(world), Asks::Ourselves(Arc::new(workload)), CALL))
    }

    /// The documents now, then whenever they are others.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: none is good, and none can be made.
    pub async fn next(&mut self) -> Result<X509Context, Error> {
        let told = self.0.next().await.map_err(|refused| Error::Unavailable(format!("{refused:?}")))?;
        let identities = told.documents.iter().map(|(workload, document)| X509Identity {
            id: workload.id.clone(),
            chain: document.issued.chain.clone(),
            key: document.key.clone(),
            hint: workload.hint.clone(),
        });
        let bundles = std::iter::once(&told.own).chain(told.foreign.values());
        let anchors: BTreeMap<String, Vec<Vec<u8>>> =
            bundles.map(|bundle| (bundle.trust_domain.clone(), bundle.x509.clone())).collect();
        Ok(X509Context { identities: identities.collect(), anchors })
    }
}
