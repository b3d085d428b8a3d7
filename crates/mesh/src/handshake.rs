//! The signature of a TLS handshake, as every verifier of peers here checks it: by the algorithms in
//! its field `algorithms`.

use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;

/// The methods about signatures that `ServerCertVerifier` and `ClientCertVerifier` have in common.
/// Of TLS 1.2 the given function says, which has the signature of rustls' own.
macro_rules! handshake_signatures {
    ($tls12:path) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            $tls12(message, certificate, signature, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

pub(crate) use handshake_signatures;

/// Where TLS 1.3 alone is spoken.
pub(crate) fn no_tls12(
    _: &[u8],
    _: &CertificateDer<'_>,
    _: &DigitallySignedStruct,
    _: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.3 alone is spoken here".to_owned()))
}
