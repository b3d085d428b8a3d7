//! What the hop said about the head: admitted, or refused with the class of input that
//! it falls into.

use http::StatusCode;
use model::event::Step;
use proxy::Admitted;

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::step::inspect;

/// Takes the admitted request, or refuses as admission did: then the firewall has seen
/// the head, so that the log names the attack.
///
/// # Errors
/// The head was refused.
pub async fn admit(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    arrived: Result<Admitted, proxy::Refusal>,
) -> Result<Admitted, Stop> {
    journey.step = Step::Admit;
    match arrived {
        Ok(admitted) => {
            journey.note_head(admitted.head());
            Ok(admitted)
        }
        Err(refused) => {
            journey.note_refused_head(&refused);
            inspect::refused_head(gateway, journey, &refused.seen.raw).await;
            let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let class = refused.class.row().name;
            let mut refusal = Refusal::new(Step::Admit, class, status, refused.to_string());
            refusal.silent = is_simple_request(&refused.seen.raw);
            Err(refusal.into())
        }
    }
}

/// Whether a request line, whole, names no version: an HTTP/0.9 client, which would take a
/// status line for the document (RFC 1945 §6.0), so it gets none. Of one that is too long the
/// version has not come yet.
fn is_simple_request(raw: &[u8]) -> bool {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let Some(end) = raw.iter().position(is_end) else { return false };
    let line = raw.get(..end).unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    words.next() == Some(b"GET") && words.next().is_some() && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::is_simple_request;

    #[test]
    fn only_a_line_without_a_version_is_a_simple_request() {
        for (raw, simple) in [
            (&b"GET /\r\nhost: a\r\n\r\n"[..], true),
            (b"GET / \r\n\r\n", true),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"GET / 1.1\r\n\r\n", false),
            (b"POST /\r\n\r\n", false),
            (b"GET\r\n\r\n", false),
            (b"GET /that-goes-on-and", false),
            (b"", false),
        ] {
            assert_eq!(is_simple_request(raw), simple, "{raw:?}");
        }
    }
}
