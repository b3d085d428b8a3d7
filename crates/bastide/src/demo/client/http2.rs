//! HTTP/2 by `h2`.

use std::io;

use bytes::Bytes;
use h2::client::SendRequest;

use super::{Answer, Door, Request, within};

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
    pub async fn open(door: &Door) -> io::Result<Self> {
        let wire = door.connect(true).await?;
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
        let (head, mut stream) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        let fields = head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(Answer { status: head.status.as_u16(), fields: fields.collect(), body: bytes })
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::ask`].
pub async fn ask(door: &Door, request: &Request) -> io::Result<Answer> {
    Connection::open(door).await?.ask(request).await
}
