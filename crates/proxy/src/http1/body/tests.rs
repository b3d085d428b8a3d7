use super::*;

fn limits(body_bytes_max: u64) -> Limits {
    let mut limits = Limits::default();
    limits.set("body_bytes_max", body_bytes_max).unwrap();
    limits
}

/// All data of a body, and what is left over.
fn read(framing: Framing, limits: &Limits, bytes: &[u8]) -> Result<(Vec<u8>, BytesMut), BodyError> {
    let mut decoder = Decoder::new(framing, limits);
    let (mut buffer, mut data) = (BytesMut::from(bytes), Vec::new());
    loop {
        match decoder.decode(&mut buffer)? {
            Some(Frame::Data(piece)) => data.extend_from_slice(&piece),
            Some(_) => return Ok((data, buffer)),
            None => match decoder.end_of_input()? {
                Frame::End => return Ok((data, buffer)),
                frame => panic!("{frame:?}"),
            },
        }
    }
}

#[test]
fn each_framing_takes_its_own_bytes_and_no_more() {
    let limits = Limits::default();
    for (framing, bytes, data, left) in [
        (Framing::None, &b"GET /"[..], &b""[..], &b"GET /"[..]),
        (Framing::Length(0), b"GET /", b"", b"GET /"),
        (Framing::Length(5), b"helloGET /", b"hello", b"GET /"),
        (Framing::Chunked, b"5\r\nhello\r\n0\r\n\r\nGET /", b"hello", b"GET /"),
        (Framing::Close, b"hello", b"hello", b""),
    ] {
        let (read, rest) = read(framing, &limits, bytes).unwrap();
        assert_eq!((&read[..], &rest[..]), (data, left), "{framing:?}");
    }
}

#[test]
fn after_the_end_there_is_only_the_end() {
    let mut decoder = Decoder::new(Framing::Length(2), &Limits::default());
    let mut buffer = BytesMut::from(&b"hiGET /"[..]);
    assert!(matches!(decoder.decode(&mut buffer), Ok(Some(Frame::Data(_)))));
    for _ in 0..2 {
        assert!(matches!(decoder.decode(&mut buffer), Ok(Some(Frame::End))));
        assert!(decoder.ended());
    }
    assert_eq!((&buffer[..], decoder.bytes_read()), (&b"GET /"[..], 2));
}

#[test]
fn boundary_body_bytes_max() {
    let over = |framing, bytes: &[u8]| {
        matches!(read(framing, &limits(5), bytes), Err(BodyError::TooLarge { limit: 5 }))
    };
    assert!(!over(Framing::Length(5), b"hello") && over(Framing::Length(6), b"hello!"));
    assert!(!over(Framing::Close, b"hello") && over(Framing::Close, b"hello!"));
    assert!(!over(Framing::Chunked, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"));
    assert!(over(Framing::Chunked, b"2\r\nhe\r\n4\r\nllo!\r\n0\r\n\r\n"));
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_first_byte() {
    let mut decoder = Decoder::new(Framing::Length(6), &limits(5));
    assert!(matches!(decoder.decode(&mut BytesMut::new()), Err(BodyError::TooLarge { .. })));
    decoder.set_limit(6);
    assert!(matches!(decoder.decode(&mut BytesMut::new()), Ok(None)));
}
