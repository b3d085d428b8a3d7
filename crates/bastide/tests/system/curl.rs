//! A client that we did not write.

use std::process::Command;

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
