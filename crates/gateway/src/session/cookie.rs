//! Our cookies: their names, how they are read out of requests and written into answers,
//! and how upstreams never see them.

use proxy::head::Manner;
use proxy::{Additions, Known, RequestHead};

/// The names of our cookies at an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Names the session.
    pub session: &'static str,
    /// Begins the name of the cookie of a login under way; a part of its `state` follows.
    pub login: &'static str,
}

/// `__Host-`: set over TLS by this very host for the whole of it, which no other host can do
/// (RFC 6265bis §4.1.3.2).
const HOST: Names = Names { session: "__Host-bastide-session", login: "__Host-bastide-login-" };
/// On this machine without TLS, where cookie jars would return none of those.
const LOOPBACK: Names = Names { session: "bastide-session", login: "bastide-login-" };

/// The names at an origin. INVARIANT: without `__Host-` only over `http://` at a loopback host.
pub fn names(origin: &str) -> Names {
    let host = origin.strip_prefix("http://").map(|authority| {
        let port = authority.rfind(':').filter(|&at| !authority.ends_with(']') && at > 0);
        port.and_then(|at| authority.get(..at)).unwrap_or(authority)
    });
    match host {
        Some("127.0.0.1" | "[::1]" | "localhost") => LOOPBACK,
        Some(name) if name.ends_with(".localhost") => LOOPBACK,
        _ => HOST,
    }
}

/// Whether a cookie of this name is one of ours, wherever it was set.
fn is_ours(name: &[u8]) -> bool {
    let plain = name.strip_prefix(b"__Host-").unwrap_or(name);
    // All of ours with the prefix, also those of other releases; without it others have names, too.
    (plain.len() < name.len() && plain.starts_with(b"bastide-"))
        || plain == LOOPBACK.session.as_bytes()
        || plain.starts_with(LOOPBACK.login.as_bytes())
}

/// Logins under way that one browser may have; with the next one all others are forgotten.
pub const LOGINS_MAX: usize = 5;

/// The cookies of a request: name, value.
pub fn of_head(head: &RequestHead) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.fields.values(Known::Cookie).flat_map(pairs)
}

/// The cookies of one field.
pub fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|&byte| byte == b';').filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|&byte| byte == b'=')?;
        Some((pair.get(..at)?, pair.get(at + 1..)?))
    })
}

/// Several cookies have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The value of the one cookie of this name.
///
/// # Errors
/// There are several: nobody knows which one the browser was given by us.
pub fn one<'c>(
    mut cookies: impl Iterator<Item = (&'c [u8], &'c [u8])>,
    name: &str,
) -> Result<Option<&'c [u8]>, Ambiguous> {
    let mut found = None;
    for (_, value) in cookies.by_ref().filter(|(found, _)| *found == name.as_bytes()) {
        if found.replace(value).is_some() {
            return Err(Ambiguous);
        }
    }
    Ok(found)
}

/// A `Set-Cookie` that lasts for so many seconds; with 0 it takes the cookie away.
pub fn set(name: &str, value: &str, seconds: u64) -> String {
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}{secure}; HttpOnly; SameSite=Lax")
}

/// One field of the cookies of a request that are not ours; `None`: none of them is.
pub(crate) fn not_ours(head: &RequestHead) -> Option<Vec<u8>> {
    without_ours(|| of_head(head))
}

/// Takes our cookies out of what goes to an upstream.
pub(crate) fn hide(head: &RequestHead, request: &mut Additions) {
    let Some(kept) = not_ours(head) else { return };
    request.remove("cookie");
    if !kept.is_empty() {
        let _ = request.push_as(Manner::Replace, "cookie", &kept);
    }
}

/// One field of the cookies that are not ours; `None`: none of them is.
fn without_ours<'c, I: Iterator<Item = (&'c [u8], &'c [u8])>>(cookies: impl Fn() -> I) -> Option<Vec<u8>> {
    if !cookies().any(|(name, _)| is_ours(name)) {
        return None;
    }
    let mut kept = Vec::with_capacity(256);
    for (name, value) in cookies().filter(|(name, _)| !is_ours(name)) {
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(name);
        kept.push(b'=');
        kept.extend_from_slice(value);
    }
    Some(kept)
}

/// What the fuzzer calls: arbitrary bytes as the `Cookie` fields of a request, a line each.
///
/// # Panics
/// When one of ours would go to an upstream or another one be lost, when of two with one name
/// one counts, or when a value opens that was never sealed: that is the finding.
pub fn fuzz(bytes: &[u8]) {
    let cookies = || bytes.split(|&byte| byte == b'\n').flat_map(pairs);
    let others = || cookies().filter(|(name, _)| !is_ours(name));
    if let Some(kept) = without_ours(cookies) {
        let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        let kept: Vec<_> = pairs(&kept).map(owned).collect();
        assert_eq!(kept, others().map(owned).collect::<Vec<_>>(), "an upstream gets what is not ours");
    }
    let seals = keys::SealRing::new(std::time::Duration::from_secs(60));
    for (name, value) in cookies() {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let count = cookies().filter(|(other, _)| *other == name.as_bytes()).count();
        assert_eq!(one(cookies(), name).is_ok(), count == 1, "{name} stands there {count} times");
        assert_eq!(seals.open(value, name.as_bytes(), model::Timestamp::default()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read_one_by_one_and_two_of_a_name_are_none() {
        let read = |field: &'static str, name| one(pairs(field.as_bytes()), name);
        assert_eq!(read("a=1; b=2=3;c=", "b"), Ok(Some(&b"2=3"[..])));
        assert_eq!(read("a=1; b=2=3;c=", "c"), Ok(Some(&b""[..])));
        assert_eq!(read("a=1;b", "b"), Ok(None));
        assert_eq!(read("A=1", "a"), Ok(None));
        assert_eq!(read("a=1; a=1", "a"), Err(Ambiguous));
        assert_eq!(read("", "a"), Ok(None));
    }

    #[test]
    fn fuzz_smoke_cookies() {
        const SEED: &[u8] = b"a=1; __Host-bastide-session=AAAA; b=2=3;c=\n__Host-bastide-login-x=y;a=2;;=;d";
        const PUT: &[u8] = b"=; \n\0\"_-A";
        fuzz(SEED);
        for at in 0..SEED.len() {
            for put in PUT {
                let mut changed = SEED.to_vec();
                changed[at] = *put;
                fuzz(&changed);
                changed.insert(at / 2, *put);
                fuzz(&changed);
            }
            fuzz(&SEED[at..]);
        }
    }

    #[test]
    fn a_cookie_is_this_hosts_and_no_scripts() {
        for origin in [
            "https://shop.example",
            "https://127.0.0.1:8443",
            "https://localhost",
            "https://[::1]:8443",
            "http://shop.example",
            "http://shop.example:8080",
            "http://127.0.0.1.shop.example",
            "http://localhost.shop.example",
            "http://notlocalhost",
            "http://10.0.0.1:8080",
        ] {
            let text = set(names(origin).session, "x", 5);
            for attribute in ["__Host-", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Lax", "Max-Age=5"]
            {
                assert!(text.contains(attribute), "{origin}: {attribute}");
            }
            assert!(!text.contains("Domain"));
        }
    }

    #[test]
    fn on_this_machine_without_tls_jars_return_it() {
        for origin in [
            "http://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://[::1]",
            "http://[::1]:8080",
            "http://localhost:8080",
            "http://shop.localhost:8080",
        ] {
            let text = set(names(origin).session, "x", 5);
            assert_eq!(text, "bastide-session=x; Path=/; Max-Age=5; HttpOnly; SameSite=Lax", "{origin}");
        }
    }

    #[test]
    fn ours_are_hidden_by_either_name_and_those_of_others_are_not() {
        let kept = |field: &'static str| without_ours(|| pairs(field.as_bytes()));
        let all =
            "__Host-bastide-session=1; bastide-session=2; __Host-bastide-login-x=3; bastide-login-x=4; a=5";
        assert_eq!(kept(all), Some(b"a=5".to_vec()));
        assert_eq!(kept("bastide-sessions=1; bastide-theme=2; __Host-other=3"), None);
    }
}
