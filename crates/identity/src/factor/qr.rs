//! QR codes as SVG: made here, shown inline, so that nothing is fetched and no other
//! service sees a secret.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

use crate::Error;

/// Light modules around a code, so that readers find it (ISO 18004 §5.3.8).
const QUIET: usize = 4;

/// A code: what a template draws it from.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// Modules from edge to edge, the quiet zone included.
    pub(crate) size: usize,
    /// The dark modules as an SVG path.
    pub(crate) path: String,
}

/// The code of a text.
///
/// # Errors
/// [`Error::Record`]: the text is too long.
pub(crate) fn code(text: &str) -> Result<Code, Error> {
    let made = QrCode::with_error_correction_level(text, EcLevel::M);
    let made = made.map_err(|error| Error::Record { what: "QR code".to_owned(), why: error.to_string() })?;
    let width = made.width().max(1);
    let mut path = String::new();
    for (at, color) in made.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (at % width + QUIET, at / width + QUIET);
            // Writing to a text does not fail.
            let _ = write!(path, "M{x} {y}h1v1h-1z");
        }
    }
    Ok(Code { size: width + 2 * QUIET, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finder_patterns_are_where_readers_look_for_them() {
        let code = code("otpauth://totp/x:y?secret=ABCDEFGH").unwrap();
        let dark = |x: usize, y: usize| code.path.contains(&format!("M{x} {y}h1"));
        let far = code.size - QUIET - 1;
        for (x, y) in [(QUIET, QUIET), (far, QUIET), (QUIET, far)] {
            assert!(dark(x, y), "{x} {y}");
        }
        assert!(!dark(QUIET + 1, QUIET + 1) && !dark(QUIET - 1, QUIET));
        assert!(super::code(&"x".repeat(5000)).is_err());
    }
}
