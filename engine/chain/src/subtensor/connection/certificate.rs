//! What is wrong with the certificate of a node, in words that help.

use jsonrpsee::client_transport::ws::WsHandshakeError;
use jsonrpsee::core::client::Error;
use rustls::CertificateError;

use crate::subtensor::error::Cause;

/// A certificate that was refused.
#[derive(Debug, thiserror::Error)]
#[error("trust the certificate of the server: {problem}")]
struct Refused {
    problem: &'static str,
    source: rustls::Error,
}

/// The same error, or what it says of a certificate.
pub fn explain(error: Error) -> Cause {
    let Some(source) = tls_error(&error) else { return error.into() };
    let rustls::Error::InvalidCertificate(reason) = &source else { return source.into() };
    let problem = match reason {
        CertificateError::UnknownIssuer => {
            "no authority that this machine trusts has signed it (SSL_CERT_FILE names others)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is of another name than that in the URL"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, by this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, by this machine's clock"
        }
        _ => "it is no certificate of a server",
    };
    Refused { problem, source }.into()
}

/// What TLS says, if that is at the bottom of an error.
fn tls_error(error: &Error) -> Option<rustls::Error> {
    let Error::Transport(error) = error else { return None };
    let Some(WsHandshakeError::Io(error)) = error.downcast_ref() else { return None };
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}
