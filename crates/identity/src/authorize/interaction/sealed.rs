//! An authorization that has just begun, carried by the browser: whoever may be anybody leaves no
//! record here. It becomes one with the first thing that a person does.
//!
//! ```text
//! flow = base64url( hour (u32) · AES-256-GCM(what begun) )       the key: of the realm and the hour
//! ```

use std::time::Duration;

use keys::encoding::{decode_base64url, encode_base64url};
use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Then;
use crate::Error;
use crate::realm::Realm;

/// Longest name of an interaction that carries it, bytes: it stands in addresses, which proxies read
/// up to 8 KiB.
pub(super) const FLOW_BYTES_MAX: usize = 4096;
/// How long a key seals: never more than 2³² texts.
const PERIOD: Duration = Duration::from_secs(3600);
const HOUR_BYTES: usize = 4;
const PURPOSE: &str = "interaction";

/// What is known of it when it begins.
#[derive(Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) then: Then,
    /// The hash of the browser's cookie.
    pub(super) browser: String,
    pub(super) until: Timestamp,
}

impl Begun {
    /// The name that carries it; none, where that would be too long.
    pub(super) fn seal(&self, realm: &Realm, now: Timestamp) -> Result<Option<String>, Error> {
        let begun = serde_json::to_vec(self);
        let begun = begun.map_err(|source| Error::Content { kind: "interaction", source })?;
        let hour = now.unix_seconds() / PERIOD.as_secs();
        let hour = u32::try_from(hour).unwrap_or(u32::MAX).to_be_bytes();
        let sealed = realm.key_ring().derive_seal(PURPOSE, &encode_base64url(&hour))?;
        let sealed = sealed.seal(&begun, PURPOSE.as_bytes())?;
        let flow = encode_base64url(&[&hour[..], &sealed].concat());
        Ok((flow.len() <= FLOW_BYTES_MAX).then_some(flow))
    }

    /// What a name carries, if it is one of ours and not over.
    pub(super) fn open(realm: &Realm, flow: &str, now: Timestamp) -> Result<Option<Self>, Error> {
        Ok(Self::read(realm, flow)?.filter(|begun| begun.until > now))
    }

    /// The same, over or not.
    pub(super) fn read(realm: &Realm, flow: &str) -> Result<Option<Self>, Error> {
        if flow.len() > FLOW_BYTES_MAX {
            return Ok(None);
        }
        let Some(whole) = decode_base64url(flow.as_bytes()) else { return Ok(None) };
        let Some((hour, sealed)) = whole.split_at_checked(HOUR_BYTES) else { return Ok(None) };
        let key = realm.key_ring().derive_seal(PURPOSE, &encode_base64url(hour))?;
        let Some(begun) = key.open(sealed, PURPOSE.as_bytes()) else { return Ok(None) };
        // Of a version before this one it may be something else: then it is over.
        Ok(serde_json::from_slice(&begun).ok())
    }
}
