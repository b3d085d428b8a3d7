use super::*;

const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-Long-Name: value with spaces\r\n\r\n";

fn limits(name: &str, value: u64) -> Limits {
    let mut limits = Limits::default();
    limits.set(name, value).unwrap();
    limits
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Option<RawRequest>, Class> {
    Reader::new().read(&mut BytesMut::from(bytes), limits).map_err(|refusal| refusal.class)
}

#[test]
fn a_head_is_read_byte_by_byte_as_at_once() {
    let limits = Limits::default();
    let (mut reader, mut buffer) = (Reader::new(), BytesMut::new());
    for (place, &byte) in HEAD.iter().enumerate() {
        buffer.extend_from_slice(&[byte]);
        let read = reader.read(&mut buffer, &limits).unwrap();
        assert_eq!(read.is_some(), place + 1 == HEAD.len(), "after {} bytes", place + 1);
        assert_eq!(reader.begun(), read.is_none());
    }
}

#[test]
fn what_follows_a_head_stays_for_the_next_one() {
    let limits = Limits::default();
    let mut buffer = BytesMut::from([HEAD, HEAD, b"GET"].concat().as_slice());
    let mut reader = Reader::new();
    for _ in 0..2 {
        let raw = reader.read(&mut buffer, &limits).unwrap().unwrap();
        assert_eq!(raw.fields.buffer.len(), HEAD.len());
        reader.recycle(raw.fields);
    }
    assert!(reader.read(&mut buffer, &limits).unwrap().is_none());
    assert_eq!(buffer, &b"GET"[..]);
}

#[test]
fn names_are_folded_and_known_and_values_are_left_alone() {
    let raw = read(b"GET / HTTP/1.1\r\nHOST: A\r\nX-Forwarded-Proto:  B \r\n\r\n", &Limits::default());
    let raw = raw.unwrap().unwrap();
    let entries: Vec<_> = raw.fields.entries().collect();
    use crate::head::Known;
    assert_eq!(
        entries,
        [(Known::Host, &b"host"[..], &b"A"[..]), (Known::XForwarded, b"x-forwarded-proto", b"B")]
    );
}

#[test]
fn a_refused_head_still_names_what_was_asked() {
    let bytes = b"GET /secret?x HTTP/1.1\r\nHost : shop\r\nuser-agent: evil/1\r\nX: a\0b\r\n\r\n";
    let refusal = Reader::new().read(&mut BytesMut::from(&bytes[..]), &Limits::default()).unwrap_err();
    assert_eq!(refusal.class, Class::SpaceBeforeColon);
    let seen = &refusal.seen;
    assert_eq!((&seen.method[..], &seen.target[..]), (&b"GET"[..], &b"/secret?x"[..]));
    assert_eq!((&seen.host[..], &seen.user_agent[..]), (&b"shop"[..], &b"evil/1"[..]));
    assert_eq!(seen.raw, &bytes[..]);
}

#[test]
fn what_a_refusal_keeps_is_bounded() {
    let target = "/t".repeat(2000);
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nbad line\r\n\r\n", "h".repeat(1000));
    let refusal = Reader::new().read(&mut BytesMut::from(bytes.as_bytes()), &Limits::default()).unwrap_err();
    assert_eq!(refusal.seen.target.len(), crate::admit::TARGET_BYTES_MAX);
    assert_eq!(refusal.seen.host.len(), crate::admit::TEXT_BYTES_MAX);
}

#[test]
fn boundary_head_bytes_max() {
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "v".repeat(length - start.len() - 4)).into_bytes()
    };
    let limits = limits("head_bytes_max", 2048);
    assert!(read(&head(2048), &limits).unwrap().is_some());
    assert_eq!(read(&head(2049), &limits).unwrap_err(), Class::HeadTooLarge);
    // An open head is refused as soon as it cannot become complete in time.
    assert!(read(&head(4096)[..2047], &limits).unwrap().is_none());
    assert_eq!(read(&head(4096)[..2048], &limits).unwrap_err(), Class::HeadTooLarge);
}

#[test]
fn boundary_header_count_max() {
    let head = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count)).into_bytes();
    for most in [1, 100, 256] {
        let limits = limits("header_count_max", most);
        let most = usize::try_from(most).unwrap();
        assert_eq!(read(&head(most), &limits).unwrap().unwrap().fields.len(), most);
        assert_eq!(read(&head(most + 1), &limits).unwrap_err(), Class::TooManyHeaders);
    }
}

#[test]
fn boundary_uri_bytes_max() {
    let head =
        |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "u".repeat(length - 1)).into_bytes();
    let limits = limits("uri_bytes_max", 100);
    assert!(read(&head(100), &limits).unwrap().is_some());
    assert_eq!(read(&head(101), &limits).unwrap_err(), Class::TargetTooLong);
    // A request line that never ends is refused by its length, not by the head's.
    assert_eq!(read(&head(1000)[..300], &limits).unwrap_err(), Class::TargetTooLong);
}

#[test]
fn a_request_line_has_one_limit_however_it_is_cut_and_whatever_makes_it_long() {
    let limits = limits("uri_bytes_max", 100);
    // 64 bytes beside the target, CR LF among them.
    for (length, fits) in [(164, true), (165, false)] {
        let method = "M".repeat(length - " / HTTP/1.1\r\n".len());
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        for cut in [1, 7, 164, 1000] {
            let mut reader = Reader::new();
            let mut buffer = BytesMut::new();
            let mut read = None;
            for piece in head.chunks(cut) {
                buffer.extend_from_slice(piece);
                read = read.or(reader.read(&mut buffer, &limits).transpose());
            }
            match read.unwrap() {
                Ok(_) => assert!(fits, "{length} bytes cut at {cut}"),
                Err(refusal) => {
                    assert!(!fits && refusal.class == Class::TargetTooLong, "{length} cut at {cut}")
                }
            }
        }
    }
}
