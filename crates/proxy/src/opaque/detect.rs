//! Whether a client speaks HTTP, by its first bytes.

use std::io;
use std::task::{Poll, ready};
use std::time::Duration;

use crate::deadline::Watch;
use crate::link::Wire;

/// How long a client may leave that open. One that waits for the server to speak first is
/// let wait no longer; what it says later is not looked at.
const WITHIN: Duration = Duration::from_millis(200);
/// Most bytes that are read for it.
const BYTES_MAX: usize = 8 * 1024;
/// How HTTP/2 with prior knowledge begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Reads until it is clear whether the client speaks HTTP; what was read stays in the wire.
/// A client that says nothing in time does not.
pub(crate) async fn is_http(wire: &mut Wire, watch: &Watch) -> io::Result<bool> {
    watch.set_after(WITHIN);
    let told = std::future::poll_fn(|cx| {
        loop {
            if let Some(told) = tells(&wire.input) {
                return Poll::Ready(Ok(told));
            }
            match wire.poll_fill(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(begins_like_http(&wire.input))),
                Poll::Ready(_) => {}
                Poll::Pending => break,
            }
        }
        ready!(watch.poll(cx));
        Poll::Ready(Ok(begins_like_http(&wire.input)))
    });
    let told = told.await;
    watch.set(0);
    told
}

/// What the first bytes say; `None`: nothing yet.
fn tells(input: &[u8]) -> Option<bool> {
    if input.starts_with(PREFACE) {
        return Some(true);
    }
    match memchr::memchr(b'\n', input) {
        // A request line ends with the version (RFC 9112 §3).
        Some(end) => {
            let line = input.get(..end).unwrap_or_default().trim_ascii_end();
            Some(line.rsplit(|&byte| byte == b' ').next().is_some_and(|last| last.starts_with(b"HTTP/")))
        }
        None if !input.iter().all(|&byte| byte == b'\r' || (b' '..=b'~').contains(&byte)) => Some(false),
        None if input.len() > BYTES_MAX => Some(begins_like_http(input)),
        None => None,
    }
}

/// Whether an unfinished line may become a request line: a method, then a target.
fn begins_like_http(input: &[u8]) -> bool {
    let mut words = input.splitn(2, |&byte| byte == b' ');
    let method = words.next().is_some_and(|word| !word.is_empty() && word.iter().all(u8::is_ascii_uppercase));
    let target =
        words.next().is_some_and(|rest| [&b"/"[..], b"http", b"*"].iter().any(|t| rest.starts_with(t)));
    method && target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_http_from_the_rest() {
        for (input, told) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(true)),
            (b"PROPFIND http://a/b HTTP/1.0\n", Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(true)),
            (b"GET / HTTP/1.1", None),
            (b"PRI * HTT", None),
            (b"", None),
            (b"GET /\r\n", Some(false)),
            (b"SET key value\r\n", Some(false)),
            (b"CONNECT {\"verbose\":false}\r\n", Some(false)),
            (b"EHLO there\r\n", Some(false)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(false)),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Some(false)),
            (b"AMQP\0\0\x09\x01", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (b"GET /\xff", Some(false)),
        ] {
            assert_eq!(tells(input), told, "{:?}", String::from_utf8_lossy(input));
        }
        let long = |length| [&b"GET /"[..], &vec![b'a'; length - 5]].concat();
        assert_eq!((tells(&long(BYTES_MAX)), tells(&long(BYTES_MAX + 1))), (None, Some(true)));
    }

    #[test]
    fn an_unfinished_line_is_http_when_it_has_a_method_and_a_target() {
        for (input, is) in [
            (&b"GET /slow"[..], true),
            (b"OPTIONS *", true),
            (b"GET http://", true),
            (b"GET", false),
            (b"", false),
            (b" /", false),
            (b"hello /", false),
            (b"SET key", false),
        ] {
            assert_eq!(begins_like_http(input), is, "{:?}", String::from_utf8_lossy(input));
        }
    }
}
