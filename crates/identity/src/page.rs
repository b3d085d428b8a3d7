//! Pages: made here, without scripts, with the fields that keep them ours.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::Error;
use crate::authorize::interaction::{self, Then};
use crate::call::Call;
use crate::client::redirect;
use crate::parameter::with_query;
use crate::realm::Realm;
use crate::refusal::{Answer, Code, Refusal};
use crate::text::{self, Language, Notice, Texts};
use crate::theme::Theme;

/// The script of forms with passkeys.
const PASSKEY: &str = include_str!("../templates/passkey.js");
/// Sends a form by itself; without scripts there is a button.
const SUBMIT: &str = "document.forms[0].submit()";

/// What every page has around its content.
pub(crate) struct Frame<'a> {
    pub(crate) language: Language,
    pub(crate) texts: &'static Texts,
    /// What the realm is called.
    pub(crate) product: &'a str,
    /// The path of the issuer.
    pub(crate) base: &'a str,
    pub(crate) theme: &'a Theme,
    /// Where the same page is in other languages.
    pub(crate) elsewhere: Vec<(Language, String)>,
}

impl<'a> Frame<'a> {
    /// `page`: where it can be got again, below the issuer; empty for what is there once.
    pub(crate) fn new(realm: &'a Realm, call: &Call, page: &str) -> Self {
        let mut frame = Self::once(realm, call.language);
        if page.is_empty() {
            return frame;
        }
        let kept = |name: &'static str| Some((name, call.parameters.get(name)?));
        let kept: Vec<(&str, &str)> = text::KEPT.into_iter().filter_map(kept).collect();
        frame.elsewhere = Language::ALL
            .into_iter()
            .map(|language| {
                let mut pairs = vec![("lang", language.tag()), ("page", page)];
                pairs.extend(kept.iter().copied());
                (language, with_query(&realm.path("/language"), &pairs))
            })
            .collect();
        frame
    }

    /// Of a page that is there once, whatever was asked.
    fn once(realm: &'a Realm, language: Language) -> Self {
        Self {
            language,
            texts: language.texts(),
            product: &realm.settings.display_name,
            base: realm.settings.path(),
            theme: &realm.settings.theme,
            elsewhere: Vec::new(),
        }
    }
}

/// The login.
#[derive(Template)]
#[template(path = "login.html")]
pub(crate) struct LoginPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) flow: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) username: &'a str,
    pub(crate) error: &'a str,
    /// What the browser is asked for a passkey with; empty: there are none here.
    pub(crate) passkey: &'a str,
    pub(crate) passkey_action: &'a str,
    /// Where to go without a password; empty: nowhere.
    pub(crate) recovery: &'a str,
}

/// What a client asks for.
#[derive(Template)]
#[template(path = "consent.html")]
pub(crate) struct ConsentPage<'a> {
    pub(crate) frame: Frame<'a>,
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
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) user: &'a str,
    pub(crate) code: &'a str,
    pub(crate) client: &'a str,
    pub(crate) scopes: Vec<String>,
    pub(crate) error: &'a str,
}

/// Who has lost their password.
#[derive(Template)]
#[template(path = "recover.html")]
pub(crate) struct RecoverPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
}

/// Another password.
#[derive(Template)]
#[template(path = "password.html")]
pub(crate) struct PasswordPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) token: &'a str,
    pub(crate) user: &'a str,
    pub(crate) length_min: usize,
    pub(crate) faults: &'a [String],
}

/// Whether an address is its person's.
#[derive(Template)]
#[template(path = "verify.html")]
pub(crate) struct VerifyPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) token: &'a str,
    pub(crate) email: &'a str,
}

/// Whether to log out.
#[derive(Template)]
#[template(path = "logout.html")]
pub(crate) struct LogoutPage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) action: &'a str,
    pub(crate) csrf: &'a str,
    pub(crate) user: &'a str,
    pub(crate) fields: Vec<(String, String)>,
}

/// One sentence.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct MessagePage<'a> {
    pub(crate) frame: Frame<'a>,
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    /// For the developers of an application, in English; empty: nothing.
    pub(crate) detail: &'a str,
    /// When to try again; empty: nothing is known of that.
    pub(crate) wait: &'a str,
    /// Where to go from here, and what that is called.
    pub(crate) way: Option<(String, &'static str)>,
}

/// An answer that goes to the client as a form (OAuth 2.0 Form Post Response Mode).
#[derive(Template)]
#[template(path = "form_post.html")]
struct FormPostPage<'a> {
    frame: Frame<'a>,
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

/// Answers with a title and a sentence.
pub(crate) fn message(realm: &Realm, call: &Call, (title, text): (&str, &str)) -> Answer {
    let frame = Frame::new(realm, call, "");
    show(&MessagePage { frame, title, text, detail: "", wait: "", way: None }, None, false)
}

/// Answers with a form that goes to the client by itself.
pub(crate) fn form_post(realm: &Realm, language: Language, action: &str, fields: &[(&str, &str)]) -> Answer {
    let page = FormPostPage { frame: Frame::once(realm, language), action, fields, script: SUBMIT };
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SUBMIT.as_bytes());
    let script = format!("script-src 'sha256-{}'; ", crate::call::encode_base64(hash.as_ref()));
    render(&page, StatusCode::OK, &crate::client::redirect::form_action(action), &script)
}

/// A page for a person where a client would get JSON.
pub(crate) fn or_error(realm: &Realm, call: &Call, answer: Answer) -> Response {
    let refusal = match answer {
        Ok(response) => return response,
        Err(refusal) => refusal,
    };
    refusal.record();
    let frame = Frame::new(realm, call, "");
    let (text, detail) = match refusal.notice {
        Some(notice) => ((frame.texts.notice)(notice), ""),
        None => (frame.texts.common.application_at_fault, refusal.description.as_ref()),
    };
    let title = frame.texts.common.failed;
    let way = refusal.notice.and_then(|notice| way_on(realm, call, notice));
    let wait = refusal.retry_after().map(frame.texts.common.wait).unwrap_or_default();
    let page = MessagePage { frame, title, text, detail, wait: &wait, way };
    let mut response =
        render(&page, refusal.page_status(), "", "").unwrap_or_else(IntoResponse::into_response);
    refusal.extend(response.headers_mut());
    response
}

/// Where a person goes who was told that: on with the login that waits, or to where it was begun.
fn way_on(realm: &Realm, call: &Call, notice: Notice) -> Option<(String, &'static str)> {
    let texts = &call.language.texts();
    match notice {
        Notice::SlowDown | Notice::Busy => {
            let flow = call.parameters.get("flow")?;
            Some((with_query(&realm.path("/flow"), &[("flow", flow)]), texts.common.again))
        }
        Notice::InteractionOver | Notice::TooManyAttempts | Notice::FormTwice => {
            match interaction::begun_for(realm, call) {
                // The name is sealed by us: this is an address that was registered for its client.
                Some(Then::Authorize(request)) => {
                    let start = redirect::start_page(&request.target.redirect_uri)?;
                    Some((start, texts.common.back_to_application))
                }
                Some(Then::Visit(path) | Then::Confirm(path) | Then::Reach { path, .. }) => {
                    Some((realm.path(&path), texts.common.again))
                }
                None => Some((realm.path("/account"), texts.account.title)),
            }
        }
        _ => None,
    }
}

fn render(page: &impl Template, status: StatusCode, form_target: &str, script: &str) -> Answer {
    let text = page.render().map_err(Error::from)?;
    let policy = format!(
        "default-src 'none'; {script}style-src 'self'; img-src 'self'; form-action 'self' {form_target}; \
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

/// Answers `GET /passkey.js`.
pub(crate) async fn passkey_script() -> Response {
    let fields = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (fields, PASSKEY).into_response()
}
