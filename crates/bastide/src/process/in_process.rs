//! The other end of the way into this process: what the gateway hands over in process is
//! answered here, on the control plane, by whatever the service is made of.
//!
//! The way through it: a server takes the calls that are there, at most [`TAKEN_AT_ONCE`], and
//! begins each. Most are answered before they would wait for anything: those answers go back
//! together. Others go on in a task of their own.
//!
//! What it must never do: let an answer that fails take others with it, or go on with a request
//! for which nobody waits any more.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderValue, header, response};
use axum::response::Response;
use bytes::Bytes;
use model::Clock;
use proxy::upstream::InProcessListener;
use proxy::upstream::in_process::{Answerer, Call, CallBody, Pieces, Untold};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// The last second that RFC 9110 §5.6.7 can write, of the year 9999.
const SECOND_MAX: u64 = 253_402_300_799;
/// So many calls are begun before the answers to them go back.
const TAKEN_AT_ONCE: usize = 16;

/// Answers what comes, until nobody can come any more or this is dropped; what was begun by then
/// goes on. Must run on the control plane's runtime.
pub(super) async fn serve<F, R>(listener: InProcessListener, clock: Arc<dyn Clock>, answer: F)
where
    F: Fn(Request) -> R + Clone + Send + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let listener = Arc::new(Mutex::new(listener));
    let mut servers = JoinSet::new();
    // One for each thread that could work on one.
    for _ in 0..Handle::current().metrics().num_workers() {
        servers.spawn(take(Arc::clone(&listener), Dated::new(Arc::clone(&clock)), answer.clone()));
    }
    while servers.join_next().await.is_some() {}
}

/// A service that is a router.
pub(super) fn by_router(
    router: Router,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + 'static {
    move |request| {
        let answered = router.clone().oneshot(request);
        Box::pin(async move {
            let Ok(response) = answered.await;
            response
        })
    }
}

/// One of the servers.
async fn take<F, R>(listener: Arc<Mutex<InProcessListener>>, mut dated: Dated, answer: F)
where
    F: Fn(Request) -> R,
    R: Future<Output = Response> + Send + 'static,
{
    let mut calls = Vec::with_capacity(TAKEN_AT_ONCE);
    let mut untold = Untold::default();
    loop {
        // While one works, another takes what comes then.
        let taken = listener.lock().await.accept(&mut calls, TAKEN_AT_ONCE).await;
        if taken == 0 {
            return;
        }
        let date = dated.value();
        for Call { request, answerer } in calls.drain(..) {
            // It may have waited here for longer than its client.
            if answerer.is_gone() {
                continue;
            }
            let begun = match caught(|| in_place(|| answer(request.map(body)))) {
                Some(answered) => begin(answered, date).await,
                None => Begun::Failed,
            };
            match begun {
                Begun::There(Told { head, first, rest: None }) => answerer.whole(head, first, &mut untold),
                Begun::There(told) => drop(tokio::spawn(finish(told, answerer))),
                Begun::Waits(answered) => drop(tokio::spawn(go_on(answered, date.clone(), answerer))),
                // The hook has said why.
                Begun::Failed => drop(answerer),
            }
        }
        untold.tell();
        if taken == TAKEN_AT_ONCE {
            // There may be more, and others have work too.
            tokio::task::yield_now().await;
        }
    }
}

/// What an answer came to.
struct Told {
    head: response::Parts,
    /// Its first piece.
    first: Bytes,
    /// What follows that; `None`: nothing.
    rest: Option<Body>,
}

/// How far an answer came without waiting.
enum Begun<T> {
    There(Told),
    Waits(Pin<Box<T>>),
    Failed,
}

/// What `work` comes to; `None`: it panicked. That is one call's alone, and what it leaves behind
/// is dropped with the call.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// A future in a box, made where it will stand: of a large one all but little is room that nothing
/// was written to yet.
fn in_place<T>(make: impl FnOnce() -> T) -> Pin<Box<T>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}

/// Begins an answer.
async fn begin<R: Future<Output = Response>>(mut answered: Pin<Box<R>>, date: &HeaderValue) -> Begun<R> {
    let polled = poll_fn(|cx| Poll::Ready(caught(|| poll_told(&mut answered, date, cx))));
    match polled.await {
        Some(Poll::Ready(told)) => Begun::There(told),
        Some(Poll::Pending) => Begun::Waits(answered),
        None => Begun::Failed,
    }
}

/// Waits for an answer while somebody else does.
async fn go_on(
    mut answered: Pin<Box<impl Future<Output = Response>>>,
    date: HeaderValue,
    answerer: Answerer,
) {
    let told = poll_fn(|cx| match poll_told(&mut answered, &date, cx) {
        Poll::Ready(told) => Poll::Ready(Some(told)),
        Poll::Pending => answerer.poll_gone(cx).map(|()| None),
    });
    if let Some(told) = told.await {
        finish(told, answerer).await;
    }
}

async fn finish(told: Told, answerer: Answerer) {
    let Told { head, first, rest } = told;
    let Some(mut rest) = rest else { return answerer.whole(head, first, &mut Untold::default()) };
    let mut sender = answerer.begin(head);
    let mut next = first;
    loop {
        if !next.is_empty() && !sender.send(next).await {
            return;
        }
        let frame = tokio::select! {
            frame = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)) => frame,
            // The body may be silent for as long as it likes.
            () = sender.gone() => return,
        };
        next = match frame {
            None => return sender.end().await,
            // Trailers: nobody reads them.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                tracing::warn!(%error, "the answer of an in-process service broke off");
                return;
            }
        };
    }
}

/// What an answer came to, once it is there.
fn poll_told(
    answered: &mut Pin<Box<impl Future<Output = Response>>>,
    date: &HeaderValue,
    cx: &mut Context<'_>,
) -> Poll<Told> {
    answered.as_mut().poll(cx).map(|response| tell(response, date, cx))
}

/// The answer, with its body as far as that is there.
fn tell(response: Response, date: &HeaderValue, cx: &mut Context<'_>) -> Told {
    let (mut head, mut rest) = response.into_parts();
    // RFC 9110 §6.6.1: from whoever has a clock.
    head.headers.entry(header::DATE).or_insert_with(|| date.clone());
    if rest.is_end_stream() {
        return Told { head, first: Bytes::new(), rest: None };
    }
    // One of unknown length comes by and by, and its head does not wait for it.
    if rest.size_hint().exact().is_none() {
        return Told { head, first: Bytes::new(), rest: Some(rest) };
    }
    match Pin::new(&mut rest).poll_frame(cx) {
        Poll::Ready(None) => Told { head, first: Bytes::new(), rest: None },
        Poll::Ready(Some(Ok(frame))) => {
            let is_over = rest.is_end_stream();
            let first = frame.into_data().unwrap_or_default();
            Told { head, first, rest: (!is_over).then_some(rest) }
        }
        Poll::Ready(Some(Err(error))) => {
            let broken = Body::from_stream(tokio_stream::once(Err::<Bytes, _>(error)));
            Told { head, first: Bytes::new(), rest: Some(broken) }
        }
        Poll::Pending => Told { head, first: Bytes::new(), rest: Some(rest) },
    }
}

fn body(body: CallBody) -> Body {
    match body {
        CallBody::Whole(whole) => Body::from(whole),
        CallBody::Pieces(pieces) => Body::from_stream(Incoming(pieces)),
    }
}

/// A request's body on its way.
struct Incoming(Pieces);

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.0.poll_piece(cx)
    }
}

/// The `date` of answers, written once a second.
struct Dated {
    clock: Arc<dyn Clock>,
    second: u64,
    value: HeaderValue,
}

impl Dated {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let second = clock.now().unix_seconds();
        Self { clock, second, value: date(second) }
    }

    fn value(&mut self) -> &HeaderValue {
        let second = self.clock.now().unix_seconds();
        if second != self.second {
            (self.second, self.value) = (second, date(second));
        }
        &self.value
    }
}

/// A moment, Unix seconds, as `date` has it.
fn date(second: u64) -> HeaderValue {
    let moment = (second <= SECOND_MAX).then(|| UNIX_EPOCH + Duration::from_secs(second));
    let value = moment.and_then(|moment| HeaderValue::from_str(&httpdate::fmt_http_date(moment)).ok());
    value.unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests;
