//! A round: a new box, its lives, the calm after them, and what the checker says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pillarbox_tests::program::Engine;
use pillarbox_tests::server::Place;
use pillarbox_tests::small_disk::SmallDisk;
use pillarbox_tests::witness::{Fact, Findings, Witness, check, shown};

use crate::destination::Destination;
use crate::life::Scene;
use crate::load::Load;
use crate::plan::{IN_FLIGHT, Kind, PORTS, Plan, config};
use crate::shown::Shown;
use crate::{OnDisk as _, Setup, clock};

/// What a round came to.
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    /// What went wrong with the round itself.
    pub(crate) failed: Option<String>,
    pub(crate) fates: BTreeMap<&'static str, u64>,
    /// Where everything is that tells of a round that failed.
    pub(crate) kept: Option<PathBuf>,
}

impl Outcome {
    pub(crate) fn is_fine(&self) -> bool {
        self.failed.is_none() && self.findings.violations.is_empty()
    }
}

/// Lives a round.
pub(crate) async fn run(
    setup: &Setup,
    engine: Engine,
    round: u32,
    shown: &Arc<Shown>,
) -> Result<Outcome, String> {
    let plan = Plan::draw(setup.seed, round, setup.lives);
    let seed = setup.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(round));
    let witness = Witness::default();
    PORTS.into_iter().for_each(|port| witness.saw(Fact::Port(port, IN_FLIGHT)));
    let destination = Destination::up(seed, plan.kind, witness.clone(), Arc::clone(shown))
        .map_err(|error| format!("the destination: {error}"))?;
    let data = if plan.kind == Kind::SmallDisk { "disk/data" } else { "data" };
    let mut place = Place::new(&setup.server, &config(engine.text(), data, &destination.url()));
    let disk = match plan.kind {
        Kind::SmallDisk => Some(SmallDisk::mount(&place.path("disk"), engine.disk())?),
        _ => None,
    };
    let clock = match plan.kind {
        Kind::Clock => Some(clock::fake(&mut place)?),
        _ => None,
    };
    let load = Arc::new(Load::new(seed, plan.kind, witness.clone(), Arc::clone(shown)));
    let mut scene = Scene {
        ballast: place.path("disk/ballast"),
        data: place.path(data),
        place,
        witness,
        load: Arc::clone(&load),
        shown: Arc::clone(shown),
        destination,
        clock,
        engine,
        life: 0,
    };
    let clients = Load::start(&load);
    let mut failed = None;
    for life in &plan.lives {
        if let Err(error) = scene.live(life).await {
            failed = Some(error);
            break;
        }
    }
    if failed.is_none() {
        failed = scene.calm(clients).await.err();
    }
    let findings = check(&scene.witness.facts());
    let mut outcome = Outcome { findings, failed, fates: scene.destination.fates(), kept: None };
    if !outcome.is_fine() && !setup.forget {
        outcome.kept = Some(keep(&mut scene, disk.as_ref()));
    }
    Ok(outcome)
}

/// Keeps the folder, with everything that was seen.
fn keep(scene: &mut Scene, disk: Option<&SmallDisk>) -> PathBuf {
    let folder = scene.place.keep().to_owned();
    let facts = shown(&scene.witness.facts());
    let mut noted = std::fs::write(folder.join("facts.txt"), facts);
    if let Some(disk) = disk {
        // The disk itself is gone with this process.
        let copy = std::process::Command::new("cp")
            .arg("-a")
            .arg(disk.path())
            .arg(folder.join("disk-kept"))
            .status();
        noted = noted.and(copy.map(|_| ()));
    }
    if let Err(error) = noted {
        scene.witness.saw(Fact::Trouble(format!("not all of it was kept: {error}")));
    }
    folder
}
