use super::*;

fn read(limits: &Limits, bytes: &[u8]) -> Result<(Vec<u8>, Option<Fields>), Class> {
    let mut decoder = Decoder::new(limits);
    let (mut buffer, mut data) = (BytesMut::from(bytes), Vec::new());
    loop {
        match decoder.decode(&mut buffer)? {
            Some(Frame::Data(piece)) => data.extend_from_slice(&piece),
            Some(Frame::Trailers(fields)) => return Ok((data, Some(fields))),
            Some(Frame::End) => return Ok((data, None)),
            None => panic!("incomplete"),
        }
    }
}

fn limits(name: &str, value: u64) -> Limits {
    let mut limits = Limits::default();
    limits.set(name, value).unwrap();
    limits
}

#[test]
fn trailers_come_with_folded_names() {
    let (data, trailers) =
        read(&Limits::default(), b"3\r\nabc\r\n0\r\nGrpc-Status:  0 \r\nX: \r\n\r\n").unwrap();
    assert_eq!(data, b"abc");
    let trailers = trailers.unwrap();
    assert_eq!(trailers.kept().collect::<Vec<_>>(), [(&b"grpc-status"[..], &b"0"[..]), (b"x", b"")]);
}

#[test]
fn boundary_chunk_size_digits() {
    // Fifteen digits are the most: the largest size has 60 bits and cannot overflow.
    let mut decoder = Decoder::new(&Limits::default());
    let decoded = decoder.decode(&mut BytesMut::from(&b"fffffffffffffff\r\nx"[..]));
    assert!(matches!(decoded, Ok(Some(Frame::Data(_)))));
    let mut decoder = Decoder::new(&Limits::default());
    let decoded = decoder.decode(&mut BytesMut::from(&b"0000000000000000\r\n"[..]));
    assert_eq!(decoded.unwrap_err(), Class::BadChunk);
}

#[test]
fn boundary_chunk_extension_bytes_max() {
    let body = |length: usize| format!("0;{}\r\n\r\n", "e".repeat(length - 1)).into_bytes();
    let limited = limits("chunk_extension_bytes_max", 10);
    assert!(read(&limited, &body(10)).is_ok());
    assert_eq!(read(&limited, &body(11)).unwrap_err(), Class::ChunkExtensionTooLong);
    let none = limits("chunk_extension_bytes_max", 0);
    assert!(read(&none, b"0\r\n\r\n").is_ok());
    assert_eq!(read(&none, b"0;\r\n\r\n").unwrap_err(), Class::ChunkExtensionTooLong);
}

#[test]
fn boundary_trailer_bytes_max() {
    let body = |length: usize| format!("0\r\nX: {}\r\n\r\n", "v".repeat(length - 7)).into_bytes();
    let limited = limits("trailer_bytes_max", 100);
    assert!(read(&limited, &body(100)).is_ok());
    assert_eq!(read(&limited, &body(101)).unwrap_err(), Class::TrailerTooLarge);
    // An open trailer line cannot grow past it either.
    let mut decoder = Decoder::new(&limited);
    let decoded = decoder.decode(&mut BytesMut::from(&body(300)[..120]));
    assert_eq!(decoded.unwrap_err(), Class::TrailerTooLarge);
}

#[test]
fn as_many_trailers_as_header_fields_and_no_more() {
    let body = |count: usize| format!("0\r\n{}\r\n", "X: 1\r\n".repeat(count)).into_bytes();
    let limited = limits("header_count_max", 3);
    assert_eq!(read(&limited, &body(3)).unwrap().1.unwrap().len(), 3);
    assert_eq!(read(&limited, &body(4)).unwrap_err(), Class::TrailerTooLarge);
}
