//! HTTP/2: the `h2` crate's messages become ours, and go through the same admission.

pub(crate) mod frames;
pub mod head;

/// Whether a request of HTTP/2 with this content type is a call of gRPC, whose answer has a status of
/// its own: `application/grpc`, with a message format behind `+` or parameters behind `;`. gRPC-Web,
/// which browsers speak, reads the status of HTTP.
pub fn is_grpc(content_type: Option<&[u8]>) -> bool {
    let name = b"application/grpc";
    let Some((start, rest)) = content_type.and_then(|value| value.split_at_checked(name.len())) else {
        return false;
    };
    start.eq_ignore_ascii_case(name) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::is_grpc;

    #[test]
    fn calls_of_grpc_say_so() {
        for (content_type, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcs", false),
            ("application/json", false),
            ("application/grp", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(Some(content_type.as_bytes())), is, "{content_type}");
        }
        assert!(!is_grpc(None));
    }
}
