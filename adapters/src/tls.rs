//! Whom a connection trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillarbox_runtime::adapter::SendError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
#[cfg(feature = "http")]
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::problems::Problems;

/// Whose certificates are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The setting `ca_file`: certificates that are trusted beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The setting `danger_accept_invalid_certs`: whoever answers is trusted.
    pub(crate) accept_invalid: bool,
    /// Who we say that we are.
    #[cfg(feature = "http")]
    pub(crate) client: Option<Client>,
}

/// The settings `client_cert_file` and `client_key_file`: a certificate and its key, both in PEM form.
#[cfg(feature = "http")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    cert_file: PathBuf,
    key_file: PathBuf,
}

impl Trust {
    /// Checks the two settings. Where nothing is encrypted, neither is to be there; `only` says where it is.
    pub(crate) fn check(
        ca_file: Option<PathBuf>,
        accept_invalid: bool,
        plain: bool,
        only: &str,
        problems: &mut Problems,
    ) -> Self {
        if ca_file.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            problems.add("ca_file", "name a file with certificates in PEM form");
        }
        if ca_file.is_some() && plain {
            problems.add("ca_file", format!("it is for {only} only; remove it or correct the address"));
        }
        if accept_invalid && plain {
            problems.add("danger_accept_invalid_certs", format!("it is for {only} only; remove it"));
        }
        if accept_invalid && ca_file.is_some() {
            problems
                .add("danger_accept_invalid_certs", "with it `ca_file` has no effect; remove one of the two");
        }
        Self {
            ca_file,
            accept_invalid,
            #[cfg(feature = "http")]
            client: None,
        }
    }

    /// Adds a certificate of our own, and checks its two settings. Where nothing is encrypted, neither is to be there.
    #[cfg(feature = "http")]
    pub(crate) fn with_client(
        mut self,
        cert_file: Option<PathBuf>,
        key_file: Option<PathBuf>,
        plain: bool,
        only: &str,
        problems: &mut Problems,
    ) -> Self {
        let named =
            [("client_cert_file", &cert_file, "a certificate"), ("client_key_file", &key_file, "its key")];
        for (key, path, what) in named {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                problems.add(key, format!("name a file with {what} in PEM form"));
            }
            if path.is_some() && plain {
                problems.add(key, format!("it is for {only} only; remove it or correct the address"));
            }
            if path.is_none() && (cert_file.is_some() || key_file.is_some()) {
                problems.add(key, format!("name a file with {what} too: one is nothing without the other"));
            }
        }
        self.client = cert_file.zip(key_file).map(|(cert_file, key_file)| Client { cert_file, key_file });
        self
    }
}

/// The configuration of TLS; `None` where it is not spoken. Reads the system's roots and `ca_file`.
///
/// # Errors
/// Temporary: the certificates cannot be read.
pub(crate) fn client_config(trust: Option<&Trust>) -> Result<ClientConfig, SendError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| SendError::temporary("cannot set up TLS").caused_by(error))?;
    let Some(trust) = trust else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let verifier: Arc<dyn ServerCertVerifier> = if trust.accept_invalid {
        Arc::new(AcceptAny(provider))
    } else {
        let extra =
            trust.ca_file.as_deref().map_or_else(|| Ok(Vec::new()), |path| certificates("ca_file", path))?;
        let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(|error| {
            SendError::temporary(
                "cannot load certificates to trust; install the system's (ca-certificates), or set ca_file",
            )
            .caused_by(error)
        })?;
        Arc::new(verifier)
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    #[cfg(feature = "http")]
    if let Some(client) = &trust.client {
        let chain = certificates("client_cert_file", &client.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&client.key_file).map_err(|error| {
            let path = client.key_file.display();
            let text =
                format!("client_key_file {path} cannot be read; it must have a private key in PEM form");
            SendError::temporary(text).caused_by(error)
        })?;
        return builder.with_client_auth_cert(chain, key).map_err(|error| {
            let text = "client_cert_file and client_key_file are no certificate and its key";
            SendError::temporary(text).caused_by(error)
        });
    }
    Ok(builder.with_no_client_auth())
}

/// The certificates of the file that a setting names.
fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let unreadable = |error| {
        let text =
            format!("{setting} {} cannot be read; it must have certificates in PEM form", path.display());
        SendError::temporary(text).caused_by(error)
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let found = found.map_err(unreadable)?;
    if found.is_empty() {
        return Err(SendError::temporary(format!(
            "{setting} {} has no certificate in PEM form",
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
