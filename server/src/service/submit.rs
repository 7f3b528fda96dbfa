//! Submissions: bodies streamed into the box, one message or a batch of them, and repeats recognised.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use pillarbox_store::{
    Batch, Body, DeliveryId, FRAGMENT_BYTES, Headers, Message, MessageId, Op, OpResult, PortName, Refusal,
    Timestamp,
};
use serde_json::{Value, json};

use super::Service;
use crate::config::values;
use crate::problem::Problem;
use crate::wire::{BatchMessage, BatchRequest, BatchSubmitted, Submitted, decode_base64};

/// The most messages of one batch.
const BATCH_MESSAGES_MAX: usize = 10_000;

/// One message to be submitted, its body apart.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Where to.
    pub port: PortName,
    /// Its id; made here where none is given.
    pub message_id: Option<MessageId>,
    /// Its headers.
    pub headers: Headers,
    /// Not to be sent before this.
    pub not_before: Option<Timestamp>,
}

impl Service {
    /// Takes a body: a short one into memory, a long one straight into the box.
    ///
    /// # Errors
    /// It is longer than allowed (told before the first byte is read where the length is known), the stream
    /// failed, or the box cannot take it.
    pub async fn take_body(
        &self,
        len: Option<u64>,
        mut chunks: impl Stream<Item = Result<Bytes, Problem>> + Send + Unpin,
    ) -> Result<Body, Problem> {
        let limit = self.body_bytes_max;
        if len.is_some_and(|len| len > limit) {
            return Err(Problem::too_large(limit));
        }
        let mut short = BytesMut::new();
        let mut long = None;
        let mut total = 0_u64;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            total += chunk.len() as u64;
            if total > limit {
                return Err(Problem::too_large(limit));
            }
            if long.is_none() && short.len() + chunk.len() > FRAGMENT_BYTES {
                let mut writer = self.store.stage()?;
                writer.write(short.split().freeze()).await?;
                long = Some(writer);
            }
            match &mut long {
                Some(writer) => writer.write(chunk).await?,
                None => short.extend_from_slice(&chunk),
            }
        }
        match long {
            Some(writer) => Ok(writer.finish().await?),
            None => Ok(Body::from(short.freeze())),
        }
    }

    /// Puts a message into the box. Once this returns it is on disk.
    ///
    /// # Errors
    /// It was not taken, for the reason given; or, where the box has stopped, that is not known.
    pub async fn submit(&self, submission: Submission, body: Body) -> Result<Submitted, Problem> {
        self.check_open()?;
        let id = submission.message_id.unwrap_or_else(|| self.ids.message());
        let len = body.len();
        let message = Message { id, headers: submission.headers, body };
        let ports = vec![submission.port.clone()];
        let mut batch = Batch::new(self.ids.batch());
        batch.push(Op::Submit { message, ports, not_before: submission.not_before });
        let committed = self.store.commit(&batch).await?;
        match committed.results().first() {
            Some(OpResult::Submitted { first }) => {
                Ok(Submitted { message_id: id, delivery_id: *first, duplicate: false })
            }
            Some(OpResult::Refused(Refusal::Duplicate { first })) => {
                self.repeated(id, *first, &submission.port, len).await
            }
            Some(OpResult::Refused(Refusal::NoSuchPort)) => Err(self.no_such_port(submission.port.as_str())),
            Some(OpResult::Refused(refusal)) => {
                Err(Problem::new(409, refusal.as_str(), "The box refused the message", refusal.to_string()))
            }
            Some(OpResult::Applied) | None => Err(Problem::new(
                500,
                "failed",
                "The box gave no answer",
                "the box did not number the delivery",
            )),
        }
    }

    /// A message id that is there already: the same message again, or another one under its id?
    async fn repeated(
        &self,
        id: MessageId,
        first: DeliveryId,
        port: &PortName,
        len: u64,
    ) -> Result<Submitted, Problem> {
        let Some(known) = self.store.message(id).await? else {
            return Ok(Submitted { message_id: id, delivery_id: first, duplicate: true });
        };
        let delivery = known.deliveries.iter().find(|delivery| delivery.info.port == *port);
        match delivery {
            Some(delivery) if known.body_len == len => {
                Ok(Submitted { message_id: id, delivery_id: delivery.info.id, duplicate: true })
            }
            _ => {
                let detail = format!(
                    "the message id {id} was used before, for another port or a body of another length; nothing \
                     was taken. Give every message an id of its own"
                );
                Err(Problem::new(409, "message-id-reused", "The message id is taken", detail)
                    .with("message_id", id.to_string())
                    .with("delivery_id", first.number()))
            }
        }
    }

    /// Puts many messages into the box, all or none.
    ///
    /// # Errors
    /// None was taken; the field `messages` says why, message by message.
    pub async fn submit_batch(&self, request: BatchRequest) -> Result<BatchSubmitted, Problem> {
        self.check_open()?;
        let count = request.messages.len();
        if count == 0 || count > BATCH_MESSAGES_MAX {
            return Err(Problem::bad_request(format!(
                "a batch has 1 to {BATCH_MESSAGES_MAX} messages, this one has {count}"
            )));
        }
        let mut refused = Vec::new();
        let mut messages = Vec::with_capacity(count);
        for (index, message) in request.messages.into_iter().enumerate() {
            match self.read_batch_message(message) {
                Ok(message) => messages.push(message),
                Err(problem) => refused.push((index, problem)),
            }
        }
        if !refused.is_empty() {
            return Err(refuse_batch(&refused));
        }
        let mut batch = Batch::new(self.ids.batch()).all_or_none();
        for (submission, message) in &messages {
            let ports = vec![submission.port.clone()];
            batch.push(Op::Submit { message: message.clone(), ports, not_before: submission.not_before });
        }
        let committed = self.store.commit(&batch).await?;
        self.batch_outcome(&messages, committed.results()).await
    }

    async fn batch_outcome(
        &self,
        messages: &[(Submission, Message)],
        results: &[OpResult],
    ) -> Result<BatchSubmitted, Problem> {
        let mut taken = Vec::with_capacity(messages.len());
        let mut refused = Vec::new();
        for (index, ((submission, message), result)) in messages.iter().zip(results).enumerate() {
            match result {
                OpResult::Submitted { first } => {
                    taken.push(Submitted { message_id: message.id, delivery_id: *first, duplicate: false });
                }
                OpResult::Refused(Refusal::Duplicate { first }) => {
                    match self.repeated(message.id, *first, &submission.port, message.body.len()).await {
                        Ok(known) => {
                            let text = format!("the message {} is in the box already", message.id);
                            let problem = Problem::new(409, "duplicate", "It was submitted before", text)
                                .with("delivery_id", known.delivery_id.number());
                            refused.push((index, problem));
                            taken.push(known);
                        }
                        Err(problem) => refused.push((index, problem)),
                    }
                }
                OpResult::Refused(Refusal::NoSuchPort) => {
                    refused.push((index, self.no_such_port(submission.port.as_str())));
                }
                OpResult::Refused(Refusal::Voided) | OpResult::Applied => {}
                OpResult::Refused(refusal) => {
                    let problem =
                        Problem::new(409, refusal.as_str(), "The box refused it", refusal.to_string());
                    refused.push((index, problem));
                }
            }
        }
        // The whole batch again is a repeat, not a refusal.
        let repeated = taken.len() == messages.len();
        if repeated { Ok(BatchSubmitted { messages: taken }) } else { Err(refuse_batch(&refused)) }
    }

    fn read_batch_message(&self, message: BatchMessage) -> Result<(Submission, Message), Problem> {
        let invalid = |detail: String| Problem::new(422, "invalid", "The message is not right", detail);
        let port = self.port(&message.port)?;
        let message_id = message.message_id.as_deref().map(read_message_id).transpose()?;
        let mut headers = Headers::default();
        for (name, value) in message.headers {
            let value = value.into_value().map_err(invalid)?;
            headers.set(&name, value)?;
        }
        let not_before = message.not_before.as_deref().map(values::time).transpose().map_err(invalid)?;
        let body = match (message.body_base64, message.body_text) {
            (Some(text), None) => decode_base64(&text).map_err(invalid)?,
            (None, text) => text.unwrap_or_default().into_bytes(),
            (Some(_), Some(_)) => {
                return Err(invalid("give body_base64 or body_text, not both".to_owned()));
            }
        };
        if body.len() as u64 > self.body_bytes_max {
            return Err(Problem::too_large(self.body_bytes_max));
        }
        let id = message_id.unwrap_or_else(|| self.ids.message());
        let submission = Submission { port, message_id, headers: headers.clone(), not_before };
        Ok((submission, Message { id, headers, body: Body::from(body) }))
    }
}

/// Reads a message id.
///
/// # Errors
/// It is not a UUID.
pub(crate) fn read_message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| {
        let detail = format!(
            "'{}' is not a UUID; a message id looks like 0198a0c4-7d5e-7000-8000-000000000000",
            text.escape_debug()
        );
        Problem::new(422, "bad-message-id", "The message id is not a UUID", detail)
    })
}

/// A batch of which nothing was taken. The gravest reason gives the status.
fn refuse_batch(refused: &[(usize, Problem)]) -> Problem {
    let has = |status: u16| refused.iter().any(|(_, problem)| problem.status == status);
    let status = if has(422) || has(413) {
        422
    } else if has(404) {
        404
    } else {
        409
    };
    let reasons: Vec<Value> = refused
        .iter()
        .map(|(index, problem)| json!({"index": index, "type": problem.kind, "detail": problem.detail}))
        .collect();
    let detail = format!(
        "nothing of the batch was taken: {} of its messages cannot be; 'messages' says which and why",
        refused.len()
    );
    Problem::new(status, "batch-refused", "The batch was not taken", detail).with("messages", reasons)
}
