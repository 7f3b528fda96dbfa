//! The waits of a policy.

use std::time::Duration;

use proptest::prelude::*;

use super::RetryPolicy;

fn policy() -> impl Strategy<Value = RetryPolicy> {
    (1_u32..=1_000, 0_u64..100_000, 1.0_f64..=100.0, 0_u64..10_000_000, 0.0_f64..=1.0).prop_map(
        |(attempts, first, factor, more, jitter)| RetryPolicy {
            attempts,
            first: Duration::from_millis(first),
            factor,
            max: Duration::from_millis(first + more),
            jitter,
        },
    )
}

proptest! {
    #[test]
    fn a_wait_is_within_its_bounds(policy in policy(), failed in 0_u32.., random: u64) {
        prop_assert!(policy.check().is_ok());
        let wait = policy.wait(failed, random);
        prop_assert!(wait <= policy.max);
        let least = policy.first.as_secs_f64() * (1.0 - policy.jitter);
        prop_assert!(wait.as_secs_f64() >= least - 1e-6, "{wait:?} is below {least}");
    }

    #[test]
    fn without_jitter_waits_never_shrink(policy in policy(), failed in 1_u32..2_000, random: u64) {
        let steady = RetryPolicy { jitter: 0.0, ..policy };
        prop_assert!(steady.wait(failed, random) <= steady.wait(failed + 1, random.rotate_left(7)));
    }
}

#[test]
fn the_default_doubles_from_200_ms() {
    let steady = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
    let waits: Vec<_> = (1..=9).map(|failed| steady.wait(failed, 1).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
}

#[test]
fn jitter_varies_by_its_share() {
    let policy = RetryPolicy::default();
    assert_eq!(policy.wait(1, 0).as_millis(), 160);
    assert!(policy.wait(1, u64::MAX).as_millis() >= 239);
}

#[test]
fn values_out_of_bounds_are_named() {
    let fine = RetryPolicy::default();
    let cases = [
        (RetryPolicy { attempts: 0, ..fine }, "attempts"),
        (RetryPolicy { attempts: 1_001, ..fine }, "attempts"),
        (RetryPolicy { factor: 0.5, ..fine }, "factor"),
        (RetryPolicy { factor: f64::NAN, ..fine }, "factor"),
        (RetryPolicy { jitter: 1.5, ..fine }, "jitter"),
        (RetryPolicy { first: Duration::from_secs(31), ..fine }, "first"),
        (RetryPolicy { max: Duration::MAX, ..fine }, "max"),
    ];
    for (policy, key) in cases {
        let said = policy.check().unwrap_err();
        assert!(said.starts_with(key), "{said}");
    }
}
