//! HTTP/2 by `h2`.

use std::io;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;

use super::{Answer, Endpoint, Request, within};

/// One connection; requests on it run side by side.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Nobody listens, or a handshake failed.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let wire = endpoint.connect(true).await?;
        let (sender, connection) =
            within(async { h2::client::handshake(wire).await.map_err(io::Error::other) }).await?;
        // Ends by itself when the last sender is dropped.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// The stream or the connection broke before a whole answer came.
    pub async fn ask(&self, request: &Request) -> io::Result<Answer> {
        within(async { self.ask_unbounded(request).await.map_err(io::Error::other) }).await
    }

    async fn ask_unbounded(&self, request: &Request) -> anyhow::Result<Answer> {
        Ok(self.begin(request).await?.rest().await?)
    }

    /// Sends a request and waits for the head of its answer, as long as that takes.
    ///
    /// # Errors
    /// The stream or the connection broke before it came.
    pub async fn begin(&self, request: &Request) -> io::Result<Begun> {
        self.send(request).await.map_err(io::Error::other)
    }

    async fn send(&self, request: &Request) -> anyhow::Result<Begun> {
        let mut head = http::Request::builder()
            .version(http::Version::HTTP_2)
            .method(request.method)
            .uri(format!("https://{}{}", request.host, request.target));
        for (name, value) in &request.fields {
            head = head.header(name, value);
        }
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(head.body(())?, request.body.is_empty())?;
        if !request.body.is_empty() {
            // The server may answer and reset the stream before it has read the body.
            let _ = body.send_data(Bytes::copy_from_slice(&request.body), true);
        }
        let (head, body) = response.await?.into_parts();
        Ok(Begun { head, body })
    }
}

/// An answer whose head has come.
pub struct Begun {
    head: http::response::Parts,
    body: RecvStream,
}

impl Begun {
    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Waits for one more piece of it; `None` at its end.
    ///
    /// # Errors
    /// The stream or the connection broke before.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(piece) = self.body.data().await else { return Ok(None) };
        let piece = piece.map_err(io::Error::other)?;
        self.body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
        Ok(Some(piece))
    }

    /// Reads to its end, as long as that takes.
    ///
    /// # Errors
    /// The stream or the connection broke before.
    pub async fn rest(mut self) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
        }
        let fields = self.head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(Answer { status: self.head.status.as_u16(), fields: fields.collect(), body: bytes })
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::ask`].
pub async fn ask(endpoint: &Endpoint, request: &Request) -> io::Result<Answer> {
    Connection::open(endpoint).await?.ask(request).await
}
