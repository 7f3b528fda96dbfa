//! TLS: who is trusted, and what is spoken.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;

use super::*;

/// An authority, its certificate in a file, and a server's configuration that it vouches for.
fn authority(names: &[&str], alpn: &[&str]) -> (NamedTempFile, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), issuer.pem()).unwrap();
    (file, config)
}

async fn destination(config: ServerConfig) -> Destination {
    Destination::start(Some(config), |_seen| std::future::ready(Response::new(Full::<Bytes>::default())))
        .await
}

fn trusting(destination: &Destination, ca: &NamedTempFile) -> Settings {
    Settings::default().with("url", destination.url("https")).with("ca_file", ca.path().to_str().unwrap())
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_message() {
    let (ca, config) = authority(&["127.0.0.1"], &[]);
    let (other_ca, _) = authority(&["127.0.0.1"], &[]);
    let destination = destination(config).await;
    let sample = Sample::new("hello");
    let stranger =
        open(&trusting(&destination, &other_ca)).unwrap().deliver(&sample.parcel()).await.unwrap_err();
    is(&stranger, ErrorClass::Temporary, "invalid peer certificate");
    assert!(destination.seen().is_empty());
    open(&trusting(&destination, &ca)).unwrap().deliver(&sample.parcel()).await.unwrap();
    assert_eq!(destination.seen()[0].body, "hello");
    let careless =
        Settings::default().with("url", destination.url("https")).with("danger_accept_invalid_certs", true);
    open(&careless).unwrap().deliver(&sample.parcel()).await.unwrap();
    assert_eq!(destination.seen().len(), 2);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let (ca, config) = authority(&["example.com"], &[]);
    let destination = destination(config).await;
    let error = open(&trusting(&destination, &ca))
        .unwrap()
        .deliver(&Sample::new("hello").parcel())
        .await
        .unwrap_err();
    is(&error, ErrorClass::Temporary, "not valid for");
    assert!(destination.seen().is_empty());
}

#[tokio::test]
async fn the_version_is_what_both_can() {
    for (offered, asked, spoken) in [
        (vec!["h2", "http/1.1"], "auto", Version::HTTP_2),
        (vec!["http/1.1"], "auto", Version::HTTP_11),
        (vec![], "auto", Version::HTTP_11),
        (vec!["h2", "http/1.1"], "1.1", Version::HTTP_11),
        (vec!["h2", "http/1.1"], "2", Version::HTTP_2),
    ] {
        let (ca, config) = authority(&["127.0.0.1"], &offered);
        let destination = destination(config).await;
        let settings = trusting(&destination, &ca).with("version", asked);
        let body = stored(bytes(FRAGMENT_BYTES + 1), None);
        open(&settings).unwrap().deliver(&Sample::new(body).parcel()).await.unwrap();
        assert_eq!(destination.seen()[0].version, spoken, "{offered:?} {asked}");
        assert_eq!(destination.seen()[0].body, bytes(FRAGMENT_BYTES + 1));
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "no certificate").unwrap();
    for path in [empty, folder.path().join("missing.pem")] {
        let settings =
            Settings::default().with("url", "https://localhost/").with("ca_file", path.to_str().unwrap());
        is(&open(&settings).unwrap_err(), ErrorClass::Temporary, path.to_str().unwrap());
    }
}

#[tokio::test]
async fn a_plain_server_behind_https_is_temporary() {
    let plain = Destination::answering(200, &[], "").await;
    let settings =
        Settings::default().with("url", plain.url("https")).with("danger_accept_invalid_certs", true);
    let error = open(&settings).unwrap().deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "cannot connect");
}
