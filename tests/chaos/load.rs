//! The ones who submit: they never wait for the server to be well, and repeat under the same id what they got no
//! answer for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use pillarbox_store::Timestamp;
use pillarbox_tests::bodies::{body, hash};
use pillarbox_tests::client;
use pillarbox_tests::present::Present;
use pillarbox_tests::witness::{Answer, Fact, Witness, id_of};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::plan::{Kind, Sort};
use crate::shown::{Shown, more};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before a repeat.
const PAUSE: Duration = Duration::from_millis(40);
/// Between two messages of one client.
const PACE: Duration = Duration::from_millis(15);
/// Clients that submit one message at a time, and those that submit batches.
const CLIENTS: [usize; 2] = [10, 2];

/// What the clients share.
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) witness: Witness,
    pub(crate) shown: Arc<Shown>,
    /// By how many seconds the server's clock is ahead.
    pub(crate) ahead: AtomicI64,
    /// The latest delivery that was told of.
    pub(crate) latest: AtomicU64,
    next: AtomicU64,
    pub(crate) present: Present,
}

/// A message about to be submitted.
struct Message {
    number: u64,
    sort: Sort,
    body: Bytes,
    not_before: Option<String>,
}

impl Load {
    pub(crate) fn new(seed: u64, kind: Kind, witness: Witness, shown: Arc<Shown>) -> Self {
        Self {
            seed,
            kind,
            witness,
            shown,
            ahead: AtomicI64::new(0),
            latest: AtomicU64::new(0),
            next: AtomicU64::new(1),
            present: Present::default(),
        }
    }

    /// The numbers of all messages that were made.
    pub(crate) fn numbers(&self) -> std::ops::Range<u64> {
        1..self.next.load(Ordering::SeqCst)
    }

    /// Starts the clients.
    pub(crate) fn start(load: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS[0] {
            let load = Arc::clone(load);
            clients.spawn(async move {
                while load.present.goes_on() {
                    let number = load.next.fetch_add(1, Ordering::SeqCst);
                    load.submit(&load.message(number, None)).await;
                    sleep(PACE).await;
                }
            });
        }
        for _ in 0..CLIENTS[1] {
            let load = Arc::clone(load);
            clients.spawn(async move {
                while load.present.goes_on() {
                    load.submit_batch().await;
                    sleep(PACE * 10).await;
                }
            });
        }
        clients
    }

    fn message(&self, number: u64, batch: Option<u64>) -> Message {
        let sort = Sort::draw(self.seed, self.kind, number);
        let body = body(self.seed ^ number, sort.len);
        let ahead = self.ahead.load(Ordering::SeqCst) * 1_000_000;
        let now = Timestamp::from_micros(self.witness.now().as_micros() + ahead);
        let not_before = sort.later.map(|later| now.plus(later));
        self.witness.saw(Fact::Offered {
            message: number,
            port: sort.port,
            body: hash(&body),
            is_bad: sort.is_bad,
            not_before,
            batch,
        });
        let text = |at: Timestamp| {
            jiff::Timestamp::from_microsecond(at.as_micros()).map(|at| at.to_string()).unwrap_or_default()
        };
        Message { number, sort, body, not_before: not_before.map(text) }
    }

    /// Sends a request; nothing where no answer came in time.
    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Option<client::Answer> {
        let client = self.present.client().await;
        timeout(PATIENCE, client.send(Method::POST, path, headers, body)).await.ok()?.ok()
    }

    async fn submit(&self, message: &Message) {
        let path = format!("/v1/ports/{}/messages", message.sort.port);
        let id = id_of(message.number);
        let mut headers = vec![("x-pillarbox-message-id", id.as_str())];
        headers.extend(message.not_before.iter().map(|at| ("x-pillarbox-not-before", at.as_str())));
        let mut once_more = message.sort.repeats;
        loop {
            let answer = self.send(&path, &headers, message.body.clone()).await;
            let answer = self.judged(answer.as_ref(), |said| said["delivery_id"].as_u64());
            self.answered(message.number, answer);
            match answer {
                Answer::Taken(_) | Answer::Repeated(_) if once_more => once_more = false,
                Answer::Taken(_) | Answer::Repeated(_) => return,
                _ if !message.sort.insists => return,
                _ => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn submit_batch(&self) {
        let first = self.next.load(Ordering::SeqCst);
        let wanted = Sort::draw(self.seed, self.kind, first).batch;
        let first = self.next.fetch_add(wanted, Ordering::SeqCst);
        let messages: Vec<_> =
            (first..first + wanted).map(|number| self.message(number, Some(first))).collect();
        let parts: Vec<Value> = messages
            .iter()
            .map(|message| {
                let mut part = json!({
                    "port": message.sort.port,
                    "message_id": id_of(message.number),
                    "body_base64": BASE64.encode(&message.body),
                });
                if let Some(at) = &message.not_before {
                    part["not_before"] = json!(at);
                }
                part
            })
            .collect();
        let body = Bytes::from(json!({ "messages": parts }).to_string());
        loop {
            let said = self.send("/v1/batches", &[], body.clone()).await;
            let mut is_done = !messages[0].sort.insists;
            for (place, message) in messages.iter().enumerate() {
                let delivery = |said: &Value| said["messages"][place]["delivery_id"].as_u64();
                let mut answer = self.judged(said.as_ref(), delivery);
                if let (Answer::Taken(delivery), Some(said)) = (answer, &said)
                    && said.json()["messages"][place]["duplicate"] == true
                {
                    answer = Answer::Repeated(delivery);
                }
                self.answered(message.number, answer);
                is_done |= matches!(answer, Answer::Taken(_) | Answer::Repeated(_));
            }
            if is_done {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    fn answered(&self, number: u64, answer: Answer) {
        match answer {
            Answer::Taken(delivery) => {
                more(&self.shown.accepted);
                self.latest.fetch_max(delivery, Ordering::SeqCst);
            }
            Answer::Lost => more(&self.shown.in_doubt),
            Answer::Repeated(_) | Answer::Refused => {}
        }
        self.witness.saw(Fact::Answered(number, answer));
    }

    /// What an answer says of a message.
    fn judged(&self, answer: Option<&client::Answer>, delivery: impl Fn(&Value) -> Option<u64>) -> Answer {
        let Some(answer) = answer else { return Answer::Lost };
        let (said, problem) = answer.said();
        match (answer.status, delivery(&said), &problem[..]) {
            (201, Some(delivery), _) => Answer::Taken(delivery),
            (200, Some(delivery), _) if said["duplicate"] == true || said["messages"].is_array() => {
                Answer::Repeated(delivery)
            }
            (408, _, "too-slow") | (503, _, "full" | "draining" | "closed") => Answer::Refused,
            (503, _, "unavailable") => Answer::Lost,
            _ => {
                let text = String::from_utf8_lossy(&answer.bytes);
                self.witness.saw(Fact::Trouble(format!("the answer is {}: {text}", answer.status)));
                Answer::Lost
            }
        }
    }
}
