//! The plan of a proxy, without connections.

use super::{Fault, Plan, Shared, Verdict, Way};

/// Was a claim that came out by luck: the connection had not heard yet that it was thrown out, so what it had held went on.
#[test]
fn what_is_thrown_out_does_not_go_on_once_bytes_pass_again() {
    let shared = Shared::default();
    *shared.plan() = Plan::new(Fault::Hold { way: Way::Request, after: 0 });
    let before = shared.era();
    assert!(matches!(shared.judge(Way::Request, before, &mut Vec::new(), 10), Verdict::Hold(0)));
    shared.throw_out();
    *shared.plan() = Plan::new(Fault::Pass);
    for way in [Way::Request, Way::Answer] {
        assert!(matches!(shared.judge(way, before, &mut Vec::new(), 10), Verdict::Reset(0)));
        assert!(matches!(shared.judge(way, shared.era(), &mut Vec::new(), 10), Verdict::Pass));
    }
    let passed = shared.plan().passed;
    assert_eq!((passed.request, passed.answer), (10, 10));
}

#[test]
fn a_connection_that_is_thrown_out_is_no_strike_of_the_fault() {
    let shared = Shared::default();
    let before = shared.era();
    shared.throw_out();
    *shared.plan() = Plan::new(Fault::Reset { way: Way::Answer, after: 0 });
    assert!(matches!(shared.judge(Way::Answer, before, &mut Vec::new(), 3), Verdict::Reset(0)));
    assert!(!shared.plan().struck);
    assert!(matches!(shared.judge(Way::Answer, shared.era(), &mut Vec::new(), 3), Verdict::Reset(0)));
    assert!(shared.plan().struck);
}
