//! Adapters with a fault put in on purpose: each is caught by the claim that it breaks, and the one without a fault by
//! none.

#[path = "../examples/line/destination.rs"]
mod destination;
#[path = "mutants/line.rs"]
mod line;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_adapter_kit::{Destination, Effort, Held, Subject, Verdict, check, check_with};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;

use destination::{Lines, REFUSED};
use line::{Class, LineKind, Mutant, PASSWORD};

#[derive(Debug)]
struct LineSubject(LineKind);

#[async_trait(?Send)]
impl Subject for LineSubject {
    fn name(&self) -> &'static str {
        "line"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        Arc::new(self.0)
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Server(Lines::start(self.0.class == Class::Keyed).await))
    }
}

#[derive(Debug)]
struct Server(Lines);

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.0.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default().with("port", port).with("password", PASSWORD).with("timeout_ms", 700)
    }

    async fn held(&self) -> Vec<Held> {
        self.0.held()
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(REFUSED))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.0.kill();
    }

    async fn start_again(&mut self) {
        self.0.start_again().await;
    }
}

/// Holds this one claim, and those about doubles and secrets, against a mutant.
async fn caught(class: Class, mutant: Mutant, by: &str, during: &str) {
    let subject = LineSubject(LineKind { class, mutant: Some(mutant) });
    let only = [during, by].map(str::to_owned).to_vec();
    let report =
        check_with(&subject, &Effort { rounds: 6, patience: Duration::from_secs(9), only }, |_checked| {})
            .await;
    let verdict = report.claims.iter().find(|one| one.claim == by).expect("the claim");
    assert!(matches!(verdict.verdict, Verdict::Broken(_)), "{mutant:?} is not caught by {by:?}: {verdict:?}");
}

macro_rules! mutants {
    ($($test:ident: $class:ident $mutant:ident by $by:literal $(during $during:literal)?;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let during = [$($during,)? $by][0];
                caught(Class::$class, Mutant::$mutant, $by, during).await;
            }
        )*
    };
}

mutants! {
    acknowledges_early: Keyed AcknowledgesEarly by "acknowledged";
    takes_an_error_for_done: Keyed DropsOnReset by "reset";
    reorders: Keyed Reorders by "order";
    repeats_without_its_key: Keyed NewKeys by "doubles" during "lost answer";
    sends_twice: AtLeastOnce SendsTwice by "doubles" during "bodies";
    does_not_tell_attempts: AtLeastOnce NoLabels by "doubles" during "lost answer";
    does_not_tell_doubts: AtLeastOnce NoDoubts by "doubles" during "our crash";
    claims_keys_that_nobody_knows: AtLeastOnce ClaimsKeys by "doubles" during "lost answer";
    ignores_stop: Keyed IgnoresStop by "stop";
    waits_for_ever: Keyed WaitsForEver by "hang";
    changes_bodies: Keyed ChangesBodies by "bodies";
    cuts_long_bodies: Keyed CutsBodies by "bodies";
    tries_long_bodies_again: Keyed TriesAgain by "largest body";
    has_no_largest_body: Keyed NoLimit by "largest body";
    takes_a_refusal_for_done: Keyed IgnoresRefusals by "outcome per message";
    one_bad_message_spoils_all: Keyed OneSpoilsAll by "outcome per message";
    gives_up_for_good: Keyed GivesUp by "refused connection";
    believes_spare_answers: Keyed SpareAnswers by "duplicate answer";
    is_of_another_kind: Keyed OtherKind by "kind";
    takes_any_setting: Keyed AnySetting by "settings";
    shows_its_password: Keyed ShowsPassword by "secrets" during "refused connection";
    reads_all_into_memory: Keyed ReadsAll by "streams";
    keeps_what_was_dropped: Keyed KeepsTurn by "cancel";
    takes_half_an_answer: Keyed HalfAnswers by "lost answer";
    does_not_wait_for_slow_ones: Keyed Impatient by "delay";
    shows_what_is_only_prepared: TwoPhase CommitsEarly by "doubles" during "our crash";
    forgets_what_it_prepared: TwoPhase ListsNothing by "our crash";
    says_that_all_has_landed: Keyed SaysLanded by "reconciles";
    says_that_nothing_has_landed: Keyed SaysNotLanded by "reconciles";
    commits_in_parts: TwoPhase CommitsInParts by "all or none";
}

async fn is_whole(class: Class) {
    let report = check(&LineSubject(LineKind { class, mutant: None })).await;
    report.assert_kept();
    assert!(report.checked() >= 18, "{:?}", report.claims);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyed_without_a_fault() {
    is_whole(Class::Keyed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_without_a_fault() {
    is_whole(Class::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_phase_without_a_fault() {
    is_whole(Class::TwoPhase).await;
}
