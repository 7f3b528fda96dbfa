//! Reading a leased delivery's message from the engine.

use std::sync::Arc;

use bytes::Bytes;

use super::{Shared, keys};
use crate::engine::{Key, Record};
use crate::ledger::{Carried, Picked};
use crate::{Body, Error, ErrorKind, Fragments, Headers, Leased, Message, PortName};

/// The records of the messages of what was leased.
pub(super) fn messages(shared: &Shared, picked: &[Picked]) -> Vec<Result<Record, Error>> {
    let kept = shared.recent().get(picked.iter().map(|picked| picked.message));
    let key = |picked: &Picked| keys::message::key(picked.message);
    let missing: Vec<Key> =
        picked.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(picked, _)| key(picked)).collect();
    let mut read = shared.engine.get_many(&missing).into_iter();
    let of = |(picked, kept): (&Picked, Option<Record>)| match kept {
        Some(kept) => Ok(kept),
        None => read.next().unwrap_or(Ok(None))?.ok_or_else(|| missed(key(picked))),
    };
    picked.iter().zip(kept).map(of).collect()
}

/// What was leased, with all that is needed to send it.
pub(super) fn leased(
    shared: &Arc<Shared>,
    port: &PortName,
    picked: &Picked,
    record: Record,
) -> Result<Leased, Error> {
    let parsed = keys::message::read(&record.head)?;
    let carried = match picked.carried {
        Carried::No => Headers::default(),
        Carried::InRecord => {
            let key = keys::delivery::key(picked.lease.delivery().number());
            let (_fixed, rest) = keys::delivery::read(&self::record(shared, key)?.head)?;
            rest.carried
        }
    };
    let fixed = parsed.fixed;
    let message = Message {
        id: fixed.id,
        headers: parsed.headers()?,
        body: body(shared, picked.message, fixed.fragments, fixed.body_len, record.body),
    };
    Ok(Leased {
        lease: picked.lease,
        message,
        port: port.clone(),
        route: picked.row.route(),
        attempts: picked.row.attempts,
        attempts_on_route: picked.row.attempts_on_route,
        submitted: fixed.submitted,
        ends: picked.ends,
        carried,
        doubt: picked.doubt,
    })
}

fn body(shared: &Arc<Shared>, message: u64, fragments: u64, len: u64, whole: Bytes) -> Body {
    if fragments == 0 {
        return Body::from(whole);
    }
    Body::stored(Arc::new(StoredBody { shared: shared.clone(), message, number: fragments }), len)
}

/// A record that must be there. One that is not was damaged: everything else goes by atomic steps.
fn record(shared: &Shared, key: Key) -> Result<Record, Error> {
    shared.engine.get(key)?.ok_or_else(|| missed(key))
}

fn missed(key: Key) -> Error {
    Error::new(ErrorKind::Corrupt, "read a record")
        .with("key", format!("{key:?}"))
        .with("reason", "it is missing")
}

/// A long body, read a fragment at a time.
#[derive(Debug)]
struct StoredBody {
    shared: Arc<Shared>,
    message: u64,
    number: u64,
}

impl Fragments for StoredBody {
    fn fragment(&self, index: u32) -> Result<Bytes, Error> {
        let record = self.shared.engine.get(keys::fragment::key(self.number, index))?;
        record.map(|record| record.body).ok_or_else(|| {
            let is_wanted = self.shared.state().ledger.message(self.message).is_some_and(|row| row.live > 0);
            let (kind, reason) = if is_wanted {
                (ErrorKind::Corrupt, "it is missing though its message is there")
            } else {
                (ErrorKind::Invalid, "it is gone: its delivery has ended")
            };
            Error::new(kind, "read a body").with("reason", reason).with("fragment", index)
        })
    }
}
