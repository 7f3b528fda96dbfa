//! TLS: who is trusted, and what is spoken.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::NamedTempFile;

use super::*;

type Issuing = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuing {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An authority, its certificate in a file, and a server's configuration that it vouches for.
fn authority(names: &[&str], alpn: &[&str]) -> (NamedTempFile, ServerConfig) {
    vouched(&issuer(), names, alpn)
}

fn vouched(issuer: &Issuing, names: &[&str], alpn: &[&str]) -> (NamedTempFile, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
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

/// A certificate and a key for a client, in files.
fn client(issuer: &Issuing) -> (NamedTempFile, NamedTempFile) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let cert = params.signed_by(&key, issuer).unwrap();
    let files = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
    fs::write(files.0.path(), cert.pem()).unwrap();
    fs::write(files.1.path(), key.serialize_pem()).unwrap();
    files
}

fn showing(settings: &Settings, client: &(NamedTempFile, NamedTempFile)) -> Settings {
    let paths = [client.0.path(), client.1.path()].map(|path| path.to_str().unwrap());
    settings.clone().with("client_cert_file", paths[0]).with("client_key_file", paths[1])
}

#[tokio::test]
async fn a_destination_that_asks_who_we_are_is_told() {
    let (issuer, other) = (issuer(), issuer());
    for alpn in ["h2", "http/1.1"] {
        let (ca, mut config) = vouched(&issuer, &["127.0.0.1"], &[alpn]);
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let asking =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
        config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(asking.build().unwrap())
            .with_cert_resolver(config.cert_resolver);
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let destination = destination(config).await;
        let base = trusting(&destination, &ca);
        let sample = Sample::new("hello");
        for stranger in [base.clone(), showing(&base, &client(&other))] {
            let error = open(&stranger).unwrap().deliver(&sample.parcel()).await.unwrap_err();
            is(&error, ErrorClass::Temporary, "");
        }
        assert!(destination.seen().is_empty());
        open(&showing(&base, &client(&issuer))).unwrap().deliver(&sample.parcel()).await.unwrap();
        assert_eq!(destination.seen()[0].body, "hello");
        // Trusting anyone does not mean that nobody has to know us.
        let careless = Settings::default()
            .with("url", destination.url("https"))
            .with("danger_accept_invalid_certs", true);
        open(&showing(&careless, &client(&issuer))).unwrap().deliver(&sample.parcel()).await.unwrap();
        assert_eq!(destination.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_client_certificate_is_looked_at_before_anything_is_sent() {
    let issuer = issuer();
    let base = Settings::default().with("url", "https://localhost/");
    let (one, other) = (client(&issuer), client(&issuer));
    let empty = NamedTempFile::new().unwrap();
    let named = |file: &NamedTempFile| file.path().to_str().unwrap().to_owned();
    for (cert, key, part) in [
        (named(&one.0), named(&other.1), "no certificate and its key"),
        (named(&empty), named(&one.1), "client_cert_file"),
        (named(&one.0), named(&empty), "client_key_file"),
        (named(&one.0), "/nowhere/key.pem".to_owned(), "client_key_file /nowhere/key.pem cannot be read"),
    ] {
        let settings = base.clone().with("client_cert_file", cert).with("client_key_file", key);
        let error = open(&settings).unwrap_err();
        is(&error, ErrorClass::Temporary, part);
        assert!(!format!("{:?}", error.to_failure()).contains("PRIVATE KEY"));
    }
    for (url, settings, keys) in [
        ("https://h/", vec![("client_cert_file", "c.pem")], vec!["client_key_file"]),
        ("https://h/", vec![("client_key_file", "k.pem")], vec!["client_cert_file"]),
        (
            "https://h/",
            vec![("client_cert_file", ""), ("client_key_file", "")],
            vec!["client_cert_file", "client_key_file"],
        ),
        (
            "http://h/",
            vec![("client_cert_file", "c.pem"), ("client_key_file", "k.pem")],
            vec!["client_cert_file", "client_key_file"],
        ),
    ] {
        let settings = settings
            .into_iter()
            .fold(Settings::default().with("url", url), |all, (key, value)| all.with(key, value));
        let error = HttpSettings::check(&settings).unwrap_err();
        assert_eq!(error.0.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), keys);
    }
}
