//! What messages say: plain text, and the same as HTML.

use askama::Template;

use super::{MailMessage, Purpose};
use crate::Error;
use crate::realm::Realm;
use crate::text::{Language, MailText};
use crate::user::User;

/// The HTML of a message: no image, no style sheet, nothing that is fetched.
#[derive(Template)]
#[template(path = "mail.html")]
struct MailPage<'a> {
    language: Language,
    product: &'a str,
    greeting: &'a str,
    text: &'a str,
    link: &'a str,
    button: &'a str,
    closing: &'a str,
}

/// A message to a person. `secret`: of the link, where there is one.
pub(super) fn message(
    realm: &Realm,
    purpose: Purpose,
    language: Language,
    user: &User,
    email: &str,
    secret: Option<&str>,
) -> Result<MailMessage, Error> {
    let product = realm.settings.display_name.as_str();
    let texts = &language.texts().mail;
    let MailText { subject, text, button, closing } = match purpose {
        Purpose::Recovery => &texts.recovery,
        Purpose::Invitation => &texts.invitation,
        Purpose::Verification => &texts.verification,
        Purpose::PasswordChanged => &texts.password_changed,
    };
    let page = match purpose {
        Purpose::Recovery | Purpose::Invitation => "/recover/password",
        Purpose::Verification => "/verify",
        Purpose::PasswordChanged => "/recover",
    };
    let address = realm.address(page);
    let link = match secret {
        Some(secret) => crate::parameter::with_query(&address, &[("token", secret)]),
        None => address,
    };
    let greeting = texts.greeting.with(user.name.as_deref().unwrap_or(&user.username));
    let text = text.with(product);
    let plain = format!("{}\n\n{text}\n\n{link}\n\n{closing}\n", one_line(&greeting));
    let page = MailPage { language, product, greeting: &greeting, text: &text, link: &link, button, closing };
    Ok(MailMessage {
        to: email.to_owned(),
        subject: one_line(&subject.with(product)),
        text: plain,
        html: page.render()?,
        language: language.tag(),
    })
}

/// A text without line ends and other control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}
