//! Credentials against attacks, with the honest ones beside them.

#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod bound;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod dpop;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod local_authority;
#[cfg(test)]
mod never_panics;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod signers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod user_tokens;
#[cfg(test)]
mod verifier;
#[cfg(test)]
mod wycheproof;
