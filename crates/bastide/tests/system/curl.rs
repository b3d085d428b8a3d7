//! A client that we did not write.

use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{TestBed, Upstream};

/// curl with these arguments against the test bed: version, status, body.
fn curl(testbed: &TestBed, arguments: &[&str], target: &str) -> Option<(String, String, String)> {
    let port = testbed.tls_address().port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert", "state/ca/ca.pem"])
        .args(["--write-out", "\n%{http_version} %{http_code}"])
        .args(["--connect-to", &format!("::127.0.0.1:{port}")])
        .args(arguments)
        .arg(format!("https://shop.localhost{target}"))
        .current_dir(testbed.folder.path())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (version, status) = last.split_once(' ').unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    Some((version.to_owned(), status.to_owned(), format!("{body}{errors}")))
}

#[tokio::test]
async fn curl_is_served_and_refused_over_both_protocols() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - match: shop.localhost/here/**\n    to: here\n    \
         authenticate: none\n    allow: anyone\n    body_max: 1KiB\n",
        upstream.address
    ))
    .await;
    let testbed = std::sync::Arc::new(testbed);
    let run = async |arguments: &'static [&'static str], target: &'static str| {
        let testbed = std::sync::Arc::clone(&testbed);
        tokio::task::spawn_blocking(move || curl(&testbed, arguments, target)).await.unwrap()
    };
    if run(&[], "/here").await.is_none() {
        println!("skipped: no curl here");
        return;
    }
    let big: &'static str = Box::leak("x".repeat(2048).into_boxed_str());
    let data: &'static [&'static str] = Box::leak(Box::new(["--http1.1", "--data", big]));
    for (arguments, target, version, status) in [
        (&["--http1.1"][..], "/here/a", "1.1", "200"),
        (&["--http2"], "/here/a", "2", "200"),
        (&["--http1.1", "--tls-max", "1.2"], "/here/a", "1.1", "200"),
        (&["--http2", "--tlsv1.3"], "/here/a", "2", "200"),
        (&["--http2"], "/nowhere", "2", "404"),
        (&["--http1.1", "--path-as-is"], "/here/..;/a", "1.1", "400"),
        (&["--http2", "--path-as-is"], "/here/..;/a", "2", "400"),
        (&["--http1.1", "-H", "X_Y: z"], "/here/a", "1.1", "400"),
        (&["--http1.1", "--data", "small"], "/here/a", "1.1", "200"),
        (&["--http2", "--data", "small"], "/here/a", "2", "200"),
        (&["--http1.1", "-H", "Transfer-Encoding: chunked", "--data", "small"], "/here/a", "1.1", "200"),
        (data, "/here/a", "1.1", "413"),
    ] {
        let (v, s, body) = run(arguments, target).await.unwrap();
        assert_eq!((v.as_str(), s.as_str()), (version, status), "{arguments:?} {target}: {body}");
        if status == "200" {
            assert_eq!(body, "here", "{arguments:?} {target}");
        }
    } // Refused while it still sends: the answer must arrive whole each time.
    for round in 0..10 {
        let (_, status, errors) = run(&["--http2", "--data", "small"], "/nowhere").await.unwrap();
        assert_eq!(status, "404", "round {round}: {errors}");
        assert!(!errors.contains("curl:"), "round {round}: {errors}");
    }
}

/// An upstream that hints before each answer; what it hints names the gateway's own fields too.
async fn hinting() -> std::net::SocketAddr {
    const ANSWER: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nserver: old\r\n\
        x-request-id: forged\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 2\r\n\r\n{}";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while socket.read(&mut request).await.is_ok_and(|count| count > 0) {
                    let _ = socket.write_all(ANSWER).await;
                }
            });
        }
    });
    address
}

/// HTTP/1.0, which has no interim answers.
const OLD: &[&str] = &["--include", "--http1.0", "--no-alpn"];

#[tokio::test]
async fn curl_is_given_early_hints_where_nothing_has_to_be_judged_first() {
    let mut testbed = TestBed::prepare(&format!(
        "services:\n  here: [ http://{} ]\nroutes:\n  - match: shop.localhost/**\n    to: here\n    \
         allow: anyone\n  - match: shop.localhost/watched\n    to: here\n    allow: anyone\n    \
         waf: rules.conf\n  - match: shop.localhost/seen\n    to: here\n    allow: anyone\n    \
         waf: {{ rules: rules.conf, mode: detect }}\n  - match: shop.localhost/promised\n    to: here\n    \
         allow: anyone\n    validate: {{ openapi: api.yaml, responses: enforce }}\n",
        hinting().await
    ));
    std::fs::write(testbed.path("rules.conf"), "SecRule ARGS \"@contains attack\" \"id:1,phase:2,deny\"\n")
        .unwrap();
    let api = "openapi: 3.0.3\npaths:\n  /promised:\n    get:\n      responses:\n        \"200\": { description: ok, \
               content: { application/json: { schema: { type: object } } } }\n";
    std::fs::write(testbed.path("api.yaml"), api).unwrap();
    testbed.start_gateway().await;
    let testbed = std::sync::Arc::new(testbed);
    for (target, hinted) in [("/", true), ("/seen", true), ("/watched", false), ("/promised", false)] {
        for version in [&["--include", "--http1.1"][..], &["--include", "--http2"], OLD] {
            let testbed = std::sync::Arc::clone(&testbed);
            let asked = tokio::task::spawn_blocking(move || curl(&testbed, version, target)).await;
            let Some((_, status, said)) = asked.unwrap() else {
                println!("skipped: no curl here");
                return;
            };
            assert_eq!(status, "200", "{target} {version:?}: {said}");
            let hinted = hinted && version != OLD;
            let heads: Vec<&str> = said.split("\r\n\r\n").collect();
            assert_eq!(heads.len(), if hinted { 3 } else { 2 }, "{target} {version:?}: {said}");
            assert!(!said.contains("forged") && !said.contains("server:"), "{target} {version:?}: {said}");
            if hinted {
                let lines: Vec<&str> = heads[0].lines().map(str::trim_end).collect();
                assert!(lines[0].contains(" 103"), "{target} {version:?}: {said}");
                assert_eq!(lines[1..], ["link: </style.css>; rel=preload"], "{target} {version:?}");
            }
        }
    }
}
