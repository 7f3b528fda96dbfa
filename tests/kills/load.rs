//! The ones who submit: they repeat under the same ids what they got no answer for, until they know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use pillarbox_tests::bodies::{body, hash};
use pillarbox_tests::client::Answer;
use pillarbox_tests::present::Present;
use pillarbox_tests::witness::{Number, id_of};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::judge::Account;
use crate::plan::{Shape, Sort};

/// The port that everything goes by.
pub(crate) const PORT: &str = "orders";
/// A port that there is not: a batch with a message for it is refused.
const NOWHERE: &str = "nowhere";
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before a repeat.
const PAUSE: Duration = Duration::from_millis(30);
/// How many submit at once.
const CLIENTS: u32 = 8;

/// What the clients share.
pub(crate) struct Load {
    seed: u64,
    /// Between two submissions of one client.
    pace: Duration,
    /// A body that the destination refuses for good.
    refused: Option<Bytes>,
    next: AtomicU64,
    known: Mutex<Known>,
    pub(crate) present: Present,
}

/// What the clients know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) accounts: BTreeMap<Number, Account>,
    /// Submissions that had no answer and were repeated.
    pub(crate) unanswered: u64,
    /// Answers that make no sense.
    pub(crate) strange: Vec<String>,
}

impl Load {
    pub(crate) fn new(seed: u64, submissions_per_second: u32, refused: Option<Bytes>) -> Self {
        Self {
            seed,
            pace: Duration::from_secs(1) * CLIENTS / submissions_per_second.max(1),
            refused,
            next: AtomicU64::new(1),
            known: Mutex::default(),
            present: Present::default(),
        }
    }

    /// What the clients know by now.
    pub(crate) fn known(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the clients.
    pub(crate) fn start(load: &Arc<Self>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let load = Arc::clone(load);
            clients.spawn(async move {
                while load.present.goes_on() {
                    load.submit().await;
                    sleep(load.pace).await;
                }
            });
        }
        clients
    }

    /// A message's body, and how it is known from now on.
    fn message(&self, number: Number) -> Bytes {
        let Shape { len, is_bad } = Shape::draw(self.seed, number);
        let refused = self.refused.clone().filter(|_| is_bad);
        let is_bad = refused.is_some();
        let body = refused.unwrap_or_else(|| body(self.seed ^ number.rotate_left(20), len));
        let account = Account { body: hash(&body), is_bad, is_taken: None };
        self.lock().accounts.insert(number, account);
        body
    }

    /// Submits a message or a batch, as often as it takes to know whether it was taken.
    async fn submit(&self) {
        let Sort { messages, is_refused } = Sort::draw(self.seed, self.next.load(Ordering::SeqCst));
        let first = self.next.fetch_add(messages, Ordering::SeqCst);
        let numbers = first..first + messages;
        let bodies: Vec<_> = numbers.clone().map(|number| (number, self.message(number))).collect();
        let is_taken = match &bodies[..] {
            [(number, body)] if messages == 1 => {
                let id = id_of(*number);
                let path = format!("/v1/ports/{PORT}/messages");
                self.until_known(&path, &[("x-pillarbox-message-id", &id)], body.clone()).await
            }
            all => self.until_known("/v1/batches", &[], batch(all, is_refused)).await,
        };
        let mut known = self.lock();
        for number in numbers {
            if let Some(account) = known.accounts.get_mut(&number) {
                account.is_taken = Some(is_taken);
            }
        }
    }

    async fn until_known(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> bool {
        loop {
            let client = self.present.client().await;
            let sent = client.send(Method::POST, path, headers, body.clone());
            let answer = timeout(PATIENCE, sent).await.ok().and_then(Result::ok);
            if let Some(is_taken) = self.judged(answer.as_ref()) {
                return is_taken;
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether it was taken, by an answer that leaves nothing open.
    fn judged(&self, answer: Option<&Answer>) -> Option<bool> {
        let mut known = self.lock();
        let Some(answer) = answer else {
            known.unanswered += 1;
            return None;
        };
        let (said, problem) = answer.said();
        match (answer.status, &problem[..]) {
            (201 | 200, "") => Some(true),
            (404, "batch-refused") => Some(false),
            // It had a moment too little, or none at all; the next one says more.
            (408, "too-slow") | (503, "full" | "draining" | "closed" | "unavailable") => None,
            (status, _) => {
                known.strange.push(format!("a submission was answered {status}: {said}"));
                None
            }
        }
    }
}

/// All or none of these; none where the last is for no port.
fn batch(all: &[(Number, Bytes)], is_refused: bool) -> Bytes {
    let last = all.len().saturating_sub(1);
    let part = |(place, (number, body)): (usize, &(Number, Bytes))| {
        let port = if is_refused && place == last { NOWHERE } else { PORT };
        json!({ "port": port, "message_id": id_of(*number), "body_base64": BASE64.encode(body) })
    };
    let parts: Vec<Value> = all.iter().enumerate().map(part).collect();
    json!({ "messages": parts }).to_string().into()
}
