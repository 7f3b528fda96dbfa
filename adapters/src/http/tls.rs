//! Whom a connection trusts.

use std::path::Path;
use std::sync::Arc;

use pillarbox_runtime::adapter::SendError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::settings::HttpSettings;

/// The configuration of TLS for these settings. Reads the system's roots and `ca_file`, where TLS is spoken at all.
///
/// # Errors
/// Temporary: the certificates cannot be read.
pub(super) fn client_config(settings: &HttpSettings) -> Result<ClientConfig, SendError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| SendError::temporary("cannot set up TLS").caused_by(error))?;
    if !settings.url.is_tls() {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let verifier: Arc<dyn ServerCertVerifier> = if settings.accept_invalid_certs {
        Arc::new(AcceptAny(provider))
    } else {
        let extra = settings.ca_file.as_deref().map_or_else(|| Ok(Vec::new()), certificates)?;
        let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(|error| {
            SendError::temporary(
                "cannot load certificates to trust; install the system's (ca-certificates), or set ca_file",
            )
            .caused_by(error)
        })?;
        Arc::new(verifier)
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let unreadable = |error| {
        let text =
            format!("ca_file {} cannot be read; it must have certificates in PEM form", path.display());
        SendError::temporary(text).caused_by(error)
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let found = found.map_err(unreadable)?;
    if found.is_empty() {
        return Err(SendError::temporary(format!(
            "ca_file {} has no certificate in PEM form",
            path.display()
        )));
    }
    Ok(found)
}

/// Trusts whoever answers, as `danger_accept_invalid_certs` asks for.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
