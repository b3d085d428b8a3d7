//! What the Core Rule Set's attack rules skip on routes to the identity provider and back: its own
//! random words, which read like SQL or a command now and then, secrets that people choose,
//! and addresses of clients, which those rules take for an inclusion of foreign files. All of
//! it is compared or looked up there, never put into a query, a page or a command.

use super::{Excluded, Exclusion};

/// The attack rules of the Core Rule Set: its files 930 to 944.
pub const ATTACK_RULES: (u64, u64) = (930_000, 944_999);

/// Which rules, from the first to the last, skip what.
pub const IDENTITY_SKIPS: &[((u64, u64), &[&str])] = &[
    (ATTACK_RULES, IDENTITY_TARGETS),
    // What is encoded twice, and which bytes there are: a password may hold any.
    ((920_230, 920_230), CHOSEN_BY_PEOPLE),
    ((920_271, 920_273), CHOSEN_BY_PEOPLE),
];

const CHOSEN_BY_PEOPLE: &[&str] = &["ARGS:password", "ARGS:again", "ARGS:client_secret"];

/// What the attack rules skip.
const IDENTITY_TARGETS: &[&str] = &[
    // Made by random by the provider or a client (RFC 6749, 7636, 8628, 9101, 9126; OpenID Connect).
    "ARGS:code",
    "ARGS:state",
    "ARGS:nonce",
    "ARGS:code_challenge",
    "ARGS:code_verifier",
    "ARGS:request_uri",
    "ARGS:device_code",
    "ARGS:user_code",
    "ARGS:session_state",
    "ARGS:sid",
    "ARGS:dpop_jkt",
    "ARGS:flow",
    "ARGS:csrf",
    "ARGS:session",
    // Tokens and proofs (RFC 7009, 7521, 7662, 8693).
    "ARGS:token",
    "ARGS:access_token",
    "ARGS:refresh_token",
    "ARGS:id_token",
    "ARGS:id_token_hint",
    "ARGS:logout_token",
    "ARGS:subject_token",
    "ARGS:actor_token",
    "ARGS:assertion",
    "ARGS:client_assertion",
    "ARGS:request",
    "ARGS:credential",
    // Chosen by people, or by their password managers.
    "ARGS:password",
    "ARGS:again",
    "ARGS:client_secret",
    // Addresses, and JSON in a parameter.
    "ARGS:redirect_uri",
    "ARGS:post_logout_redirect_uri",
    "ARGS:iss",
    "ARGS:resource",
    "ARGS:audience",
    "ARGS:claims",
    "ARGS:authorization_details",
    // Holds the parameters of the page before; the provider does not read it.
    "REQUEST_HEADERS:Referer",
    "REQUEST_HEADERS:DPoP",
    "REQUEST_COOKIES:/^__Host-.+-(?:session|browser|known)$/",
];

/// The same as exclusions.
pub fn identity_exclusions() -> Vec<Exclusion> {
    let all =
        IDENTITY_SKIPS.iter().flat_map(|(rules, targets)| targets.iter().map(move |target| (rules, target)));
    let one = |((first, last), target): (&(u64, u64), &&str)| Exclusion {
        which: Excluded::Rules(*first, *last),
        target: Some((*target).to_owned()),
    };
    all.map(one).collect()
}

#[cfg(test)]
mod tests;
