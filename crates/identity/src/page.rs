//! Pages: made here, without scripts, with the fields that keep them ours.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::Error;
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};

/// The style sheet of all pages.
const STYLE: &str = include_str!("../templates/style.css");
/// The script of forms with passkeys.
const PASSKEY: &str = include_str!("../templates/passkey.js");
/// Sends a form by itself; without scripts there is a button.
const SUBMIT: &str = "document.forms[0].submit()";

/// The login.
#[derive(Template)]
#[template(path = "login.html")]
pub(crate) struct LoginPage<'a> {
    pub(crate) realm: &'a str,
    pub(crate) base: &'a str,
    pub(crate) action: &'a str,
    pub(crate) flow: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) username: &'a str,
    pub(crate) error: &'a str,
    /// What the browser is asked for a passkey with; empty: there are none here.
    pub(crate) passkey: &'a str,
    pub(crate) passkey_action: &'a str,
}

/// What a client asks for.
#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct ConsentPage<'a> {
    pub(crate) realm: &'a str,
    pub(crate) base: &'a str,
    pub(crate) action: &'a str,
    pub(crate) flow: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) client: &'a str,
    pub(crate) user: &'a str,
    pub(crate) scopes: Vec<String>,
}

/// A code from a device (RFC 8628 §3.3).
#[derive(Template)]
#[template(path = "device.html")]
pub(crate) struct DevicePage<'a> {
    pub(crate) realm: &'a str,
    pub(crate) base: &'a str,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) user: &'a str,
    pub(crate) code: &'a str,
    pub(crate) client: &'a str,
    pub(crate) scopes: Vec<String>,
    pub(crate) error: &'a str,
}

/// Whether to log out.
#[derive(Template)]
#[template(path = "logout.html")]
pub(crate) struct LogoutPage<'a> {
    pub(crate) realm: &'a str,
    pub(crate) base: &'a str,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) user: &'a str,
    pub(crate) fields: Vec<(String, String)>,
}

/// One sentence.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct MessagePage<'a> {
    pub(crate) realm: &'a str,
    pub(crate) base: &'a str,
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
}

/// An answer that goes to the client as a form (OAuth 2.0 Form Post Response Mode).
#[derive(Template)]
#[template(path = "form_post.html")]
struct FormPostPage<'a> {
    realm: &'a str,
    base: &'a str,
    action: &'a str,
    fields: &'a [(&'a str, &'a str)],
    script: &'a str,
}

/// Answers with a page. `form_target`: where its forms may lead besides here.
pub(crate) fn show(page: &impl Template, form_target: Option<&str>, failed: bool) -> Answer {
    let status = if failed { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    render(page, status, form_target.unwrap_or_default(), "")
}

/// The same with our script for passkeys.
pub(crate) fn show_scripted(page: &impl Template, form_target: Option<&str>, failed: bool) -> Answer {
    let status = if failed { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    render(page, status, form_target.unwrap_or_default(), "script-src 'self'; ")
}

/// Answers with a form that goes to the client by itself.
pub(crate) fn form_post(realm: &Realm, action: &str, fields: &[(&str, &str)]) -> Answer {
    let base = realm.settings.path();
    let page = FormPostPage { realm: &realm.settings.display_name, base, action, fields, script: SUBMIT };
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SUBMIT.as_bytes());
    let script = format!("script-src 'sha256-{}'; ", crate::call::encode_base64(hash.as_ref()));
    render(&page, StatusCode::OK, &crate::client::redirect::form_action(action), &script)
}

/// A page for a person where a client would get JSON.
pub(crate) fn or_error(realm: &Realm, answer: Answer) -> Response {
    let refusal = match answer {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    refusal.record();
    let status = match refusal.code {
        Code::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        Code::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let (display_name, base) = (&realm.settings.display_name, realm.settings.path());
    let page =
        MessagePage { realm: display_name, base, title: "That did not work", text: &refusal.description };
    render(&page, status, "", "").unwrap_or_else(IntoResponse::into_response)
}

fn render(page: &impl Template, status: StatusCode, form_target: &str, script: &str) -> Answer {
    let text = page.render().map_err(Error::from)?;
    let policy = format!(
        "default-src 'none'; {script}style-src 'self'; form-action 'self' {form_target}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then leave out the origin of our own forms.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_str(&policy).map_err(|_| {
        Refusal::new(Code::ServerError, "the page could not be made", format!("form target {form_target:?}"))
    })?;
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Answers `GET /style.css`.
pub(crate) async fn style(State(_): State<std::sync::Arc<Realm>>) -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// Answers `GET /passkey.js`.
pub(crate) async fn passkey_script(State(_): State<std::sync::Arc<Realm>>) -> Response {
    asset("text/javascript; charset=utf-8", PASSKEY)
}

fn asset(media: &'static str, text: &'static str) -> Response {
    let fields = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (fields, text).into_response()
}
