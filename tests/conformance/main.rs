//! Every engine under one suite: random lives of a box beside the reference model, with reopening in between.

use std::path::Path;
use std::sync::Arc;

use pillarbox_store::{BoxConfig, Committing, EngineKind, MessageBox, Store};
use pillarbox_tests::suite::{Step, life, live};
use proptest::prelude::*;

fn run(steps: Vec<Step>, engine: EngineKind) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(live(steps, &mut |clock, ids| {
        Arc::new(MessageBox::open(config(folder.path(), engine, clock, ids)).expect("the box opens"))
            as Arc<dyn Store>
    }));
}

fn config(
    folder: &Path,
    engine: EngineKind,
    clock: pillarbox_tests::clock::ManualClock,
    ids: pillarbox_store::IdSource,
) -> BoxConfig {
    BoxConfig {
        engine,
        clock: Arc::new(clock),
        ids,
        // Small, so that segments roll, are recycled, and have their rest moved.
        segment_bytes: 64 * 1024,
        committing: Committing::Thread,
        ..BoxConfig::new(folder)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn journal_lives_as_the_model_does(steps in life(120)) {
        run(steps, EngineKind::Journal);
    }

    #[test]
    fn memory_lives_as_the_model_does(steps in life(120).prop_map(without_reopening)) {
        run(steps, EngineKind::Memory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sled_lives_as_the_model_does(steps in life(100)) {
        run(steps, EngineKind::Sled);
    }
}

/// A box in memory ends with its process.
fn without_reopening(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| !matches!(step, Step::Reopen)).collect()
}
