//! One request, read: parameters, the fields that matter, the connection, the time.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Timestamp;
use model::principal::Peer;

use crate::parameter::{PARAMETERS_BYTES_MAX, Parameters};
use crate::realm::Realm;
use crate::refusal::{Code, Refusal};
use crate::text::{self, Language};

/// Characters of a `User-Agent` that are kept.
const AGENT_CHARACTERS_MAX: usize = 256;

/// A request to one of the endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    uri: Uri,
    pub(crate) parameters: Parameters,
    pub(crate) headers: HeaderMap,
    /// What the listener proved about the connection; absent where none said.
    peer: Option<Arc<Peer>>,
    pub(crate) now: Timestamp,
    /// Of the page that answers it.
    pub(crate) language: Language,
}

impl Call {
    /// The path that was asked for.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Where the request came from, as far as the listener knows.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.peer.as_ref().map(|peer| peer.address)
    }

    /// What the browser calls itself, cut off where nobody reads on.
    pub(crate) fn agent(&self) -> String {
        let agent = self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        agent.unwrap_or_default().chars().take(AGENT_CHARACTERS_MAX).collect()
    }

    /// The client's certificate (DER), verified by the TLS stack.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.peer.as_ref()?.tls.as_ref()?.client_chain.first().map(Vec::as_slice)
    }

    /// The one field of this name as text; two of them refuse the request.
    pub(crate) fn field(&self, name: header::HeaderName) -> Result<Option<&str>, Box<Refusal>> {
        let refused = |why: &str| Refusal::plain(Code::InvalidRequest, format!("field {name}: {why}"));
        let mut values = self.headers.get_all(&name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(refused("it is there twice"));
        }
        value.to_str().map(Some).map_err(|_| refused("not ASCII"))
    }

    pub(crate) fn authorization(&self) -> Result<Option<&str>, Box<Refusal>> {
        self.field(header::AUTHORIZATION)
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        cookie(&self.headers, name)
    }
}

/// The value of a cookie. One that is there twice counts as absent: a neighbour on
/// another subdomain may have set it.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

impl FromRequest<Arc<Realm>> for Call {
    type Rejection = Box<Refusal>;

    async fn from_request(request: Request, realm: &Arc<Realm>) -> Result<Self, Box<Refusal>> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        Self::read(request, peer, realm).await
    }
}

impl Call {
    /// Reads a request on a connection of which this is known.
    pub(crate) async fn read(
        request: Request,
        peer: Option<Arc<Peer>>,
        realm: &Realm,
    ) -> Result<Self, Box<Refusal>> {
        let (head, body) = request.into_parts();
        // There a person is told of what is there twice, or the client by way of the browser.
        let to_authorize =
            head.uri.path().strip_prefix(realm.settings.path()).is_some_and(|path| path == "/authorize");
        let parse = if to_authorize { Parameters::parse_noting } else { Parameters::parse };
        let parameters = if head.method == Method::POST {
            let media = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let essence = media.map(|media| media.split(';').next().unwrap_or_default().trim());
            let bytes = whole(body).await.map_err(|error| {
                let told = format!("expected a body of at most {PARAMETERS_BYTES_MAX} bytes");
                Refusal::new(Code::InvalidRequest, told, error.to_string())
                    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
            })?;
            let form =
                essence.is_some_and(|media| media.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
            if !form && !bytes.is_empty() {
                return Err(Refusal::plain(
                    Code::InvalidRequest,
                    "expected application/x-www-form-urlencoded",
                )
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
            }
            parse(&bytes)?
        } else {
            parse(head.uri.query().unwrap_or_default().as_bytes())?
        };
        let name = head.headers.contains_key(header::COOKIE).then(|| text::cookie_name(realm));
        let before = name.and_then(|name| cookie(&head.headers, &name));
        let language = text::chosen(&parameters, &head.headers, before, realm.settings.language);
        let (method, uri, headers) = (head.method, head.uri, head.headers);
        Ok(Self { method, uri, parameters, headers, peer, now: realm.now(), language })
    }
}

/// The whole of a body, which mostly is there in one piece.
async fn whole(mut body: Body) -> Result<Bytes, axum::Error> {
    let is_short = body.size_hint().upper().is_some_and(|most| most <= PARAMETERS_BYTES_MAX as u64);
    if !is_short {
        return Box::pin(to_bytes(body, PARAMETERS_BYTES_MAX)).await;
    }
    let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.transpose()?;
    let first = first.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let rest = Box::pin(to_bytes(body, PARAMETERS_BYTES_MAX)).await?;
    Ok([first, rest].concat().into())
}

/// Standard base64 with padding (RFC 7617 §2).
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The same in the other direction.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
