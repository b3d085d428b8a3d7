//! Services of the mesh whose instances fail: callers leave them out, ask again or no more, as
//! `mesh.services` says. The callers are a `bastide run` and the gateway.

use std::net::SocketAddr;

use bastide::demo::client::{Answer, Endpoint, Request, http1};

use crate::mesh_tcp::{CALLS, Mesh, SPEAKS_HTTP};
use crate::peers::free_port;
use crate::support::{read, until};

const POLICIES: &str =
    r#"permit (principal is Service, action, resource) when { resource.service == "payments" };"#;
const GATEWAY: &str =
    "routes: [ { name: shop, match: localhost/**, to: payments, authenticate: none, allow: anyone } ]\n";

/// Answers whatever it is asked with 503.
fn fails() -> String {
    SPEAKS_HTTP.replace("send_response(200)", "send_response(503)")
}

/// Payments at two places, and orders that calls it.
struct Shop {
    mesh: Mesh,
    places: [u16; 2],
    outbound: SocketAddr,
}

impl Shop {
    /// Of payments its entry says this.
    async fn start(says: &str, programs: &[&str]) -> Self {
        let gateway = if programs.is_empty() { "routes: []\n" } else { GATEWAY };
        let mesh = Mesh::start_with(&[("orders", ""), ("payments", "")], POLICIES, "", gateway).await;
        let [first, outbound] = [mesh.port("payments"), free_port()];
        let mut shop =
            Self { mesh, places: [first, free_port()], outbound: ([127, 0, 0, 1], outbound).into() };
        shop.say_of_payments(says);
        for (program, port) in programs.iter().zip(shop.places) {
            shop.mesh.run_instance(("payments", &format!("at-{port}")), port, program).await;
        }
        let port = shop.outbound.port().to_string();
        shop.mesh.run("orders", &["--outbound-port", &port], CALLS).await;
        shop
    }

    /// Replaces what is said of payments, whole or not at all.
    fn say_of_payments(&self, says: &str) {
        let path = self.mesh.testbed.path("mesh.yaml");
        let [one, other] = self.places;
        let entry = format!("    payments: {{ at: [ \"127.0.0.1:{one}\", \"127.0.0.1:{other}\" ], {says} }}");
        let is_entry = |line: &str| line.starts_with("    payments: { at:");
        let text = read(&path);
        let lines = text.lines().map(|line| if is_entry(line) { entry.as_str() } else { line });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(self.mesh.testbed.path("next"), text).unwrap();
        std::fs::rename(self.mesh.testbed.path("next"), path).unwrap();
    }

    /// Orders calls payments.
    async fn ask(&self) -> Answer {
        http1::ask(&Endpoint::clear(self.outbound), &Request::new("GET", "payments", "/charges"))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn an_instance_that_fails_is_left_out_by_its_callers_as_its_service_says() {
    let says = "balance: random, retries: 0, eject: { failures: 3, for: 1h }";
    let shop = Shop::start(says, &[SPEAKS_HTTP, &fails()]).await;
    let port = shop.places[1].to_string();
    until("the gateway to know both", async || {
        let metrics = shop.mesh.testbed.admin("/metrics").await.body;
        String::from_utf8(metrics).unwrap().contains(&port).then_some(())
    })
    .await;
    let mut of_orders = [0, 0];
    let mut of_gateway = [0, 0];
    for _ in 0..100 {
        of_orders[usize::from(shop.ask().await.status == 503)] += 1;
        of_gateway[usize::from(shop.mesh.testbed.get("/charges").await.status == 503)] += 1;
    }
    // By default it is five failures.
    assert_eq!((of_orders, of_gateway), ([97, 3], [97, 3]), "{}", shop.mesh.say("orders"));
    let metrics = shop.mesh.metrics("orders").await;
    let is_it = |line: &str| line.starts_with("bastide_upstream_endpoint_ejected{") && line.contains(&port);
    let ejected = metrics.lines().find(|line| is_it(line)).unwrap();
    assert!(ejected.ends_with(" 1"), "{ejected}");
}

#[tokio::test]
async fn what_could_not_be_sent_is_tried_elsewhere_as_often_as_its_service_says() {
    // Nobody is at the second place.
    let shop = Shop::start("balance: random, eject: false, retries: 1", &[SPEAKS_HTTP]).await;
    for _ in 0..60 {
        assert_eq!(shop.ask().await.status, 200, "{}", shop.mesh.say("orders"));
    }
    shop.say_of_payments("balance: random, eject: false, retries: 0");
    until("a call that is not tried again", async || (shop.ask().await.status == 502).then_some(())).await;
}

#[tokio::test]
async fn an_instance_that_fails_its_health_checks_gets_no_calls() {
    let says = "balance: random, retries: 0, eject: false, \
                health: { http: /healthz, interval: 100ms, unhealthy: 1 }";
    let shop = Shop::start(says, &[SPEAKS_HTTP, &fails()]).await;
    let mut in_a_row = 0;
    until("fifty good answers in a row", async || {
        in_a_row = if shop.ask().await.status == 200 { in_a_row + 1 } else { 0 };
        (in_a_row == 50).then_some(())
    })
    .await;
    // The checks are calls of orders, which the policies of payments judge.
    let events = shop.mesh.audit(&format!("at-{}", shop.places[0]));
    let is_check = |line: &&str| line.contains("/healthz") && line.contains("bastide-probe");
    let allowed = events.lines().filter(is_check).any(|line| line.contains("\"outcome\":\"allowed\""));
    assert!(allowed, "{events}");
}

#[tokio::test]
async fn the_breaker_of_a_service_opens_at_its_callers() {
    let says = "retries: 0, eject: false, breaker: { requests_min: 4, for: 1h }";
    let shop = Shop::start(says, &[&fails(), &fails()]).await;
    let mut refused = 0;
    for _ in 0..20 {
        let answer = shop.ask().await;
        assert_eq!(answer.status, 503);
        refused += usize::from(answer.field("retry-after").is_some());
    }
    assert_eq!(refused, 16, "{}", shop.mesh.say("orders"));
}
