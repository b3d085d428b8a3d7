//! Upstreams that fail, come back, prove who they are: servers that we did not write.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use bastide::demo::client::{Endpoint, http1};
use tokio::time::sleep;

use crate::clients::python;
use crate::peers::{NameServer, Nginx, authority, certificate, free_address, haproxy, has};
use crate::support::{Process, TestBed, Upstream, get_request, until};

const ROUTES: &str = "routes:\n  - { name: here, match: /**, to: here, authenticate: none, allow: anyone }\n";

/// The value of a metric's sample.
async fn metric(testbed: &TestBed, sample: &str) -> Option<u64> {
    let text = String::from_utf8(testbed.admin("/metrics").await.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(sample))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn of(family: &str, address: SocketAddr) -> String {
    format!("{family}{{service=\"here\",endpoint=\"http://{address}\"")
}

#[tokio::test]
async fn an_endpoint_that_fails_its_health_check_gets_no_requests_until_it_is_well() {
    if !has("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Answers all requests well: only the check knows.
    let site = |name: &str| {
        format!(
            "server {{ listen ADDRESS; location / {{ return 200 {name}; }}\n\
             location = /healthz {{ root html; try_files /well =503; }} }}"
        )
    };
    let one = Nginx::start(folder.path(), "one", &site("one")).await;
    let other = Nginx::start(folder.path(), "other", &site("other")).await;
    let well = |name: &str| folder.path().join(name).join("html/well");
    for name in ["one", "other"] {
        std::fs::create_dir_all(folder.path().join(name).join("html")).unwrap();
        std::fs::write(well(name), "well").unwrap();
    }
    let testbed = TestBed::start(&format!(
        "services:\n  here:\n    endpoints: [ http://{}, http://{} ]\n    balance: random\n    \
         health: {{ http: /healthz, interval: 30ms, timeout: 50s, healthy: 2, unhealthy: 2 }}\n{ROUTES}",
        one.address, other.address
    ))
    .await;
    let answers = async || {
        let mut found = [0, 0];
        let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
        for _ in 0..40 {
            let answer = connection.ask(&get_request("/")).await.unwrap();
            assert_eq!(answer.status, 200);
            found[usize::from(answer.body != b"one")] += 1;
        }
        found
    };
    let healthy = of("bastide_upstream_endpoint_healthy", one.address);
    let good = of("bastide_upstream_probes_total", one.address) + ",result=\"good\"";
    until("the first checks", async || (metric(&testbed, &good).await? > 0).then_some(())).await;
    let [from_one, from_other] = answers().await;
    assert!(from_one > 5 && from_other > 5, "{from_one} {from_other}");

    std::fs::remove_file(well("one")).unwrap();
    until("one to be down", async || (metric(&testbed, &healthy).await == Some(0)).then_some(())).await;
    assert_eq!(answers().await, [0, 40]);
    until("the log", async || testbed.log().contains("health check: down").then_some(())).await;

    // Both down: nobody is refused without being asked.
    std::fs::remove_file(well("other")).unwrap();
    let healthy_other = of("bastide_upstream_endpoint_healthy", other.address);
    until("both to be down", async || (metric(&testbed, &healthy_other).await == Some(0)).then_some(()))
        .await;
    assert_eq!(answers().await.iter().sum::<i32>(), 40);

    std::fs::write(well("one"), "well").unwrap();
    until("one to be up", async || (metric(&testbed, &healthy).await == Some(1)).then_some(())).await;
    assert_eq!(answers().await, [40, 0]);
}

/// Checks of each kind against servers of which one is well and one is not.
#[tokio::test]
async fn grpc_and_tcp_checks_ask_real_servers() {
    const SERVER: &str = r#"
import sys, grpc
from concurrent import futures
class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        def check(request, context):
            known = {b"": b"\x08\x01", b"\x0a\x05sleep": b"\x08\x02", b"\x0a\x05awake": b"\x08\x01"}
            if request not in known:
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            return known[request]
        return grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Health(),))
server.add_insecure_port(sys.argv[1])
server.start()
sys.stdin.read()
"#;
    let Some(python) = python("grpc") else {
        println!("skipped: no PyPI grpcio here (cargo xtask test installs it)");
        return;
    };
    let address = free_address();
    let _server = Process::spawn(Command::new(python).args(["-c", SERVER, &address.to_string()]));
    until("the server", async || tokio::net::TcpStream::connect(address).await.ok().map(drop)).await;
    let dead = free_address();
    let mut services = String::from("services:\n");
    for (name, address, check) in [
        ("server", address, "grpc: \"\""),
        ("awake", address, "grpc: awake"),
        ("sleep", address, "grpc: sleep"),
        ("unknown", address, "grpc: nobody"),
        ("socket", address, "tcp: true"),
        ("dead", dead, "tcp: true"),
    ] {
        services += &format!(
            "  {name}: {{ endpoints: \"http://{address}\", protocol: http2, health: {{ {check}, interval: 50ms, timeout: 50s }} }}\n"
        );
    }
    let testbed = TestBed::start(&(services + &ROUTES.replace("to: here", "to: server"))).await;
    for (name, address, expected) in [
        ("server", address, "good"),
        ("awake", address, "good"),
        ("sleep", address, "bad"),
        ("unknown", address, "bad"),
        ("socket", address, "good"),
        ("dead", dead, "bad"),
    ] {
        let family = |result: &str| {
            format!(
                "bastide_upstream_probes_total{{service=\"{name}\",endpoint=\"http://{address}\",result=\"{result}\""
            )
        };
        until(name, async || (metric(&testbed, &family(expected)).await? > 2).then_some(())).await;
        let other = if expected == "good" { "bad" } else { "good" };
        assert_eq!(metric(&testbed, &family(other)).await, Some(0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_upstreams_loses_no_idempotent_request() {
    if !has("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = "server { listen ADDRESS; location / { return 200 here; } }";
    let mut fleet = Vec::new();
    for name in ["one", "two", "three"] {
        fleet.push(Nginx::start(folder.path(), name, site).await);
    }
    let urls: Vec<String> = fleet.iter().map(|nginx| format!("http://{}", nginx.address)).collect();
    let testbed = TestBed::start(&format!(
        "services:\n  here:\n    endpoints: [ {} ]\n    retries: 2\n    \
         health: {{ http: /, interval: 50ms, timeout: 50s, healthy: 1, unhealthy: 1 }}\n{ROUTES}",
        urls.join(", ")
    ))
    .await;
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let (endpoint, over, asked) = (testbed.endpoint(), Arc::clone(&over), Arc::clone(&asked));
            tokio::spawn(async move {
                let methods = ["GET", "HEAD", "GET", "DELETE"];
                let mut connection = Connection::open(&endpoint).await.unwrap();
                let mut lost = Vec::new();
                for round in 0usize.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let mut request = get_request("/");
                    request.method = methods[(round + number) % methods.len()];
                    match connection.ask(&request).await {
                        Ok(answer) if answer.status == 200 => {}
                        // nginx's static answer takes no DELETE; it did answer.
                        Ok(answer) if answer.status == 405 => {}
                        Ok(answer) => lost.push(format!("{} {}", request.method, answer.status)),
                        Err(error) => {
                            lost.push(error.to_string());
                            connection = Connection::open(&endpoint).await.unwrap();
                        }
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_millis(1)).await;
                }
                lost
            })
        })
        .collect();
    let some = async |more: u64| {
        let before = asked.load(Ordering::SeqCst);
        until("requests", async || (asked.load(Ordering::SeqCst) >= before + more).then_some(())).await;
    };
    for nginx in &mut fleet {
        some(100).await;
        nginx.kill();
        some(200).await;
        nginx.run().await;
        // Well again before the next one goes, as a rolling restart does it.
        let up = of("bastide_upstream_endpoint_up", nginx.address);
        until("it to be up", async || (metric(&testbed, &up).await == Some(1)).then_some(())).await;
    }
    some(100).await;
    over.store(true, Ordering::SeqCst);
    let mut lost = Vec::new();
    for client in clients {
        lost.extend(client.await.unwrap());
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!(lost.is_empty(), "{} of {asked} requests were lost: {lost:?}", lost.len());
    assert!(metric(&testbed, "bastide_upstream_retries_total{service=\"here\"").await > Some(0));
}

#[tokio::test]
async fn an_upstream_sees_our_certificate_and_the_new_one_when_its_file_changes() {
    if !has("nginx") || !has("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["authority", "stranger"] {
        authority(path, name);
    }
    certificate(path, "authority", "server", "IP:127.0.0.1");
    let place = |name: &str| path.join(name).display().to_string();
    let nginx = Nginx::start(
        path,
        "nginx",
        &format!(
            "server {{ listen ADDRESS ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_client_certificate {}; ssl_verify_client on;\nlocation / {{ return 200 $ssl_client_s_dn; }} }}",
            place("server.pem"),
            place("server.key"),
            place("authority.pem")
        ),
    )
    .await;
    let service = |tls: &str| {
        format!(
            "services:\n  here:\n    endpoints: https://{}\n    tls: {{ ca: {}{tls} }}\n{ROUTES}",
            nginx.address,
            place("authority.pem")
        )
    };
    certificate(path, "authority", "first", "DNS:first");
    certificate(path, "stranger", "forged", "DNS:first");
    let shows = |name: &str| format!(", client: {{ cert: {}.pem, key: {}.key }}", place(name), place(name));
    let testbed = TestBed::start(&service(&shows("first"))).await;
    let body = async || String::from_utf8(testbed.get("/").await.body).unwrap();
    assert_eq!(body().await, "CN=first");

    // The same file, another certificate: the key is replaced first, and a pair that
    // does not fit is refused until the certificate follows.
    certificate(path, "authority", "second", "DNS:second");
    std::fs::copy(path.join("second.key"), path.join("first.key")).unwrap();
    std::fs::rename(path.join("second.pem"), path.join("first.pem")).unwrap();
    until("the new certificate", async || (body().await == "CN=second").then_some(())).await;

    // Without one, and with one of somebody else's, nginx answers 400.
    for tls in [String::new(), shows("forged")] {
        testbed.configure(&service(&tls));
        until("nginx to refuse", async || (testbed.get("/").await.status == 400).then_some(())).await;
    }
    // An upstream of an authority that is not trusted is refused by us.
    testbed.configure(&service(&shows("first")).replace(&place("authority.pem"), &place("stranger.pem")));
    until("us to refuse", async || (testbed.get("/").await.status == 502).then_some(())).await;
}

#[tokio::test]
async fn the_clients_address_goes_from_haproxy_through_us_to_nginx() {
    if !has("nginx") || !has("haproxy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(
        folder.path(),
        "nginx",
        "server { listen ADDRESS proxy_protocol; location / { return 200 $proxy_protocol_addr; } }",
    )
    .await;
    let testbed = TestBed::start(&format!(
        "  - {{ address: \"127.0.0.1:0\", proxy_protocol: [ 127.0.0.1 ] }}\nservices:\n  here:\n    \
         endpoints: http://{}\n    proxy_protocol: true\n    health: {{ http: /, interval: 50ms }}\n{ROUTES}",
        nginx.address
    ))
    .await;
    for version in ["send-proxy", "send-proxy-v2"] {
        let (_haproxy, address) = haproxy(
            folder.path(),
            &format!(
                "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5s\n  \
                 timeout server 5s\nfrontend f\n  bind ADDRESS\n  default_backend b\nbackend b\n  \
                 server s {} {version}\n",
                testbed.address(2)
            ),
        )
        .await;
        for client in ["127.0.0.9", "127.0.0.10", "127.0.0.9"] {
            let endpoint = Endpoint { from: Some(client.parse().unwrap()), ..Endpoint::clear(address) };
            let mut connection = Connection::open(&endpoint).await.unwrap();
            for _ in 0..2 {
                let answer = connection.ask(&get_request("/")).await.unwrap();
                assert_eq!(String::from_utf8(answer.body).unwrap(), client, "{version}");
            }
        }
    }
    // The checks say that they are nobody's, and nginx takes that.
    let good = of("bastide_upstream_probes_total", nginx.address) + ",result=\"good\"";
    until("a good check", async || (metric(&testbed, &good).await? > 0).then_some(())).await;
    // The same listener without a header.
    assert!(http1::ask(&Endpoint::clear(testbed.address(2)), &get_request("/")).await.is_err());
}

#[tokio::test]
async fn haproxys_plain_health_check_finds_us_up() {
    if !has("haproxy") {
        return;
    }
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&format!("services:\n  here: http://{}\n{ROUTES}", upstream.address)).await;
    let folder = tempfile::tempdir().unwrap();
    // HTTP/1.0 without a host. One that is down from the first check on.
    let (_haproxy, address) = haproxy(
        folder.path(),
        &format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  \
             timeout server 5s\nfrontend f\n  bind ADDRESS\n  default_backend b\nbackend b\n  \
             option httpchk GET /health\n  server s {} check inter 50ms fall 1 rise 1\n",
            testbed.clear_address()
        ),
    )
    .await;
    until("checks", async || (upstream.seen() > 5).then_some(())).await;
    let answer = http1::ask(&Endpoint::clear(address), &get_request("/")).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"here"[..]));
}

#[tokio::test]
async fn endpoints_follow_their_names() {
    if !has("nginx") || !has("dnsmasq") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(
        folder.path(),
        "nginx",
        "server { listen ADDRESS; location / { return 200 one; } }\n\
         server { listen 127.0.0.2:PORT; location / { return 200 two; } }\n\
         server { listen [::1]:PORT; location / { return 200 six; } }",
    )
    .await;
    let port = nginx.address.port();
    let srv = vec![format!("--srv-host=_orders._tcp.test,target.test,{port},1,5")];
    let server =
        NameServer::start(folder.path(), "127.0.0.1 orders.test\n127.0.0.2 target.test\n", &srv).await;
    let testbed = TestBed::start(&format!(
        "dns: [ \"{}\" ]\nservices:\n  here: {{ endpoints: \"http://orders.test:{port}\", balance: random }}\n  \
         there: \"srv+http://_orders._tcp.test\"\nroutes:\n  \
         - {{ match: /there, to: there, authenticate: none, allow: anyone }}\n{}",
        server.address,
        ROUTES.strip_prefix("routes:\n").unwrap()
    ))
    .await;
    let body = async |target: &str| String::from_utf8(testbed.get(target).await.body).unwrap();
    assert_eq!(body("/").await, "one");
    assert_eq!(body("/there").await, "two", "host and port out of the SRV record");

    server.replace("127.0.0.2 orders.test\n127.0.0.1 target.test\n");
    until("the new address", async || (body("/").await == "two").then_some(())).await;
    until("the target's new address", async || (body("/there").await == "one").then_some(())).await;

    // Several addresses, of both families, are several endpoints.
    server.replace("127.0.0.1 orders.test\n127.0.0.2 orders.test\n::1 orders.test\n127.0.0.1 target.test\n");
    for wanted in ["one", "two", "six"] {
        until(wanted, async || (body("/").await == wanted).then_some(())).await;
    }
    // A name that is gone, or a server that is: what was known stays in use.
    server.replace("127.0.0.1 target.test\n");
    until("the failure", async || (metric(&testbed, "bastide_dns_failures_total").await? > 1).then_some(()))
        .await;
    assert_eq!(testbed.get("/").await.status, 200);
    drop(server);
    assert_eq!(testbed.get("/").await.status, 200);
    assert!(!testbed.log().contains("panicked"), "{}", testbed.log());
}

#[tokio::test]
async fn requests_are_shared_out_and_copied_as_the_configuration_says() {
    if !has("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut addresses = Vec::new();
    let mut servers = Vec::new();
    for name in ["stable", "canary", "shadow"] {
        let site = format!("server {{ listen ADDRESS; location / {{ return 200 {name}; }} }}");
        servers.push(Nginx::start(folder.path(), name, &site).await);
        addresses.push(format!("  {name}: http://{}\n", servers.last().unwrap().address));
    }
    let testbed = TestBed::start(&format!(
        "services:\n{}routes:\n  - match: /**\n    authenticate: none\n    allow: anyone\n    mirror: shadow\n    \
         to:\n      - {{ service: stable, weight: 4 }}\n      - {{ service: canary, weight: 1 }}\n      \
         - {{ service: canary, headers: {{ x-canary: \"yes\" }} }}\n",
        addresses.concat()
    ))
    .await;
    let mut connection = Connection::open(&testbed.endpoint()).await.unwrap();
    let mut canary = 0;
    for _ in 0..60 {
        let answer = connection.ask(&get_request("/")).await.unwrap();
        assert!(answer.body == b"stable" || answer.body == b"canary", "{:?}", answer.body);
        canary += i32::from(answer.body == b"canary");
    }
    assert!((1..30).contains(&canary), "{canary}");
    for _ in 0..5 {
        let answer = connection.ask(&get_request("/").field("x-canary", "yes")).await.unwrap();
        assert_eq!(answer.body, b"canary");
    }
    let copies = "bastide_upstream_mirrored_total{service=\"shadow\",result=\"answered\"}";
    until("the copies", async || (metric(&testbed, copies).await? == 65).then_some(())).await;
}

#[tokio::test]
async fn whoever_finds_no_place_at_a_busy_service_is_told_when_to_come_again() {
    let upstream = Upstream::start().await;
    let testbed = TestBed::start(&format!(
        "services:\n  here: {{ endpoints: [ http://{} ], connections_max: 1, waiting_max: 0 }}\n{ROUTES}",
        upstream.address
    ))
    .await;
    let endpoint = testbed.endpoint();
    let slow = tokio::spawn(async move { http1::ask(&endpoint, &get_request("/slow")).await.unwrap() });
    until("the one connection to be taken", async || (upstream.seen() == 1).then_some(())).await;
    let refused = testbed.get("/").await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    upstream.release();
    assert_eq!(slow.await.unwrap().status, 200);
    // The client has its answer a moment before its connection is free for another.
    until("the place to be free", async || (testbed.get("/").await.status == 200).then_some(())).await;
}
