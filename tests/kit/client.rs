//! A client of the HTTP API that hides nothing: every answer with its status, headers and bytes.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::wait::until;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its content.
    pub bytes: Bytes,
}

impl Answer {
    /// Its content as JSON.
    ///
    /// # Panics
    /// It is not.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.bytes) {
            Ok(value) => value,
            Err(error) => {
                let text = String::from_utf8_lossy(&self.bytes);
                unreachable_answer(&format!("{} is not JSON ({error}): {text}", self.status))
            }
        }
    }

    /// Its content as far as it is JSON, and the name of the problem that it tells, or nothing.
    #[must_use]
    pub fn said(&self) -> (Value, String) {
        let said: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        let problem = said["type"].as_str().and_then(|name| name.rsplit(':').next()).unwrap_or_default();
        let problem = problem.to_owned();
        (said, problem)
    }

    /// Its content as JSON, of an answer with this status.
    ///
    /// # Panics
    /// It has another one.
    pub fn expect(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "the answer: {text}");
        self.json()
    }

    /// The problem of this status and name.
    ///
    /// # Panics
    /// It is none, or another one.
    pub fn problem(&self, status: u16, name: &str) -> Value {
        let problem = self.expect(status);
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("application/problem+json"), "{problem}");
        assert_eq!(problem["type"], format!("urn:pillarbox:problem:{name}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
        problem
    }
}

#[expect(clippy::panic, reason = "this is a failed assertion")]
fn unreachable_answer(text: &str) -> ! {
    panic!("the answer {text}")
}

/// A client of a server.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    headers: HeaderMap,
    http: Http<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the server at `base`, `http://127.0.0.1:7420` say.
    #[must_use]
    pub fn new(base: &str) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { base: base.to_owned(), headers: HeaderMap::new(), http }
    }

    /// The same, with a header in each request.
    #[must_use]
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(name, value.parse().expect("a header's value"));
        client
    }

    /// Sends a request.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("{}{path}", self.base).parse().map_err(|error| format!("{path}: {error}"))?;
        request.headers_mut().extend(self.headers.clone());
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = http::HeaderValue::from_bytes(value.as_bytes()).map_err(|error| error.to_string())?;
            request.headers_mut().append(name, value);
        }
        let response = self.http.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, bytes })
    }

    /// A GET.
    ///
    /// # Panics
    /// No answer came.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await.expect("the server answers")
    }

    /// A POST.
    ///
    /// # Panics
    /// No answer came.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[], body).await.expect("the server answers")
    }

    /// Submits a message with request headers.
    ///
    /// # Panics
    /// No answer came.
    pub async fn submit(&self, port: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let path = format!("/v1/ports/{port}/messages");
        self.send(Method::POST, &path, headers, body).await.expect("the server answers")
    }

    /// Submits a message that is accepted; its id and its delivery's number.
    ///
    /// # Panics
    /// It is not accepted.
    pub async fn accepted(&self, port: &str, body: impl Into<Bytes>) -> (String, u64) {
        let taken = self.submit(port, &[], body).await.expect(201);
        let message = taken["message_id"].as_str().expect("an id").to_owned();
        (message, taken["delivery_id"].as_u64().expect("a number"))
    }

    /// What is known of a delivery.
    ///
    /// # Panics
    /// Nothing is.
    pub async fn delivery(&self, number: u64) -> Value {
        self.get(&format!("/v1/deliveries/{number}")).await.expect(200)
    }

    /// The deliveries of a port that are in a state.
    ///
    /// # Panics
    /// There is no such port.
    pub async fn count(&self, port: &str, state: &str) -> u64 {
        let list = self.get("/v1/ports").await.expect(200);
        let all = list["ports"].as_array().expect("a list");
        let view = all.iter().find(|view| view["name"] == port).expect("the port is known");
        view["counts"][state.replace('-', "_")].as_u64().expect("a count")
    }

    /// Waits until so many of a port's deliveries are in a state.
    ///
    /// # Panics
    /// That does not happen.
    pub async fn wait_count(&self, port: &str, state: &str, count: u64) {
        let reached = until(async || (self.count(port, state).await == count).then_some(())).await;
        if let Err(why) = reached {
            let ports = self.get("/v1/ports").await.json();
            unreachable_answer(&format!("never told of {count} {state} deliveries ({why}): {ports}"));
        }
    }

    /// Waits until a delivery is in a state; what is known of it then, each of its attempts included. (A box may
    /// tell of a state shortly before the record of how it came to it can be read.)
    ///
    /// # Panics
    /// That does not happen.
    pub async fn wait_state(&self, number: u64, state: &str) -> Value {
        let reached = until(async || {
            let view = self.delivery(number).await;
            let told = view["history"].as_array().map(|history| history.len() as u64);
            (view["state"] == state && told == view["attempts"].as_u64()).then_some(view)
        })
        .await;
        match reached {
            Ok(view) => view,
            Err(why) => {
                let view = self.delivery(number).await;
                unreachable_answer(&format!("never told of the state {state} ({why}): {view}"))
            }
        }
    }
}
