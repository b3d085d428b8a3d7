//! The bodies of the fuzz targets: any bytes at all are read or refused.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::call;
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

/// Reads bytes as the `Cookie` fields of a request, a line each, and looks for every name
/// that stands in them.
///
/// # Panics
/// When a cookie counts that is there twice, or one that is there once does not: that is the
/// finding.
pub fn cookies(bytes: &[u8]) {
    let mut fields = HeaderMap::new();
    for line in bytes.split(|&byte| byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(header::COOKIE, value);
        }
    }
    let readable = fields.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let names: Vec<&str> = readable
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, _)| name.trim_start())
        .collect();
    for name in &names {
        let count = names.iter().filter(|other| *other == name).count();
        assert_eq!(call::cookie(&fields, name).is_some(), count == 1, "{name:?} stands there {count} times");
    }
}
