//! The bodies of the fuzz targets: any bytes at all are read or refused.

use crate::claim::Asked;
use crate::client::redirect;
use crate::parameter::Parameters;

/// Reads bytes as the parameters of a request, and each value as everything that a
/// parameter can be.
///
/// # Panics
/// When parameters do not survive being written and read again, or when an address counts
/// as registered that leads somewhere else: that is the finding.
pub fn request(bytes: &[u8]) {
    let Ok(parameters) = Parameters::parse(bytes) else { return };
    let again = Parameters::parse(parameters.to_text().as_bytes()).ok();
    assert_eq!(again.as_ref(), Some(&parameters), "written and read again");
    let registered = ["https://app.example/cb".to_owned(), "http://127.0.0.1/cb".to_owned()];
    for name in ["claims", "scope", "resource", "redirect_uri"] {
        let Some(value) = parameters.get(name) else { continue };
        let _ = Asked::parse(value);
        let _ = crate::scope::parse(value);
        let _ = crate::resource::check(value);
        if redirect::is_registered(value, &registered) {
            let port = value.strip_prefix("http://127.0.0.1").and_then(|rest| rest.strip_suffix("/cb"));
            let own = |port: &str| port.is_empty() || port.starts_with(':');
            assert!(value == "https://app.example/cb" || port.is_some_and(own), "{value}");
        }
    }
}
