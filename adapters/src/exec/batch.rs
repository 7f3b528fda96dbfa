//! A run for several messages: what the program is given of each, and what it says of them.
//!
//! Given is a line of JSON, then the body, then a line break; said is a line `DELIVERY OUTCOME TEXT` for each message, in
//! any order. Only a whole line counts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::parcel::Parcel;

/// How much of a line is kept.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// What a program says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has it.
    Delivered,
    /// Another attempt may work, for this reason.
    Temporary(Vec<u8>),
    /// It never will, for this reason.
    Permanent(Vec<u8>),
}

/// What a program has said so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By the delivery's number; nothing was said of those that have none.
    of: BTreeMap<u64, Option<Said>>,
    /// A line that says nothing of any message of the run.
    strange: Option<Vec<u8>>,
    /// The beginning of the line that has not ended.
    line: Vec<u8>,
}

impl Told {
    /// Nothing, of these deliveries.
    pub(super) fn of(deliveries: impl IntoIterator<Item = u64>) -> Self {
        Self { of: deliveries.into_iter().map(|delivery| (delivery, None)).collect(), ..Self::default() }
    }

    /// Takes the next bytes that it wrote.
    pub(super) fn hears(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_end) = piece.strip_suffix(b"\n").map_or((piece, false), |piece| (piece, true));
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or_default());
            if is_end {
                self.line_ends();
            }
        }
    }

    fn line_ends(&mut self) {
        let line = std::mem::take(&mut self.line);
        match read(&line).and_then(|(delivery, said)| Some((self.of.get_mut(&delivery)?, said))) {
            // What was said first stands.
            Some((of, said)) => *of = of.take().or(Some(said)),
            None if line.trim_ascii().is_empty() => {}
            None => self.strange = self.strange.take().or(Some(line)),
        }
    }

    /// What it said of this delivery.
    pub(super) fn about(&self, delivery: u64) -> Option<&Said> {
        self.of.get(&delivery)?.as_ref()
    }

    /// The first line that is not understood.
    pub(super) fn strange(&self) -> Option<&[u8]> {
        self.strange.as_deref()
    }
}

/// What a line says; `None` where it is no outcome.
fn read(line: &[u8]) -> Option<(u64, Said)> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let word = words.next()?.trim_ascii_end();
    let text = words.next().unwrap_or_default().trim_ascii().to_vec();
    Some(match word {
        b"delivered" => (number, Said::Delivered),
        b"temporary" => (number, Said::Temporary(text)),
        b"permanent" => (number, Said::Permanent(text)),
        _ => return None,
    })
}

#[derive(Serialize)]
struct Head<'a> {
    delivery: u64,
    message_id: String,
    send_key: &'a str,
    port: &'a str,
    attempt: u32,
    in_doubt: bool,
    submitted: i64,
    body_bytes: u64,
    headers: BTreeMap<&'a str, String>,
}

/// The line of JSON before a message's body.
pub(super) fn head(parcel: &Parcel<'_>) -> Vec<u8> {
    let head = Head {
        delivery: parcel.delivery.number(),
        message_id: parcel.message_id.to_string(),
        send_key: parcel.send_key,
        port: parcel.port.as_str(),
        attempt: parcel.attempt,
        in_doubt: parcel.in_doubt,
        submitted: parcel.submitted.as_micros(),
        body_bytes: parcel.body.len(),
        headers: parcel.headers.iter().map(|(name, value)| (name, value.to_string())).collect(),
    };
    // Texts and numbers always make JSON.
    let mut line = serde_json::to_vec(&head).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
