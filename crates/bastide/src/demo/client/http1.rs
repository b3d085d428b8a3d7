//! HTTP/1.1 as bytes.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Endpoint, Request, Wire, within};

/// One connection.
pub struct Connection {
    wire: Box<dyn Wire>,
    buffer: BytesMut,
}

/// How an answer's body ends (RFC 9112 §6.3).
enum Length {
    Bytes(usize),
    Chunked,
    Close,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or the handshake failed.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(Self { wire: endpoint.connect(false).await?, buffer: BytesMut::with_capacity(8 * 1024) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        })
        .await
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// The connection broke before a whole answer came.
    pub async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        // An answer may come before the whole body is sent (it is too large, say), and
        // then the rest cannot be sent any more: the answer counts.
        let sent = self.send(&bytes_of(request)).await;
        match self.answer(request.method == "HEAD").await {
            Err(_) if sent.is_err() => Err(sent.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())),
            answer => answer,
        }
    }

    /// Reads one answer, interim ones (1xx) skipped.
    ///
    /// # Errors
    /// The connection ended or broke before a whole answer came.
    pub async fn answer(&mut self, to_head: bool) -> io::Result<Answer> {
        within(self.answer_unbounded(to_head)).await
    }

    /// Reads until the peer closes or is silent for `silence`. Gives what was still
    /// unread, and whether the peer closed.
    pub async fn leftovers(&mut self, silence: Duration) -> (Vec<u8>, bool) {
        let mut closed = false;
        // Nothing, or an error, is an end as well.
        while let Ok(read) = tokio::time::timeout(silence, self.wire.read_buf(&mut self.buffer)).await {
            if read.unwrap_or(0) == 0 {
                closed = true;
                break;
            }
        }
        (self.buffer.split().to_vec(), closed)
    }

    async fn answer_unbounded(&mut self, to_head: bool) -> io::Result<Answer> {
        let (status, fields) = loop {
            let (status, fields) = self.head().await?;
            if status >= 200 || status == 101 {
                break (status, fields);
            }
        };
        let length = if to_head || status == 204 || status == 304 || status == 101 {
            Length::Bytes(0)
        } else {
            length_of(&fields)?
        };
        let body = match length {
            Length::Bytes(count) => self.take(count).await?,
            Length::Chunked => self.chunks().await?,
            Length::Close => {
                while self.fill().await? > 0 {}
                self.buffer.split().to_vec()
            }
        };
        Ok(Answer { status, fields, body })
    }

    async fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        loop {
            let mut slots = [httparse::EMPTY_HEADER; 100];
            let mut response = httparse::Response::new(&mut slots);
            match response.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let fields = response
                        .headers
                        .iter()
                        .map(|f| (f.name.to_ascii_lowercase(), text(f.value)))
                        .collect();
                    let status = response.code.unwrap_or(0);
                    self.buffer.advance(length);
                    return Ok((status, fields));
                }
                Ok(httparse::Status::Partial) => self.need_more().await?,
                Err(error) => return Err(io::Error::other(format!("not an HTTP/1 answer: {error}"))),
            }
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size).await?);
            self.line().await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.need_more().await?;
        }
    }

    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.need_more().await?;
        }
        Ok(self.buffer.split_to(count).to_vec())
    }

    async fn need_more(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection closed without a whole answer",
            ));
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.wire.read_buf(&mut self.buffer).await
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::ask`].
pub async fn ask(endpoint: &Endpoint, request: &Request) -> io::Result<Answer> {
    Connection::open(endpoint).await?.ask(request).await
}

/// The request's bytes, as an honest client would send them.
pub fn bytes_of(request: &Request) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.target, request.host);
    for (name, value) in &request.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", request.body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&request.body);
    bytes
}

fn length_of(fields: &[(String, String)]) -> io::Result<Length> {
    let value = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.trim());
    match (value("transfer-encoding"), value("content-length")) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Length::Chunked),
        (None, Some(count)) => Ok(Length::Bytes(count.parse().map_err(io::Error::other)?)),
        (None, None) => Ok(Length::Close),
        _ => Err(io::Error::other("the answer's own framing is ambiguous")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What the client makes of these bytes.
    async fn read(bytes: &'static str, method: &'static str) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::clear(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
        });
        let mut connection = Connection::open(&endpoint).await.unwrap();
        let answer = connection.answer(method == "HEAD").await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_end_where_their_framing_says() {
        for (bytes, method, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "GET", 200, "hi"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n1\r\ni\r\n0\r\nt: 1\r\n\r\n",
                "GET",
                200,
                "hi",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nhi", "GET", 200, "hi"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "GET", 204, ""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD", 200, ""),
        ] {
            let answer = read(bytes, method).await.unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn half_an_answer_is_none() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
        ] {
            assert!(read(bytes, "GET").await.is_err(), "{bytes:?}");
        }
    }
}
