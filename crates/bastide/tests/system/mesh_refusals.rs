//! Who stands before a service of the mesh with a certificate that does not fit: refused, with
//! the reason in its log, beside one that fits. The certificates are of an authority that the
//! test holds, which is the trust domain's own.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

use crate::mesh_tcp::{Mesh, SPEAKS_HTTP};
use crate::support::until;

const ORDERS: &str = "spiffe://shop.example/orders";

struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// With its certificate and key as PEM.
    fn new() -> (Self, String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "the shop's root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (certificate, secret) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        (Self(Issuer::new(params, key)), certificate, secret)
    }

    /// A leaf with these names, good between these hours from now.
    fn leaf(&self, uris: &[&str], (from, until): (i64, i64)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::hours(from);
        params.not_after = now + time::Duration::hours(until);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
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
        std::fs::write(mesh.town.path("shown.pem"), chain).unwrap();
        std::fs::write(mesh.town.path("shown.key"), key).unwrap();
        mesh.curl(&["--cert", "shown.pem", "--key", "shown.key", &url]).0
    };
    let good = authority.leaf(&[ORDERS], (-1, 1));
    assert_eq!(knock(Some(&good)), "200", "{}", mesh.say("payments"));
    let (stranger, _, _) = Authority::new();
    let payments = "spiffe://shop.example/payments";
    for (what, shown, reason) in [
        ("none", None, "sent no certificates"),
        (
            "another authority",
            Some(stranger.leaf(&[ORDERS], (-1, 1))),
            "invalid peer certificate: BadSignature",
        ),
        (
            "another trust domain",
            Some(authority.leaf(&["spiffe://other.example/orders"], (-1, 1))),
            "the trust domain other.example is not trusted here",
        ),
        ("expired", Some(authority.leaf(&[ORDERS], (-2, -1))), "invalid peer certificate: Expired"),
        ("not good yet", Some(authority.leaf(&[ORDERS], (1, 2))), "invalid peer certificate: NotValidYet"),
        ("two names", Some(authority.leaf(&[ORDERS, payments], (-1, 1))), "URI"),
        ("no name", Some(authority.leaf(&[], (-1, 1))), "it names no workload"),
    ] {
        // What is said of a flood of them is bounded: asked until it is said.
        until(what, async || {
            assert_eq!(knock(shown.as_ref()), "000", "{what}");
            let told =
                mesh.say("payments").lines().any(|line| line.contains("refused") && line.contains(reason));
            if !told {
                println!("{what}: {}", mesh.say("payments").lines().last().unwrap_or_default());
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            told.then_some(())
        })
        .await;
        assert_eq!(knock(Some(&good)), "200", "beside {what}");
    }
    // The right authority, and somebody whom no policy names.
    assert_eq!(knock(Some(&authority.leaf(&[payments], (-1, 1)))), "403");
    until("the denial", async || mesh.audit("payments").contains("no policy permits it").then_some(())).await;
}
