//! Who stands before a service of the mesh with a certificate that does not fit: refused, with
//! the reason in its log, beside one that fits. The certificates are of an authority that the
//! test holds, which is the trust domain's own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

use crate::mesh_tcp::{Mesh, SPEAKS_HTTP};
use crate::support::until;

pub(crate) const ORDERS: &str = "spiffe://shop.example/orders";
const PAYMENTS: &str = "spiffe://shop.example/payments";

pub(crate) struct Authority(Issuer<'static, KeyPair>);

/// Its name, the certificate with its key, and what has to be said of it.
type Misfit = (&'static str, Option<(String, String)>, &'static str);

impl Authority {
    /// With its certificate and key as PEM.
    pub(crate) fn new() -> (Self, String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the shop's root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (certificate, secret) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        (Self(Issuer::new(params, key)), certificate, secret)
    }

    /// A leaf with these names, good between these hours from now.
    pub(crate) fn leaf(&self, uris: &[&str], (from, until): (i64, i64)) -> (String, String) {
        let [from, until] =
            [from, until].map(|hours| OffsetDateTime::now_utc() + time::Duration::hours(hours));
        self.leaf_between(uris, from, until)
    }

    fn leaf_between(&self, uris: &[&str], from: OffsetDateTime, until: OffsetDateTime) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_before = from;
        params.not_after = until;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// What does not fit where this authority is the trust domain's own.
    pub(crate) fn misfits(&self) -> [Misfit; 7] {
        let (stranger, _, _) = Self::new();
        [
            ("none", None, "sent no certificates"),
            (
                "another authority",
                Some(stranger.leaf(&[ORDERS], (-1, 1))),
                "invalid peer certificate: BadSignature",
            ),
            (
                "another trust domain",
                Some(self.leaf(&["spiffe://other.example/orders"], (-1, 1))),
                "the trust domain other.example is not trusted here",
            ),
            ("expired", Some(self.leaf(&[ORDERS], (-2, -1))), "invalid peer certificate: Expired"),
            ("not good yet", Some(self.leaf(&[ORDERS], (1, 2))), "invalid peer certificate: NotValidYet"),
            ("two names", Some(self.leaf(&[ORDERS, PAYMENTS], (-1, 1))), "URI"),
            ("no name", Some(self.leaf(&[], (-1, 1))), "it names no workload"),
        ]
    }
}

/// A handshake is refused with this reason, which the log says. What is said of a flood of them
/// is bounded: knocked until it is said.
pub(crate) async fn refused(what: &str, reason: &str, knock: impl Fn() -> String, say: impl Fn() -> String) {
    until(what, async || {
        assert_eq!(knock(), "000", "{what}");
        let told = say().lines().any(|line| line.contains("refused") && line.contains(reason));
        if !told {
            println!("{what}: {}", say().lines().last().unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        told.then_some(())
    })
    .await;
}

/// The events of handshakes that payments refused.
fn events(mesh: &Mesh) -> Vec<String> {
    let lines = mesh.audit("payments");
    lines.lines().filter(|line| line.contains("TLS handshake refused at")).map(str::to_owned).collect()
}

/// The refusal is an event of the audit log, which the tools explain. Of a flood of them not each
/// is: knocked until it is there.
async fn written(mesh: &Mesh, what: &str, reason: &str, knock: impl Fn() -> String) {
    let event = until(what, async || {
        let event = events(mesh).into_iter().find(|line| line.contains(reason));
        if event.is_none() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            knock();
        }
        event
    })
    .await;
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["unmapped"]["outcome"], "denied", "{event}");
    assert_eq!(event["src_endpoint"]["ip"], "127.0.0.1", "{event}");
    let id = event["metadata"]["uid"].as_str().unwrap();
    let (code, said, err) =
        mesh.testbed.bastide(&["explain", id, "--service", "payments", "--config", "mesh.yaml"]);
    let expected = "a connection from 127.0.0.1 by nobody who proved anything\nrefused by step accept with 0: TLS handshake refused at ";
    assert!(code == 1 && said.starts_with(expected) && said.contains(reason), "{said}{err}");
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_each_with_its_reason() {
    let (authority, certificate, key) = Authority::new();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("root.pem"), certificate).unwrap();
    std::fs::write(files.path().join("root.key"), key).unwrap();
    let given = format!("  authority: {{ cert: {0}/root.pem, key: {0}/root.key }}\n", files.path().display());
    let policies = format!("permit (principal == Service::\"{ORDERS}\", action, resource);");
    let mut mesh = Mesh::start_with(&[("payments", "")], &policies, &given, "routes: []\n").await;
    mesh.run("payments", &[], SPEAKS_HTTP).await;
    let url = format!("https://127.0.0.1:{}/charges", mesh.port("payments"));
    let knock = |shown: Option<&(String, String)>| {
        let Some((chain, key)) = shown else { return mesh.curl(&[&url]).0 };
        std::fs::write(mesh.testbed.path("shown.pem"), chain).unwrap();
        std::fs::write(mesh.testbed.path("shown.key"), key).unwrap();
        mesh.curl(&["--cert", "shown.pem", "--key", "shown.key", &url]).0
    };
    let good = authority.leaf(&[ORDERS], (-1, 1));
    assert_eq!(knock(Some(&good)), "200", "{}", mesh.say("payments"));
    for (what, shown, reason) in authority.misfits() {
        refused(what, reason, || knock(shown.as_ref()), || mesh.say("payments")).await;
        written(&mesh, what, reason, || knock(shown.as_ref())).await;
        assert_eq!(knock(Some(&good)), "200", "beside {what}");
    }
    // The right authority, and somebody whom no policy names.
    assert_eq!(knock(Some(&authority.leaf(&[PAYMENTS], (-1, 1)))), "403");
    until("the denial", async || mesh.audit("payments").contains("no policy permits it").then_some(())).await;

    // The last second of a certificate counts to its end.
    until("a knock in a certificate's last second", async || {
        let now = OffsetDateTime::now_utc();
        let last = now.replace_nanosecond(0).unwrap() + time::Duration::seconds(1);
        let short = authority.leaf_between(&[ORDERS], now - time::Duration::hours(1), last);
        tokio::time::sleep((last - now).unsigned_abs() + Duration::from_millis(50)).await;
        let status = knock(Some(&short));
        // On a busy machine that second is over by now.
        let in_time = OffsetDateTime::now_utc().unix_timestamp() == last.unix_timestamp();
        in_time.then(|| assert_eq!(status, "200", "{}", mesh.say("payments")))
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_refused_handshakes_leaves_few_events_and_the_number_of_the_others() {
    const FLOOD: u64 = 300;
    let mut mesh = Mesh::start(&[("payments", "")], "").await;
    mesh.run("payments", &[], SPEAKS_HTTP).await;
    let port = mesh.port("payments");
    let knock = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: payments\r\n\r\n").unwrap();
        // Until it is refused.
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let begun = tokio::time::Instant::now();
    (0..FLOOD).for_each(|_| knock());
    let counts = async || {
        let metrics = mesh.metrics("payments").await;
        let count = |event: &str| {
            let label = format!("bastide_handshakes_refused_total{{event=\"{event}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&label)).unwrap().to_owned();
            line.parse::<u64>().unwrap()
        };
        (count("written"), count("left_out"))
    };
    // A socket is closed before what was refused on it is counted.
    let (written, left_out) = until("all to be counted", async || {
        let (written, left_out) = counts().await;
        (written + left_out >= FLOOD).then_some((written, left_out))
    })
    .await;
    // Ten at once, and one in each second.
    let most = 10 + begun.elapsed().as_secs() + 1;
    assert!((10..=most).contains(&written) && written + left_out == FLOOD, "{written} {left_out} {most}");
    // The next one that is written says how many were not.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    knock();
    let all = until("the events", async || {
        let (events, (now_written, _)) = (events(&mesh), counts().await);
        (now_written > written && events.len() as u64 == now_written).then_some(events)
    })
    .await;
    let last = all.last().unwrap();
    assert!(last.contains("more of this source before it, without an event): "), "{last}");
}
