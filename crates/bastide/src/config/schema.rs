//! How keys are described: one table per section, from which unknown keys are found,
//! suggestions made and the reference page written.

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The key as it is written.
    pub(super) name: &'static str,
    /// What may stand there, in words.
    pub(super) kind: &'static str,
    /// What counts when it is absent, in words; empty: the key is required.
    pub(super) default: &'static str,
    /// What it means.
    pub(super) about: &'static str,
}

/// One map of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Where it stands: `routes[].cors`.
    pub(super) path: &'static str,
    /// What it is for.
    pub(super) about: &'static str,
    /// Its short form, when it has one.
    pub(super) short: &'static str,
    /// Its keys; empty: the keys are the user's own names.
    pub(super) keys: &'static [Key],
}

/// A row of a section's table.
pub(super) const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, kind, default, about }
}

/// Every section, in the order of the reference page.
pub(super) const SECTIONS: &[&Section] = &[
    &super::TOP,
    &super::listen::LISTEN,
    &super::listen::TLS,
    &super::acme::ACME,
    &super::acme::EXTERNAL_ACCOUNT,
    &super::listen::CERTIFICATE,
    &super::listen::CLIENT,
    &super::listen::ADMIN,
    &super::authentication::AUTHENTICATION,
    &super::authentication::ISSUER,
    &super::introspection::INTROSPECTION,
    &super::authentication::CERTIFICATES,
    &super::session::SESSION,
    &super::session::STEP_UP,
    &super::roles::ROLE,
    &super::dns::DNS,
    &super::realms::REALM,
    &super::realms::LIFETIMES,
    &super::realms::PASSWORDS,
    &super::realms::MAIL,
    &super::realms::BACK_CHANNEL_LOGOUT,
    &super::realms::FACTORS,
    &super::realms::RESOURCE,
    &super::realms::CLAIM,
    &super::realms::CLIENT,
    &super::realms::TLS_CLIENT_AUTH,
    &super::mesh::MESH,
    &super::mesh::AUTHORITY,
    &super::mesh::LIFETIMES,
    &super::mesh::services::SERVICE,
    &super::mesh::workloads::WORKLOAD,
    &super::mesh::PARTNER,
    &super::mesh::agents::AGENTS,
    &super::mesh::agents::KUBERNETES,
    &super::services::SERVICE,
    &super::services::ENDPOINT,
    &super::services::TLS,
    &super::services::TIMEOUTS,
    &super::resilience::HEALTH,
    &super::resilience::EJECT,
    &super::resilience::BREAKER_SECTION,
    &super::resilience::RETRY_BUDGET_SECTION,
    &super::routes::ROUTE,
    &super::splits::TO,
    &super::splits::MIRROR,
    &super::matching::MATCH,
    &super::rates::LIMIT,
    &super::cors::CORS,
    &super::contracts::VALIDATE,
    &super::shaping::REDIRECT,
    &super::shaping::RESPOND,
    &super::shaping::COMPRESS,
    &super::headers::HEADERS,
    &super::headers::RULES,
    &super::addresses::ADDRESSES,
    &super::policies::POLICIES,
    &super::policies::POLICY,
    &super::identity::IDENTITY,
    &super::headers::SECURITY,
    &super::audit::AUDIT,
    &super::sinks::SINKS,
    &super::storage::STORAGE,
    &super::storage::UNSEAL,
    &super::telemetry::TELEMETRY,
    &super::telemetry::TRACES,
    &super::telemetry::METRICS,
    &super::waf::WAF,
    &super::waf::THRESHOLDS,
    &super::waf::EXCLUSIONS,
    &super::waf::REQUEST_BODY,
    &super::waf::RESPONSE_BODY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_once() {
        for section in SECTIONS {
            let mut names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), section.keys.len(), "{}", section.path);
            for key in section.keys {
                assert!(!key.about.is_empty() && !key.kind.is_empty(), "{}.{}", section.path, key.name);
            }
        }
    }
}
