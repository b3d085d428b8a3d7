//! Both sides of a call with nothing between: what each holds can be told exactly here.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Method, response};
use tokio::task::LocalSet;

use super::*;
use crate::Limits;
use crate::admit::{Admission, admit};
use crate::exchange::Frame;
use crate::head::{Additions, Fields, Framing};
use crate::http1::encode::{UpstreamRequest, request_framing};
use crate::http1::request::Reader;
use crate::upstream::connection::UpstreamFault;
use crate::upstream::pool::Slot;

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// 64 KiB are four of these.
const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// A request with this head, as a core makes it.
fn call(line: &Rc<Line>, head: &str) -> CallConnection {
    let limits = Limits::default();
    let raw = Reader::new().read(&mut BytesMut::from(head), &limits).unwrap().unwrap();
    let admitted = admit(raw, &Admission::default(), &limits, false).unwrap();
    let (head, additions) = (admitted.head(), &Additions::default());
    let framing = request_framing(head.framing);
    let request =
        UpstreamRequest { head, path: &head.path, additions, framing, upgrade: false, expect: false };
    let mut connection = CallConnection::new(line, Slot::of_no_pool());
    connection.send_head(&request).unwrap();
    connection
}

/// What it says now.
async fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(poll(cx))).await
}

fn good() -> response::Parts {
    http::Response::new(()).into_parts().0
}

/// The next call.
async fn taken(listener: &mut InProcessListener) -> Call {
    let mut calls = Vec::new();
    assert_eq!(listener.accept(&mut calls, 1).await, 1);
    calls.remove(0)
}

async fn head(connection: &mut CallConnection) -> Result<Framing, UpstreamFault> {
    poll_fn(|cx| connection.poll_head(cx, &Method::GET)).await.map(|head| head.framing)
}

async fn on_a_core<T>(work: impl AsyncFnOnce(Rc<Line>, InProcessListener) -> T) -> T {
    let (connector, listener) = in_process_pair();
    LocalSet::new().run_until(async { work(Line::open(connector), listener).await }).await
}

#[tokio::test]
async fn of_an_answer_that_nobody_takes_two_pieces_are_held() {
    on_a_core(async |line, mut listener| {
        let mut connection = call(&line, GET);
        let mut body = taken(&mut listener).await.answerer.begin(good());
        assert_eq!(head(&mut connection).await.unwrap(), Framing::Stream);
        // One is in the channel, and the next in the hands of its sender.
        let mut send = async || {
            let mut send = pin!(body.send(Bytes::from_static(&PIECE)));
            now(|cx| send.as_mut().poll(cx)).await
        };
        assert_eq!([send().await, send().await], [Poll::Ready(true), Poll::Pending]);
        assert!(matches!(now(|cx| connection.poll_frame(cx)).await, Poll::Ready(Ok(Frame::Data(_)))));
        assert!(now(|cx| connection.poll_frame(cx)).await.is_pending());
        assert_eq!([send().await, send().await], [Poll::Ready(true), Poll::Pending], "one more for each");
        drop(connection);
        assert_eq!(send().await, Poll::Ready(false));
    })
    .await;
}

#[tokio::test]
async fn of_a_request_that_nobody_takes_what_is_gathered_is_held_or_two_pieces() {
    // Whether each piece goes on before the next is there, and how many are taken.
    for (each, most) in [(false, 4), (true, 2)] {
        on_a_core(async |line, mut listener| {
            let mut connection = call(&line, POST);
            let mut pieces = 0;
            while pieces < 100 && now(|cx| connection.poll_ready(cx)).await.is_ready() {
                connection.send_frame(Frame::Data(Bytes::from_static(&PIECE)));
                pieces += 1;
                if each {
                    let _ = now(|cx| connection.poll_flush(cx)).await;
                }
            }
            assert_eq!(pieces, most, "{each}");
            let CallBody::Pieces(mut body) = taken(&mut listener).await.request.into_body() else {
                unreachable!("it is not over")
            };
            // It goes on as the service takes them.
            for _ in 0..most {
                let piece = now(|cx| {
                    let _ = connection.poll_flush(cx);
                    body.poll_piece(cx)
                });
                assert!(matches!(piece.await, Poll::Ready(Some(Ok(piece))) if piece.len() == PIECE.len()));
            }
            assert!(now(|cx| connection.poll_ready(cx)).await.is_ready());
            assert!(now(|cx| body.poll_piece(cx)).await.is_pending());
            // Whose client goes away has not sent it all.
            drop(connection);
            let end = now(|cx| body.poll_piece(cx)).await;
            assert!(matches!(end, Poll::Ready(Some(Err(_)))), "{end:?}");
            assert!(matches!(now(|cx| body.poll_piece(cx)).await, Poll::Ready(None)));
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_ends_with_its_end_or_with_trailers_that_nobody_reads() {
    for (trailers, slow) in [(false, false), (false, true), (true, false), (true, true)] {
        on_a_core(async |line, mut listener| {
            let mut connection = call(&line, POST);
            connection.send_frame(Frame::Data(Bytes::from_static(b"ab")));
            if slow {
                assert!(now(|cx| connection.poll_flush(cx)).await.is_ready());
            }
            connection.send_frame(if trailers { Frame::Trailers(Fields::default()) } else { Frame::End });
            match taken(&mut listener).await.request.into_body() {
                CallBody::Whole(whole) => assert!(!slow && whole == "ab"),
                CallBody::Pieces(mut body) => {
                    assert!(slow);
                    let next = now(|cx| body.poll_piece(cx)).await;
                    assert!(matches!(next, Poll::Ready(Some(Ok(piece))) if piece == "ab"));
                    assert!(now(|cx| body.poll_piece(cx)).await.is_pending(), "its end has not come over");
                    assert!(now(|cx| connection.poll_flush(cx)).await.is_ready());
                    assert!(matches!(now(|cx| body.poll_piece(cx)).await, Poll::Ready(None)));
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_call_that_was_given_up_keeps_its_place_until_the_service_lets_go_of_it() {
    on_a_core(async |line, mut listener| {
        let held = || line.held();
        // Whether it answers, before or after nobody waits any more; or only lets go of it.
        let (waiting, first, last, dropped) =
            (call(&line, GET), call(&line, GET), call(&line, GET), call(&line, GET));
        let mut calls = Vec::new();
        assert_eq!(listener.accept(&mut calls, 4).await, 4);
        let mut answerers = calls.into_iter().map(|call| call.answerer);
        let [one, two, three, four] = std::array::from_fn(|_| answerers.next().unwrap());
        two.whole(good(), Bytes::new(), &mut Untold::default());
        drop((first, last, dropped));
        assert_eq!(held(), 2, "what was answered holds none");
        assert!(!one.is_gone() && three.is_gone() && four.is_gone());
        assert!(now(|cx| three.poll_gone(cx)).await.is_ready());
        three.whole(good(), Bytes::new(), &mut Untold::default());
        tokio::task::yield_now().await;
        assert_eq!(held(), 1);
        drop(four);
        tokio::task::yield_now().await;
        assert_eq!(held(), 0);
        drop((one, waiting));
        // The service ends, and nobody has looked at it.
        drop(call(&line, GET));
        assert_eq!(held(), 1);
        tokio::task::yield_now().await;
        drop(listener);
        tokio::task::yield_now().await;
        assert_eq!(held(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_call_ends_with_the_service_and_the_service_with_the_last_line() {
    on_a_core(async |line, mut listener| {
        let mut in_its_hands = call(&line, GET);
        let held = taken(&mut listener).await;
        let mut untaken = call(&line, GET);
        tokio::task::yield_now().await;
        drop(listener);
        assert!(matches!(head(&mut untaken).await, Err(UpstreamFault::Closed)));
        drop(held);
        assert!(matches!(head(&mut in_its_hands).await, Err(UpstreamFault::Closed)));
        assert!(!line.is_open());
        // Made although it has ended.
        assert!(matches!(head(&mut call(&line, GET)).await, Err(UpstreamFault::Closed)));
    })
    .await;
    on_a_core(async |line, mut listener| {
        drop(line);
        assert_eq!(listener.accept(&mut Vec::new(), 1).await, 0);
    })
    .await;
}
