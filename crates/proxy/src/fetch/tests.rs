use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tls::ClientTlsSettings;

fn rules() -> FetchRules {
    FetchRules::new(ClientTls::build(&ClientTlsSettings::default()).unwrap())
}

fn loopback_rules() -> FetchRules {
    FetchRules { allow_private_addresses: true, body_bytes_max: 100, ..rules() }
}

/// Answers every connection with this text; counts them.
fn server(answer: impl Fn(usize) -> String + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                match socket.read(&mut buffer) {
                    Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let _ = socket.write_all(answer(number).as_bytes());
        }
    });
    (port, hits)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncache-control: max-age=60\r\n\r\n{body}", body.len())
}

#[test]
fn special_addresses_are_not_public() {
    let table = [
        ("8.8.8.8", true),
        ("1.1.1.1", true),
        ("127.0.0.1", false),
        ("127.8.9.1", false),
        ("0.0.0.0", false),
        ("10.0.0.1", false),
        ("172.15.255.255", true),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("172.32.0.0", true),
        ("192.168.1.1", false),
        ("169.254.169.254", false),
        ("100.64.0.1", false),
        ("100.128.0.1", true),
        ("198.18.0.1", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700::1111", true),
        ("::1", false),
        ("::", false),
        ("fe80::1", false),
        ("fd00::1", false),
        ("ff02::1", false),
        ("2001:db8::1", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:10.0.0.1", false),
        ("::ffff:8.8.8.8", true),
        ("::127.0.0.1", false),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::8.8.8.8", true),
        ("2002:7f00:1::", false),
        ("2002:808:808::", true),
        ("2002:a9fe:a9fe::1", false),
        ("2002:ac0f:ffff::", true),
        ("2002:ac10::", false),
        ("64:ff9b::169.254.169.254", false),
        ("64:ff9b::172.15.255.255", true),
        ("64:ff9b::172.32.0.0", true),
        ("64:ff9b:0:0:0:1:808:808", false),
        ("64:ff9b:1::8.8.8.8", false),
        ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", false),
        ("64:ff9a::8.8.8.8", false),
        ("::ffff:0:8.8.8.8", false),
        ("2001::8.8.8.8", false),
        ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("2001:200::1", true),
        ("1fff::1", false),
        ("3fff::1", false),
        ("3fff:1000::1", true),
        ("4000::1", false),
    ];
    for (text, public) in table {
        assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
    }
}

#[test]
fn what_a_url_says_itself_is_known_without_a_look_up() {
    for (url, special) in [
        ("http://127.0.0.1:8080/bcl", Some("127.0.0.1")),
        ("https://LOCALHOST/bcl", Some("127.0.0.1")),
        ("https://id.localhost./bcl", Some("127.0.0.1")),
        ("https://[fd00::1]:443/", Some("fd00::1")),
        ("https://10.1.2.3/", Some("10.1.2.3")),
        ("https://8.8.8.8/", None),
        ("https://[2606:4700::1]/", None),
        ("https://id.example.org/10.1.2.3", None),
        ("https://notlocalhost/", None),
        ("not a url", None),
    ] {
        assert_eq!(special_address(url), special.map(|address| address.parse().unwrap()), "{url}");
    }
}

#[test]
fn a_private_target_is_refused_before_a_connection_and_allowed_when_configured() {
    let (port, hits) = server(|_| ok("keys"));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let refused = run(fetch(&format!("https://{host}:{port}/"), &rules())).unwrap_err();
        assert!(matches!(refused, FetchError::Private { .. }), "{host}: {refused}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    let fetched = run(fetch(&format!("http://127.0.0.1:{port}/keys"), &loopback_rules())).unwrap();
    assert_eq!(&fetched.body[..], b"keys");
    assert_eq!(fetched.cache_control.as_deref(), Some("max-age=60"));
}

#[test]
fn what_is_no_http_goes_to_the_same_places_and_no_others() {
    let (port, hits) = server(|_| String::new());
    for host in ["127.0.0.1", "localhost", "id.localhost", "::ffff:127.0.0.1"] {
        for tls in [true, false] {
            let refused = run(open(host, port, tls, &rules())).unwrap_err();
            assert!(matches!(refused, FetchError::Private { .. }), "{host}: {refused}");
        }
        assert!(matches!(run(resolve(host, port, &rules())), Err(FetchError::Private { .. })), "{host}");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    assert!(run(resolve("127.0.0.1", port, &loopback_rules())).is_ok());
    // Also where the system's resolver does not know it.
    let found = run(resolve("no-such-name.localhost", port, &loopback_rules())).unwrap();
    assert_eq!(found.first(), Some(&std::net::SocketAddr::from(([127, 0, 0, 1], port))));
    assert!(run(open("no-such-name.localhost", port, false, &loopback_rules())).is_ok());
    assert!(run(open("127.0.0.1", port, false, &loopback_rules())).is_ok());
}

#[test]
fn addresses_that_cannot_be_trusted_are_refused() {
    let table = [
        ("http://8.8.8.8/", "http,"),
        ("ftp://8.8.8.8/", "scheme"),
        ("https://user@8.8.8.8/", "user"),
        ("/keys", "scheme"),
        ("not an address", "no address"),
    ];
    for (url, why) in table {
        let refused = run(fetch(url, &rules())).unwrap_err().to_string();
        assert!(refused.contains(why), "{url}: {refused}");
    }
}

#[test]
fn a_body_at_the_limit_passes_and_one_past_is_refused_however_it_is_framed() {
    for length in [100, 101] {
        let body = "x".repeat(length);
        let forms = [
            ok(&body),
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        ];
        for form in forms {
            let (port, _) = server(move |_| form.clone());
            let result = run(fetch(&format!("http://127.0.0.1:{port}/"), &loopback_rules()));
            match result {
                Ok(fetched) => assert_eq!((fetched.body.len(), length), (100, 100)),
                Err(FetchError::TooLarge { limit: 100, .. }) => assert_eq!(length, 101),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn redirects_are_followed_to_their_number_and_checked_again() {
    let hop =
        |number: usize| format!("HTTP/1.1 302 Found\r\nlocation: /{number}\r\ncontent-length: 0\r\n\r\n");
    for (redirects, fits) in [(3, true), (4, false)] {
        let (port, _) = server(move |number| if number < redirects { hop(number) } else { ok("end") });
        let result = run(fetch(&format!("http://127.0.0.1:{port}/"), &loopback_rules()));
        assert_eq!(result.is_ok(), fits, "{redirects}");
    }
    let start = Target::parse("https://id.example.org/a", &rules()).unwrap();
    let table = [
        ("/b", true),
        ("https://other.example.org/b", true),
        ("http://id.example.org/b", false),
        ("//other.example.org/b", false),
        ("/b\r\nx: y", false),
    ];
    for (location, followed) in table {
        assert_eq!(start.follow(location, &rules()).is_ok(), followed, "{location}");
    }
    // Even where http is allowed, nothing leads there from https.
    assert!(start.follow("http://id.example.org/b", &loopback_rules()).is_err());
}

#[test]
fn answers_that_are_not_whole_are_refused() {
    let table = [
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200",
        "",
    ];
    for answer in table {
        let (port, _) = server(move |_| answer.to_owned());
        assert!(run(fetch(&format!("http://127.0.0.1:{port}/"), &loopback_rules())).is_err(), "{answer}");
    }
}

#[test]
fn a_fetch_can_run_on_the_control_runtime() {
    fn can_move<T: Send>(_: &T) {}
    let rules = rules();
    can_move(&fetch("https://id.example.org/", &rules));
}

fn sent(port: u16, method: Method, fields: &HeaderMap, body: &[u8]) -> Result<Reply, FetchError> {
    let url = format!("http://127.0.0.1:{port}/order?x=1");
    run(send(&Outgoing { method, url: &url, fields, body }, &loopback_rules()))
}

#[test]
fn a_request_is_sent_as_it_is_and_its_answer_given_whatever_it_says() {
    let (seen, asked) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut text = Vec::new();
        while !text.ends_with(b"{}") {
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..count]);
        }
        seen.send(String::from_utf8(text).unwrap()).unwrap();
        let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nsoon";
        socket.write_all(answer.as_bytes()).unwrap();
    });
    let mut fields = HeaderMap::new();
    fields.insert("content-type", "application/jose+json".parse().unwrap());
    let reply = sent(port, Method::POST, &fields, b"{}").unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (429, &b"soon"[..]));
    assert_eq!(reply.fields.named(b"retry-after").next(), Some(&b"7"[..]));
    assert_eq!(
        asked.recv().unwrap(),
        format!(
            "POST /order?x=1 HTTP/1.1\r\ncontent-type: application/jose+json\r\ncontent-length: 2\r\n\
             host: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n{{}}"
        )
    );
}

#[test]
fn a_request_has_the_limits_of_a_fetch_and_follows_nothing() {
    let fields = HeaderMap::new();
    let (port, hits) = server(|_| {
        "HTTP/1.1 307 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned()
    });
    assert_eq!(sent(port, Method::GET, &fields, b"").unwrap().status, 307);
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    // The answer to HEAD has no body, whatever it says of one.
    let (port, _) = server(|_| "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_owned());
    assert_eq!(&sent(port, Method::HEAD, &fields, b"").unwrap().body[..], b"");
    let (port, _) = server(|_| ok(&"x".repeat(101)));
    assert!(matches!(sent(port, Method::GET, &fields, b""), Err(FetchError::TooLarge { limit: 100, .. })));
    let (port, _) = server(|_| "garbage\r\n\r\n".to_owned());
    assert!(matches!(sent(port, Method::GET, &fields, b""), Err(FetchError::Response { .. })));
    let url = format!("https://127.0.0.1:{port}/");
    let outgoing = Outgoing { method: Method::GET, url: &url, fields: &fields, body: b"" };
    assert!(matches!(run(send(&outgoing, &rules())), Err(FetchError::Private { .. })));
}
