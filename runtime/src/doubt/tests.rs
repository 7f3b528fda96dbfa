//! What follows for a message in doubt.

use super::*;

fn doubt(crashes: u32) -> Doubt {
    Doubt { crashes, begun: pillarbox_store::Timestamp::EPOCH, resend: false, transacted: false }
}

#[test]
fn the_policy_decides_only_where_the_destination_cannot_tell() {
    for (unknown, then) in [
        (WhenUnknown::Resend, Course::Send),
        (WhenUnknown::Hold, Course::Hold),
        (WhenUnknown::Suspend, Course::Suspend),
    ] {
        let policy = DoubtPolicy { unknown, ..DoubtPolicy::default() };
        assert_eq!(course(&policy, &doubt(1), Reconciled::Unknown), then);
        assert_eq!(course(&policy, &doubt(1), Reconciled::NotLanded), Course::Send);
    }
}

#[test]
fn what_ends_the_process_again_and_again_is_parked_whatever_the_policy() {
    for unknown in [WhenUnknown::Resend, WhenUnknown::Hold] {
        let policy = DoubtPolicy { unknown, park_after: 3, ..DoubtPolicy::default() };
        assert_ne!(course(&policy, &doubt(2), Reconciled::Unknown), Course::Park);
        assert_eq!(course(&policy, &doubt(3), Reconciled::Unknown), Course::Park);
    }
    let never = DoubtPolicy { park_after: 0, ..DoubtPolicy::default() };
    assert_eq!(course(&never, &doubt(u32::MAX), Reconciled::NotLanded), Course::Send);
}

#[test]
fn what_somebody_decided_to_send_is_not_asked_about_again() {
    assert_eq!(is_open(Some(Doubt { resend: true, ..doubt(9) })), None);
    assert_eq!(is_open(Some(doubt(0))), Some(doubt(0)));
}
