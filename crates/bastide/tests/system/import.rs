//! A decK file, imported and served in front of a real upstream: what Kong would have let
//! in gets in, what it would have kept out is kept out.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use bastide::demo::client::{Answer, Endpoint, Request, Trust, http1};
use bastide::process::clock::SystemClock;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use model::Clock as _;
use serde_json::{Value, json};

use crate::support::{TestBed, until};

/// Answers with what it saw.
pub(crate) async fn mirror() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
        let headers: serde_json::Map<String, Value> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
            .collect();
        json!({ "method": method.as_str(), "path": uri.to_string(), "headers": headers, "body": body.len() })
            .to_string()
    };
    let app = Router::new().fallback(seen);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

const DECK: &str = r#"
_format_version: "3.0"
services:
- name: api
  url: http://UPSTREAM/base
  plugins: [ { name: response-transformer, config: { add: { headers: ["x-edge:yes"] } } } ]
  routes:
  - name: keyed
    paths: [/keyed]
    plugins:
    - name: key-auth
    - { name: acl, config: { allow: [partners] } }
    - { name: rate-limiting, config: { minute: 3 } }
    - { name: request-transformer, config: { add: { headers: ["x-from:kong"] }, remove: { headers: [x-debug] } } }
  - name: token
    paths: [/token]
    strip_path: false
    plugins:
    - name: jwt
    - { name: acl, config: { deny: [suspended] } }
  - name: secret
    paths: [/secret]
    plugins: [ { name: hmac-auth } ]
  - name: tls
    paths: [/tls]
    protocols: [https]
  - name: item
    paths: ['~/items/(?<id>[^/]+)$']
    plugins: [ { name: request-transformer, config: { replace: { uri: "/i/$(uri_captures.id)" } } } ]
  - name: number
    paths: ['~/numbers/\d+$']
  - name: few
    paths: [/few]
    plugins: [ { name: rate-limiting, config: { minute: 2, limit_by: ip } } ]
  - name: gone
    paths: [/gone]
    plugins: [ { name: request-termination, config: { status_code: 410, message: gone } } ]
  - name: small
    paths: [/small]
    plugins: [ { name: request-size-limiting, config: { allowed_payload_size: 1, size_unit: kilobytes } } ]
  - name: elsewhere
    paths: [/elsewhere]
    plugins: [ { name: ip-restriction, config: { allow: [192.0.2.0/24] } } ]
  - name: beta
    paths: [/few]
    headers: { x-beta: ["1"] }
    strip_path: false
  - name: guest
    paths: [/guest]
    plugins: [ { name: key-auth, config: { anonymous: guest } } ]
  - name: docs
    paths: ['~/docs/.+']
  - name: folder
    paths: [/folder/]
  - name: site
    paths: [/]
consumers:
- { username: guest }
- { username: importer, keyauth_credentials: [ { key: old-1 } ], acls: [ { group: partners } ] }
- { username: outsider, keyauth_credentials: [ { key: old-2 } ] }
- username: mobile
  jwt_secrets: [ { key: mobile-iss, algorithm: ES256, rsa_public_key: "MOBILE" } ]
- username: banned
  acls: [ { group: suspended } ]
  jwt_secrets: [ { key: banned-iss, algorithm: ES256, rsa_public_key: "BANNED" } ]
- username: ended
  jwt_secrets: [ { key: ended-iss, algorithm: ES256, rsa_public_key: "ENDED" } ]
  plugins: [ { name: request-termination } ]
"#;

/// An issuer's key: its public half for the file, and a token of it.
struct Signer(rcgen::KeyPair, &'static str);

impl Signer {
    fn new(issuer: &'static str) -> Self {
        Self(rcgen::KeyPair::generate().unwrap(), issuer)
    }

    fn public(&self) -> String {
        self.0.public_key_pem().replace('\n', "\\n").replace('\r', "")
    }

    fn token(&self) -> String {
        let now = SystemClock::start().now().unix_seconds();
        let claims = json!({ "iss": self.1, "sub": "phone", "aud": "bastide", "exp": now + 600 });
        let key = EncodingKey::from_ec_pem(self.0.serialize_pem().as_bytes()).unwrap();
        format!("Bearer {}", encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap())
    }
}

struct Imported {
    testbed: TestBed,
    tls: Endpoint,
    clear: Endpoint,
}

impl Imported {
    async fn ask(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask_at(&self.tls, "GET", target, fields, 0).await
    }

    async fn ask_at(
        &self,
        endpoint: &Endpoint,
        method: &'static str,
        target: &str,
        fields: &[(&str, &str)],
        body: usize,
    ) -> Answer {
        let mut request = Request::new(method, "localhost", target);
        for (name, value) in fields {
            request = request.field(name, value);
        }
        request.body = vec![b'x'; body];
        http1::ask(endpoint, &request).await.unwrap()
    }

    fn key(&self, name: &str) -> String {
        let (code, said, fault) =
            self.testbed.bastide(&["key", "new", "--name", name, "--owner", "tests", "--output", "json"]);
        assert_eq!(code, 0, "{fault}");
        serde_json::from_str::<Value>(&said).unwrap()["key"].as_str().unwrap().to_owned()
    }
}

async fn import(deck: &str) -> (Imported, Value) {
    let mut testbed = TestBed::prepare("");
    std::fs::write(testbed.path("kong.yaml"), deck).unwrap();
    let (code, report, fault) = testbed.bastide(&[
        "import",
        "kong",
        "kong.yaml",
        "--out",
        ".",
        "--force",
        "--http",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--output",
        "json",
    ]);
    assert_eq!(code, 1, "{report}{fault}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["check"]["ok"], true, "{report:#}");
    assert_eq!(testbed.bastide(&["fmt", "--check", "bastide.yaml"]).0, 0);
    let text = std::fs::read_to_string(testbed.path("bastide.yaml")).unwrap();
    let more = "admin: { address: 127.0.0.1:0 }\nstate: ./state\n";
    std::fs::write(testbed.path("bastide.yaml"), format!("{text}{more}")).unwrap();
    testbed.start_gateway().await;
    let authority = std::fs::read(testbed.path("state/ca/ca.pem")).unwrap();
    let trust = Trust::new("localhost", &authority, None).unwrap();
    let tls = Endpoint { address: testbed.address(1), tls: Some(trust), from: None };
    let clear = Endpoint::clear(testbed.address(0));
    (Imported { testbed, tls, clear }, report)
}

#[tokio::test]
async fn an_imported_gateway_lets_in_whom_kong_let_in_and_nobody_else() {
    let upstream = mirror().await;
    let [mobile, banned, ended] = ["mobile-iss", "banned-iss", "ended-iss"].map(Signer::new);
    let deck = DECK
        .replace("UPSTREAM", &upstream.to_string())
        .replace("MOBILE", &mobile.public())
        .replace("BANNED", &banned.public())
        .replace("ENDED", &ended.public());
    let (it, report) = import(&deck).await;
    let closed: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["outcome"] == "closed")
        .filter_map(|finding| finding["what"].as_str())
        .collect();
    assert!(closed.contains(&"plugin hmac-auth of route \"secret\""), "{closed:?}");

    // Paths, headers, both listeners.
    let site = it.ask("/a/b?c=d", &[]).await;
    assert_eq!((site.status, site.json()["path"].as_str()), (200, Some("/base/a/b?c=d")));
    assert_eq!(site.field("x-edge"), Some("yes"));
    assert_eq!(it.ask("/items/7", &[]).await.json()["path"], "/i/7");
    assert_eq!(it.ask("/few/x", &[("x-beta", "1")]).await.json()["path"], "/base/few/x");
    assert_eq!(it.ask("/tls/x", &[]).await.status, 200);
    assert_eq!(it.ask_at(&it.clear, "GET", "/tls/x", &[], 0).await.status, 403);
    assert_eq!(it.ask_at(&it.clear, "GET", "/a", &[], 0).await.status, 200);
    let gone = it.ask("/gone", &[]).await;
    assert_eq!((gone.status, gone.json()), (410, json!({ "message": "gone" })));
    assert_eq!(it.ask("/elsewhere", &[]).await.status, 403);
    assert_eq!(it.ask_at(&it.tls, "POST", "/small", &[], 1_024).await.status, 200);
    assert_eq!(it.ask_at(&it.tls, "POST", "/small", &[], 1_025).await.status, 413);

    // Below a folder, and not the folder itself.
    for (target, status) in [
        ("/docs", 403),
        ("/docs/", 403),
        ("/docs/x", 200),
        ("/docs/x/", 200),
        ("/folder", 403),
        ("/folder/", 200),
        ("/folder/x", 200),
    ] {
        assert_eq!(it.ask(target, &[]).await.status, status, "{target}");
    }

    // Closed, and not to be had by way of the site.
    for target in ["/secret", "/secret/x", "/secretary", "/keyedX", "/numbers/7", "/numbers/x", "/tokens"] {
        let status = it.ask(target, &[]).await.status;
        assert!(matches!(status, 401 | 403), "{target}: {status}");
    }

    // Keys and groups.
    let (importer, outsider) = (it.key("importer"), it.key("outsider"));
    // Each key is known when the gateway has read its file again.
    let known = async |key: &str| {
        until("a key to be known", async || {
            let answer = it.ask("/keyed/x", &[("x-api-key", key), ("x-debug", "1")]).await;
            (answer.status != 401).then_some(answer)
        })
        .await
    };
    let first = known(&importer).await;
    let seen = first.json();
    assert_eq!((first.status, seen["path"].as_str()), (200, Some("/base/x")), "{seen}");
    assert_eq!((&seen["headers"]["x-from"], &seen["headers"]["x-debug"]), (&json!("kong"), &Value::Null));
    assert_eq!(known(&outsider).await.status, 403);
    assert_eq!(it.ask("/keyed/x", &[("x-api-key", "old-1")]).await.status, 401);
    assert_eq!(it.ask("/keyed/x", &[]).await.status, 401);
    // What is read as anonymous in Kong is refused, and the report says so.
    assert_eq!(it.ask("/guest", &[("x-api-key", &outsider)]).await.status, 200);
    assert_eq!(it.ask("/guest", &[]).await.status, 401);
    let changed = |finding: &Value| {
        finding["outcome"] == "changed" && finding["what"] == "plugin key-auth of route \"guest\": anonymous"
    };
    assert!(report["findings"].as_array().unwrap().iter().any(changed), "{report:#}");
    assert_eq!(it.ask("/keyed/x", &[("authorization", &mobile.token())]).await.status, 401);

    // Tokens: of a consumer, of one whose group is denied, of one that is ended, of nobody.
    assert_eq!(
        it.ask("/token/x", &[("authorization", &mobile.token())]).await.json()["path"],
        "/base/token/x"
    );
    for (signer, status) in [(&banned, 403), (&ended, 403)] {
        assert_eq!(it.ask("/token/x", &[("authorization", &signer.token())]).await.status, status);
    }
    let forged = Signer::new("mobile-iss");
    assert_eq!(it.ask("/token/x", &[("authorization", &forged.token())]).await.status, 401);
    assert_eq!(it.ask("/token/x", &[("x-api-key", &importer)]).await.status, 401);

    // Limits: three of the importer's minute, two of an address's.
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(it.ask("/keyed/x", &[("x-api-key", &importer)]).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let mut few = Vec::new();
    for _ in 0..6 {
        few.push(it.ask("/few", &[]).await.status);
    }
    assert_eq!(few[0], 200);
    assert!(few.contains(&429), "{few:?}");

    // Why, in the words of the import.
    let refused = it.ask("/secret", &[]).await;
    let id = refused.request_id().unwrap().to_string();
    let (_, said, _) = it.testbed.bastide(&["explain", &id]);
    assert!(said.contains("secret: closed"), "{said}");
}

#[test]
fn import_refuses_what_it_cannot_read_and_overwrites_nothing() {
    let testbed = TestBed::prepare("");
    std::fs::write(testbed.path("kong.yaml"), "_format_version: \"3.0\"\nservices: [ { name: a\n").unwrap();
    let (code, _, said) = testbed.bastide(&["import", "kong", "kong.yaml"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("kong.yaml:"), "{said}");
    assert!(!testbed.path("imported").exists());
    std::fs::write(testbed.path("kong.yaml"), "_format_version: \"3.0\"\nservices:\n- { name: a, url: \"http://127.0.0.1:1\", routes: [ { name: a, paths: [ /a ], preserve_host: true } ] }\n").unwrap();
    let (code, said, _) = testbed.bastide(&["import", "kong", "kong.yaml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("imported/bastide.yaml: ok"), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(testbed.path("imported/bastide.yaml")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(testbed.path("imported/bastide.yaml"), "mine").unwrap();
    assert_eq!(testbed.bastide(&["import", "kong", "kong.yaml"]).0, 3);
    assert_eq!(std::fs::read_to_string(testbed.path("imported/bastide.yaml")).unwrap(), "mine");
    assert_eq!(testbed.bastide(&["import", "kong", "kong.yaml", "--force"]).0, 0);
    assert_eq!(testbed.bastide(&["import", "kong", "none.yaml", "--out", "x"]).0, 3);
}
