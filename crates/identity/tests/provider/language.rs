//! The languages of pages, and what they look like.

use axum::body::Body;
use axum::http::{Request, header};
use identity::theme::{Format, Theme};

use crate::support::{Browser, ISSUER, TestBed, authorization};

const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

#[tokio::test]
async fn a_page_is_in_the_language_that_its_person_wants() {
    let testbed = TestBed::new().await;
    let mut browser = Browser::new(&testbed);
    let page = browser.authorize("web", &[]).await;
    assert!(page.text.contains("<html lang=\"en\">") && page.text.contains("Password"), "{}", page.text);
    // What the client asks for holds for every page of this login.
    let page = browser.authorize("web", &[("ui_locales", "fr de-AT en")]).await;
    assert!(page.text.contains("<html lang=\"de\">") && page.text.contains("Passwort"), "{}", page.text);
    let wrong = browser.submit(&page, &[("username", "alice"), ("password", "wrong")]).await;
    assert!(wrong.text.contains("Der Benutzername oder das Passwort ist falsch."), "{}", wrong.text);
    // And the choice on the page goes before it, and leads back to the same login.
    let link = wrong.text.split("href=\"").find(|link| link.contains("lang=en")).unwrap();
    let link = link.split('"').next().unwrap().replace("&#38;", "&");
    let page = browser.go(&link).await;
    assert!(page.text.contains("<html lang=\"en\">"), "{}", page.text);
    let answer = browser.log_in(&page).await.answer();
    assert!(answer.contains_key("code"), "{answer:?}");
    assert!(browser.go(&format!("{ISSUER}/device")).await.text.contains("lang=\"en\""));
}

#[tokio::test]
async fn browsers_say_what_they_prefer_and_realms_what_is_usual() {
    let german = TestBed::with(|settings| settings.language = identity::Language::German).await;
    for (accept, language) in [("", "de"), ("fr", "de"), ("en-GB,de;q=0.5", "en"), ("fr,de;q=0.5", "de")] {
        let request = Request::get(format!("{ISSUER}/flow?flow=unknown"))
            .header(header::ACCEPT_LANGUAGE, accept)
            .body(Body::empty());
        let page = german.send(request.unwrap()).await;
        assert_eq!(page.status, 400);
        assert!(page.text.contains(&format!("<html lang=\"{language}\">")), "{accept}: {}", page.text);
    }
    // What only developers understand stays as it is, marked as English.
    let page = german.get(&authorization("web", &[("redirect_uri", "https://evil.example")])).await;
    assert!(page.text.contains("nicht für sie eingetragen"), "{}", page.text);
    let page = german.get(&format!("{}&state=2", authorization("web", &[]))).await;
    assert!(page.text.contains("<p lang=\"en\"><code>parameter `state`"), "{}", page.text);
}

#[tokio::test]
async fn choosing_a_language_leads_nowhere_else() {
    let testbed = TestBed::new().await;
    let reply = testbed.get(&format!("{ISSUER}/language?lang=de&page=/login&flow=a%26b")).await;
    assert_eq!(reply.field("location"), "/realms/shop/login?flow=a%26b");
    assert!(reply.field("set-cookie").starts_with("__Host-shop-language=de; "), "{reply:?}");
    for page in ["//evil.example", "https://evil.example", "/%5Cevil.example", "/..", ""] {
        let reply = testbed.get(&format!("{ISSUER}/language?lang=de&page={page}")).await;
        assert_eq!((reply.status.as_u16(), reply.field("location")), (400, ""), "{page}");
    }
}

#[tokio::test]
async fn a_theme_paints_pages_and_changes_nothing_else() {
    let plain = TestBed::new().await;
    for path in ["theme.css", "logo"] {
        assert_eq!(plain.get(&format!("{ISSUER}/{path}")).await.status, 404);
    }
    let theme = Theme::new(Some(b":root{--wall:#00f}".to_vec()), Some((Format::Svg, SVG.to_vec()))).unwrap();
    let testbed = TestBed::with(|settings| settings.theme = theme).await;
    let page = Browser::new(&testbed).authorize("web", &[]).await;
    for path in ["style.css", "theme.css", "logo"] {
        let place = page.text.find(&format!("/realms/shop/{path}?v=")).unwrap_or_else(|| panic!("{path}"));
        let address = page.text[place..].split('"').next().unwrap();
        let reply = testbed.get(address).await;
        assert_eq!((reply.status.as_u16(), reply.field("x-content-type-options")), (200, "nosniff"));
        assert!(reply.field("content-security-policy").contains("sandbox"));
    }
    let policy = page.field("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("img-src 'self';"), "{policy}");
    let scripts = policy.replace("script-src 'self'; ", "");
    assert!(!scripts.contains("unsafe") && !scripts.contains("script-src"), "{policy}");
}
