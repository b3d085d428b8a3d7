//! Services that live in this process.

use std::time::Duration;

use proxy::Limits;
use proxy::upstream::in_process::{STREAM_BYTES_MAX, in_process_pair};
use proxy::upstream::{ForwardSettings, InProcessListener, ServiceSettings, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::settings;
use crate::testbed::{PATIENCE, TestBed};

/// Answers each request with what `answer` makes of its head and body, on a runtime of
/// its own, until nobody can come any more.
fn serve(
    mut listener: InProcessListener,
    answer: impl Fn(&str, Vec<u8>) -> Vec<u8> + Clone + Send + Sync + 'static,
) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            while let Some(stream) = listener.accept().await {
                tokio::spawn(converse(stream, answer.clone()));
            }
        });
    });
}

async fn converse(mut stream: DuplexStream, answer: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(input[..end].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |value| value.trim().parse().unwrap());
        while input.len() < end + length {
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = input[end..end + length].to_vec();
        input.drain(..end + length);
        let body = answer(&head, body);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}

fn impatient(first_byte: Duration) -> ForwardSettings {
    let timeouts = Timeouts { first_byte, connect: first_byte, ..Timeouts::default() };
    ForwardSettings { timeouts, retries: 0, ..settings(0) }
}

#[test]
fn requests_and_bodies_larger_than_the_stream_go_both_ways() {
    let (connector, listener) = in_process_pair();
    serve(listener, |head, body| {
        assert!(head.starts_with("post /echo http/1.1\r\n"), "{head}");
        body.into_iter().rev().collect()
    });
    let testbed =
        TestBed::with(ServiceSettings::in_process("echo", connector), settings(0), Limits::default());
    let mut client = testbed.client();
    let body: Vec<u8> = (0..STREAM_BYTES_MAX * 3 + 7).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..3 {
        let mut request =
            format!("POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        request.extend_from_slice(&body);
        client.send(&request);
        let reply = client.reply();
        assert_eq!((reply.status, reply.whole), (200, true));
        assert!(reply.body.iter().eq(body.iter().rev()));
    }
}

#[test]
fn a_service_that_has_ended_is_a_502_and_one_that_does_not_answer_a_504() {
    let (gone, listener) = in_process_pair();
    drop(listener);
    let testbed = TestBed::with(ServiceSettings::in_process("gone", gone), settings(0), Limits::default());
    assert_eq!(testbed.get("/").status, 502);

    let (silent, listener) = in_process_pair();
    let soon = impatient(Duration::from_millis(200));
    let testbed = TestBed::with(ServiceSettings::in_process("silent", silent), soon, Limits::default());
    assert_eq!(testbed.get("/").status, 504);
    drop(listener);
}

#[test]
fn an_answer_that_nobody_reads_stops_at_the_streams_bound() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (connector, mut listener) = in_process_pair();
    let testbed =
        TestBed::with(ServiceSettings::in_process("flood", connector), settings(0), Limits::default());
    let mut client = testbed.client();
    client.send(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let written = runtime.block_on(async {
        let mut stream = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut written = 0;
        // Sockets between hop and client hold some megabytes; the rest stays with us. Whoever is held
        // up before that is only slow.
        let longest = |written| if written > STREAM_BYTES_MAX { Duration::from_secs(1) } else { PATIENCE };
        while let Ok(done) = tokio::time::timeout(longest(written), stream.write_all(&chunk)).await {
            done.unwrap();
            written += chunk.len();
            assert!(written < 256 * 1024 * 1024, "nothing holds the service back");
        }
        written
    });
    assert!(written > STREAM_BYTES_MAX);
}
