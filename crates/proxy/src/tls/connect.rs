//! Handshakes that we begin, and in words what is wrong with a certificate that we are shown.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What to do where nobody who is trusted issued the certificate.
const NOT_TRUSTED: &str = "no authority that is trusted here has issued it: `ca` names the file of its own";
/// What to do where a server shows the certificate of an authority (RFC 5280 §4.2.1.9).
const AN_AUTHORITYS: &str =
    "it is an authority's, CA:TRUE, and is no server's: issue one by it with CA:FALSE";

/// A certificate that was refused, and what can be done about it.
#[derive(Debug, thiserror::Error)]
struct Refused {
    source: rustls::Error,
    hint: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            // The library has no words for these.
            rustls::Error::InvalidCertificate(CertificateError::Other(_)) => {
                write!(f, "invalid peer certificate: {}", self.hint)
            }
            other => write!(f, "{other} ({})", self.hint),
        }
    }
}

/// Shakes hands with a server that has to prove this name.
///
/// # Errors
/// As [`TlsConnector::connect`]; with a hint where one helps.
pub(crate) async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(name, socket).await.map_err(worded)
}

/// The same error, with a hint.
fn worded(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(source @ rustls::Error::InvalidCertificate(why)) = refused else { return error };
    let hint = match why {
        CertificateError::UnknownIssuer => NOT_TRUSTED,
        // The verifier's own name for it is all that comes through.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => AN_AUTHORITYS,
        _ => return error,
    };
    io::Error::new(error.kind(), Refused { source: source.clone(), hint })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;

    use crate::tls::{ClientTls, ClientTlsSettings, Identity, Offer, ServerTls, ServerTlsSettings};

    use super::*;

    /// A self-signed certificate as `openssl req -x509` makes it, or one that is no authority's.
    fn self_signed(name: &str, is_ca: IsCa) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.distinguished_name.push(DnType::CommonName, name);
        let chain = vec![params.self_signed(&key).unwrap().der().clone()];
        Identity { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    /// What a client that trusts `root` says of a server that shows `shown`.
    async fn said(shown: Identity, root: CertificateDer<'static>) -> String {
        let settings = ServerTlsSettings { identities: vec![shown], ..ServerTlsSettings::default() };
        let server = ServerTls::build(&settings).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let settings = ClientTlsSettings { roots: vec![root], ..ClientTlsSettings::default() };
        let client = ClientTls::build(&settings).unwrap();
        let asks = connect(client.config(Offer::Http1), ServerName::try_from("localhost").unwrap(), socket);
        let (told, _) = tokio::join!(asks, server.accept(accepted));
        told.map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[tokio::test]
    async fn a_refused_certificate_is_told_with_what_to_do() {
        let authority = || IsCa::Ca(BasicConstraints::Unconstrained);
        let (own, stranger) = (self_signed("own", authority()), self_signed("stranger", authority()));
        let (root, other) = (own.chain[0].clone(), stranger.chain[0].clone());
        assert_eq!(said(own, root).await, format!("invalid peer certificate: {AN_AUTHORITYS}"));
        let leaf = self_signed("own", IsCa::ExplicitNoCa);
        let untrusted = format!("invalid peer certificate: UnknownIssuer ({NOT_TRUSTED})");
        assert_eq!(said(leaf.clone(), other).await, untrusted);
        let root = leaf.chain[0].clone();
        assert_eq!(said(leaf, root).await, "fine");
    }
}
