use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use model::Timestamp;

use super::*;

const NOW: HeaderValue = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");

fn own_stream(pieces: Vec<Result<&'static str, io::Error>>) -> Body {
    Body::from_stream(tokio_stream::iter(pieces))
}

async fn told(response: Response) -> Told {
    tell(async { response }, NOW).await
}

#[test]
fn a_date_is_written_as_http_wants_it() {
    // RFC 9110 §5.6.7.
    assert_eq!(date(784_111_777), NOW);
    assert_eq!(date(u64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
}

#[tokio::test]
async fn an_answer_has_the_date_of_its_second_or_its_own() {
    struct Stepping(std::sync::atomic::AtomicU64);
    impl Clock for Stepping {
        fn now(&self) -> Timestamp {
            let half_seconds = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Timestamp::from_unix_seconds(784_111_777 + half_seconds / 2)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }
    let mut dated = Dated::new(Arc::new(Stepping(0.into())));
    let dates: Vec<_> = (0..3).map(|_| dated.value().clone()).collect();
    assert_eq!(dates, [NOW, date(784_111_778), date(784_111_778)]);
    assert_eq!(told("x".into_response()).await.head.headers[header::DATE], NOW);
    let own = told(([(header::DATE, "its own")], "x").into_response()).await;
    assert_eq!(own.head.headers[header::DATE], "its own");
}

#[tokio::test]
async fn an_answer_that_is_there_goes_whole_and_others_by_and_by() {
    for (response, text) in [
        ("some text".into_response(), "some text"),
        ("".into_response(), ""),
        (StatusCode::OK.into_response(), ""),
    ] {
        let told = told(response).await;
        assert_eq!((&told.first[..], told.rest.is_some()), (text.as_bytes(), false));
    }
    let streamed = told(Response::new(own_stream(vec![Ok("ab"), Ok("cd")]))).await;
    assert!(streamed.first.is_empty(), "its head does not wait");
    let all = axum::body::to_bytes(streamed.rest.unwrap(), 10).await.unwrap();
    assert_eq!(&all[..], b"abcd");
    let broken = told(Response::new(own_stream(vec![Ok("ab"), Err(io::Error::other("torn"))]))).await;
    assert!(axum::body::to_bytes(broken.rest.unwrap(), 10).await.is_err());
}

#[tokio::test]
async fn what_waits_or_panics_holds_nobody_up() {
    let at_once = begin(told("x".into_response())).await;
    assert!(matches!(at_once, Begun::There(_)));
    let later = begin(async {
        tokio::task::yield_now().await;
        told("later".into_response()).await
    });
    let Begun::Waits(later) = later.await else { unreachable!("it does not wait") };
    assert_eq!(&later.await.first[..], b"later");
    let panics = begin(async { unreachable!("as it should") });
    assert!(matches!(panics.await, Begun::Failed));
}
