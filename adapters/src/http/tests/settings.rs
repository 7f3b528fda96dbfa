//! What settings are taken, and what is said about the others.

use pillarbox_runtime::adapter::{AdapterKind as _, SettingsError};

use super::*;
use crate::http::HttpKind;
use crate::http::settings::Version as Spoken;
use crate::web::Forward;

fn refused(settings: &Settings) -> SettingsError {
    HttpSettings::check(settings).unwrap_err()
}

#[test]
fn settings_have_defaults() {
    let checked = HttpSettings::check(&Settings::default().with("url", "https://example.com/in")).unwrap();
    assert_eq!(checked.method, Method::POST);
    assert_eq!(checked.content_type, "application/octet-stream");
    assert_eq!(checked.forward, Forward::All);
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!((checked.connections_max, checked.version), (16, Spoken::Auto));
    assert_eq!(checked.idempotency_header, "idempotency-key");
    assert!(checked.headers.is_empty() && checked.trust.ca_file.is_none());
    assert!(!checked.trust.accept_invalid && !checked.destination_deduplicates);
    assert_eq!(HttpKind.describe().uri_prefixes, ["http://", "https://"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let settings = Settings::default()
        .with("method", "GET")
        .with("headers", json!({ "host": "x", "content-type": "x/y", "a b": "c", "d": "e\nf", "g": "env:" }))
        .with("content_type", "text")
        .with("forward_headers", json!(["ä"]))
        .with("connect_timeout", "10")
        .with("timeout", "0s")
        .with("connections_max", 0)
        .with("idempotency_header", "Content-Length")
        .with("version", "3");
    let keys: Vec<String> = refused(&settings).0.into_iter().map(|problem| problem.key).collect();
    assert_eq!(
        keys,
        [
            "url",
            "method",
            "idempotency_header",
            "headers.a b",
            "headers.content-type",
            "headers.d",
            "headers.g",
            "headers.host",
            "content_type",
            "forward_headers",
            "connect_timeout",
            "timeout",
            "connections_max",
            "version",
        ]
    );
}

#[test]
fn unknown_keys_are_refused() {
    let error = refused(&Settings::default().with("url", "http://h/").with("uri", 1).with("time_out", "1s"));
    let mut keys: Vec<_> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["time_out", "uri"]);
}

#[test]
fn addresses_are_checked_and_their_secrets_kept() {
    for (url, part) in [
        ("", "no address"),
        ("example.com/in", "no address"),
        ("/in", "neither http"),
        ("ftp://example.com/", "neither http"),
        ("http://", "no address"),
        ("http://user:hunter2@example.com/", "headers.authorization"),
        ("http://example.com:0/", "port"),
        ("http://example.com:99999/", "port"),
        ("http://[::1]:/", "port"),
        ("http://exa mple.com/", "no address"),
    ] {
        let error = refused(&Settings::default().with("url", url));
        assert_eq!(error.0.len(), 1, "{url}");
        assert!(error.0[0].reason.contains(part), "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn what_is_for_tls_only_is_refused_without() {
    let plain = Settings::default().with("url", "http://example.com/");
    for (key, value) in [("ca_file", json!("ca.pem")), ("danger_accept_invalid_certs", json!(true))] {
        let error = refused(&plain.clone().with(key, value));
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key));
    }
    let both = Settings::default().with("url", "https://example.com/");
    let error = refused(&both.with("ca_file", "ca.pem").with("danger_accept_invalid_certs", true));
    assert!(error.to_string().contains("no effect"));
}

#[test]
fn values_of_headers_are_not_in_the_problems() {
    let settings = Settings::default()
        .with("url", "http://example.com/")
        .with("headers", json!({ "authorization": "hunter2\n", "Authorization": "hunter2" }));
    let error = refused(&settings);
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!error.0.is_empty());
}
