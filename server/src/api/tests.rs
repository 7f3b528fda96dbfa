//! The API over a box in memory.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use base64::Engine as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::service::tests::service;

async fn call(router: &Router, request: Request<Body>) -> (Response<()>, Vec<u8>) {
    let (parts, body) = router.clone().oneshot(request).await.expect("it answers").into_parts();
    let bytes = body.collect().await.expect("a whole answer").to_bytes();
    (Response::from_parts(parts, ()), bytes.to_vec())
}

async fn ask(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned()));
    let (response, bytes) = call(router, request.expect("a request")).await;
    (response.status(), serde_json::from_slice(&bytes).expect("JSON"))
}

async fn open() -> (Router, Service) {
    let service = service().await;
    (router(service.clone(), None), service)
}

#[tokio::test]
async fn a_message_goes_in_and_is_seen() {
    let (router, _) = open().await;
    let request = Request::post("/v1/ports/orders/messages")
        .header("x-pillarbox-h-Customer", "42")
        .header("content-type", "text/plain")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("user-agent", "not kept")
        .body(Body::from("hello"));
    let (response, bytes) = call(&router, request.expect("a request")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let taken: Value = serde_json::from_slice(&bytes).expect("JSON");
    let id = taken["message_id"].as_str().expect("an id");
    assert!(taken["delivery_id"].is_u64());
    assert!(taken.get("duplicate").is_none());
    let location = format!("/v1/messages/{id}");
    assert_eq!(response.headers()[header::LOCATION], location);

    let (status, message) = ask(&router, "GET", &location, "").await;
    assert_eq!(status, StatusCode::OK);
    let headers = json!({
        "content-type": "text/plain",
        "customer": "42",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    assert_eq!(message["headers"], headers);
    assert_eq!(message["deliveries"][0]["state"], "ready");
    assert_eq!(message["deliveries"][0]["history"], json!([]));
    assert!(message["submitted"].as_str().expect("a time").ends_with('Z'));

    let request = Request::get(format!("{location}/body")).body(Body::empty()).expect("a request");
    let (response, bytes) = call(&router, request).await;
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "5");
    assert_eq!(bytes, b"hello");
}

#[tokio::test]
async fn a_repeat_answers_200() {
    let (router, service) = open().await;
    let id = "0198a0c4-7d5e-7000-8000-000000000001";
    for expected in [StatusCode::CREATED, StatusCode::OK] {
        let request = Request::post("/v1/ports/orders/messages").header(MESSAGE_ID, id).body(Body::from("x"));
        let (response, bytes) = call(&router, request.expect("a request")).await;
        assert_eq!(response.status(), expected);
        let taken: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(taken["message_id"], id);
        assert_eq!(taken.get("duplicate").is_some(), expected == StatusCode::OK);
    }
    assert_eq!(service.ports().await.ports.iter().map(|port| port.counts.live()).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_refusal_after_the_whole_body_is_told() {
    let (router, _) = open().await;
    for (body, expected) in [("x", StatusCode::CREATED), ("xy", StatusCode::CONFLICT)] {
        let request = Request::post("/v1/ports/orders/messages")
            .header(MESSAGE_ID, "0198a0c4-7d5e-7000-8000-000000000001")
            .body(Body::from(body));
        let (response, _) = call(&router, request.expect("a request")).await;
        assert_eq!(response.status(), expected);
    }
}

#[tokio::test]
async fn refusals_are_problems() {
    let (router, _) = open().await;
    let wrong = [
        ("POST", "/v1/ports/nope/messages", "x", 404, "unknown-port"),
        ("POST", "/v1/ports/nope/pause", "", 404, "unknown-port"),
        ("GET", "/v1/messages/seven", "", 422, "bad-message-id"),
        ("GET", "/v1/messages/0198a0c4-7d5e-7000-8000-000000000009", "", 404, "no-such-message"),
        ("GET", "/v1/messages/0198a0c4-7d5e-7000-8000-000000000009/body", "", 404, "no-such-message"),
        ("GET", "/v1/deliveries/seven", "", 400, "bad-request"),
        ("GET", "/v1/deliveries/7", "", 404, "no-such-delivery"),
        ("GET", "/v1/deliveries?state=asleep", "", 400, "bad-request"),
        ("GET", "/v1/deliveries?limit=1001", "", 400, "bad-request"),
        ("GET", "/v1/deliveries?colour=red", "", 400, "bad-request"),
        ("GET", "/v1/deliveries?in_doubt=maybe", "", 400, "bad-request"),
        ("POST", "/v1/deliveries/7/resume", "", 404, "no-such-delivery"),
        ("POST", "/v1/deliveries/7/settle-doubt", "{\"verdict\":\"landed\"}", 404, "no-such-delivery"),
        ("POST", "/v1/deliveries/7/settle-doubt", "", 400, "bad-request"),
        ("POST", "/v1/deliveries/7/settle-doubt", "{\"verdict\":\"lost\"}", 400, "bad-request"),
        ("POST", "/v1/deliveries/7/settle-doubt", "{\"verdict\":\"landed\",\"why\":1}", 400, "bad-request"),
        ("POST", "/v1/deliveries/seven/settle-doubt", "{}", 400, "bad-request"),
        ("POST", "/v1/deliveries/7/terminate", "not JSON", 400, "bad-request"),
        ("POST", "/v1/batches", "{}", 400, "bad-request"),
        ("POST", "/v1/batches", "{\"messages\":[],\"more\":1}", 400, "bad-request"),
        ("GET", "/v1/nothing", "", 404, "no-such-route"),
        ("DELETE", "/v1/ports", "", 405, "no-such-method"),
    ];
    for (method, path, body, status, name) in wrong {
        let request = Request::builder().method(method).uri(path).body(Body::from(body));
        let (response, bytes) = call(&router, request.expect("a request")).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], JSON_PROBLEM, "{method} {path}");
        let problem: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(problem["type"], format!("urn:pillarbox:problem:{name}"), "{method} {path}");
        assert_eq!(problem["status"], status);
    }
    let (_, problem) = ask(&router, "POST", "/v1/ports/nope/messages", "x").await;
    assert_eq!(problem["known"], json!(["orders", "other"]));
}

#[tokio::test]
async fn wrong_headers_are_named() {
    let (router, _) = open().await;
    let wrong = [
        (MESSAGE_ID, "seven", 422),
        (NOT_BEFORE, "tomorrow", 400),
        ("x-pillarbox-h-", "nameless", 422),
        ("x-pillarbox-h-a`b", "a backtick", 422),
    ];
    for (name, value, status) in wrong {
        let request = Request::post("/v1/ports/orders/messages").header(name, value).body(Body::from("x"));
        let (response, _) = call(&router, request.expect("a request")).await;
        assert_eq!(response.status().as_u16(), status, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_413_before_it_is_read() {
    let (router, _) = open().await;
    let request = Request::post("/v1/ports/orders/messages")
        .header(header::CONTENT_LENGTH, 5 * 1024 * 1024)
        .body(Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>()));
    let (response, bytes) = call(&router, request.expect("a request")).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let problem: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(problem["bytes_max"], 1024 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_given_up() {
    let (router, service) = open().await;
    let request = Request::post("/v1/ports/orders/messages")
        .body(Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>()));
    let (response, _) = call(&router, request.expect("a request")).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(service.ports().await.ports.iter().all(|port| port.counts.live() == 0));
}

#[tokio::test]
async fn batches_go_in_whole() {
    let (router, _) = open().await;
    let base64 = base64::engine::general_purpose::STANDARD.encode([0, 255]);
    let batch = json!({"messages": [
        {"port": "orders", "body_text": "a", "headers": {"n": 3, "flag": true, "t": "x"}},
        {"port": "other", "body_base64": base64, "not_before": "2999-01-01T00:00:00Z"},
    ]});
    let (status, taken) = ask(&router, "POST", "/v1/batches", &batch.to_string()).await;
    assert_eq!(status, StatusCode::CREATED);
    let second = taken["messages"][1]["delivery_id"].as_u64().expect("a number");
    let (_, view) = ask(&router, "GET", &format!("/v1/deliveries/{second}"), "").await;
    assert_eq!((view["state"].as_str(), view["body_bytes"].as_u64()), (Some("scheduled"), Some(2)));
    let wrong = json!({"messages": [{"port": "orders"}, {"port": "nope"}]});
    let (status, problem) = ask(&router, "POST", "/v1/batches", &wrong.to_string()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["messages"][0]["index"], 1);
}

#[tokio::test]
async fn deliveries_are_listed_and_settled() {
    let (router, _) = open().await;
    for port in ["orders", "orders", "other"] {
        ask(&router, "POST", &format!("/v1/ports/{port}/messages"), "x").await;
    }
    let (_, page) = ask(&router, "GET", "/v1/deliveries?port=orders&state=ready&limit=1", "").await;
    assert_eq!(page["deliveries"].as_array().map(Vec::len), Some(1));
    let next = page["next"].as_u64().expect("there is more");
    let (_, page) = ask(&router, "GET", &format!("/v1/deliveries?port=orders&after={next}"), "").await;
    let id = page["deliveries"][0]["delivery_id"].as_u64().expect("a number");
    let path = format!("/v1/deliveries/{id}/terminate");
    let (status, view) = ask(&router, "POST", &path, r#"{"reason": "not wanted"}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((view["state"].as_str(), view["reason"].as_str()), (Some("terminated"), Some("not wanted")));
    let (status, problem) = ask(&router, "POST", &path, "").await;
    assert_eq!((status, problem["state"].as_str()), (StatusCode::CONFLICT, Some("terminated")));
}

#[tokio::test]
async fn deliveries_in_doubt_are_listed_and_settled() {
    let (router, service) = open().await;
    for _ in 0..3 {
        ask(&router, "POST", "/v1/ports/orders/messages", "x").await;
    }
    service.doubt_in_test("orders", true).await;
    ask(&router, "POST", "/v1/ports/orders/messages", "certain").await;
    ask(&router, "POST", "/v1/ports/other/messages", "x").await;
    service.doubt_in_test("other", false).await;

    let (_, list) = ask(&router, "GET", "/v1/ports", "").await;
    let counts: Vec<_> = (0..2).map(|port| list["ports"][port]["counts"]["in_doubt"].as_u64()).collect();
    assert_eq!(counts, [Some(3), Some(0)], "held ones are counted: {list}");
    let (_, page) = ask(&router, "GET", "/v1/deliveries?in_doubt=true", "").await;
    let listed = page["deliveries"].as_array().expect("a list");
    let states: Vec<_> = listed.iter().map(|view| view["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["in-doubt", "in-doubt", "in-doubt", "ready"]);
    assert_eq!(listed[0]["reason"], "nobody knows whether it was sent");
    for view in listed {
        assert_eq!((&view["doubt"]["crashes"], &view["doubt"]["resend"]), (&json!(0), &json!(false)));
        assert!(view["doubt"]["begun"].as_str().expect("a time").ends_with('Z'));
    }
    let (_, page) = ask(&router, "GET", "/v1/deliveries?in_doubt=true&port=orders&limit=2", "").await;
    assert_eq!((page["deliveries"].as_array().map(Vec::len), page["next"].is_u64()), (Some(2), true));
    let (_, page) = ask(&router, "GET", "/v1/deliveries?in_doubt=false", "").await;
    assert_eq!(page["deliveries"].as_array().map(Vec::len), Some(5));

    for (id, verdict, state) in [(1, "landed", "done"), (2, "resend", "ready"), (3, "suspend", "suspended")] {
        let path = format!("/v1/deliveries/{id}/settle-doubt");
        let body = json!({"verdict": verdict}).to_string();
        let (status, view) = ask(&router, "POST", &path, &body).await;
        assert_eq!((status, &view["state"]), (StatusCode::OK, &json!(state)), "{view}");
    }
    let (_, again) = ask(&router, "GET", "/v1/deliveries/2", "").await;
    assert_eq!(again["doubt"]["resend"], true, "{again}");
    let (_, done) = ask(&router, "GET", "/v1/deliveries/1", "").await;
    assert!(done.get("doubt").is_none(), "{done}");
    for (id, name) in [(1, "not-in-doubt"), (4, "not-in-doubt")] {
        let path = format!("/v1/deliveries/{id}/settle-doubt");
        let (status, problem) = ask(&router, "POST", &path, r#"{"verdict": "landed"}"#).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(problem["type"], format!("urn:pillarbox:problem:{name}"));
    }
}

#[tokio::test]
async fn ports_are_paused() {
    let (router, _) = open().await;
    let (status, view) = ask(&router, "POST", "/v1/ports/orders/pause", "").await;
    assert_eq!((status, view["paused"].as_bool()), (StatusCode::OK, Some(true)));
    let (_, view) = ask(&router, "POST", "/v1/ports/orders/unpause", "").await;
    assert_eq!(view["paused"], false);
    let (_, list) = ask(&router, "GET", "/v1/ports", "").await;
    assert_eq!(list["ports"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["ports"][0]["counts"]["ready"], 0);
}

#[tokio::test]
async fn a_token_guards_everything_but_health() {
    let router = router(service().await, Some(Secret::new("s3cret")));
    for (given, expected) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("Bearer wrong"), StatusCode::UNAUTHORIZED),
        (Some("Basic s3cret"), StatusCode::UNAUTHORIZED),
        (Some("s3cret"), StatusCode::UNAUTHORIZED),
        (Some("bearer s3cret"), StatusCode::OK),
        (Some("Bearer s3cret"), StatusCode::OK),
    ] {
        let mut request = Request::get("/v1/ports");
        if let Some(given) = given {
            request = request.header(header::AUTHORIZATION, given);
        }
        let (response, _) = call(&router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), expected, "{given:?}");
    }
    let (status, health) = ask(&router, "GET", "/healthz", "").await;
    assert_eq!((status, health["service"].as_str()), (StatusCode::OK, Some("pillarbox")));
    let (status, _) = ask(&router, "GET", "/v1/nothing", "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_draining_server_says_so() {
    let (router, service) = open().await;
    service.drain();
    let request = Request::post("/v1/ports/orders/messages").body(Body::from("x")).expect("a request");
    let (response, _) = call(&router, request).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    let (status, health) = ask(&router, "GET", "/healthz", "").await;
    assert_eq!((status, health["status"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("draining")));
    // What is there can still be looked at.
    assert_eq!(ask(&router, "GET", "/v1/ports", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_closed_box_is_told() {
    let (router, service) = open().await;
    service.store().close().await.expect("it closes");
    let (status, problem) = ask(&router, "POST", "/v1/ports/orders/messages", "x").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
}

#[test]
fn a_full_box_asks_to_come_back() {
    let error = pillarbox_store::Error::new(pillarbox_store::ErrorKind::Full, "write the journal");
    let problem = crate::problem::Problem::of_store(&error);
    let response = axum::response::IntoResponse::into_response(problem);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "5");
}

#[tokio::test]
async fn an_answer_is_read_by_its_delivery() {
    let (router, service) = open().await;
    let request = Request::post("/v1/ports/orders/messages").body(Body::from("ask")).expect("a request");
    let (_, bytes) = call(&router, request).await;
    let taken: Value = serde_json::from_slice(&bytes).expect("JSON");
    let path = format!("/v1/deliveries/{}/answer", taken["delivery_id"]);
    let (status, problem) = ask(&router, "GET", &path, "").await;
    assert_eq!((status, &problem["state"]), (StatusCode::NOT_FOUND, &json!("ready")));
    assert_eq!(problem["type"], "urn:pillarbox:problem:no-answer");

    let body = vec![7; 600_000];
    let answer = pillarbox_store::Answer::new(body.clone()).expect("short enough");
    let answer = answer.header("content-type", "text/plain").and_then(|answer| answer.header("Status", 200));
    service.answer_in_test("orders", answer.expect("headers")).await;
    let request = Request::get(&path).body(Body::empty()).expect("a request");
    let (response, bytes) = call(&router, request).await;
    let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
    assert_eq!((response.status(), bytes == body), (StatusCode::OK, true));
    assert_eq!(header("content-type"), "text/plain");
    assert_eq!(
        (header("content-length"), header("x-pillarbox-h-status")),
        ("600000".to_owned(), "200".to_owned())
    );
    assert_eq!(header("x-pillarbox-message-id"), taken["message_id"].as_str().expect("an id"));
    assert!(header("x-pillarbox-received").ends_with('Z'));
    let (_, delivery) = ask(&router, "GET", path.trim_end_matches("/answer"), "").await;
    assert_eq!((&delivery["state"], &delivery["answer_bytes"]), (&json!("done"), &json!(600_000)));

    let (status, problem) = ask(&router, "GET", "/v1/deliveries/99/answer", "").await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::NOT_FOUND, &json!("urn:pillarbox:problem:no-such-delivery"))
    );
}
