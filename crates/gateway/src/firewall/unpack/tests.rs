use super::*;
use std::io::Write;

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

fn packed(coding: Coding, plain: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
    match coding {
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(plain).unwrap();
            encoder.into_inner()
        }
        Coding::Zstd => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn bare_deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Unpacks a body that comes in pieces.
fn unpack(coding: Coding, body: &[u8], piece: usize, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    let mut unpacker = Unpacker::new(coding, bytes_max)?;
    let mut plain = Vec::new();
    for piece in body.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            let given = unpacker.step(&mut input)?;
            plain.extend_from_slice(given);
            assert!(given.len() <= STEP_BYTES);
            if given.is_empty() && input.is_empty() {
                break;
            }
        }
    }
    unpacker.finish().map(|()| plain)
}

fn page(bytes: usize) -> Vec<u8> {
    (0..)
        .flat_map(|number: u32| format!("<p>line {number} of a page</p>\n").into_bytes())
        .take(bytes)
        .collect()
}

/// Bytes that nothing compresses.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn what_was_packed_is_read_however_it_is_cut() {
    for coding in ALL {
        for bytes in [0, 1, 100, STEP_BYTES, STEP_BYTES + 1, 300_000] {
            let plain = page(bytes);
            let body = packed(coding, &plain);
            for piece in [if bytes < 1000 { 1 } else { 1000 }, 4096, body.len().max(1)] {
                assert_eq!(
                    unpack(coding, &body, piece, 1 << 20),
                    Ok(plain.clone()),
                    "{coding:?} {bytes} {piece}"
                );
            }
        }
        assert_eq!(unpack(coding, b"", 1, 100), Ok(Vec::new()), "{coding:?}: no body is no fault");
    }
    assert_eq!(unpack(Coding::Deflate, &bare_deflate(b"bare"), 2, 100), Ok(b"bare".to_vec()));
}

#[test]
fn members_and_frames_may_follow_each_other_and_nothing_else() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let twice = [packed(coding, b"one "), packed(coding, b"two")].concat();
        for piece in [1, 3, twice.len()] {
            assert_eq!(unpack(coding, &twice, piece, 100), Ok(b"one two".to_vec()), "{coding:?}");
        }
    }
    for coding in ALL {
        let trailed = [packed(coding, b"plain"), b"attack".to_vec()].concat();
        let error = unpack(coding, &trailed, trailed.len(), 100).unwrap_err();
        assert!(matches!(error, Unreadable::Broken(_) | Unreadable::Misfit(_)), "{coding:?}: {error}");
    }
}

#[test]
fn a_broken_stream_is_told() {
    for coding in ALL {
        let body = packed(coding, &page(5000));
        let cut = &body[..body.len() - 1];
        assert_eq!(unpack(coding, cut, 100, 1 << 20), Err(Unreadable::Misfit(coding.name())), "{coding:?}");
        let error = unpack(coding, b"\x07no such stream", 100, 1 << 20).unwrap_err();
        assert!(matches!(error, Unreadable::Broken(_) | Unreadable::Misfit(_)), "{coding:?}: {error}");
    }
    let mut body = packed(Coding::Gzip, &page(5000));
    let sum = body.len() - 6;
    body[sum] ^= 1;
    assert_eq!(
        unpack(Coding::Gzip, &body, 100, 1 << 20),
        Err(Unreadable::Broken("gzip")),
        "a false checksum"
    );
}

#[test]
fn a_bomb_is_stopped_and_a_repetitive_page_is_not() {
    let most = usize::try_from(RATIO_FREE_BYTES).unwrap();
    for coding in ALL {
        let page = vec![b' '; most];
        assert_eq!(unpack(coding, &packed(coding, &page), 4096, 1 << 30), Ok(page), "{coding:?}");
        let bomb = packed(coding, &vec![b' '; most * 8]);
        assert_eq!(unpack(coding, &bomb, 4096, 1 << 30), Err(Unreadable::Bomb), "{coding:?}");
        let long = super::tests::page(most * 2);
        assert_eq!(unpack(coding, &packed(coding, &long), 4096, 1 << 30), Ok(long), "{coding:?}");
    }
}

#[test]
fn a_stream_that_unpacks_to_nothing_is_not_taken_in_for_ever() {
    // A skippable frame (RFC 8878 §3.1.2), and gzip members of nothing.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18][..], &60_000_u32.to_le_bytes(), &[0; 60_000]].concat();
    let empty = packed(Coding::Gzip, b"").repeat(3000);
    for (coding, body) in [(Coding::Zstd, skippable), (Coding::Gzip, empty)] {
        let error = unpack(coding, &body, 4096, 1000).unwrap_err();
        assert!(matches!(error, Unreadable::TooLong(_)), "{coding:?}: {error}");
        assert_eq!(unpack(coding, &body, 4096, 1 << 20), Ok(Vec::new()), "{coding:?}");
    }
    let honest = noise(100_000);
    for coding in ALL {
        let body = packed(coding, &honest);
        assert_eq!(unpack(coding, &body, 4096, 100_000), Ok(honest.clone()), "{coding:?}: longer packed");
    }
}

#[test]
fn a_window_that_no_reader_over_http_has_is_refused() {
    let pack = |log: u32| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(log)).unwrap();
        for piece in noise(1 << 16).chunks(1 << 12) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    };
    assert_eq!(unpack(Coding::Zstd, &pack(ZSTD_WINDOW_LOG_MAX), 4096, 1 << 20), Ok(noise(1 << 16)));
    let long = unpack(Coding::Zstd, &pack(ZSTD_WINDOW_LOG_MAX + 1), 4096, 1 << 20);
    assert_eq!(long, Err(Unreadable::Broken("zstd")));
}

#[test]
fn the_coding_is_read_from_the_field() {
    for (values, said) in [
        (&[][..], Ok(None)),
        (&[""], Ok(None)),
        (&["identity"], Ok(None)),
        (&["gzip"], Ok(Some(Coding::Gzip))),
        (&[" GZip "], Ok(Some(Coding::Gzip))),
        (&["x-gzip"], Ok(Some(Coding::Gzip))),
        (&["deflate"], Ok(Some(Coding::Deflate))),
        (&["br, identity"], Ok(Some(Coding::Brotli))),
        (&["zstd"], Ok(Some(Coding::Zstd))),
        (&["gzip, br"], Err(Unreadable::Several)),
        (&["gzip", "gzip"], Err(Unreadable::Several)),
        (&["compress"], Err(Unreadable::Unknown("compress".to_owned()))),
        (&["gzip;q=1"], Err(Unreadable::Unknown("gzip;q=1".to_owned()))),
    ] {
        assert_eq!(Coding::of(values.iter().map(|value| value.as_bytes())), said, "{values:?}");
    }
}

#[test]
fn fuzz_smoke_any_bytes_are_unpacked_without_panic() {
    use proptest::prelude::*;
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), flip in any::<u8>(), piece in 1_usize..64)| {
        for coding in ALL {
            let _ = unpack(coding, &bytes, piece, 1000);
            let mut body = packed(coding, &bytes);
            let at = at % body.len();
            body[at] ^= flip;
            let _ = unpack(coding, &body, piece, 1000);
        }
    });
}
