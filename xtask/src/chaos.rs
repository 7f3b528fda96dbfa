//! `cargo xtask chaos`: kills, stops and starves a real server under load, and judges what became of every message.
//!
//! The program that does it is `chaos` of the package `pillarbox-tests`; `docs/proof.md` tells what it does.

use crate::error::Error;
use crate::tools::ensure_package;
use crate::workspace::Workspace;

/// How much of what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Begin no further round after so many minutes; for each engine
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What the plan is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// journal or sled; both, one after the other, where none is named
    #[arg(long)]
    engine: Vec<String>,
    /// The first round
    #[arg(long, default_value_t = 0)]
    round: u32,
    /// At most so many rounds; for each engine
    #[arg(long)]
    rounds: Option<u32>,
}

/// What a clock that jumps needs, as the package and as the library of it.
const PACKAGE: &str = "libfaketime";
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// Builds the server and the program, and runs the one with the other.
pub(crate) fn run(args: &Args, workspace: &Workspace) -> Result<(), Error> {
    ensure_faketime(workspace)?;
    let build = "build --quiet --locked --package pillarbox-tests --bin pillarbox-under-test --bin chaos";
    workspace.cargo(build.split(' ')).run()?;
    let built = |name: &str| workspace.target().join("debug").join(name).to_string_lossy().into_owned();
    let mut options = vec![
        format!("--server={}", built("pillarbox-under-test")),
        format!("--minutes={}", args.minutes),
        format!("--seed={}", args.seed),
        format!("--round={}", args.round),
    ];
    options.extend(args.rounds.map(|rounds| format!("--rounds={rounds}")));
    let both = || vec!["journal".to_owned(), "sled".to_owned()];
    let engines = if args.engine.is_empty() { both() } else { args.engine.clone() };
    options.extend(engines.iter().map(|engine| format!("--engine={engine}")));
    if args.rounds.is_none() {
        options.push(format!("--proof={}", workspace.root().join("docs/proof.md").display()));
    }
    workspace.program(&built("chaos")).args(options.iter().map(String::as_str)).run()
}

/// Makes sure that a server's clock can be made to jump without the host's.
pub(crate) fn ensure_faketime(workspace: &Workspace) -> Result<(), Error> {
    ensure_package(PACKAGE, "without which no clock can jump", || works(workspace), workspace)
}

/// Whether a program asks the library for the time. One that is not there is passed over in silence.
fn works(workspace: &Workspace) -> bool {
    let asks = r#"test "$(date +%Y)" = 2099"#;
    let date = workspace.program("sh").args(["-c", asks]);
    date.env("LD_PRELOAD", LIBRARY).env("FAKETIME", "@2099-06-01 00:00:00").succeeds()
}
