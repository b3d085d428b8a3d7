//! The provider from outside: honest clients and people, and attackers beside them.

#[cfg(test)]
mod account;
#[cfg(test)]
mod addresses;
#[cfg(test)]
mod authorize;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod code;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod device;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod dpop;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod factors;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hashes;
#[cfg(test)]
mod language;
#[cfg(test)]
mod login;
#[cfg(test)]
mod logout;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod observe;
#[cfg(test)]
mod passkeys;
#[cfg(test)]
mod pkce;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod pushed;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod sign_out;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod throttle;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod tokens;
