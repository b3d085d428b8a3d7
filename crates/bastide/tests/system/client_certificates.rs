//! Client certificates of a listener's own authorities: whom they name, and whom they never do.

use bastide::demo::client::{Answer, ClientCertificate, Endpoint, Request, Trust, http1};
use keys::encoding::encode_base64;
use mesh::workload_api::Client;
use serde_json::Value;

use crate::support::{TestBed, Upstream, until};

type Partners = rcgen::CertifiedIssuer<'static, rcgen::KeyPair>;

fn authority() -> Partners {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, key).unwrap()
}

/// By the partners' authority: this common name, and perhaps a URI.
fn issue(partners: &Partners, name: &str, uri: Option<&str>) -> ClientCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.subject_alt_names =
        uri.map(|uri| rcgen::SanType::URI(uri.try_into().unwrap())).into_iter().collect();
    let certificate = params.signed_by(&key, partners).unwrap();
    ClientCertificate { chain: certificate.pem(), key: key.serialize_pem() }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", encode_base64(der))
}

const POLICIES: &str = "
permit (principal == Service::\"spiffe://shop.example/orders\", action, resource == Route::\"shop\");
permit (principal == Service::\"spiffe://partner.example/orders\", action, resource == Route::\"shop\");
permit (principal == Client::\"partner/stock\", action, resource == Route::\"shop\");
permit (principal in Role::\"auditor\", action, resource == Route::\"shop\");
permit (principal, action, resource == Route::\"said\")
when { context has certificate.spiffe_id && context.certificate.spiffe_id == \"spiffe://shop.example/orders\" };
";

struct Scene {
    testbed: TestBed,
    partners: Partners,
    _upstream: Upstream,
}

/// A mesh, a realm, a listener for partners and one for workloads.
async fn scene() -> Scene {
    let upstream = Upstream::start().await;
    let partners = authority();
    let mut testbed = TestBed::prepare("");
    let uid = rustix::process::geteuid().as_raw();
    let text = format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    \
         tls: {{ local: true, client: {{ ca: partners.pem, prefix: partner/ }} }}\n  - address: 127.0.0.1:0\n  \
         - {{ address: 127.0.0.1:0, tls: {{ mesh: true }} }}\n\
         mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  workloads:\n    orders: {{ uid: {uid} }}\n    \
         gateway: {{ uid: {uid} }}\n\
         realms:\n  town:\n    issuer: https://localhost\n    resources: {{ \"https://orders.test\": {{}} }}\n    clients:\n      \
         orders: {{ tls_client_auth: {{ san_uri: \"spiffe://shop.example/orders\" }}, resources: [ \"https://orders.test\" ] }}\n      \
         partner: {{ tls_client_auth: {{ san_uri: \"spiffe://partner.example/orders\" }}, resources: [ \"https://orders.test\" ] }}\n\
         authentication:\n  audience: https://orders.test\n  issuers: [ https://localhost ]\n  \
         certificates: {{ trust_domain: partner.example }}\n\
         roles: {{ auditor: {{ members: [ \"Client:reports\" ] }} }}\npolicies: shop.cedar\n\
         services: {{ shop: [ http://{} ] }}\nroutes:\n  \
         - {{ name: id, match: localhost/token, to: identity, authenticate: none, allow: anyone }}\n  \
         - {{ name: said, match: /said/**, to: shop, authenticate: none }}\n  \
         - {{ name: shop, match: /shop/**, to: shop, authenticate: mtls }}\n",
        upstream.address
    );
    std::fs::write(testbed.path("bastide.yaml"), text).unwrap();
    std::fs::write(testbed.path("shop.cedar"), POLICIES).unwrap();
    std::fs::write(testbed.path("partners.pem"), partners.pem()).unwrap();
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    Scene { testbed, partners, _upstream: upstream }
}

impl Scene {
    fn partner(&self, name: &str, uri: Option<&str>) -> Endpoint {
        let authority = std::fs::read(self.testbed.path("state/ca/ca.pem")).unwrap();
        let trust = Trust::new("localhost", &authority, Some(&issue(&self.partners, name, uri))).unwrap();
        Endpoint { address: self.testbed.tls_address(), tls: Some(trust), from: None }
    }

    /// Orders, certified by the mesh.
    async fn workload(&self) -> Endpoint {
        let context = until("the certificate", async || {
            let client = Client::connect(&self.testbed.path("api.sock")).await.ok()?;
            client.x509().await.ok()?.next().await.ok()?
        })
        .await;
        let identity = context.identities.iter().find(|identity| identity.hint == "orders").unwrap();
        let chain = identity.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        let own = ClientCertificate { chain, key: pem("PRIVATE KEY", &identity.key) };
        let anchors: String =
            context.anchors["shop.example"].iter().map(|der| pem("CERTIFICATE", der)).collect();
        let gateway = "spiffe://shop.example/gateway".parse().unwrap();
        let trust = Trust::in_mesh(&gateway, anchors.as_bytes(), &own).unwrap();
        Endpoint { address: self.testbed.address(2), tls: Some(trust), from: None }
    }
}

async fn status(endpoint: &Endpoint, host: &str, target: &str) -> u16 {
    http1::ask(endpoint, &Request::new("GET", host, target)).await.unwrap().status
}

async fn token(endpoint: &Endpoint, client: &str) -> Answer {
    let form = format!("grant_type=client_credentials&client_id={client}&resource=https://orders.test");
    let mut request = Request::new("POST", "localhost", "/token")
        .field("content-type", "application/x-www-form-urlencoded");
    request.body = form.into_bytes();
    http1::ask(endpoint, &request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_of_a_listener_makes_no_workload_of_the_mesh() {
    let scene = scene().await;
    let mesh = scene.workload().await;
    let orders = Some("spiffe://shop.example/orders");
    let stranger = scene.partner("orders", orders);
    let partner = scene.partner("orders", Some("spiffe://partner.example/orders"));
    for (host, endpoint, target, expected) in [
        ("gateway", &mesh, "/shop/", 200),
        ("gateway", &mesh, "/said/", 200),
        ("localhost", &stranger, "/shop/", 401),
        ("localhost", &stranger, "/said/", 403),
    ] {
        let found = status(endpoint, host, target).await;
        assert_eq!(found, expected, "{host} {target} {}", scene.testbed.log());
    }
    assert_eq!(status(&partner, "localhost", "/shop/").await, 200, "{}", scene.testbed.log());
    // Nor a client of a realm that is known by its name there.
    let invalid = |answer: &Answer| (answer.status, answer.json()["error"].clone());
    let refused = (401, Value::from("invalid_client"));
    assert_eq!(invalid(&token(&stranger, "orders").await), refused);
    assert_eq!(invalid(&token(&partner, "orders").await), refused);
    assert_eq!(token(&partner, "partner").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_not_the_client_of_a_realm_of_its_name() {
    let scene = scene().await;
    for (name, expected) in [("stock", 200), ("reports", 403), ("partner/stock", 403)] {
        let endpoint = scene.partner(name, None);
        assert_eq!(
            status(&endpoint, "localhost", "/shop/").await,
            expected,
            "{name} {}",
            scene.testbed.log()
        );
    }
}
