//! Moto's server with a bucket that keeps every version of an object: a second one would be seen.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pillarbox_adapter_kit::servers::Moto;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Bucket)]
}

#[derive(Debug)]
struct Bucket;

#[async_trait(?Send)]
impl Subject for Bucket {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("s3")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let server = Server(Moto::start(&[], &[]).await);
        server.ask(Method::PUT, "/orders", "").await;
        let versions = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Status>Enabled</Status></VersioningConfiguration>";
        server.ask(Method::PUT, "/orders?versioning", versions).await;
        Box::new(server)
    }
}

#[derive(Debug)]
struct Server(Moto);

impl Server {
    async fn ask(&self, method: Method, path: &str, body: &'static str) -> (HeaderMap, Bytes) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://127.0.0.1:{}{path}", self.0.port).parse().unwrap();
        // Nobody in particular: it asks for no right, and still tells such from nobody at all.
        let signed = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                      Signature=x";
        request.headers_mut().insert("authorization", signed.parse().unwrap());
        let (head, body) = client.request(request).await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::OK, "{path}");
        (head.headers, body.collect().await.unwrap().to_bytes())
    }

    /// The names and the versions of all objects: a page has a thousand.
    async fn versions(&self) -> Vec<(String, String)> {
        let (mut versions, mut from) = (Vec::new(), String::new());
        loop {
            let (_, listed) = self.ask(Method::GET, &format!("/orders?versions{from}"), "").await;
            let listed = String::from_utf8(listed.to_vec()).unwrap();
            let [names, ids] = ["Key", "VersionId"].map(|name| elements(&listed, name));
            versions.extend(names.into_iter().zip(ids));
            let next = ["NextKeyMarker", "NextVersionIdMarker"].map(|name| elements(&listed, name).pop());
            let [Some(key), Some(version)] = next else { return versions };
            from = format!("&key-marker={key}&version-id-marker={version}");
        }
    }
}

fn elements(xml: &str, name: &str) -> Vec<String> {
    let open = format!("<{name}>");
    xml.split(open.as_str()).skip(1).map(|part| part.split("</").next().unwrap().to_owned()).collect()
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.0.port)
    }

    fn settings(&self, port: u16) -> Settings {
        self.0.settings_at(port).with("name", "{key}").with("connect_timeout", "1s").with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for (name, version) in self.versions().await {
            let (headers, body) =
                self.ask(Method::GET, &format!("/orders/{name}?versionId={version}"), "").await;
            held.push(Held::new(body).key(headers["x-amz-meta-pillarbox-key"].to_str().unwrap()));
        }
        held
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2hunter2".to_owned()]
    }
}
