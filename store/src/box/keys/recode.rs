//! Decodes a record's head and encodes what it says, for fuzzing.

use bytes::Bytes;

use super::{
    answer, applied, attempt, decision, delivery, doubt, finished, intent, message, meta, port, unknown,
};
use crate::engine::{Write, WriteSet};
use crate::{Error, codec};

/// Reads a head as one of a record of `family`, and writes it again.
pub(crate) fn head(family: u8, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut writes = WriteSet::default();
    match family {
        meta::FAMILY => meta::write(&mut writes, meta::read(bytes)?),
        port::FAMILY => port::write(&mut writes, 1, &port::read(bytes)?),
        message::FAMILY => {
            let parsed = message::read(bytes)?;
            let ports: Vec<u32> = parsed.ports().collect();
            let mut headers = Vec::new();
            let decoded = parsed.headers()?;
            if decoded.iter().next().is_some() {
                codec::encode(&decoded, &mut headers);
            }
            message::write(&mut writes, 1, &parsed.fixed, &ports, &headers, Bytes::new());
        }
        delivery::FAMILY => {
            let (fixed, rest) = delivery::read(bytes)?;
            delivery::write(&mut writes, 1, &fixed, &rest);
        }
        attempt::FAMILY => attempt::write(&mut writes, 1, &attempt::read(bytes)?),
        finished::FAMILY => {
            let mut page = finished::Page::default();
            for trace in finished::rows(bytes) {
                page.push(&trace?);
            }
            page.write(&mut writes, 1);
        }
        applied::FAMILY => {
            let mut page = applied::Page::default();
            applied::rows(bytes)?.iter().for_each(|row| page.push(row));
            page.write(&mut writes, 1);
        }
        decision::FAMILY => decision::write(&mut writes, 1, &decision::read(bytes)?),
        intent::FAMILY => {
            let (attempted, deliveries) = intent::read(bytes)?;
            intent::write(&mut writes, 1, attempted, deliveries.into_iter());
        }
        doubt::FAMILY => doubt::write(&mut writes, 1, &doubt::read(bytes)?),
        // A further piece has no head at all.
        answer::FAMILY if bytes.is_empty() => {}
        answer::FAMILY => return answer::recode(bytes),
        other => return Err(unknown("family", other)),
    }
    Ok(writes.iter().find_map(put_head).unwrap_or_default())
}

fn put_head(write: Write<'_>) -> Option<Vec<u8>> {
    match write {
        Write::Put { head, .. } => Some(head.to_vec()),
        Write::Delete { .. } | Write::DeleteNumbers { .. } | Write::DeleteBelow { .. } => None,
    }
}
