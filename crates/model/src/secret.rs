//! Values that must not leak.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// A value that has no `Debug`, `Display` or `Serialize`, is wiped from memory when
/// dropped, and is compared in constant time.
///
/// ```compile_fail
/// let secret = model::Secret::new(b"hunter2".to_vec());
/// println!("{secret:?}");
/// ```
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over. The caller must not keep a copy.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Named so that a reader of the call sees it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether `candidate` equals the secret, in time that depends on the lengths
    /// only.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_ref().ct_eq(candidate).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_the_same_bytes() {
        let secret = Secret::new(b"correct horse".to_vec());
        assert!(secret.matches(b"correct horse"));
        for wrong in [&b"correct hors"[..], b"correct horsf", b"", b"correct horse "] {
            assert!(!secret.matches(wrong));
        }
    }
}
