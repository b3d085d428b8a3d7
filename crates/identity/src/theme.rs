//! What pages look like besides our own style sheet: a further one, and a logo.
//!
//! Texts and structure stay ours: a theme can paint a page, not change what it asks. The
//! Content Security Policy lets a style sheet load nothing but from the realm itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::realm::Realm;

/// Longest style sheet of a theme, bytes.
pub const STYLE_BYTES_MAX: usize = 64 * 1024;
/// Largest logo, bytes.
pub const LOGO_BYTES_MAX: usize = 256 * 1024;
/// The style sheet that every page has.
const STYLE: &str = include_str!("../templates/style.css");
/// What browsers show beside the title of a page.
const ICON: &[u8] = include_bytes!("../templates/icon.svg");

/// A theme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theme {
    style: Option<Arc<str>>,
    logo: Option<(Format, Arc<[u8]>)>,
    /// Changes with the content, so that browsers keep nothing that is old.
    tag: String,
}

/// The format of a logo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SVG: drawn as an image, in which no script runs.
    Svg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Svg, Self::Png, Self::Webp];

    /// The ending of file names.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    const fn media(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    /// Whether the bytes look like it.
    fn fits(self, bytes: &[u8]) -> bool {
        match self {
            Self::Svg => std::str::from_utf8(bytes).is_ok_and(|text| text.contains("<svg")),
            Self::Png => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Webp => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
        }
    }
}

impl Theme {
    /// A theme of these parts.
    ///
    /// # Errors
    /// What was expected and what was found: a part is too large, the style sheet is not
    /// UTF-8, or the logo is not of its format.
    pub fn new(style: Option<Vec<u8>>, logo: Option<(Format, Vec<u8>)>) -> Result<Self, String> {
        let style = style.map(|bytes| {
            let length = bytes.len();
            let text = Some(bytes).filter(|_| length <= STYLE_BYTES_MAX);
            let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| {
                format!(
                    "expected a style sheet of at most {STYLE_BYTES_MAX} bytes of UTF-8, found {length} bytes"
                )
            })
        });
        if let Some((format, bytes)) = &logo
            && (bytes.len() > LOGO_BYTES_MAX || !format.fits(bytes))
        {
            let (name, length) = (format.extension(), bytes.len());
            return Err(format!(
                "expected a {name} image of at most {LOGO_BYTES_MAX} bytes, found {length} bytes"
            ));
        }
        Ok(Self::of(style.transpose()?, logo))
    }

    fn of(style: Option<String>, logo: Option<(Format, Vec<u8>)>) -> Self {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in [STYLE.as_bytes(), style.as_deref().unwrap_or_default().as_bytes()] {
            digest.update(part);
            digest.update(b"\0");
        }
        digest.update(logo.as_ref().map_or(&[][..], |(_, bytes)| bytes));
        let hash = digest.finish();
        let tag = keys::encoding::encode_base64url(hash.as_ref().get(..9).unwrap_or_default());
        Self {
            style: style.map(Arc::from),
            logo: logo.map(|(format, bytes)| (format, Arc::from(bytes))),
            tag,
        }
    }

    /// Of the content.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    pub(crate) fn has_style(&self) -> bool {
        self.style.is_some()
    }

    pub(crate) fn has_logo(&self) -> bool {
        self.logo.is_some()
    }
}

impl Default for Theme {
    fn default() -> Self {
        Self::of(None, None)
    }
}

/// Answers `GET /style.css`.
pub(crate) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE.as_bytes().to_vec())
}

/// Answers `GET /theme.css`.
pub(crate) async fn theme_style(State(realm): State<Arc<Realm>>) -> Response {
    match &realm.settings.theme.style {
        Some(style) => file("text/css; charset=utf-8", style.as_bytes().to_vec()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Answers `GET /logo`.
pub(crate) async fn logo(State(realm): State<Arc<Realm>>) -> Response {
    match &realm.settings.theme.logo {
        Some((format, bytes)) => file(format.media(), bytes.to_vec()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Answers `GET /icon.svg`: without it browsers ask for `/favicon.ico`, which may be another
/// service's.
pub(crate) async fn icon() -> Response {
    file("image/svg+xml", ICON.to_vec())
}

fn file(media: &'static str, bytes: Vec<u8>) -> Response {
    // An SVG that somebody opens by itself is a document: one that may do nothing.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
    let fields = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (fields, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

    #[test]
    fn parts_have_bounds_and_are_what_they_are_called() {
        assert!(Theme::new(Some(vec![b' '; STYLE_BYTES_MAX]), None).is_ok());
        assert!(Theme::new(Some(vec![b' '; STYLE_BYTES_MAX + 1]), None).is_err());
        assert!(Theme::new(Some(vec![0xff]), None).is_err());
        let logo = |format, bytes: &[u8]| Theme::new(None, Some((format, bytes.to_vec()))).is_ok();
        assert!(logo(Format::Svg, SVG) && logo(Format::Png, b"\x89PNG\r\n\x1a\nx"));
        assert!(logo(Format::Webp, b"RIFF\0\0\0\0WEBP"));
        assert!(!logo(Format::Png, SVG) && !logo(Format::Svg, b"<html></html>"));
        let mut large = SVG.to_vec();
        large.resize(LOGO_BYTES_MAX, b' ');
        assert!(logo(Format::Svg, &large));
        large.push(b' ');
        assert!(!logo(Format::Svg, &large));
    }

    #[test]
    fn another_content_has_another_tag() {
        let style = |text: &str| Theme::new(Some(text.as_bytes().to_vec()), None).unwrap();
        assert_ne!(style("a{}").tag(), style("b{}").tag());
        assert_ne!(style("").tag(), Theme::new(None, Some((Format::Svg, SVG.to_vec()))).unwrap().tag());
        assert_eq!(style("a{}").tag(), style("a{}").tag());
    }
}
