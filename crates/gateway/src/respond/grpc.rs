//! Refusals as calls of gRPC are told: status 200, and the call's own status beside it in a head that
//! ends the answer ("Trailers-Only" in "gRPC over HTTP2").

use http::StatusCode;
use model::RequestId;
use proxy::Additions;

/// Marks an answer without a body as the refusal of a call. The message holds what a problem document
/// does: the title, what the client may know besides, and the request's id.
pub(crate) fn mark(status: StatusCode, detail: Option<&str>, id: RequestId, fields: &mut Additions) {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    let _ = fields.push("content-type", b"application/grpc");
    let _ = fields.push("grpc-status", code(status).to_string().as_bytes());
    let _ = fields.push("grpc-message", encoded(&format!("{title}{detail} (request {id})")).as_bytes());
}

/// The status of gRPC. As "HTTP to gRPC Status Code Mapping" has it for proxies that know no gRPC; where
/// gRPC's own list of status codes names a case of ours, that counts: what is over a limit
/// (`RESOURCE_EXHAUSTED`, which clients do not repeat at once as they do `UNAVAILABLE`), out of time
/// (`DEADLINE_EXCEEDED`), or given up by its caller (`CANCELLED`).
fn code(status: StatusCode) -> u8 {
    match status.as_u16() {
        499 => 1,
        408 | 504 => 4,
        403 => 7,
        413 | 414 | 429 | 431 => 8,
        404 | 501 => 12,
        400 => 13,
        502 | 503 => 14,
        401 => 16,
        _ => 2,
    }
}

/// Percent-encodes a `grpc-message`: all but the printable characters of ASCII, and `%` itself.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => message.push(char::from(byte)),
            _ => {
                let _ = write!(message, "%{byte:02X}");
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_one_of_grpc() {
        for (status, code_) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (408, 4),
            (413, 8),
            (421, 2),
            (429, 8),
            (499, 1),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 4),
        ] {
            assert_eq!(code(StatusCode::from_u16(status).unwrap()), code_, "{status}");
        }
    }

    #[test]
    fn a_message_is_one_line_whatever_it_quotes() {
        let mut fields = Additions::default();
        let id = RequestId::new(1, 2);
        mark(StatusCode::NOT_FOUND, Some("no \"caf\u{e9}\"\r\n100%~"), id, &mut fields);
        let read: Vec<_> =
            fields.iter().map(|(name, value)| (str::from_utf8(name).unwrap(), value)).collect();
        let message = format!("Not Found: no \"caf%C3%A9\"%0D%0A100%25~ (request {id})");
        assert_eq!(
            read,
            [
                ("content-type", &b"application/grpc"[..]),
                ("grpc-status", b"12"),
                ("grpc-message", message.as_bytes()),
            ]
        );
    }
}
