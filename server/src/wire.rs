//! What goes over the API and comes out of `--json`: one set of types for the server, its client, and the command
//! line. Field names are stable. Times are RFC 3339 in UTC; delivery numbers are JSON numbers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pillarbox_store::{
    Attempt, AttemptOutcome, BoxId, Counts, Decision, DeliveryDetail, DeliveryId, DeliveryInfo,
    DeliveryState, Doubt, DoubtVerdict, HeaderValue, Headers, MessageId, MessageInfo, PortInfo, PortName,
    Route,
};
use serde::{Deserialize, Serialize};

use crate::config::values::show_time;

/// A submission that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The message.
    pub message_id: MessageId,
    /// Its delivery.
    pub delivery_id: DeliveryId,
    /// Whether it had been submitted before, under the same id, and nothing was added now.
    #[serde(default, skip_serializing_if = "is_false")]
    pub duplicate: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// `POST /v1/batches`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The messages, all or none.
    pub messages: Vec<BatchMessage>,
}

/// One message of a [`BatchRequest`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchMessage {
    /// Where to.
    pub port: String,
    /// Its id; made by the server where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Header>,
    /// Its body in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Its body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
    /// Not to be sent before this RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
}

/// The answer to a batch that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSubmitted {
    /// One for each message, in their order.
    pub messages: Vec<Submitted>,
}

/// A header's value in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Header {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// Bytes.
    Bytes {
        /// In Base64.
        base64: String,
    },
}

impl Header {
    /// The value as the store keeps it.
    ///
    /// # Errors
    /// The bytes are not Base64.
    pub fn into_value(self) -> Result<HeaderValue, String> {
        Ok(match self {
            Self::Text(text) => HeaderValue::Text(text),
            Self::Integer(number) => HeaderValue::Integer(number),
            Self::Boolean(flag) => HeaderValue::Boolean(flag),
            Self::Bytes { base64 } => HeaderValue::Bytes(decode_base64(&base64)?),
        })
    }
}

impl From<&HeaderValue> for Header {
    fn from(value: &HeaderValue) -> Self {
        match value {
            HeaderValue::Text(text) => Self::Text(text.clone()),
            HeaderValue::Integer(number) => Self::Integer(*number),
            HeaderValue::Boolean(flag) => Self::Boolean(*flag),
            HeaderValue::Bytes(bytes) => Self::Bytes { base64: BASE64.encode(bytes) },
        }
    }
}

/// The bytes that a Base64 text stands for.
///
/// # Errors
/// It is not Base64.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|error| format!("this is not Base64: {error}"))
}

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Counted from 1.
    pub number: u32,
    /// The route it was made on.
    pub route: Route,
    /// When it began.
    pub started: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was decided.
    pub outcome: AttemptOutcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// Whether another attempt cannot help.
    pub permanent: bool,
    /// The error and its causes, outermost first.
    pub chain: Vec<String>,
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        let failure = attempt.failure.as_ref();
        Self {
            number: attempt.number,
            route: attempt.route,
            started: show_time(attempt.started),
            took_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            outcome: attempt.outcome,
            failure: failure
                .map(|failure| FailureView { permanent: failure.permanent, chain: failure.chain.clone() }),
        }
    }
}

/// That a delivery may have been sent without the box knowing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtView {
    /// How often the process ended, one time after another, while it was being sent.
    pub crashes: u32,
    /// When the last such attempt began.
    pub begun: String,
    /// Somebody has decided to send it again all the same.
    pub resend: bool,
    /// It was only ever being sent in transactions that were not decided: the destination does not have it.
    pub transacted: bool,
}

impl From<&Doubt> for DoubtView {
    fn from(doubt: &Doubt) -> Self {
        Self {
            crashes: doubt.crashes,
            begun: show_time(doubt.begun),
            resend: doubt.resend,
            transacted: doubt.transacted,
        }
    }
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Its number.
    pub delivery_id: DeliveryId,
    /// Its message.
    pub message_id: MessageId,
    /// Its destination.
    pub port: PortName,
    /// Where it stands.
    pub state: DeliveryState,
    /// The route it is on, or was when it ended.
    pub route: Route,
    /// Attempts made in its whole life.
    pub attempts: u32,
    /// When its message was submitted.
    pub submitted: String,
    /// When it may be sent, where it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// Why it was suspended or terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The body's length in bytes.
    pub body_bytes: u64,
    /// The length in bytes of the answer that is kept with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
    /// That it may have been sent without the box knowing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<DoubtView>,
    /// The latest attempts, oldest first; only where one delivery or message is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<AttemptView>>,
}

impl From<&DeliveryInfo> for DeliveryView {
    fn from(info: &DeliveryInfo) -> Self {
        Self {
            delivery_id: info.id,
            message_id: info.message,
            port: info.port.clone(),
            state: info.state,
            route: info.route,
            attempts: info.attempts,
            submitted: show_time(info.submitted),
            due: info.due.map(show_time),
            finished: info.finished.map(show_time),
            reason: info.reason.clone(),
            body_bytes: info.body_len,
            answer_bytes: info.answer_len,
            doubt: info.doubt.as_ref().map(DoubtView::from),
            history: None,
        }
    }
}

impl From<&DeliveryDetail> for DeliveryView {
    fn from(detail: &DeliveryDetail) -> Self {
        let history = detail.attempts.iter().map(AttemptView::from).collect();
        Self { history: Some(history), ..Self::from(&detail.info) }
    }
}

/// A page of deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryPage {
    /// The deliveries, in order of number.
    pub deliveries: Vec<DeliveryView>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DeliveryId>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Its id.
    pub message_id: MessageId,
    /// When it was submitted.
    pub submitted: String,
    /// Its headers; absent once every delivery has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, Header>>,
    /// The body's length in bytes.
    pub body_bytes: u64,
    /// Its deliveries, in order of number, with their history.
    pub deliveries: Vec<DeliveryView>,
}

impl From<&MessageInfo> for MessageView {
    fn from(info: &MessageInfo) -> Self {
        Self {
            message_id: info.id,
            submitted: show_time(info.submitted),
            headers: info.headers.as_ref().map(show_headers),
            body_bytes: info.body_len,
            deliveries: info.deliveries.iter().map(DeliveryView::from).collect(),
        }
    }
}

fn show_headers(headers: &Headers) -> BTreeMap<String, Header> {
    headers.iter().map(|(name, value)| (name.to_owned(), Header::from(value))).collect()
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// Its name.
    pub name: PortName,
    /// Whether it has a backup route.
    pub backup: bool,
    /// Whether it takes messages.
    pub defined: bool,
    /// Whether its deliveries are held back.
    pub paused: bool,
    /// Its deliveries by state.
    pub counts: Counts,
    /// When the next delivery that waits for a time is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<String>,
    /// Its routes, as the running server sees them; absent where none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<RouteView>>,
}

impl From<&PortInfo> for PortView {
    fn from(info: &PortInfo) -> Self {
        Self {
            name: info.name.clone(),
            backup: info.backup,
            defined: info.defined,
            paused: info.paused,
            counts: info.counts,
            next_due: info.next_due.map(show_time),
            routes: None,
        }
    }
}

/// A port's route in a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Which.
    pub route: Route,
    /// The adapter's kind.
    pub adapter: String,
    /// Whether the adapter is open.
    pub open: bool,
    /// Messages being sent.
    pub in_flight: u64,
    /// Why it cannot send now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Every port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList {
    /// In order of name.
    pub ports: Vec<PortView>,
    /// What was left prepared at destinations to which no open route goes any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stranded: Vec<StrandedView>,
}

/// A transaction that a destination may still hold prepared though its messages are recorded as sent, and that no open
/// route settles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandedView {
    /// Its name at the destination.
    pub transaction: String,
    /// The destination, by the name that it gives itself.
    pub destination: String,
    /// When its messages were recorded as sent.
    pub decided: String,
}

impl StrandedView {
    /// How the box tells of it.
    #[must_use]
    pub fn new(of: BoxId, decision: &Decision) -> Self {
        Self {
            transaction: format!("{of}/{}", decision.transaction),
            destination: decision.destination.clone(),
            decided: show_time(decision.decided),
        }
    }
}

/// `POST /v1/stranded/forget`: somebody has seen to this transaction at its destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    /// Its name, as [`StrandedView`] has it.
    pub transaction: String,
}

/// What is still left prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrandedList {
    /// In order of their numbers.
    pub stranded: Vec<StrandedView>,
}

/// `GET /healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, `draining` or `failed`.
    pub status: String,
    /// Always `pillarbox`.
    pub service: String,
    /// The program's version.
    pub version: String,
    /// The box's id.
    #[serde(rename = "box")]
    pub box_id: String,
    /// The box's engine.
    pub engine: String,
    /// The longest body it takes.
    pub body_bytes_max: u64,
    /// What tells the box's data folder from others on the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Why the box has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a delivery in doubt, or is to become of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoubtSettled {
    /// Which.
    pub verdict: DoubtVerdict,
}

/// The optional body of a termination.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Because {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}
