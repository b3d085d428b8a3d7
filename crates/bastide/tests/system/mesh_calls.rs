//! Calls between services of the mesh, for end users: the user's identity goes from the gateway
//! through the services, verified at each endpoint; policies that are only tried; and what the tools
//! say of such calls.

use std::process::{Command, Stdio};
use std::time::Duration;

use bastide::demo::client::http1;
use keys::encoding::encode_base64;
use keys::{IdentityToken, LocalSigner, SystemRandom, sign_identity};
use mesh::workload_api::{Client, X509Identity};
use model::{Clock as _, Credential, Principal, PrincipalKind, Timestamp};
use serde_json::Value;

use crate::mesh_run::run;
use crate::peers::free_port;
use crate::support::{BASTIDE, Process, TestBed, get_request, read, until};

const POLICIES: &str = r#"
    @id("the gateway calls orders")
    permit (principal == Service::"spiffe://shop.example/gateway", action, resource)
    when { resource.service == "orders" };
    @id("orders pays for customers")
    permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource)
    when {
        resource.service == "payments" && context.path == "/charges" &&
        context has user && context.user.roles.contains("customer")
    };
    @id("anybody looks")
    permit (principal is Anonymous, action == Action::"GET", resource)
    when { resource.service == "payments" && context.path == "/open" };
"#;

/// The gateway, orders and payments; and the keys of a merchant, who is a customer too, and of an
/// auditor.
struct Shop {
    testbed: TestBed,
    payments: std::net::SocketAddr,
    _services: [Process; 2],
    merchant: String,
    auditor: String,
}

/// `of_payments` is put behind the address of payments.
async fn shop(of_payments: &str) -> Shop {
    shop_under(POLICIES, of_payments).await
}

/// The same under other policies.
async fn shop_under(policies: &str, of_payments: &str) -> Shop {
    let (orders, payments) = (free_port(), free_port());
    let mut testbed = TestBed::prepare("routes: []\n");
    let uid = rustix::process::geteuid().as_raw();
    let shared = format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  services:\n    \
         orders: 127.0.0.1:{orders}\n    payments: {{ at: 127.0.0.1:{payments}{of_payments} }}\n  \
         workloads:\n    gateway: {{ uid: {uid} }}\n    orders: {{ uid: {uid} }}\n    \
         payments: {{ uid: {uid} }}\n\
         roles: {{ customer: {{}}, merchant: {{ includes: [ customer ] }}, auditor: {{}} }}\n\
         policies: shop.cedar\n"
    );
    std::fs::write(testbed.path("mesh.yaml"), shared).unwrap();
    std::fs::write(testbed.path("shop.cedar"), policies).unwrap();
    testbed.configure(
        "include: mesh.yaml\nroutes:\n- { name: shop, match: localhost/**, to: orders, authenticate: api_key, allow: authenticated }\n\
         - { name: open, match: open.localhost/**, to: orders, authenticate: none, allow: anyone }\n",
    );
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    let key = |role: &str| {
        let (code, out, err) = testbed
            .bastide(&["key", "new", "--owner", "bob", "--name", role, "--role", role, "--output", "json"]);
        assert_eq!(code, 0, "{out}{err}");
        serde_json::from_str::<Value>(&out).unwrap()["key"].as_str().unwrap().to_owned()
    };
    let (merchant, auditor) = (key("merchant"), key("auditor"));
    testbed.start_gateway().await;
    let services = [run(&testbed, "orders", orders), run(&testbed, "payments", payments)];
    for name in ["orders", "payments"] {
        let log = testbed.path(&format!("{name}.log"));
        until("the program", async || read(&log).contains("the program is up").then_some(())).await;
    }
    let payments = ([127, 0, 0, 1], payments).into();
    Shop { testbed, payments, _services: services, merchant, auditor }
}

impl Shop {
    /// Asks the gateway, with a key or without, and perhaps with a field more.
    async fn ask(&self, key: Option<&str>, target: &str, field: Option<(&str, &str)>) -> (u16, String) {
        let mut request = get_request(target);
        match key {
            Some(key) => request = request.field("x-api-key", key),
            None => request = bastide::demo::client::Request::new("GET", "open.localhost", target),
        }
        if let Some((name, value)) = field {
            request = request.field(name, value);
        }
        let answer = http1::ask(&self.testbed.clear_endpoint(), &request).await.unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Orders calls payments with this token in the place of the one that it was given.
    async fn ask_as(&self, token: &str) -> u16 {
        self.ask(Some(&self.merchant), &format!("/ask-as?{token},POST,http://payments/charges"), None).await.0
    }

    /// The events of payments' log.
    fn events(&self) -> String {
        let folder = self.testbed.path("bastide-payments/audit");
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| read(&entry.unwrap().path())).collect()
    }

    async fn event_with(&self, text: &str) -> Value {
        until(text, async || {
            let line = self.events().lines().find(|line| line.contains(text)).map(str::to_owned)?;
            serde_json::from_str(&line).ok()
        })
        .await
    }

    /// The SVID of a workload, as the Workload API gives it to this process.
    async fn svid(&self, name: &str) -> X509Identity {
        let client = Client::connect(&self.testbed.path("api.sock")).await.unwrap();
        let context = client.x509().await.unwrap().next().await.unwrap().unwrap();
        context.identities.into_iter().find(|identity| identity.hint == name).unwrap()
    }
}

/// A token about a customer, signed by the key of an SVID.
pub(crate) fn token(svid: &X509Identity, audience: &str, now: Timestamp) -> String {
    let user = Principal {
        kind: PrincipalKind::User,
        id: "alice".to_owned(),
        credential: Credential::Session,
        roles: vec!["customer".to_owned()],
        ..Principal::anonymous()
    };
    let chain: Vec<String> = svid.chain.iter().map(|der| encode_base64(der)).collect();
    let token = IdentityToken {
        issuer: svid.id.as_str(),
        audience,
        now,
        lifetime: Duration::from_secs(60),
        certificates: &chain,
    };
    let signer = LocalSigner::from_pkcs8(&svid.key).unwrap();
    sign_identity(&signer, &user, token, &SystemRandom::new()).unwrap()
}

const PAY: &str = "/ask?POST,http://payments/charges";

#[tokio::test]
async fn the_end_user_s_identity_is_carried_on_and_verified_at_each_service() {
    let shop = shop("").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let (status, body) = shop.ask(Some(&shop.merchant), PAY, Some(("traceparent", &parent))).await;
    assert_eq!(status, 200, "{body}{}", read(&shop.testbed.path("payments.log")));
    // The trace came as far as payments and its log.
    assert!(body.starts_with("payments POST /charges ") && body.contains(trace), "{body}");
    shop.event_with(trace).await;
    // Somebody in another role, and nobody.
    assert_eq!(shop.ask(Some(&shop.auditor), PAY, None).await.0, 403);
    assert_eq!(shop.ask(None, PAY, None).await.0, 403);

    // Whatever a client says of itself is dropped at the gateway.
    let now = bastide::process::clock::SystemClock::start().now();
    let (gateway, orders) = (shop.svid("gateway").await, shop.svid("orders").await);
    let good = token(&gateway, "spiffe://shop.example", now);
    assert_eq!(shop.ask(None, PAY, Some(("x-bastide-user", &good))).await.0, 403);

    // What a service says is verified where it calls.
    assert_eq!(shop.ask_as(&good).await, 200);
    assert_eq!(shop.ask_as("").await, 403, "without a token it calls for nobody");
    assert_eq!(shop.ask_as("forged").await, 401);
    assert_eq!(shop.ask_as(&token(&orders, "spiffe://shop.example", now)).await, 401, "orders is no gateway");
    let stolen = X509Identity { key: orders.key.clone(), ..gateway.clone() };
    assert_eq!(
        shop.ask_as(&token(&stolen, "spiffe://shop.example", now)).await,
        401,
        "another's certificate"
    );
    let expired = now.minus(Duration::from_secs(60 + 31));
    assert_eq!(shop.ask_as(&token(&gateway, "spiffe://shop.example", expired)).await, 401);
    assert_eq!(shop.ask_as(&token(&gateway, "spiffe://other.example", now)).await, 401);
    let reasons = ["refused: exp", "may not speak for users", "signature does not verify"];
    for why in reasons.into_iter().chain(["expected one of spiffe://shop.example"]) {
        shop.event_with(why).await;
    }
    tools(&shop).await;
}

/// What the tools say of the calls of before.
async fn tools(shop: &Shop) {
    // Why it was denied, from payments' own log.
    let denied = shop.event_with("no policy permits").await;
    let id = denied["metadata"]["uid"].as_str().unwrap();
    let of_payments = ["--service", "payments", "--config", "mesh.yaml"];
    let (code, said, err) = shop.testbed.bastide(&[&["explain", id][..], &of_payments].concat());
    assert!(
        code == 1 && said.contains("orders pays for customers") && said.contains("context.user"),
        "{said}{err}"
    );

    // Golden metrics of both ends, by caller and callee.
    let pair = |callee: &str, caller: &str, reporter: &str, status: &str| {
        format!(
            "bastide_mesh_requests_total{{callee=\"{callee}\",caller=\"spiffe://shop.example/{caller}\",\
             reporter=\"{reporter}\",status=\"{status}\"}}"
        )
    };
    let ready: Value =
        serde_json::from_str(&read(&shop.testbed.path("bastide-payments/ready.json"))).unwrap();
    let admin = ready["admin"].as_str().unwrap().parse().unwrap();
    let page =
        http1::ask(&bastide::demo::client::Endpoint::clear(admin), &get_request("/metrics")).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    for status in ["2xx", "4xx"] {
        assert!(page.contains(&pair("payments", "orders", "callee", status)), "{page}");
    }
    assert!(page.contains("bastide_mesh_request_duration_seconds_bucket{callee=\"payments\""), "{page}");
    let page = String::from_utf8_lossy(&shop.testbed.admin("/metrics").await.body).into_owned();
    assert!(page.contains(&pair("orders", "gateway", "caller", "2xx")), "{page}");

    // Policies from what was seen: they allow all of it.
    let log = ["--from-log", "bastide-payments/audit", "--output", "json"];
    let (code, said, err) = shop.testbed.bastide(&[&["policy", "suggest"][..], &log, &of_payments].concat());
    assert_eq!(code, 0, "{said}{err}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["calls"], &report["replayed_allowed"]), (&2.into(), &2.into()), "{said}");
    assert!(
        report["policies"][0]["policy"]
            .as_str()
            .unwrap()
            .contains("context.user.roles.contains(\"customer\")"),
        "{said}"
    );

    // What orders could reach, and a proxy's calls as they end.
    let (code, said, err) = shop.testbed.bastide(&["blast-radius", "--service", "orders"]);
    assert!(code == 1 && said.contains("POST payments, enforced at payments"), "{said}{err}");
    let mut tap = Command::new(BASTIDE);
    tap.args(["mesh", "tap", "--limit", "1", "--from", "orders", "--status", "2xx", "--output", "json"])
        .args(of_payments)
        .current_dir(shop.testbed.folder.path())
        .stdout(Stdio::piped());
    let tap = tap.spawn().unwrap();
    let tapped = tokio::task::spawn_blocking(move || tap.wait_with_output().unwrap());
    while !tapped.is_finished() {
        assert_eq!(shop.ask(Some(&shop.merchant), PAY, None).await.0, 200);
        assert_eq!(shop.ask(Some(&shop.auditor), PAY, None).await.0, 403);
    }
    let said = tapped.await.unwrap().stdout;
    let call: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(
        (&call["caller"], &call["status"]),
        (&"spiffe://shop.example/orders".into(), &200.into()),
        "{call}"
    );
}

#[tokio::test]
async fn where_policies_are_only_tried_nothing_is_denied_and_what_would_be_is_logged() {
    let shop = shop(", danger_dry_run: true").await;
    assert_eq!(shop.ask(Some(&shop.auditor), PAY, None).await.0, 200);
    let tried = shop.event_with("policies would deny it: no policy permits it").await;
    assert_eq!(tried["unmapped"]["decision"]["would_deny"], "no policy permits it");
    assert_eq!(tried["unmapped"]["outcome"], "allowed");
    // What is allowed is not reported, and who proves nothing is refused as ever.
    assert_eq!(shop.ask(Some(&shop.merchant), PAY, None).await.0, 200);
    let allowed = shop.event_with("orders pays for customers").await;
    assert_eq!(allowed["unmapped"]["decision"]["would_deny"], Value::Null);
    assert_eq!(shop.ask_as("forged").await, 401);
    assert_eq!(shop.events().matches("would_deny").count(), 1);
}

/// The way to begin: nothing is permitted yet, calls pass and are logged, and policies come of the log.
#[tokio::test]
async fn policies_from_a_log_without_any_keep_the_end_user_s_role() {
    const NOTHING_YET: &str = r#"
        permit (principal == Service::"spiffe://shop.example/gateway", action, resource)
        when { resource.service == "orders" };
    "#;
    let shop = shop_under(NOTHING_YET, ", danger_dry_run: true").await;
    assert_eq!(shop.ask(Some(&shop.merchant), PAY, None).await.0, 200);
    shop.event_with("policies would deny it").await;
    let of_payments = ["--service", "payments", "--config", "mesh.yaml"];
    let log = ["--from-log", "bastide-payments/audit", "--denied-too", "--output", "json"];
    let (code, said, err) = shop.testbed.bastide(&[&["policy", "suggest"][..], &log, &of_payments].concat());
    assert_eq!(code, 0, "{said}{err}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["calls"], &report["replayed_allowed"]), (&1.into(), &1.into()), "{said}");
    let policy = report["policies"][0]["policy"].as_str().unwrap();
    // Under the proposal what was seen is permitted, and a call for anybody else is not.
    std::fs::write(shop.testbed.path("shop.cedar"), format!("{NOTHING_YET}{policy}")).unwrap();
    until("the proposal to count", async || {
        assert_eq!(shop.ask(Some(&shop.merchant), PAY, None).await.0, 200);
        let events = shop.events();
        let last = events.lines().last().map(str::to_owned)?;
        (!last.contains("policies would deny it")).then_some(())
    })
    .await;
    let denied = shop.events().matches("policies would deny it").count();
    assert_eq!(shop.ask(Some(&shop.auditor), PAY, None).await.0, 200);
    until("the auditor's denial", async || {
        (shop.events().matches("policies would deny it").count() == denied + 1).then_some(())
    })
    .await;
    assert_eq!(shop.ask(None, PAY, None).await.0, 200);
    until("nobody's denial", async || {
        (shop.events().matches("policies would deny it").count() == denied + 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_without_tls_says_of_an_end_user_does_not_reach_the_program() {
    let shop = shop(", mode: permissive").await;
    let now = bastide::process::clock::SystemClock::start().now();
    let good = token(&shop.svid("gateway").await, "spiffe://shop.example", now);
    let endpoint = bastide::demo::client::Endpoint::clear(shop.payments);
    for said in ["forged", &good] {
        let request = bastide::demo::client::Request::new("GET", "payments", "/open");
        let answer = http1::ask(&endpoint, &request.field("x-bastide-user", said)).await.unwrap();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{body}{}", read(&shop.testbed.path("payments.log")));
        assert!(body.starts_with("payments GET /open ") && body.ends_with(" -"), "{said}: {body}");
    }
    // What was verified reaches it, there too.
    let (status, body) = shop.ask(Some(&shop.merchant), PAY, None).await;
    assert!(status == 200 && !body.ends_with(" -"), "{body}");
}
