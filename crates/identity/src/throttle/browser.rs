//! Browsers that an account knows: a cookie that we signed when its person logged in there.
//!
//! ```text
//! cookie  = entry *3( "~" entry )           the newest first, for people who share a browser
//! entry   = name "." seconds "." signature  of account, name and time
//! ```
//!
//! It proves nothing about a person: whoever has one may guess in a queue of their own.

use std::time::Duration;

use axum::http::HeaderValue;
use model::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::Error;
use crate::call::Call;
use crate::realm::Realm;
use crate::session::set_cookie;

/// How long a browser is known.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Accounts that know one browser.
const ENTRIES_MAX: usize = 4;

fn cookie_name(realm: &Realm) -> String {
    realm.settings.cookie_name("known")
}

/// The name of the browser, when the account knows it.
pub(super) fn known(realm: &Realm, call: &Call, account: &str) -> Option<String> {
    let entries = entries(realm, call);
    entries.into_iter().find_map(|entry| name_of(realm, entry, account, call.now)).map(str::to_owned)
}

fn entries<'a>(realm: &Realm, call: &'a Call) -> Vec<&'a str> {
    let cookie = call.cookie(&cookie_name(realm)).unwrap_or_default();
    cookie.split('~').filter(|entry| !entry.is_empty()).take(ENTRIES_MAX).collect()
}

fn name_of<'a>(realm: &Realm, entry: &'a str, account: &str, now: Timestamp) -> Option<&'a str> {
    let (signed, signature) = entry.rsplit_once('.')?;
    let expected = sign(realm, signed, account);
    if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
        return None;
    }
    let (name, seconds) = signed.split_once('.')?;
    let issued = Timestamp::from_unix_seconds(seconds.parse().ok()?);
    (issued.plus(LIFE) > now).then_some(name)
}

fn sign(realm: &Realm, signed: &str, account: &str) -> String {
    realm.key_ring().derive("known browser", &format!("{signed} {account}"))
}

/// The cookie by which the account knows the browser from now on.
pub(super) fn remember(realm: &Realm, call: &Call, account: &str) -> Result<HeaderValue, Error> {
    let name = crate::random::name(realm.random.as_ref())?;
    let signed = format!("{name}.{}", call.now.unix_seconds());
    let mut cookie = format!("{signed}.{}", sign(realm, &signed, account));
    let others = entries(realm, call);
    let others = others.into_iter().filter(|entry| {
        // What we did not sign in this form is not carried along.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        entry.len() <= 128 && entry.bytes().all(plain) && name_of(realm, entry, account, call.now).is_none()
    });
    for other in others.take(ENTRIES_MAX - 1) {
        cookie.push('~');
        cookie.push_str(other);
    }
    set_cookie(realm, &cookie_name(realm), &cookie, Some(LIFE))
}
