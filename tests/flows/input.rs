//! Requests and commands that cannot be taken: an error that says what and what to do, nothing stored, nothing lost.

use pillarbox_tests::bodies::body;
use pillarbox_tests::client::Client;
use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::Place;
use serde_json::json;

use crate::{BASE, orders, own_id, place, port};

/// Nothing was stored but one message, submitted before all that was refused; it is delivered once there is somebody
/// to take it.
struct Witness {
    destination: Destination,
    number: u64,
}

impl Witness {
    async fn new(client: &Client, destination: Destination) -> Self {
        let (_, number) = client.accepted("orders", "accepted before").await;
        Self { destination, number }
    }

    async fn nothing_else_was_stored(mut self, client: &Client) {
        let list = client.get("/v1/deliveries").await.expect(200);
        assert_eq!(list["deliveries"].as_array().map(Vec::len), Some(1), "{list}");
        self.destination.start();
        client.wait_state(self.number, "done").await;
        assert_eq!(client.get("/healthz").await.expect(200)["status"], "ok");
        assert_eq!(self.destination.count(), 1);
    }
}

const PATIENT: &str = "retry = { attempts = 1000, first = '100ms', max = '1s' }";

fn patient(destination: &Destination) -> Place {
    orders(&destination.url("/in"), PATIENT)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_port_is_refused_and_the_known_ones_are_named() {
    let destination = Destination::down();
    let ports =
        [port("orders", &destination.url("/in"), PATIENT), port("letters", &destination.url("/l"), "")];
    let place = place(&format!("{BASE}{}", ports.concat()));
    place.write("letter", "to nowhere");
    let server = place.serve().await;
    let witness = Witness::new(&server.client, destination).await;
    for path in ["/v1/ports/ordres/messages", "/v1/ports/ordres/pause"] {
        let problem = server.client.post(path, "to nowhere").await.problem(404, "unknown-port");
        assert_eq!(problem["known"], json!(["letters", "orders"]), "{problem}");
        assert_eq!(problem["port"], "ordres", "{problem}");
    }
    server.client.get("/v1/deliveries?port=ordres").await.problem(404, "unknown-port");
    let ran = place.run(&["submit", "--server", &server.base, "ordres", "letter"]).await;
    ran.failed(1, &["letter", "no port 'ordres'", "letters, orders", "next: pillarbox ports"]);
    let ran = place.run(&["pause", "--server", &server.base, "ordres"]).await;
    ran.failed(1, &["no port 'ordres'", "letters, orders"]);
    witness.nothing_else_was_stored(&server.client).await;
    server.end().await;
    let ran = place.run(&["submit", "ordres", "letter"]).await;
    ran.failed(1, &["letter", "no port 'ordres'", "letters, orders"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_and_leaves_nothing() {
    let destination = Destination::down();
    let config =
        format!("{BASE}body_bytes_max = '1MiB'\n{}", port("orders", &destination.url("/in"), PATIENT));
    let place = place(&config);
    let server = place.serve().await;
    let witness = Witness::new(&server.client, destination).await;
    let over = body(1, 1024 * 1024 + 1);
    let problem = server.client.submit("orders", &[], over.clone()).await.problem(413, "too-large");
    assert_eq!(problem["bytes_max"], 1024 * 1024, "{problem}");
    place.write("over", &over);
    place.write("small", "small");
    let ran = place.run(&["submit", "--server", &server.base, "orders", "over"]).await;
    ran.failed(1, &["over", "1048576 bytes", "server.body_bytes_max"]);
    // Its length unknown beforehand, it is refused on the way.
    let ran = place.run_with_input(&["submit", "--server", &server.base, "orders", "-"], &over).await;
    ran.failed(1, &["1048576 bytes"]);
    let batch = json!({"messages": [{"port": "orders", "body_text": "x".repeat(1024 * 1024 + 1)}]});
    server.client.post("/v1/batches", batch.to_string()).await.problem(422, "batch-refused");
    let whole = json!({"messages": [{"port": "orders", "body_text": "x".repeat(17 * 1024 * 1024)}]});
    server.client.post("/v1/batches", whole.to_string()).await.problem(413, "too-large");
    witness.nothing_else_was_stored(&server.client).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_body_that_is_allowed_is_taken() {
    let destination = Destination::up();
    let config = format!("{BASE}body_bytes_max = '1MiB'\n{}", port("orders", &destination.url("/in"), ""));
    let place = place(&config);
    let server = place.serve().await;
    let (_, number) = server.client.accepted("orders", body(1, 1024 * 1024)).await;
    server.client.wait_state(number, "done").await;
    assert_eq!(destination.received()[0].len, 1024 * 1024);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_cannot_be_are_refused() {
    let destination = Destination::down();
    let place = patient(&destination);
    place.write("letter", "with a header");
    let server = place.serve().await;
    let witness = Witness::new(&server.client, destination).await;
    let long = "n".repeat(200);
    let too_long = format!("x-pillarbox-h-{long}");
    let many: Vec<_> = (0..=128).map(|n| format!("x-pillarbox-h-{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "value")).collect();
    for headers in [&[("x-pillarbox-h-", "a name is missing")][..], &[(&too_long, "a name is long")], &many] {
        let answer = server.client.submit("orders", headers, "refused").await;
        answer.problem(422, "invalid");
    }
    let twice = [("x-pillarbox-h-a", "1"), ("x-pillarbox-h-a", "2")];
    server.client.submit("orders", &twice, "refused").await.problem(400, "bad-request");
    for (name, value) in [("no name", "value"), ("a", "line\nbreak"), (&long, "value")] {
        let message = json!({"port": "orders", "headers": {name: value}, "body_text": "refused"});
        let batch = json!({"messages": [message]}).to_string();
        server.client.post("/v1/batches", batch).await.problem(422, "batch-refused");
        let header = format!("{name}={value}");
        for to_server in [&["--server", &server.base][..], &[]] {
            let args = [&["submit", "orders", "letter", "--header", &header], to_server].concat();
            let ran = place.run(&args).await;
            // Without the server's address the folder is tried, which it holds.
            if to_server.is_empty() {
                ran.failed(1, &["process"])
            } else {
                ran.failed(2, &["header"])
            };
        }
    }
    place.run(&["submit", "orders", "letter", "--header", "=value"]).await.failed(2, &["NAME=VALUE"]);
    witness.nothing_else_was_stored(&server.client).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_and_ids_that_are_nobodys_are_told() {
    let destination = Destination::down();
    let place = patient(&destination);
    let server = place.serve().await;
    let client = &server.client;
    let witness = Witness::new(client, destination).await;
    let bad = client.submit("orders", &[("x-pillarbox-message-id", "17")], "refused").await;
    bad.problem(422, "bad-message-id");
    client.get("/v1/messages/17").await.problem(422, "bad-message-id");
    client.get("/v1/deliveries/seventeen").await.problem(400, "bad-request");
    let unknown = own_id(99);
    client.get(&format!("/v1/messages/{unknown}")).await.problem(404, "no-such-message");
    client.get(&format!("/v1/messages/{unknown}/body")).await.problem(404, "no-such-message");
    client.get("/v1/deliveries/99").await.problem(404, "no-such-delivery");
    client.post("/v1/deliveries/99/resume", "").await.problem(404, "no-such-delivery");
    client.post("/v1/deliveries/99/terminate", "").await.problem(404, "no-such-delivery");
    client.get("/v2/messages").await.problem(404, "no-such-route");
    client.post("/v1/deliveries", "").await.problem(405, "no-such-method");
    for query in ["state=sleeping", "limit=0", "limit=1001", "after=x", "colour=red", "port=no%20port"] {
        let answer = client.get(&format!("/v1/deliveries?{query}")).await;
        assert!([400, 422].contains(&answer.status), "{query}: {answer:?}");
    }
    let base = server.base.as_str();
    for args in [&["show", "99"][..], &["show", &unknown], &["resume", "99"], &["terminate", &unknown]] {
        let ran = place.run(&[args, &["--server", base]].concat()).await;
        ran.failed(1, &["known", "next: pillarbox ls"]);
    }
    place.run(&["show", "seventeen"]).await.failed(2, &["neither a message's UUID nor a delivery's number"]);
    place.run(&["submit", "orders", "x", "--message-id", "17"]).await.failed(2, &["--message-id"]);
    witness.nothing_else_was_stored(client).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_one_bad_message_stores_nothing() {
    let destination = Destination::down();
    let place = patient(&destination);
    let server = place.serve().await;
    let witness = Witness::new(&server.client, destination).await;
    let good = || json!({"port": "orders", "body_text": "good", "message_id": own_id(1)});
    for (bad, status) in [
        (json!({"port": "ordres", "body_text": "bad"}), 404),
        (json!({"port": "orders", "body_base64": "%"}), 422),
        (json!({"port": "orders", "body_text": "bad", "message_id": "17"}), 422),
        (json!({"port": "orders", "body_text": "bad", "not_before": "soon"}), 422),
        // Twice in one batch: the second finds the first.
        (good(), 409),
    ] {
        let batch = json!({"messages": [good(), bad]}).to_string();
        let problem = server.client.post("/v1/batches", batch).await.problem(status, "batch-refused");
        assert_eq!(problem["messages"][0]["index"], 1, "{problem}");
        server.client.get(&format!("/v1/messages/{}", own_id(1))).await.problem(404, "no-such-message");
    }
    for wrong in [json!({"messages": []}), json!({"messages": [{"port": "orders", "colour": "red"}]})] {
        server.client.post("/v1/batches", wrong.to_string()).await.problem(400, "bad-request");
    }
    server.client.post("/v1/batches", "{\"messages\": [").await.problem(400, "bad-request");
    witness.nothing_else_was_stored(&server.client).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_state_does_not_allow_is_refused() {
    let destination = Destination::down();
    let place = patient(&destination);
    let server = place.serve().await;
    let client = &server.client;
    let (_, number) = client.accepted("orders", "ends by hand").await;
    client.post("/v1/ports/orders/pause", "").await.expect(200);
    let path = format!("/v1/deliveries/{number}/terminate");
    client.post(&path, "{\"raeson\": \"a slip\"}").await.problem(400, "bad-request");
    // While it is being sent it cannot be taken away.
    let done =
        pillarbox_tests::wait::until(async || (client.post(&path, "").await.status == 200).then_some(()));
    assert_eq!(done.await, Ok(()));
    assert_eq!(client.delivery(number).await["reason"], "terminated over the API");
    let again = client.post(&path, "").await;
    assert_eq!(again.status, 409, "{again:?}");
    assert_eq!(again.json()["state"], "terminated");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let destination = Destination::down();
    let place = patient(&destination);
    let server = place.serve().await;
    let witness = Witness::new(&server.client, destination).await;
    let address = server.base.trim_start_matches("http://");
    let id = own_id(1);
    for sent in [100, 600 * 1024] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
        let head = format!(
            "POST /v1/ports/orders/messages HTTP/1.1\r\nhost: x\r\nx-pillarbox-message-id: {id}\r\n\
             content-length: 1048576\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        stream.write_all(&body(1, sent)).await.expect("the server reads");
        drop(stream);
    }
    server.client.get(&format!("/v1/messages/{id}")).await.problem(404, "no-such-message");
    witness.nothing_else_was_stored(&server.client).await;
    // The id was not used up.
    let taken = server.client.submit("orders", &[("x-pillarbox-message-id", &id)], "whole").await;
    assert_eq!(taken.expect(201)["message_id"], id);
    server.end().await;
}
