//! Whether a new password is good enough: long, hard to guess for somebody who knows its
//! person, and not known from a breach.

use std::path::PathBuf;

use zxcvbn::feedback::{Suggestion, Warning};

use super::breached;
use crate::Error;
use crate::login::PASSWORD_BYTES_MAX;
use crate::text::Language;
use crate::user::User;

/// Characters that are judged; what comes behind them makes it no weaker.
const JUDGED_CHARACTERS_MAX: usize = 72;
/// Most words about a person that are judged against.
const WORDS_MAX: usize = 32;

/// What new passwords have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordRules {
    /// Fewest characters. Within [`Self::LENGTHS`].
    pub length_min: usize,
    /// Least strength by zxcvbn, 0 to 4: 3 takes some hundred million guesses.
    pub strength_min: u8,
    /// Sorted SHA-1 hashes of passwords that are known from breaches.
    pub breached: Option<PathBuf>,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self { length_min: *Self::LENGTHS.start(), strength_min: 3, breached: None }
    }
}

impl PasswordRules {
    /// What [`Self::length_min`] may be (NIST SP 800-63B §3.1.1.2 for the least).
    pub const LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;
    /// What [`Self::strength_min`] may be.
    pub const STRENGTHS: std::ops::RangeInclusive<u8> = 0..=4;

    pub(crate) fn fault(&self) -> Option<String> {
        let (lengths, strengths) = (Self::LENGTHS, Self::STRENGTHS);
        if !lengths.contains(&self.length_min) {
            return Some(format!("passwords: expected a length of {lengths:?}, found {}", self.length_min));
        }
        let found = self.strength_min;
        (!strengths.contains(&found))
            .then(|| format!("passwords: expected a strength of {strengths:?}, found {found}"))
    }
}

/// Why a new password is not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Weakness {
    /// Fewer characters than this.
    Short(usize),
    /// More bytes than [`PASSWORD_BYTES_MAX`].
    Long,
    /// Too easy to guess.
    Guessable {
        /// What makes it so.
        warning: Option<Warning>,
        /// What would make it better.
        suggestions: Vec<Suggestion>,
    },
    /// Known from a breach.
    Breached,
}

impl Weakness {
    /// What its person is told: sentences.
    pub fn sentences(&self, language: Language) -> Vec<String> {
        let texts = &language.texts().password;
        match self {
            Self::Short(least) => vec![texts.too_short.with(&least.to_string())],
            Self::Long => vec![texts.too_long.to_owned()],
            Self::Breached => vec![texts.breached.to_owned()],
            Self::Guessable { warning, suggestions } => {
                let mut sentences = vec![texts.guessable.to_owned()];
                sentences.extend(warning.map(|warning| (texts.warning)(warning).to_owned()));
                sentences.extend(suggestions.iter().map(|one| (texts.suggestion)(*one).to_owned()));
                sentences
            }
        }
    }
}

/// Judges a password. Blocks: reads a file, and computes for some milliseconds.
pub(super) fn judge(
    rules: &PasswordRules,
    words: &[String],
    password: &str,
) -> Result<Option<Weakness>, Error> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(Some(Weakness::Long));
    }
    if password.chars().count() < rules.length_min {
        return Ok(Some(Weakness::Short(rules.length_min)));
    }
    let judged: String = password.chars().take(JUDGED_CHARACTERS_MAX).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let entropy = zxcvbn::zxcvbn(&judged, &words);
    if u8::from(entropy.score()) < rules.strength_min {
        let feedback = entropy.feedback();
        return Ok(Some(Weakness::Guessable {
            warning: feedback.and_then(zxcvbn::feedback::Feedback::warning),
            suggestions: feedback.map(|feedback| feedback.suggestions().to_vec()).unwrap_or_default(),
        }));
    }
    let Some(path) = &rules.breached else { return Ok(None) };
    let known = breached::contains(path, password.as_bytes())
        .map_err(|error| Error::Password(format!("{}: {error}", path.display())))?;
    Ok(known.then_some(Weakness::Breached))
}

/// What somebody who knows a person would try first.
pub(super) fn words_about(user: &User, realm: &str) -> Vec<String> {
    let email = user.email.as_deref();
    let local = email.and_then(|email| email.split('@').next());
    let texts = [Some(user.username.as_str()), user.name.as_deref(), email, local, Some(realm)];
    let mut words: Vec<String> = Vec::new();
    for text in texts.into_iter().flatten() {
        let parts = text.split(|one: char| !one.is_alphanumeric());
        let long_enough = |word: &&str| word.chars().count() > 2;
        words.extend(std::iter::once(text).chain(parts).filter(long_enough).map(str::to_lowercase));
    }
    words.iter_mut().for_each(|word| *word = word.chars().take(JUDGED_CHARACTERS_MAX).collect());
    words.truncate(WORDS_MAX);
    words
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    fn alice() -> Vec<String> {
        let mut alice = User::new("1", "aliceliddell", Timestamp::default());
        alice.name = Some("Alice Pleasance Liddell".to_owned());
        alice.email = Some("wonderland.rabbit@example.org".to_owned());
        words_about(&alice, "Chessboard")
    }

    #[test]
    fn a_password_is_judged_by_whom_it_is_of() {
        let rules = PasswordRules::default();
        let judge = |words: &[String], password: &str| judge(&rules, words, password).unwrap();
        assert_eq!(judge(&alice(), "correct horse battery staple"), None);
        for guessable in ["password", "Passw0rd!", "qwertzuiop", "aaaaaaaaaaaa", "12345678", "january2024"] {
            let found = judge(&[], guessable);
            assert!(matches!(found, Some(Weakness::Guessable { .. })), "{guessable}: {found:?}");
        }
        // Good for anybody but her.
        for own in ["pleasanceliddell", "wonderland.rabbit", "chessboardliddell"] {
            assert_eq!(judge(&[], own), None, "{own}");
            assert!(matches!(judge(&alice(), own), Some(Weakness::Guessable { .. })), "{own}");
        }
    }

    #[test]
    fn lengths_have_bounds() {
        let rules = PasswordRules { strength_min: 0, ..PasswordRules::default() };
        let judge = |password: &str| judge(&rules, &[], password).unwrap();
        assert_eq!(judge("1234567"), Some(Weakness::Short(8)));
        assert_eq!(judge("ääääää7"), Some(Weakness::Short(8)), "characters count, not bytes");
        assert_eq!(judge("12345678"), None);
        assert_eq!(judge(&"x".repeat(PASSWORD_BYTES_MAX)), None);
        assert_eq!(judge(&"x".repeat(PASSWORD_BYTES_MAX + 1)), Some(Weakness::Long));
        for (length, strength, good) in [(8, 4, true), (7, 3, false), (129, 3, false), (8, 5, false)] {
            let rules = PasswordRules { length_min: length, strength_min: strength, breached: None };
            assert_eq!(rules.fault().is_none(), good, "{rules:?}");
        }
    }

    #[test]
    fn a_password_from_a_breach_is_not_taken_and_a_file_that_cannot_be_read_lets_none_pass() {
        let strong = "correct horse battery staple";
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, strong.as_bytes());
        let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{digits}:3\r\n")).unwrap();
        let rules = PasswordRules { breached: Some(file.path().to_owned()), ..PasswordRules::default() };
        assert_eq!(judge(&rules, &[], strong).unwrap(), Some(Weakness::Breached));
        assert_eq!(judge(&rules, &[], "another horse battery staple").unwrap(), None);
        drop(file);
        assert!(judge(&rules, &[], strong).is_err());
    }

    #[test]
    fn every_weakness_is_told_in_every_language() {
        let guessable = Weakness::Guessable {
            warning: Some(Warning::ThisIsATop10Password),
            suggestions: vec![Suggestion::AddAnotherWordOrTwo],
        };
        let told = |weakness: &Weakness| Language::ALL.map(|language| weakness.sentences(language).join(" "));
        for weakness in [Weakness::Short(12), Weakness::Long, Weakness::Breached, guessable] {
            let [english, german] = told(&weakness);
            assert!(!english.is_empty() && english != german, "{english} {german}");
        }
        assert!(told(&Weakness::Short(12)).iter().all(|text| text.contains("12")));
    }
}
