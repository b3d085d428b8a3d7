//! Protections that a test build can switch off, one at a time, to see whether anybody
//! notices: a tour that stays green without a protection does not hold it.
//!
//! Without the feature `switch-off`, which no released binary has, [`Switch::is_off`] is
//! the constant `false` and nothing of this is left in the program.

/// One protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// Client certificates are checked against their authority.
    ClientCertificate,
    /// Ambiguous framing, names and paths are refused.
    Admit,
    /// Heads are bounded.
    LimitHead,
    /// A request that no route takes is refused.
    Route,
    /// `X-Forwarded-For` counts only from trusted proxies.
    Forwarded,
    /// Denied addresses are refused.
    AddressLists,
    /// Quotas by address.
    LimitAddress,
    /// Wrong and missing proofs of identity are refused.
    Authenticate,
    /// A token's signature is verified.
    TokenSignature,
    /// A token's time is checked.
    TokenTime,
    /// A token's audience is checked.
    TokenAudience,
    /// What was revoked is refused.
    Revocation,
    /// A bound token counts only with what it is bound to.
    TokenBinding,
    /// A DPoP proof counts once.
    ProofReplay,
    /// Requests with a browser's session are held to its site.
    CrossSite,
    /// Policy is asked.
    Authorize,
    /// Policy is asked about calls of the administration.
    Administration,
    /// Who is missing a stronger login alone is told so.
    StepUp,
    /// Quotas by principal.
    LimitPrincipal,
    /// Bodies are bounded.
    Inspect,
    /// Requests are held against their route's API document.
    Validation,
    /// The firewall's rules look at requests and answers.
    Firewall,
    /// Identity headers of clients are dropped.
    IdentityHeaders,
    /// The signed identity token is sent.
    IdentityToken,
    /// Origins are compared.
    CrossOrigin,
    /// Answers get security headers.
    SecurityHeaders,
    /// What failed is tried again, what fails is ejected.
    Forward,
    /// What fails its health checks gets no requests.
    Health,
    /// Each request leaves an event.
    Audit,
    /// Changed configurations are taken.
    Reload,
    /// Who asks for an identity is held against what is registered.
    Attestation,
    /// Listeners of the mesh speak mutual TLS alone.
    MutualTls,
}

impl Switch {
    /// All switches, in the order of a request's way.
    pub const ALL: [Self; 32] = [
        Self::ClientCertificate,
        Self::Admit,
        Self::LimitHead,
        Self::Route,
        Self::Forwarded,
        Self::AddressLists,
        Self::LimitAddress,
        Self::Authenticate,
        Self::TokenSignature,
        Self::TokenTime,
        Self::TokenAudience,
        Self::Revocation,
        Self::TokenBinding,
        Self::ProofReplay,
        Self::CrossSite,
        Self::Authorize,
        Self::Administration,
        Self::StepUp,
        Self::LimitPrincipal,
        Self::Inspect,
        Self::Validation,
        Self::Firewall,
        Self::IdentityHeaders,
        Self::IdentityToken,
        Self::CrossOrigin,
        Self::SecurityHeaders,
        Self::Forward,
        Self::Health,
        Self::Audit,
        Self::Reload,
        Self::Attestation,
        Self::MutualTls,
    ];

    /// Its name in `BASTIDE_SWITCH_OFF`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client_certificate",
            Self::Admit => "admit",
            Self::LimitHead => "limit_head",
            Self::Route => "route",
            Self::Forwarded => "forwarded",
            Self::AddressLists => "address_lists",
            Self::LimitAddress => "limit_address",
            Self::Authenticate => "authenticate",
            Self::TokenSignature => "token_signature",
            Self::TokenTime => "token_time",
            Self::TokenAudience => "token_audience",
            Self::Revocation => "revocation",
            Self::TokenBinding => "token_binding",
            Self::ProofReplay => "proof_replay",
            Self::CrossSite => "cross_site",
            Self::Authorize => "authorize",
            Self::Administration => "administration",
            Self::StepUp => "step_up",
            Self::LimitPrincipal => "limit_principal",
            Self::Inspect => "inspect",
            Self::Validation => "validation",
            Self::Firewall => "firewall",
            Self::IdentityHeaders => "identity_headers",
            Self::IdentityToken => "identity_token",
            Self::CrossOrigin => "cross_origin",
            Self::SecurityHeaders => "security_headers",
            Self::Forward => "forward",
            Self::Health => "health",
            Self::Audit => "audit",
            Self::Reload => "reload",
            Self::Attestation => "attestation",
            Self::MutualTls => "mutual_tls",
        }
    }

    /// Whether this protection is switched off. Never in a build without the feature.
    #[cfg(not(feature = "switch-off"))]
    pub const fn is_off(self) -> bool {
        false
    }

    /// Whether `BASTIDE_SWITCH_OFF` names this protection.
    #[cfg(feature = "switch-off")]
    #[expect(clippy::disallowed_methods, reason = "a test build's own way in")]
    pub fn is_off(self) -> bool {
        static OFF: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        self.name() == OFF.get_or_init(|| std::env::var("BASTIDE_SWITCH_OFF").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_nothing_is_off_by_itself() {
        let mut names = Switch::ALL.map(Switch::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(!Switch::ALL.iter().any(|switch| switch.is_off()));
    }
}
