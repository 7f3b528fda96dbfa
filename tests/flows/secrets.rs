//! The server's token and the secrets of adapters: asked for where they should be, shown nowhere.

use pillarbox_tests::client::Client;
use pillarbox_tests::destination::{Destination, Reply};
use pillarbox_tests::server::Place;

use crate::{place, port};

/// What must not appear anywhere.
const TOKEN: &str = "canary-token-5f1c";
const CREDENTIAL: &str = "canary-credential-77ab";

fn guarded(destination: &Destination) -> Place {
    let config = "[box]\ndata = 'data'\n[server]\nlisten = '127.0.0.1:0'\ntoken = 'env:BOX_TOKEN'\n";
    let lines = "headers = { authorization = 'env:CREDENTIAL' }\nretry = { attempts = 1 }";
    let mut place = place(&format!("{config}{}", port("orders", &destination.url("/in"), lines)));
    place.set_env("BOX_TOKEN", TOKEN);
    place.set_env("CREDENTIAL", CREDENTIAL);
    place
}

/// None of what is said holds a secret.
fn hides(what: &str, text: &str) {
    for secret in [TOKEN, CREDENTIAL] {
        assert!(!text.contains(secret), "{what} shows a secret: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_with_the_token_are_served() {
    let destination = Destination::up();
    let place = guarded(&destination);
    let server = place.serve().await;
    let stranger = &server.client;
    assert_eq!(stranger.get("/healthz").await.expect(200)["status"], "ok");
    for value in ["", "Bearer", "Bearer wrong", "Basic canary-token-5f1c", &format!("Bearer {TOKEN}x")] {
        let client = stranger.with("authorization", value);
        let refused = client.submit("orders", &[], "from a stranger").await;
        refused.problem(401, "unauthorized");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
        for path in ["/v1/ports", "/v1/deliveries", "/v1/messages/x", "/elsewhere"] {
            client.get(path).await.problem(401, "unauthorized");
        }
    }
    let known = stranger.with("authorization", &format!("Bearer {TOKEN}"));
    let (_, number) = known.accepted("orders", "from a friend").await;
    known.wait_state(number, "done").await;
    assert_eq!(number, 1, "the strangers' messages were not taken");
    assert_eq!(destination.received()[0].headers["authorization"], CREDENTIAL);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_fetch_the_token_where_they_are_told() {
    let destination = Destination::up();
    let place = guarded(&destination);
    place.write("token", format!("{TOKEN}\n"));
    place.write("wrong", "not the token\n".replace(' ', "-"));
    let server = place.serve().await;
    let base = server.base.as_str();
    for more in [&[][..], &["--token", "file:token"], &["--token", "env:BOX_TOKEN"]] {
        place.run(&[&["ports", "--server", base], more].concat()).await.ok();
    }
    let wrong = place.run(&["ports", "--server", base, "--token", "file:wrong"]).await;
    wrong.failed(1, &["token is missing or wrong", "--token env:NAME"]);
    let missing = place.run(&["ports", "--server", base, "--token", "env:NO_SUCH_NAME"]).await;
    missing.failed(2, &["NO_SUCH_NAME", "is not set"]);
    // The value itself on the command line is refused without being repeated.
    let value = place.run(&["ports", "--server", base, "--token", TOKEN]).await;
    value.failed(2, &["by reference"]);
    assert_eq!(value.stdout, "");
    server.end().await;
}

/// Everything that the API tells.
async fn told(client: &Client) -> String {
    let mut told = String::new();
    for path in ["/v1/ports", "/v1/deliveries", "/v1/deliveries/1", "/healthz"] {
        told += &String::from_utf8_lossy(&client.get(path).await.bytes);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_appear_in_no_output_and_no_log() {
    let destination = Destination::up();
    // A destination that repeats what it was sent.
    destination.answer(|received| {
        let given = received.headers["authorization"].to_str().unwrap_or("");
        Reply::status(500).saying(&format!("{given} is not welcome"))
    });
    let place = guarded(&destination);
    let server = place.try_serve(&["--log", "trace"]).await.expect("it starts");
    let client = server.client.with("authorization", &format!("Bearer {TOKEN}"));
    let (_, number) = client.accepted("orders", "refused").await;
    let view = client.wait_state(number, "suspended").await;
    assert!(view["reason"].as_str().is_some_and(|reason| reason.contains("not welcome")), "{view}");
    hides("the API", &told(&client).await);
    let id = number.to_string();
    for args in [&["show", &id][..], &["ports"], &["ls"], &["resume", &id], &["check-config"]] {
        let ran = place.run(&[args, &["--server", &server.base, "--log", "trace"]].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        hides(&ran.command, &format!("{}{}", ran.stdout, ran.stderr));
    }
    server.end().await;
    assert!(place.log().len() > 1_000, "the log is not empty");
    hides("the log", &place.log());
    let offline = place.run(&["show", &id, "--log", "trace"]).await;
    hides("the data folder", offline.ok());
    hides("the command's log", &offline.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_fetched_keeps_the_server_from_starting() {
    let destination = Destination::down();
    let mut place = guarded(&destination);
    place.set_env("BOX_TOKEN", "");
    let ran = place.try_serve(&[]).await.expect_err("it cannot start");
    ran.failed(2, &["env:BOX_TOKEN", "visible ASCII characters"]);
    let plain = format!("[server]\ntoken = '{TOKEN}'\n");
    place.configure(&plain);
    let ran = place.try_serve(&[]).await.expect_err("it cannot start");
    ran.failed(2, &["pillarbox.toml:2:", "by reference"]);
    hides("the error", &ran.stderr);
    assert!(!place.path("data").exists() && !place.path("pillarbox-data").exists(), "nothing was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_missing_is_trouble_and_costs_no_attempt() {
    let destination = Destination::up();
    let lines = "headers = { authorization = 'env:NOT_SET_ANYWHERE' }";
    let mut place = crate::orders(&destination.url("/in"), lines);
    let server = place.serve().await;
    let (_, number) = server.client.accepted("orders", "waits for the credential").await;
    let trouble = pillarbox_tests::wait::until(async || {
        let list = server.client.get("/v1/ports").await.expect(200);
        list["ports"][0]["routes"][0]["trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.await.is_ok_and(|text| text.contains("NOT_SET_ANYWHERE")));
    assert_eq!(server.client.delivery(number).await["attempts"], 0);
    server.end().await;
    place.set_env("NOT_SET_ANYWHERE", CREDENTIAL);
    let server = place.serve().await;
    let view = server.client.wait_state(number, "done").await;
    assert_eq!(view["attempts"], 1, "{view}");
    server.end().await;
}
