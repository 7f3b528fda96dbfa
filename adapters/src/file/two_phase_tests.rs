//! Transactions of a folder, with a crash before each of their steps and of those that settle what it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind as _, DoubleSafety, ErrorClass, Settings, TransactionId, Transport as _,
};
use pillarbox_runtime::{Port, RetryPolicy, RouteConfig, Runtime};
use pillarbox_store::{BoxConfig, MessageBox, PortName, Store};

use super::FileKind;
use super::settings::FileSettings;
use super::two_phase::TwoPhase;
use crate::parcel::sample::{ID, Sample};

/// A transaction of some box.
const OURS: &str = "01020304-0506-7000-8000-00000000000a/01020304-0506-7000-8000-00000000000b";

fn settings(folder: &Path) -> Settings {
    Settings::default().with("folder", folder.to_str().unwrap()).with("two_phase", true)
}

fn sender(settings: &Settings) -> TwoPhase {
    TwoPhase::open(FileSettings::check(settings).unwrap()).unwrap()
}

fn id() -> TransactionId {
    TransactionId::parse(OURS).unwrap()
}

/// What readers see.
fn seen(folder: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with('.') {
            seen.insert(name.clone(), fs::read_to_string(folder.join(name)).unwrap());
        }
    }
    seen
}

fn hidden(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count() - seen(folder).len()
}

fn prepare(sender: &TwoPhase, body: &str) -> Result<(), pillarbox_runtime::adapter::SendError> {
    sender.write(&id(), &[Sample::new(body.to_owned()).parcel()], &AtomicBool::new(false))
}

#[test]
fn what_is_prepared_is_seen_by_nobody_before_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    prepare(&sender, "hello").unwrap();
    assert_eq!((seen(folder.path()).len(), sender.list("0102").unwrap()), (0, vec![id()]));
    assert_eq!(sender.list(&OURS[..37]).unwrap(), [id()]);
    assert_eq!(sender.list("0102030405").unwrap(), [], "another box's");
    sender.publish(&id()).unwrap();
    assert_eq!(seen(folder.path()), BTreeMap::from([(ID.to_owned(), "hello".to_owned())]));
    assert_eq!((hidden(folder.path()), sender.list("").unwrap()), (0, vec![]));
    sender.publish(&id()).unwrap();
    sender.discard(&id()).unwrap();
    assert_eq!(seen(folder.path()).len(), 1, "what has ended has ended");
}

#[test]
fn what_is_rolled_back_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    prepare(&sender, "hello").unwrap();
    sender.discard(&id()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let late = sender.write(&id(), &[Sample::new("late").parcel()], &AtomicBool::new(true)).unwrap_err();
    assert_eq!(late.class(), ErrorClass::Temporary);
    assert_eq!(sender.list("").unwrap(), [id()], "half of it, to be rolled back");
    sender.discard(&id()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_name_that_is_taken_is_refused_before_and_stays_as_it_is_after_the_decision() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()));
    let place = folder.path().join(ID);
    fs::write(&place, "other").unwrap();
    assert_eq!(prepare(&sender, "hello").unwrap_err().class(), ErrorClass::Permanent);
    sender.discard(&id()).unwrap();
    fs::remove_file(&place).unwrap();
    prepare(&sender, "hello").unwrap();
    fs::write(&place, "other").unwrap();
    assert_eq!(sender.publish(&id()).unwrap_err().class(), ErrorClass::Permanent);
    assert_eq!((fs::read_to_string(&place).unwrap().as_str(), hidden(folder.path())), ("other", 1));
    // The same content is what an attempt has left.
    fs::write(&place, "hello").unwrap();
    sender.publish(&id()).unwrap();
    assert_eq!((fs::read_to_string(&place).unwrap().as_str(), hidden(folder.path())), ("hello", 0));
}

#[test]
fn overwrite_replaces_at_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let sender = sender(&settings(folder.path()).with("mode", "overwrite"));
    let place = folder.path().join(ID);
    fs::write(&place, "old").unwrap();
    prepare(&sender, "new").unwrap();
    assert_eq!(fs::read_to_string(&place).unwrap(), "old");
    sender.publish(&id()).unwrap();
    assert_eq!((fs::read_to_string(&place).unwrap().as_str(), hidden(folder.path())), ("new", 0));
}

#[test]
fn it_claims_two_phases_and_appends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let claimed = sender(&settings(folder.path())).describe().capabilities;
    assert!(claimed.streams && claimed.double_safety == DoubleSafety::TwoPhase);
    let error = FileKind.check(&settings(folder.path()).with("mode", "append")).unwrap_err();
    assert_eq!(error.0.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["two_phase"]);
}

fn port() -> PortName {
    PortName::new("files").unwrap()
}

/// What is opened is a clone that counts its steps with the test.
#[derive(Debug)]
struct Opened(TwoPhase);

#[async_trait]
impl pillarbox_runtime::adapter::CheckedSettings for Opened {
    async fn open(
        &self,
        _context: &pillarbox_runtime::adapter::OpenContext,
    ) -> Result<Adapter, pillarbox_runtime::adapter::SendError> {
        Ok(Adapter::transactional(self.0.clone()))
    }
}

/// A life of a box and a folder up to `steps` steps of the adapter, after which nothing of it works any more. Gives how
/// many were left.
async fn life(at: &Path, submit: &[&str], steps: usize) -> usize {
    let store = Arc::new(MessageBox::open(BoxConfig::new(at.join("box"))).unwrap());
    let sender = sender(&settings(&at.join("out")));
    sender.steps_left.store(steps, Ordering::SeqCst);
    let left: Arc<AtomicUsize> = Arc::clone(&sender.steps_left);
    let info = sender.describe();
    let pause = Duration::from_millis(1);
    let policy = RetryPolicy { attempts: 1_000, first: pause, max: pause, ..RetryPolicy::default() };
    let source = pillarbox_runtime::AdapterSource::Checked(Arc::new(Opened(sender)), info);
    let runtime = Runtime::builder(Arc::clone(&store) as Arc<dyn Store>)
        .port(Port::new(port(), RouteConfig::new(source).retry(policy)))
        .start()
        .await
        .unwrap();
    for body in submit {
        let message =
            pillarbox_store::Message::new(pillarbox_store::IdSource::system().message(), (*body).to_owned());
        runtime.submit(&port(), message).await.unwrap();
    }
    loop {
        let counts = store.ports().into_iter().next().unwrap().counts;
        let is_done = counts.done == 3 && store.decisions().await.unwrap().known.is_empty();
        if left.load(Ordering::SeqCst) == 0 || (is_done && hidden(&at.join("out")) == 0) {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let left = left.swap(0, Ordering::SeqCst);
    runtime.shutdown(Duration::ZERO).await;
    store.close().await.unwrap();
    left
}

#[tokio::test]
async fn a_crash_before_any_step_and_another_while_settling_lose_nothing_and_repeat_nothing() {
    let mut crashes = 0;
    for first in 1.. {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let quiet = life(place.path(), &["a", "b", "c"], first).await > 0;
        // Readers take what they see.
        let mut taken: Vec<String> = take(&out);
        life(place.path(), &[], first % 7 + 1).await;
        taken.extend(take(&out));
        life(place.path(), &[], usize::MAX).await;
        taken.extend(take(&out));
        taken.sort();
        assert_eq!(taken, ["a", "b", "c"], "a crash before step {first}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
        if quiet {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 8, "{crashes}");
}

/// Opened as configuration opens it: the settings, not the kind, say that there may be something to settle.
#[tokio::test]
async fn what_is_decided_appears_without_waiting_for_another_message() {
    for first in 1.. {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let quiet = life(place.path(), &["a", "b", "c"], first).await > 0;
        let store = Arc::new(MessageBox::open(BoxConfig::new(place.path().join("box"))).unwrap());
        let checked = FileKind.check(&settings(&out)).unwrap();
        let source = pillarbox_runtime::AdapterSource::Checked(checked.into(), FileKind.describe());
        assert_eq!(source.describe().capabilities.double_safety, DoubleSafety::TwoPhase);
        let runtime = Runtime::builder(Arc::clone(&store) as Arc<dyn Store>)
            .port(Port::new(port(), RouteConfig::new(source)))
            .start()
            .await
            .unwrap();
        let appears = async {
            while seen(&out).len() < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let appeared = tokio::time::timeout(Duration::from_secs(30), appears).await;
        assert!(appeared.is_ok(), "a crash before step {first}: {:?}", seen(&out));
        runtime.shutdown(Duration::from_secs(5)).await;
        store.close().await.unwrap();
        if quiet {
            break;
        }
    }
}

fn take(folder: &Path) -> Vec<String> {
    let seen = seen(folder);
    seen.keys().for_each(|name| fs::remove_file(folder.join(name)).unwrap());
    seen.into_values().collect()
}
