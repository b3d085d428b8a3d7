//! The header lines of a part besides what `Content-Disposition` says: whether another reader could
//! find another disposition in them, or none.

use super::disposition;
use crate::body::charset;

/// Longest line with `Content-Disposition` that all readers take, bytes: where it is longer Rack takes
/// the part's name from elsewhere, and finds none of a file.
const DISPOSITION_BYTES_MAX: usize = 1_536;

#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) line: Vec<u8>,
}

impl Header {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn is_disposition(&self) -> bool {
        self.is("content-disposition")
    }

    /// Whether it says of a field that its text is in another character set than it was read in.
    pub(super) fn is_in_foreign_charset(&self) -> bool {
        self.is("content-type") && charset::is_foreign(&self.value, false)
    }

    /// Whether it says of a field that its text is not what stands there.
    pub(super) fn is_encoded(&self) -> bool {
        let plain = |encoding: &str| self.value.trim_ascii().eq_ignore_ascii_case(encoding.as_bytes());
        self.is("content-transfer-encoding") && !["", "7bit", "8bit", "binary"].into_iter().any(plain)
    }

    /// Whether some readers find no file's name because of it, and so take the part for an ordinary
    /// field.
    pub(super) fn hides_the_file(&self) -> bool {
        if self.is_disposition() {
            // Perl's CGI wants a blank behind the colon.
            let behind = self.line.get(self.name.len() + 1);
            return !behind.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        }
        // What is no name of a header is none, or another one, to some; one without a value has the
        // next line for it (Perl's CGI).
        !self.name.iter().all(|byte| disposition::is_token(*byte))
            || self.value.trim_ascii().is_empty()
            || has_open_quotes(&self.value)
    }

    /// Whether some readers take the part for one of another name, or find others in it.
    pub(super) fn misleads(&self) -> bool {
        if self.is_disposition() {
            return self.line.len() > DISPOSITION_BYTES_MAX;
        }
        // Some look for the word wherever it stands, in a name or a value (Rack, Perl's CGI).
        position(&self.line, b"content-disposition").is_some() || self.is_nested()
    }

    /// Whether its part has parts of its own, which Mojolicious and Tomcat read like those around it.
    fn is_nested(&self) -> bool {
        let behind = |at: usize| self.value.get(at..).unwrap_or_default();
        self.is("content-type")
            && position(&self.value, b"multipart")
                .is_some_and(|at| position(behind(at), b"boundary").is_some())
    }
}

/// Where a word stands, in any case.
fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word))
}

/// Whether what is in quotes could go on in the next line, to readers that look for parameters in the
/// whole head of a part (Rack): a quote is left open, or one could be taken for the beginning of a value.
fn has_open_quotes(value: &[u8]) -> bool {
    let mut quoted = false;
    for byte in value {
        match byte {
            b'"' => quoted = !quoted,
            b';' | b'\\' if quoted => return true,
            _ => {}
        }
    }
    quoted
}
