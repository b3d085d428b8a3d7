//! The endpoints that services ask all day, beside the router: it looks a path up, and puts what
//! answers into boxes, about a tenth of what such a request costs here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use model::principal::Peer;

use crate::call::Call;
use crate::realm::Realm;
use crate::{introspect, token};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// `POST /token`.
    Token,
    /// `POST /introspect`.
    Introspection,
}

impl Busy {
    /// The one to which the [`router`](crate::router()) of a realm would lead this request; `path` is
    /// that of its issuer.
    pub fn of(path: &str, request: &Request) -> Option<Self> {
        if request.method() != Method::POST {
            return None;
        }
        match request.uri().path().strip_prefix(path)? {
            "/token" => Some(Self::Token),
            "/introspect" => Some(Self::Introspection),
            _ => None,
        }
    }

    /// Answers as the router would a request that carries this peer.
    pub async fn answer(self, realm: Arc<Realm>, peer: Option<Arc<Peer>>, request: Request) -> Response {
        let call = match Call::read(request, peer, &realm).await {
            Ok(call) => call,
            Err(refusal) => return refusal.into_response(),
        };
        let answer = match self {
            Self::Token => token::endpoint(State(realm), call).await,
            Self::Introspection => introspect::endpoint(State(realm), call).await,
        };
        answer.into_response()
    }
}
