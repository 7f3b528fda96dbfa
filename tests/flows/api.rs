//! The HTTP API, as a client of one's own uses it.

use std::collections::HashSet;

use pillarbox_tests::bodies::{body, hash};
use pillarbox_tests::destination::Destination;
use pillarbox_tests::wait::until;
use serde_json::{Value, json};

use crate::{BASE, orders, own_id, place, port};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_submitted_again_under_its_id_is_taken_once() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let server = place.serve().await;
    let id = own_id(1);
    let headers = [("x-pillarbox-message-id", id.as_str())];
    let first = server.client.submit("orders", &headers, "once").await;
    assert_eq!(first.headers["location"], format!("/v1/messages/{id}"));
    let first = first.expect(201);
    assert_eq!(first["message_id"], id);
    for _ in 0..3 {
        let again = server.client.submit("orders", &headers, "once").await.expect(200);
        assert_eq!((&again["duplicate"], &again["delivery_id"]), (&true.into(), &first["delivery_id"]));
    }
    let other = server.client.submit("orders", &headers, "another one").await;
    other.problem(409, "message-id-reused");
    server.client.wait_count("orders", "done", 1).await;
    // It is known after its delivery and over a restart, too.
    server.end().await;
    let server = place.serve().await;
    assert_eq!(server.client.submit("orders", &headers, "once").await.expect(200)["duplicate"], true);
    let (_, number) = server.client.accepted("orders", "the next").await;
    server.client.wait_state(number, "done").await;
    assert_eq!(destination.received_of(&id).len(), 1);
    assert_eq!(destination.count(), 2);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_taken_whole_and_its_repeat_adds_nothing() {
    let destination = Destination::up();
    let ports = [port("orders", &destination.url("/o"), ""), port("letters", &destination.url("/l"), "")];
    let place = place(&format!("{BASE}{}", ports.concat()));
    let server = place.serve().await;
    let messages = json!([
        {"port": "orders", "message_id": own_id(1), "body_text": "plain", "headers": {"a": "b", "n": 17, "t": true}},
        {"port": "letters", "message_id": own_id(2), "body_base64": "AAH/"},
        {"port": "letters", "message_id": own_id(3)},
    ]);
    let batch = json!({"messages": messages}).to_string();
    let taken = server.client.post("/v1/batches", batch.clone()).await.expect(201);
    let ids: Vec<_> = (1..=3).map(own_id).collect();
    let of = |taken: &Value| -> Vec<String> {
        let list = taken["messages"].as_array().expect("a list").iter();
        list.map(|one| one["message_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(of(&taken), ids);
    let again = server.client.post("/v1/batches", batch).await.expect(200);
    assert_eq!(of(&again), ids);
    assert!(again["messages"].as_array().is_some_and(|list| list.iter().all(|one| one["duplicate"] == true)));
    server.client.wait_count("orders", "done", 1).await;
    server.client.wait_count("letters", "done", 2).await;
    assert_eq!(destination.count(), 3);
    let first = &destination.received_of(&ids[0])[0];
    assert_eq!((first.path.as_str(), first.hash), ("/o", hash(b"plain")));
    for (name, value) in [("a", "b"), ("n", "17"), ("t", "true")] {
        assert_eq!(first.headers[format!("x-pillarbox-h-{name}")], value);
    }
    assert_eq!(destination.received_of(&ids[1])[0].hash, hash(&[0, 1, 255]));
    assert_eq!(destination.received_of(&ids[2])[0].len, 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_reach_the_destination() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let server = place.serve().await;
    let headers = [
        ("content-type", "application/xml"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("X-Pillarbox-H-Customer", "Müller"),
        ("cookie", "not forwarded"),
    ];
    let taken = server.client.submit("orders", &headers, "<a/>").await.expect(201);
    let number = taken["delivery_id"].as_u64().expect("a number");
    server.client.wait_state(number, "done").await;
    let received = &destination.received()[0];
    assert_eq!(received.headers["content-type"], "application/xml");
    assert_eq!(received.headers["traceparent"], headers[1].1);
    assert_eq!(received.headers["x-pillarbox-h-customer"].as_bytes(), "Müller".as_bytes());
    assert!(!received.headers.contains_key("cookie"), "{received:?}");
    assert_eq!(received.message, taken["message_id"]);
    assert!(received.key.ends_with(&format!("/orders/{}", received.message)), "{received:?}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_headers_are_taken_as_a_message_may_have() {
    let destination = Destination::down();
    let place = orders(&destination.url("/in"), "");
    let server = place.serve().await;
    server.client.post("/v1/ports/orders/pause", "").await.expect(200);
    let names: Vec<_> = (0..128).map(|number| format!("x-pillarbox-h-n{number}")).collect();
    let value = "v".repeat(500);
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let taken = server.client.submit("orders", &headers, "richly addressed").await.expect(201);
    let message = taken["message_id"].as_str().expect("an id");
    let view = server.client.get(&format!("/v1/messages/{message}")).await.expect(200);
    let headers = view["headers"].as_object().expect("headers");
    assert_eq!(headers.len(), 128);
    assert!(headers.values().all(|have| *have == value), "{view}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_comes_back_and_arrives_byte_for_byte() {
    let destination = Destination::up();
    let file = "[[port]]\nname = 'files'\n[port.primary]\nadapter = 'file'\nfolder = 'out'\n";
    let http = port("orders", &destination.url("/in"), "");
    let place = place(&format!("{BASE}{http}{file}name = '{{message_id}}.bin'\n"));
    let server = place.serve().await;
    let client = &server.client;
    // 20 MiB and one byte: no whole number of fragments.
    let long = body(20, 20 * 1024 * 1024 + 1);
    for port in ["orders", "files"] {
        client.post(&format!("/v1/ports/{port}/pause"), "").await.expect(200);
        let (message, number) = client.accepted(port, long.clone()).await;
        let back = client.get(&format!("/v1/messages/{message}/body")).await;
        assert_eq!(back.status, 200);
        assert_eq!(back.headers["content-length"], long.len().to_string());
        assert_eq!(hash(&back.bytes), hash(&long), "the body that comes back");
        let view = client.get(&format!("/v1/messages/{message}")).await.expect(200);
        assert_eq!(view["body_bytes"], long.len(), "{view}");
        client.post(&format!("/v1/ports/{port}/unpause"), "").await.expect(200);
        client.wait_state(number, "done").await;
        if port == "files" {
            let written = std::fs::read(place.path(&format!("out/{message}.bin"))).expect("the file");
            assert_eq!(hash(&written), hash(&long), "the file's content");
        }
        let gone = client.get(&format!("/v1/messages/{message}/body")).await;
        gone.problem(410, "body-gone");
    }
    let received = &destination.received()[0];
    assert_eq!((received.len, received.hash), (long.len() as u64, hash(&long)), "what arrived");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_told_page_by_page() {
    let destination = Destination::down();
    let ports = [port("orders", &destination.url("/o"), ""), port("letters", &destination.url("/l"), "")];
    let place = place(&format!("{BASE}{}", ports.concat()));
    let server = place.serve().await;
    let client = &server.client;
    for port in ["orders", "letters"] {
        client.post(&format!("/v1/ports/{port}/pause"), "").await.expect(200);
    }
    let message = |number: usize| {
        let port = if number.is_multiple_of(3) { "letters" } else { "orders" };
        json!({"port": port, "body_text": number.to_string()})
    };
    let batch = json!({"messages": (0..250).map(message).collect::<Vec<_>>()});
    client.post("/v1/batches", batch.to_string()).await.expect(201);
    for (filter, wanted) in
        [("", 250), ("&port=letters", 84), ("&port=orders&state=ready", 166), ("&state=done", 0)]
    {
        let (mut after, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = client.get(&format!("/v1/deliveries?limit=40{filter}{after}")).await.expect(200);
            let list = page["deliveries"].as_array().expect("a list");
            assert!(list.len() <= 40, "{} on one page", list.len());
            seen.extend(list.iter().map(|view| view["delivery_id"].as_u64().expect("a number")));
            pages += 1;
            let Some(next) = page["next"].as_u64() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen.len(), wanted, "{filter}");
        assert!(
            seen.is_sorted() && seen.iter().collect::<HashSet<_>>().len() == wanted,
            "{filter}: {seen:?}"
        );
        assert_eq!(pages, wanted / 40 + 1, "{filter}");
    }
    let plain = client.get("/v1/deliveries").await.expect(200);
    assert_eq!(plain["deliveries"].as_array().map(Vec::len), Some(100), "a page has 100 by default");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_not_sent_before_its_time() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let server = place.serve().await;
    let client = &server.client;
    let headers = [("x-pillarbox-not-before", "2999-01-01T00:00:00Z")];
    let taken = client.submit("orders", &headers, "later").await.expect(201);
    let later = taken["delivery_id"].as_u64().expect("a number");
    let (_, now) = client.accepted("orders", "now").await;
    client.wait_state(now, "done").await;
    let view = client.delivery(later).await;
    assert_eq!((&view["state"], &view["due"]), (&"scheduled".into(), &"2999-01-01T00:00:00Z".into()));
    assert_eq!(destination.count(), 1);
    client.post(&format!("/v1/deliveries/{later}/resume"), "").await.expect(200);
    client.wait_state(later, "done").await;
    let wrong = client.submit("orders", &[("x-pillarbox-not-before", "soon")], "never").await;
    wrong.problem(400, "bad-request");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_ports_tell_how_the_server_fares() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let server = place.serve().await;
    let health = server.client.get("/healthz").await.expect(200);
    for (field, wanted) in [("status", "ok"), ("service", "pillarbox"), ("engine", "journal")] {
        assert_eq!(health[field], wanted, "{health}");
    }
    let (_, number) = server.client.accepted("orders", "opens the adapter").await;
    server.client.wait_state(number, "done").await;
    let idle = until(async || {
        let list = server.client.get("/v1/ports").await.expect(200);
        let view = list["ports"][0].clone();
        (view["routes"][0]["in_flight"] == 0).then_some(view)
    });
    let view = idle.await.expect("nothing is being sent");
    assert_eq!(
        (&view["name"], &view["paused"], &view["defined"]),
        (&"orders".into(), &false.into(), &true.into())
    );
    assert_eq!((&view["routes"][0]["adapter"], &view["routes"][0]["open"]), (&"http".into(), &true.into()));
    server.end().await;
    // The box keeps its name.
    let server = place.serve().await;
    assert_eq!(server.client.get("/healthz").await.expect(200)["box"], health["box"]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_taken_out_of_the_configuration_waits_and_takes_no_more() {
    let destination = Destination::down();
    let patient = "retry = { attempts = 1000, first = '100ms', max = '1s' }";
    let both =
        [port("orders", &destination.url("/o"), patient), port("letters", &destination.url("/l"), patient)];
    let place = place(&format!("{BASE}{}", both.concat()));
    let server = place.serve().await;
    let (_, number) = server.client.accepted("letters", "not forgotten").await;
    server.end().await;
    place.configure(&format!("{BASE}{}", both[0]));
    let server = place.serve().await;
    server.client.submit("letters", &[], "no more").await.problem(404, "retired-port");
    assert_ne!(server.client.delivery(number).await["state"], "done");
    server.end().await;
    place.configure(&format!("{BASE}{}", both.concat()));
    let mut destination = destination;
    destination.start();
    let server = place.serve().await;
    server.client.wait_state(number, "done").await;
    server.end().await;
}
