use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use model::Timestamp;
use proxy::upstream::ServiceSettings;
use proxy::upstream::in_process::{InProcessConnector, in_process_pair};
use proxy::{Cores, Limits, Upstreams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

use super::*;
use crate::process::clock::SystemClock;

#[path = "../../../../proxy/tests/support/mod.rs"]
mod support;
use support::{TestRoute, TestWorld};

const NOW: HeaderValue = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");

fn own_stream(pieces: Vec<Result<&'static str, io::Error>>) -> Body {
    Body::from_stream(tokio_stream::iter(pieces))
}

fn told(response: Response) -> Told {
    tell(response, &NOW, &mut Context::from_waker(std::task::Waker::noop()))
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
    assert_eq!(told("x".into_response()).head.headers[header::DATE], NOW);
    let own = told(([(header::DATE, "its own")], "x").into_response());
    assert_eq!(own.head.headers[header::DATE], "its own");
}

#[tokio::test]
async fn an_answer_that_is_there_goes_whole_and_others_by_and_by() {
    for (response, text) in [
        ("some text".into_response(), "some text"),
        ("".into_response(), ""),
        (StatusCode::OK.into_response(), ""),
    ] {
        let told = told(response);
        assert_eq!((&told.first[..], told.rest.is_some()), (text.as_bytes(), false));
    }
    let streamed = told(Response::new(own_stream(vec![Ok("ab"), Ok("cd")])));
    assert!(streamed.first.is_empty(), "its head does not wait");
    let all = axum::body::to_bytes(streamed.rest.unwrap(), 10).await.unwrap();
    assert_eq!(&all[..], b"abcd");
    let broken = told(Response::new(own_stream(vec![Ok("ab"), Err(io::Error::other("torn"))])));
    assert!(axum::body::to_bytes(broken.rest.unwrap(), 10).await.is_err());
}

#[tokio::test]
async fn what_waits_or_panics_holds_nobody_up() {
    let date = &NOW;
    let at_once = begin(in_place(|| async { "x".into_response() }), date).await;
    assert!(matches!(at_once, Begun::There(_)));
    let later = async {
        tokio::task::yield_now().await;
        "later".into_response()
    };
    let Begun::Waits(later) = begin(in_place(|| later), date).await else { unreachable!("it does not wait") };
    assert_eq!(&told(later.await).first[..], b"later");
    let panics = begin(in_place(|| async { unreachable!("as it should") }), date);
    assert!(matches!(panics.await, Begun::Failed));
}

/// A gateway's core before a service that answers by `answer`, and how many calls may wait there.
struct Served {
    cores: Cores<TestWorld>,
    upstreams: Arc<Upstreams>,
    ended: Arc<AtomicUsize>,
}

impl Served {
    fn by(connector: InProcessConnector) -> Self {
        let services = vec![ServiceSettings::in_process("served", connector)];
        let routes = vec![TestRoute { path: "/**", settings: support::settings(0) }];
        let listener = support::cleartext("127.0.0.1:0".parse().unwrap());
        let mut world = TestWorld::new(vec![listener], services, routes, Limits::default(), None);
        let (upstreams, ended) = (Arc::clone(&world.upstreams), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&ended);
        world.report = Some(Arc::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        Self { cores: Cores::start(1, Arc::new(world)).unwrap(), upstreams, ended }
    }

    /// A client that has asked.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.cores.addresses()[0].1).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    async fn text(&self, path: &str) -> String {
        let mut text = String::new();
        self.ask(path).await.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Calls that hold a place.
    fn open(&self) -> u32 {
        self.upstreams.services()[0].endpoints[0].limiter.open()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "waited in vain for {what}");
}

/// So long a test waits for what must come. Nothing is asserted about it.
const PATIENCE: Duration = Duration::from_secs(60);

fn served<F, R>(listener: InProcessListener, answer: F) -> JoinSet<()>
where
    F: Fn(Request) -> R + Clone + Send + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let mut server = JoinSet::new();
    server.spawn(serve(listener, Arc::new(SystemClock::start()), answer));
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_done_for_calls_that_were_given_up_before_they_were_taken() {
    const GIVEN_UP: usize = 40;
    let (connector, listener) = in_process_pair();
    let testbed = Served::by(connector);
    // Nobody takes any yet.
    let mut clients = Vec::new();
    for count in 1..=GIVEN_UP {
        clients.push(testbed.ask("/given-up").await);
        until("the call", || testbed.open() as usize == count).await;
    }
    drop(clients);
    until("all to be given up", || testbed.ended.load(Ordering::SeqCst) == GIVEN_UP).await;
    assert_eq!(testbed.open() as usize, GIVEN_UP, "each keeps its place");
    let (sender, seen) = std::sync::mpsc::channel();
    let _server = served(listener, move |request: Request| {
        sender.send(request.uri().path().to_owned()).unwrap();
        async { "done".into_response() }
    });
    assert!(testbed.text("/waits").await.ends_with("done"));
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["/waits"]);
    until("the places", || testbed.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_panics_is_one_calls_alone_even_before_it_is_begun() {
    let (connector, listener) = in_process_pair();
    let testbed = Served::by(connector);
    // One thread: a server that ended would leave none.
    let _server = served(listener, |request: Request| {
        let path = request.uri().path().to_owned();
        assert_ne!(path, "/called", "as it should");
        async move {
            assert_ne!(path, "/begun", "as it should");
            tokio::task::yield_now().await;
            assert_ne!(path, "/later", "as it should");
            "good".into_response()
        }
    });
    for path in ["/called", "/good", "/begun", "/good", "/later", "/good"] {
        let text = testbed.text(path).await;
        assert_eq!(text.starts_with("HTTP/1.1 502"), path != "/good", "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_is_dropped_once_nobody_waits_for_it_or_for_more_of_it() {
    /// Tells when it is dropped.
    struct Held(std::sync::mpsc::Sender<()>);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (connector, listener) = in_process_pair();
    let testbed = Served::by(connector);
    let (begun, mut is_begun) = tokio::sync::mpsc::unbounded_channel();
    let (dropped, is_dropped) = std::sync::mpsc::channel();
    let _server = served(listener, move |request: Request| {
        let held = Held(dropped.clone());
        begun.send(()).unwrap();
        async move {
            let _held = &held;
            if request.uri().path() == "/waits" {
                std::future::pending::<()>().await;
            }
            // Says one word, and is silent then.
            let word = tokio_stream::once(Ok::<_, io::Error>("word"));
            Response::new(Body::from_stream(word.chain(tokio_stream::pending()).map(move |word| {
                let _held = &held;
                word
            })))
        }
    });
    for path in ["/waits", "/silent"] {
        let mut client = testbed.ask(path).await;
        is_begun.recv().await.unwrap();
        if path == "/silent" {
            let mut all = Vec::new();
            while !all.ends_with(b"word\r\n") {
                assert_ne!(client.read_buf(&mut all).await.unwrap(), 0);
            }
        }
        assert!(is_dropped.try_recv().is_err(), "{path}: somebody waits");
        drop(client);
        until("the answer to be dropped", || is_dropped.try_recv().is_ok()).await;
        until("its place", || testbed.open() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let (connector, listener) = in_process_pair();
    let testbed = Served::by(connector);
    let _server = served(listener, |request: Request| async move {
        let mut pieces = vec![Ok("data")];
        if request.uri().path() == "/torn" {
            pieces.push(Err(io::Error::other("torn")));
        }
        Response::new(own_stream(pieces))
    });
    for (path, is_whole) in [("/whole", true), ("/torn", false)] {
        let text = testbed.text(path).await;
        assert!(text.contains("\r\n\r\n4\r\ndata\r\n"), "{text}");
        assert_eq!(text.ends_with("\r\n0\r\n\r\n"), is_whole, "{text}");
    }
}
