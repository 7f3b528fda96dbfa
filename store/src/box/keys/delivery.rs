//! Family 4: a delivery that is no longer as its message's submission left it.
//!
//! Head: state (1 byte), route (1), attempts (4), attempts on the route (4), due (8), then bincode: the reason it
//! is suspended for, and the headers carried to the next attempt.
//!
//! With the state of an outcome it says that the delivery has ended and its trace is gone, while its message's record
//! is still there for others. It goes with that record.

use serde::{Deserialize, Serialize};

use super::{Fields, unknown};
use crate::engine::{Key, WriteSet};
use crate::{DeliveryState, Error, Headers, Route, Timestamp, codec};

pub(crate) const FAMILY: u8 = 4;

/// The part that recovery needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryHead {
    pub(crate) state: DeliveryState,
    pub(crate) route: Route,
    pub(crate) attempts: u32,
    pub(crate) attempts_on_route: u32,
    pub(crate) due: Timestamp,
}

/// The part that only queries and leases need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryRest {
    pub(crate) reason: Option<String>,
    pub(crate) carried: Headers,
}

pub(crate) const fn key(number: u64) -> Key {
    Key::new(FAMILY, number, 0)
}

pub(crate) fn write(writes: &mut WriteSet, number: u64, fixed: &DeliveryHead, rest: &DeliveryRest) {
    writes.put(key(number), bytes::Bytes::new(), |head| {
        head.push(fixed.state as u8);
        head.push(fixed.route as u8);
        head.extend_from_slice(&fixed.attempts.to_le_bytes());
        head.extend_from_slice(&fixed.attempts_on_route.to_le_bytes());
        head.extend_from_slice(&fixed.due.as_micros().to_le_bytes());
        codec::encode(rest, head);
    });
}

pub(crate) fn read(head: &[u8]) -> Result<(DeliveryHead, DeliveryRest), Error> {
    let mut fields = Fields(head);
    let fixed = DeliveryHead {
        state: state(fields.u8()?)?,
        route: route(fields.u8()?)?,
        attempts: fields.u32()?,
        attempts_on_route: fields.u32()?,
        due: Timestamp::from_micros(fields.i64()?),
    };
    Ok((fixed, codec::decode(fields.0)?))
}

pub(crate) fn state(number: u8) -> Result<DeliveryState, Error> {
    DeliveryState::ALL
        .into_iter()
        .find(|state| *state as u8 == number)
        .ok_or_else(|| unknown("state", number))
}

pub(crate) fn route(number: u8) -> Result<Route, Error> {
    [Route::Primary, Route::Backup]
        .into_iter()
        .find(|route| *route as u8 == number)
        .ok_or_else(|| unknown("route", number))
}
