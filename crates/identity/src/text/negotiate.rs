//! Which language a page is in: what the person chose on a page, else what the client
//! asks for (`ui_locales`), else what they chose before (a cookie), else what the browser
//! prefers (`Accept-Language`), else the realm's.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::Language;
use crate::authorize::see_other;
use crate::call::Call;
use crate::page;
use crate::parameter::{Parameters, with_query};
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::session::set_cookie;

/// How long a choice is remembered.
const COOKIE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest `Accept-Language` or `ui_locales` that is read, bytes.
const PREFERENCES_BYTES_MAX: usize = 1024;
/// Parameters that lead back to the same page.
pub(crate) const KEPT: [&str; 2] = ["flow", "token"];

/// The name of the cookie that remembers a choice.
pub(crate) fn cookie_name(realm: &Realm) -> String {
    realm.settings.cookie_name("language")
}

/// The language of a request.
pub(crate) fn chosen(
    parameters: &Parameters,
    headers: &HeaderMap,
    cookie: Option<&str>,
    default: Language,
) -> Language {
    let on_page = || parameters.get("lang").and_then(Language::of_tag);
    let by_client = || preferred(parameters.get("ui_locales")?);
    let before = || cookie.and_then(Language::of_tag);
    on_page().or_else(by_client).or_else(before).or_else(|| accepted(headers)).unwrap_or(default)
}

/// The first language of `ui_locales` that there is (OpenID Connect Core §3.1.2.1).
pub(crate) fn preferred(ui_locales: &str) -> Option<Language> {
    let read = Some(ui_locales).filter(|text| text.len() <= PREFERENCES_BYTES_MAX)?;
    read.split(' ').find_map(Language::of_tag)
}

/// The language that the browser likes best of those that there are (RFC 9110 §12.5.4).
fn accepted(headers: &HeaderMap) -> Option<Language> {
    let text = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
    let read = Some(text).filter(|text| text.len() <= PREFERENCES_BYTES_MAX)?;
    let weighed = read.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let language = Language::of_tag(parts.next()?)?;
        let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
            Some(weight) => weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight))?,
            None => 1.0,
        };
        (weight > 0.0).then_some((language, weight))
    });
    // The first of several that are liked as well.
    let best = weighed.fold(None, |best: Option<(Language, f32)>, item| match best {
        Some(best) if best.1 >= item.1 => Some(best),
        _ => Some(item),
    });
    best.map(|(language, _)| language)
}

/// Answers `GET /language`: remembers the choice and leads back to the page.
pub(crate) async fn choose(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, remember(&realm, &call))
}

fn remember(realm: &Realm, call: &Call) -> Answer {
    let page = call.parameters.require("page")?;
    if !is_page(page) {
        return Err(Refusal::plain(Code::InvalidRequest, "`page` is not a page of this realm"));
    }
    let kept: Vec<(&str, &str)> =
        KEPT.into_iter().filter_map(|name| Some((name, call.parameters.get(name)?))).collect();
    let path = realm.path(page);
    let mut response = see_other(&if kept.is_empty() { path } else { with_query(&path, &kept) });
    let cookie = set_cookie(realm, &cookie_name(realm), call.language.tag(), Some(COOKIE_LIFE))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// INVARIANT: a path below the issuer and nothing else: no other host (`//host`), no way
/// up.
fn is_page(path: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    path.len() <= 64 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_choice_counts() {
        let (english, german) = (Language::English, Language::German);
        for (query, cookie, accept, expected) in [
            ("", None, "", english),
            ("", None, "de", german),
            ("", None, "fr, de-CH;q=0.5, en;q=0.4", german),
            ("", None, "de;q=0.4, en;q=0.5", english),
            ("", None, "de, en", german),
            ("", None, "de;q=0, fr", english),
            ("", None, "de;q=2", english),
            ("", None, "*", english),
            ("", Some("en"), "de", english),
            ("", Some("xx"), "de", german),
            ("ui_locales=de", Some("en"), "en", german),
            ("ui_locales=fr+de-AT+en", None, "en", german),
            ("ui_locales=fr", Some("de"), "en", german),
            ("ui_locales=de&lang=en", Some("de"), "de", english),
            ("lang=xx", None, "de", german),
        ] {
            let parameters = Parameters::parse(query.as_bytes()).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
            let found = chosen(&parameters, &headers, cookie, english);
            assert_eq!(found, expected, "{query:?} {cookie:?} {accept:?}");
        }
        let long = format!("{},de", "x".repeat(PREFERENCES_BYTES_MAX));
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, long.parse().unwrap());
        assert_eq!(chosen(&Parameters::default(), &headers, None, english), english);
        assert_eq!(chosen(&Parameters::default(), &HeaderMap::new(), None, german), german);
    }

    #[test]
    fn only_pages_of_ours_are_led_back_to() {
        for good in ["/login", "/account/passkeys", "/recover"] {
            assert!(is_page(good), "{good}");
        }
        for wrong in [
            "",
            "/",
            "//evil.example",
            "/\\evil.example",
            "/../x",
            "login",
            "/login?x",
            "/login\r\nx:y",
            "/a//b",
        ] {
            assert!(!is_page(wrong), "{wrong}");
        }
        assert!(!is_page(&format!("/{}", "a".repeat(64))));
    }
}
