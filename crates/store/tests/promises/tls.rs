//! PostgreSQL over TLS, with a password: the server is verified by name and authority, and
//! nothing is sent to one that is not.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use store::{Error, Expect, Key, PostgresSettings, Store, UnsealKey};

use crate::clock::ManualClock;
use crate::server::{Server, skip};

const PASSWORD: &str = "s3cret in transit";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes the certificate of `localhost`, and lets in who has the password and TLS.
fn secure(data: &Path, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let owner = fs::metadata(data).unwrap().uid();
    for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let path = data.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner), None).unwrap();
    }
    let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
}

fn settings(address: &str, trusted: &CertifiedIssuer<'static, KeyPair>) -> PostgresSettings {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    PostgresSettings::new(address, tls, false).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_verified_before_it_is_told_anything() {
    let (trusted, other) = (authority(), authority());
    let prepare = |data: &Path| secure(data, &trusted);
    let place = std::env::temp_dir();
    let server = match Server::start_in(&place, &["ssl = on"], prepare) {
        Ok(server) => server,
        Err(why) => return skip(&why),
    };
    let client = server.client("postgres").await;
    client.batch_execute(&format!("ALTER USER bastide PASSWORD '{PASSWORD}'")).await.unwrap();
    let address = |host: &str, mode: &str| {
        let port = server.port();
        format!("host={host} port={port} user=bastide dbname=postgres password='{PASSWORD}' sslmode={mode}")
    };
    let key = UnsealKey::generate().unwrap();
    let refused = [
        ("another authority", address("localhost", "require"), &other, "certificate", false),
        ("another name", address("127.0.0.1", "require"), &trusted, "certificate", false),
        // The name is what is verified, wherever it is looked for.
        (
            "another name at this address",
            address("other.example hostaddr=127.0.0.1", "require"),
            &trusted,
            "certificate",
            false,
        ),
        // The server says so, and says so again.
        ("no encryption", address("localhost", "disable"), &trusted, "no encryption", true),
    ];
    for (what, address, trusted, said, is_final) in refused {
        let refused = Store::initialise_postgres(&settings(&address, trusted), &key).await.unwrap_err();
        let text = refused.to_string();
        let as_expected = match is_final {
            true => matches!(refused, Error::Settings(_)),
            false => matches!(refused, Error::Unavailable(_)),
        };
        assert!(as_expected && text.contains(said), "{what}: {text}");
        assert!(!text.contains(PASSWORD), "{what}: {text}");
    }
    let good = settings(&address("localhost hostaddr=127.0.0.1", "require"), &trusted);
    Store::initialise_postgres(&good, &key).await.unwrap();
    let good = settings(&address("localhost", "require"), &trusted);
    let store = Store::open_postgres(&good, key, Arc::new(ManualClock::new())).await.unwrap();
    let name = Key::new("user").hidden("alice");
    let version = store.put(name.clone(), b"value".to_vec(), None, Expect::Absent).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap().unwrap().version, version);
}
