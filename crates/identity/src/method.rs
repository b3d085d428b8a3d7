//! Methods of authentication, by their names in `amr` (RFC 8176 §2).

/// A password.
pub(crate) const PASSWORD: &str = "pwd";
/// A one-time code, of an app or a recovery code.
pub(crate) const ONE_TIME: &str = "otp";
/// A key that its hardware keeps.
pub(crate) const HARDWARE_KEY: &str = "hwk";
/// A key that may be copied to other devices.
pub(crate) const SOFTWARE_KEY: &str = "swk";
/// Somebody was there.
pub(crate) const USER: &str = "user";
/// Several of what one knows, has and is; or a key whose holder was verified.
pub(crate) const SEVERAL: &str = "mfa";

/// Everything that can be shown.
pub(crate) const ALL: [&str; 6] = [PASSWORD, ONE_TIME, HARDWARE_KEY, SOFTWARE_KEY, USER, SEVERAL];

/// What was shown, with what was shown now.
pub(crate) fn add(shown: &[String], more: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = shown.to_vec();
    for method in more {
        if !all.iter().any(|known| known == method) {
            all.push((*method).to_owned());
        }
    }
    let has = |methods: &[&str]| all.iter().any(|known| methods.contains(&known.as_str()));
    if has(&[PASSWORD]) && has(&[ONE_TIME, HARDWARE_KEY, SOFTWARE_KEY]) && !has(&[SEVERAL]) {
        all.push(SEVERAL.to_owned());
    }
    all
}
