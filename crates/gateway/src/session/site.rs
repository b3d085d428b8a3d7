//! Whether a request that carries a browser's session was meant by the site that the
//! session is for (cross-site request forgery).

use http::Method;

/// Where a request says that it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'r> {
    /// `Origin`.
    pub origin: Option<&'r [u8]>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'r [u8]>,
}

/// Whether a request can change something: any method but the safe ones (RFC 9110 §9.2.1),
/// and every upgrade, which opens a way for anything.
pub fn can_change(method: &Method, upgrades: bool) -> bool {
    upgrades || !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Checks a request that can change something.
///
/// # Errors
/// Why it is not taken for one of the site's own. Browsers say where such requests come
/// from; what says nothing is none of a browser, and has other ways to prove who it is.
pub fn check(source: Source<'_>, own: &str, allowed: &[String]) -> Result<(), &'static str> {
    let is_allowed = |origin: &[u8]| allowed.iter().any(|allowed| allowed.as_bytes() == origin);
    match (source.origin, source.fetch_site) {
        (Some(origin), _) if is_allowed(origin) => Ok(()),
        // Of a page with `Referrer-Policy: no-referrer`, which many applications set, browsers name no
        // origin; where the page is from they still say, and scripts cannot (Fetch Metadata §2.3).
        (Some(b"null"), Some(b"same-origin")) => Ok(()),
        (Some(origin), _) if origin != own.as_bytes() => Err("its Origin is another site"),
        (_, Some(b"same-origin" | b"none")) | (Some(_), None) => Ok(()),
        (_, Some(_)) => Err("its Sec-Fetch-Site is not same-origin"),
        (None, None) => Err("it has neither Origin nor Sec-Fetch-Site"),
    }
}

/// A place on this host that a browser may be sent back to: path and query, at most 2 KiB;
/// anything that a browser could read as another host is `/`.
pub fn place(target: &str) -> &str {
    let bytes = target.as_bytes();
    let second = bytes.get(1).copied();
    let fits = bytes.first() == Some(&b'/')
        && !matches!(second, Some(b'/' | b'\\'))
        && bytes.len() <= 2048
        && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
    if fits { target } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sites_own_requests_and_allowed_ones_change_anything() {
        let own = "https://shop.example";
        let allowed = ["https://app.example".to_owned()];
        for (origin, fetch_site, good) in [
            (Some("https://shop.example"), Some("same-origin"), true),
            (Some("https://shop.example"), None, true),
            (None, Some("same-origin"), true),
            (None, Some("none"), true),
            (Some("https://app.example"), Some("cross-site"), true),
            (None, None, false),
            (Some("null"), None, false),
            (Some("null"), Some("same-origin"), true),
            (Some("null"), Some("same-site"), false),
            (Some("null"), Some("cross-site"), false),
            (Some("null"), Some("none"), false),
            (Some("https://evil.example"), Some("same-origin"), false),
            (Some("https://shop.example.evil"), None, false),
            (Some("http://shop.example"), None, false),
            (Some("https://shop.example:8443"), None, false),
            (Some("https://shop.example"), Some("cross-site"), false),
            (None, Some("same-site"), false),
            (None, Some("cross-site"), false),
            (None, Some("nonsense"), false),
        ] {
            let source =
                Source { origin: origin.map(str::as_bytes), fetch_site: fetch_site.map(str::as_bytes) };
            assert_eq!(check(source, own, &allowed).is_ok(), good, "{origin:?} {fetch_site:?}");
        }
    }

    #[test]
    fn safe_methods_change_nothing_unless_they_upgrade() {
        for (method, upgrades, changes) in [
            (Method::GET, false, false),
            (Method::HEAD, false, false),
            (Method::OPTIONS, false, false),
            (Method::GET, true, true),
            (Method::POST, false, true),
            (Method::DELETE, false, true),
            (Method::from_bytes(b"PROPFIND").unwrap(), false, true),
        ] {
            assert_eq!(can_change(&method, upgrades), changes, "{method} {upgrades}");
        }
    }

    #[test]
    fn no_place_is_another_host() {
        for good in ["/", "/a/b?c=d&e=//x", "/a//b"] {
            assert_eq!(place(good), good);
        }
        let long = format!("/{}", "a".repeat(2048));
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "",
            "/a\r\nb",
            "/\t/evil",
            "/a\\b",
            &long,
        ] {
            assert_eq!(place(bad), "/", "{bad:?}");
        }
    }
}
