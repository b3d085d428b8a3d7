//! Redirect URIs: compared as texts (RFC 9700 §2.1), but for the port of a native
//! application on this machine (RFC 8252 §7.3).

use axum::http::Uri;

use crate::settings::is_loopback;

/// Longest redirect URI, bytes.
const URI_BYTES_MAX: usize = 2048;

/// What is wrong with a URI that is to be registered, if anything. `public` clients are native
/// applications too, which have schemes of their own.
pub fn fault(uri: &str, public: bool) -> Option<String> {
    let found = keys::encoding::quote(uri);
    if uri.len() > URI_BYTES_MAX || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(format!("\"{found}\": expected at most {URI_BYTES_MAX} visible ASCII characters"));
    }
    if uri.contains(['#', '*', '\\', '"', '<', '>']) {
        return Some(format!("\"{found}\": neither fragment nor pattern nor quotes"));
    }
    let scheme = uri.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        "https" | "http" => {
            // Browsers find a host in `https:a.example` too, another one than this parser.
            let begins = uri.get(scheme.len()..).is_some_and(|rest| rest.starts_with("://"));
            let Some(parsed) = uri.parse::<Uri>().ok().filter(|_| begins) else {
                return Some(format!("\"{found}\": not a URI"));
            };
            let host = parsed.host().unwrap_or_default();
            let user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
            if host.is_empty() || user {
                return Some(format!("\"{found}\": expected a host and no user"));
            }
            if !is_host(host) {
                return Some(format!("\"{found}\": expected a host of letters, digits, '.', '-' and '_'"));
            }
            (scheme == "http" && !is_loopback(host))
                .then(|| format!("\"{found}\": http:// is for loopback addresses alone"))
        }
        // RFC 8252 §7.1: a name under the application's control, reversed.
        other if public && is_scheme(other) && other.contains('.') && uri.contains(":/") => None,
        _ => Some(format!(
            "\"{found}\": expected https://, http:// on loopback, or for public clients com.example.app:/…"
        )),
    }
}

/// RFC 3986 §3.1. Pages name it in their Content Security Policy, where anything else could begin
/// another directive.
fn is_scheme(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(rest)
}

/// A name as the DNS has it, or an address: RFC 3986 §3.2.2 lets a name hold what would end a source
/// of a Content Security Policy too.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Whether `given` is one of the registered URIs.
pub(crate) fn is_registered(given: &str, registered: &[String]) -> bool {
    registered.iter().any(|known| known == given || same_but_port(given, known))
}

/// RFC 8252 §7.3: any port at a loopback address by `http`. `localhost` is not one of
/// them (§8.3): its name can lead elsewhere.
fn same_but_port(given: &str, known: &str) -> bool {
    let parts = |uri: &str| {
        let rest = uri.strip_prefix("http://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let host = ["127.0.0.1", "[::1]"].into_iter().find(|host| authority.starts_with(host))?;
        let port = authority.strip_prefix(host)?;
        let good = port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
        good.then(|| (host, path.to_owned()))
    };
    parts(given).is_some_and(|given| parts(known) == Some(given))
}

/// What a page's `form-action` has to name so that browsers follow a redirect to a registered URI
/// after a form. Schemes, not origins: Chromium checks the whole chain of redirects, and a client may
/// send the browser on to another origin. A program on this machine (`http:`) to TLS, too.
pub(crate) fn form_action(uri: &str) -> String {
    let scheme = uri.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        "http" => "http: https:".to_owned(),
        other => format!("{other}:"),
    }
}

/// Where the application of a registered URI begins: the root of its origin; `None` for a program
/// that browsers only hand things to.
pub(crate) fn start_page(uri: &str) -> Option<String> {
    let uri: Uri = uri.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    Some(format!("{scheme}://{}/", uri.authority()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_begins_at_the_root_of_its_origin() {
        for (uri, expected) in [
            ("https://app.example/cb?a=b", Some("https://app.example/")),
            ("http://127.0.0.1:8080/cb", Some("http://127.0.0.1:8080/")),
            ("com.example.app:/cb", None),
            ("javascript:alert(1)", None),
        ] {
            assert_eq!(start_page(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn exact_but_for_the_port_on_loopback() {
        let registered = [
            "https://app.example/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:1/cb?x=1",
            "http://localhost/cb",
            "com.example.app:/cb",
        ]
        .map(str::to_owned);
        for good in [
            "https://app.example/cb",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:51004/cb",
            "http://[::1]:51004/cb?x=1",
            "http://localhost/cb",
            "com.example.app:/cb",
        ] {
            assert!(is_registered(good, &registered), "{good}");
        }
        for wrong in [
            "https://app.example/cb/",
            "https://app.example/cb?x=1",
            "https://app.example/CB",
            "https://APP.example/cb",
            "https://app.example:443/cb",
            "https://app.example/cb#x",
            "https://app.example/cb/../evil",
            "https://app.example/c%62",
            "https://app.example.evil.example/cb",
            "https://app.example@evil.example/cb",
            "http://app.example/cb",
            "https://127.0.0.1/cb",
            "http://127.0.0.1:1/cb2",
            "http://127.0.0.1:1@evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1:+1/cb",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:80:80/cb",
            "http://localhost:51004/cb",
            "http://[::1]:51004/cb",
            "com.example.app:/cb2",
            "javascript:alert(1)",
            "",
        ] {
            assert!(!is_registered(wrong, &registered), "{wrong}");
        }
    }

    #[test]
    fn what_can_be_registered() {
        for good in [
            "https://a.example/cb",
            "https://a.example",
            "https://a_b-1.example:8443/cb;x,y",
            "https://[2001:db8::1]/cb",
            "http://127.0.0.1/",
            "http://[::1]:3000/cb",
            "http://localhost:3000/cb",
            "http://app.localhost:3000/cb",
        ] {
            assert_eq!(fault(good, false), None, "{good}");
        }
        for good in ["com.example.app:/cb", "com.example.app+a-1:/cb;x", "Com.Example.App:/cb"] {
            assert_eq!(fault(good, true), None, "{good}");
        }
        for wrong in [
            "com.example.app:/cb",
            "http://a.example/cb",
            "http://localhost.example/cb",
            "http://notlocalhost/cb",
            "https://*.example/cb",
            "https://a.example/cb#x",
            "https://u@a.example/cb",
            "https:///cb",
            "https:a.example",
            "https:/a.example/cb",
            "https://a.example/c b",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://a;sandbox.example/cb",
            "https://a,b.example/cb",
            "https://a'b.example/cb",
            "https://a&b=c.example/cb",
            "https://a%3bb.example/cb",
            "https://[v1.a;b]/cb",
            "/cb",
            "",
        ] {
            assert!(fault(wrong, false).is_some(), "{wrong}");
        }
        for wrong in [
            "app:/cb",
            "javascript:alert(1)",
            "com.example.app:cb",
            "a.b;sandbox;script-src;x.y:/cb",
            "a.b,c:/cb",
            "a.b'self':/cb",
            "a.b/c:/cb",
            "1.b:/cb",
            ".a:/cb",
            "a_b.c:/cb",
        ] {
            assert!(fault(wrong, true).is_some(), "{wrong}");
        }
    }

    #[test]
    fn pages_name_the_scheme() {
        for (uri, expected) in [
            ("https://a.example:8443/cb?x=1", "https:"),
            ("HTTPS://a.example/cb", "https:"),
            ("http://127.0.0.1:51004/cb", "http: https:"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert_eq!(form_action(uri), expected, "{uri}");
        }
    }
}
