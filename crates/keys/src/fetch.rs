//! The one outbound call: fetching an issuer's documents.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use model::Secret;

/// What to fetch, and how guardedly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The absolute address, `https://` unless private addresses are allowed.
    pub url: String,
    /// Whether loopback, link-local and private targets are allowed.
    pub allow_private_addresses: bool,
    /// Most bytes of body to read; more is an error.
    pub bytes_max: usize,
}

/// A document, fetched with status 200.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The body.
    pub body: Vec<u8>,
    /// The `Cache-Control` field, as it came.
    pub cache_control: Option<String>,
}

impl Fetched {
    /// For how long the origin says that it may be kept (RFC 9111 §5.2.2). `no-store`
    /// and `no-cache` count as zero; `None` when nothing readable is said.
    pub fn max_age(&self) -> Option<Duration> {
        let mut max_age = None;
        for directive in self.cache_control.as_deref()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim().to_ascii_lowercase();
            match name.as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => {
                    let seconds = value.trim().trim_matches('"').parse().ok();
                    max_age = max_age.or(seconds.map(Duration::from_secs));
                }
                _ => {}
            }
        }
        max_age
    }
}

/// Why nothing was fetched: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchFailure(pub String);

/// A running fetch.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchFailure>> + Send + 'a>>;

/// Fetches documents over the network, bounded in time and size, without following
/// redirects to other hosts. The real one stands over `proxy::fetch`.
pub trait Fetch: Send + Sync {
    /// GET with `Accept: application/json`. Any status but 200 is a failure.
    fn fetch(&self, request: FetchRequest) -> FetchFuture<'_>;
}

/// A form to post, and how guardedly.
pub struct FormRequest {
    /// The absolute address.
    pub url: String,
    /// The body, `application/x-www-form-urlencoded`.
    pub form: Secret<String>,
    /// The value of `Authorization`.
    pub authorization: Option<Secret<String>>,
    /// Whether loopback, link-local and private targets are allowed.
    pub allow_private_addresses: bool,
    /// Most bytes of answer to read; more is an error.
    pub bytes_max: usize,
}

/// What was answered to a form, with whatever status.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A running post.
pub type PostFuture<'a> = Pin<Box<dyn Future<Output = Result<Answered, FetchFailure>> + Send + 'a>>;

/// Posts forms to authorization servers, as guardedly as [`Fetch`]; redirects are answers
/// and never followed.
pub trait Post: Send + Sync {
    /// POST with `Accept: application/json`.
    fn post(&self, request: FormRequest) -> PostFuture<'_>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_age_out_of_cache_control() {
        for (field, seconds) in [
            (Some("max-age=300"), Some(300)),
            (Some("public, max-age=22056, must-revalidate"), Some(22056)),
            (Some("Max-Age=\"7\""), Some(7)),
            (Some("max-age=60, no-store"), Some(0)),
            (Some("no-cache"), Some(0)),
            (Some("max-age=-1"), None),
            (Some("max-age=99999999999999999999"), None),
            (Some("private"), None),
            (None, None),
        ] {
            let fetched = Fetched { body: Vec::new(), cache_control: field.map(str::to_owned) };
            assert_eq!(fetched.max_age().map(|age| age.as_secs()), seconds, "{field:?}");
        }
    }
}
