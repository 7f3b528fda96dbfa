//! What is told and written where damage has changed the box as a whole.

use super::inspect::told_ranges;
use super::keys;
use super::keys::delivery::{DeliveryHead, DeliveryRest};
use crate::engine::{Damage, Loss, WriteSet};
use crate::ledger::Harm;
use crate::{DeliveryState, Route, Timestamp};

/// The reason of a delivery that is suspended because its own record is lost.
const PARKED: &str =
    "the record of this delivery is damaged: how it stood is not known, and it may have been sent before";

/// Writes down what was decided about deliveries because of damage.
pub(super) fn settle(harm: &Harm, writes: &mut WriteSet) {
    park(harm.parked.iter().copied(), writes);
    harm.ended.iter().for_each(|key| writes.delete(*key));
}

/// Writes that these deliveries are suspended because their own record is lost.
pub(super) fn park(numbers: impl Iterator<Item = u64>, writes: &mut WriteSet) {
    let fixed = DeliveryHead {
        state: DeliveryState::Suspended,
        route: Route::Primary,
        attempts: 0,
        attempts_on_route: 0,
        due: Timestamp::EPOCH,
    };
    let rest = DeliveryRest { reason: Some(PARKED.to_owned()), ..DeliveryRest::default() };
    for number in numbers {
        keys::delivery::write(writes, number, &fixed, &rest);
    }
}

/// The same for those who read the list of damage.
pub(super) fn told(harm: &Harm) -> Vec<Damage> {
    let of_the_box = |key, what: String| Damage {
        file: String::new(),
        offset: 0,
        bytes: 0,
        key,
        what,
        loss: Loss::Record,
    };
    let mut told = Vec::new();
    if harm.id_is_lost {
        let what =
            "the box's id is lost: it has a new one, by which destinations recognise no earlier attempt";
        told.push(of_the_box(None, what.to_owned()));
    }
    for number in &harm.nameless {
        let what =
            format!("the name of port {number} is lost: its deliveries wait under damaged-port-{number}");
        told.push(of_the_box(Some(keys::port::key(*number)), what));
    }
    for number in &harm.parked {
        let what = format!("delivery {number} is suspended: {PARKED}");
        told.push(of_the_box(Some(keys::delivery::key(*number)), what));
    }
    if !harm.missing.is_empty() {
        let what = format!(
            "nothing is left of deliveries {}: {}",
            told_ranges(&harm.missing),
            missing_because(harm)
        );
        told.push(Damage { loss: Loss::Unknown, ..of_the_box(None, what) });
    }
    if !harm.hidden.is_empty() {
        told.push(Damage { loss: Loss::Unknown, ..of_the_box(None, hidden_because(harm)) });
    }
    told
}

/// What is told of numbers that may have been given and lost.
pub(super) fn hidden_because(harm: &Harm) -> String {
    format!(
        "the newest deliveries, from {} on, may be lost: no number below {} is given again",
        harm.hidden.start, harm.hidden.end
    )
}

/// Why deliveries can be missing.
pub(super) fn missing_because(harm: &Harm) -> &'static str {
    if harm.may_be_forgotten {
        "they were lost, or had ended so long ago that their trace was forgotten"
    } else {
        "they were lost, or their trace was"
    }
}
