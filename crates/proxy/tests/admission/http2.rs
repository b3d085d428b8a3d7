//! Request heads over HTTP/2 as raw frames (RFC 9113 §4, RFC 7541 §6.2.2), so that an
//! attack can say what no library's client would send.

use bytes::Bytes;
use proxy::http2::head::from_h2;
use proxy::{Limits, RawRequest, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A field line as it goes onto the wire.
pub(crate) type Line = (Vec<u8>, Vec<u8>);

/// What became of a head.
pub(crate) enum Read {
    /// The `h2` crate took it; this is what our conversion says.
    Ours(Result<RawRequest, Refusal>),
    /// The `h2` crate reset the stream or the connection.
    Reset,
}

/// Sends a head to a real HTTP/2 server and reads it as the hop does.
pub(crate) async fn read(lines: &[Line], ended: bool, limits: &Limits) -> Read {
    let (mut client, server) = tokio::io::duplex(4 << 20);
    client.write_all(&wire(lines, ended)).await.unwrap();
    let reading = async move {
        let handshake =
            h2::server::Builder::new().max_header_list_size(1 << 20).handshake::<_, Bytes>(server);
        match handshake.await.unwrap().accept().await {
            Some(Ok((request, _))) => {
                let ended = request.body().is_end_stream();
                Read::Ours(from_h2(&request.into_parts().0, ended, Vec::new(), limits))
            }
            Some(Err(_)) | None => Read::Reset,
        }
    };
    tokio::select! {
        read = reading => read,
        () = reset(&mut client) => Read::Reset,
    }
}

/// Waits until the server resets the stream (RFC 9113 §6.4) or goes away (§6.8).
async fn reset(client: &mut (impl AsyncRead + Unpin)) {
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let mut head = [0; 9];
    while client.read_exact(&mut head).await.is_ok() {
        if matches!(head[3], RST_STREAM | GOAWAY) {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.unwrap();
    }
}

fn wire(lines: &[Line], ended: bool) -> Vec<u8> {
    const FRAME_BYTES_MAX: usize = 16_384;
    let mut block = Vec::new();
    for (name, value) in lines {
        // Literal field without indexing, new name, no Huffman coding.
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut wire, 4, 0, 0, &[]);
    let pieces: Vec<&[u8]> = block.chunks(FRAME_BYTES_MAX).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let (kind, end_stream) = if number == 0 { (1, u8::from(ended)) } else { (9, 0) };
        let end_headers = if number + 1 == pieces.len() { 4 } else { 0 };
        frame(&mut wire, kind, end_headers | end_stream, 1, piece);
    }
    wire
}

fn frame(wire: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    wire.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    wire.extend_from_slice(&[kind, flags]);
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(payload);
}

/// An integer with a 7-bit prefix (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return out.push(u8::try_from(value).unwrap());
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}
