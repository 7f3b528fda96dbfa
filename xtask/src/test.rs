//! `cargo xtask test`: every check in order; and each check as a command of its own.

use std::fs;
use std::path::Path;

use clap::Subcommand;

use crate::error::Error;
use crate::steps::{self, Step};
use crate::workspace::Workspace;
use crate::{instructions, kit, report, sim, tools};

/// `cargo xtask test` takes no arguments: what it checks is the same for everybody.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Check {
    /// Look for the programs that the checks need, and build the missing ones
    Prerequisites,
    /// Check the formatting
    Fmt,
    /// Lint everything; warnings are errors
    Clippy,
    /// Run every test: unit, conformance, crash, flows, tidy
    Nextest,
    /// Run the examples in the documentation
    Doctest,
    /// Build the documentation; warnings are errors
    Doc,
    /// Run every program in pillarbox/examples, and the adapter that the kit has for an example
    Examples,
    /// Check the dependencies: bans, licences, sources
    Deny,
    /// Put faults in on purpose, and fail where the simulation does not notice one
    SeededMutants,
    /// Check the claims of every adapter against its real destination, in short
    AdapterClaims,
    /// Count the instructions of hot functions and hold them against the budgets
    Instructions,
    /// Run only the tests of the sources and documents themselves
    Tidy,
}

/// What `test` runs. `Tidy` is a part of `Nextest`.
const ALL: [Check; 11] = [
    Check::Prerequisites,
    Check::Fmt,
    Check::Clippy,
    Check::Nextest,
    Check::Doctest,
    Check::Doc,
    Check::Examples,
    Check::Deny,
    Check::SeededMutants,
    Check::AdapterClaims,
    Check::Instructions,
];

/// A check with the workspace it is about.
struct Bound<'a>(Check, &'a Workspace);

/// Runs every check. The last line printed counts the tests, in the form that CI looks for.
pub(crate) fn run(_: &Args, workspace: &Workspace) -> Result<(), Error> {
    report::clear(workspace)?;
    steps::run_all(&ALL.map(|check| Bound(check, workspace)))?;
    println!("\n{}", report::read(workspace)?);
    Ok(())
}

/// Runs one check.
pub(crate) fn run_one(check: Check, workspace: &Workspace) -> Result<(), Error> {
    Bound(check, workspace).run()
}

impl Step for Bound<'_> {
    fn name(&self) -> &'static str {
        match self.0 {
            Check::Prerequisites => "prerequisites",
            Check::Fmt => "fmt",
            Check::Clippy => "clippy",
            Check::Nextest => "nextest",
            Check::Doctest => "doctest",
            Check::Doc => "doc",
            Check::Examples => "examples",
            Check::Deny => "deny",
            Check::SeededMutants => "seeded-mutants",
            Check::AdapterClaims => "adapter-claims",
            Check::Instructions => "instructions",
            Check::Tidy => "tidy",
        }
    }

    fn run(&self) -> Result<(), Error> {
        let Self(check, workspace) = self;
        let cargo = |line: &str| workspace.cargo(line.split(' '));
        match check {
            Check::Prerequisites => tools::ensure(workspace),
            Check::Fmt => cargo("fmt --all --check").run(),
            Check::Clippy => cargo("clippy --workspace --all-targets --locked -- -D warnings").run(),
            Check::Nextest => cargo("nextest run --workspace --locked --profile ci").run(),
            Check::Doctest => cargo("test --workspace --doc --locked").run(),
            Check::Doc => {
                cargo("doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings").run()
            }
            Check::Examples => run_examples(workspace),
            Check::Deny => cargo("deny --locked check --hide-inclusion-graph bans licenses sources").run(),
            Check::SeededMutants => sim::run_mutants(workspace),
            Check::AdapterClaims => kit::run_short(workspace),
            Check::Instructions => instructions::run(false, workspace),
            Check::Tidy => cargo("nextest run --package pillarbox-tests --test tidy --locked").run(),
        }
    }
}

fn run_examples(workspace: &Workspace) -> Result<(), Error> {
    let folder = workspace.root().join("pillarbox/examples");
    let names = example_names(&folder)
        .map_err(|error| Error::new(format!("cannot list {}: {error}", folder.display())))?;
    if names.is_empty() {
        return Err(Error::new(format!("{} has no examples", folder.display())));
    }
    // The last is the kit's.
    let mut names = names.iter().map(String::as_str).chain(["line"]);
    names.try_for_each(|name| workspace.built_with_tests(&format!("examples/{name}"))?.run())
}

/// As Cargo finds them: `NAME.rs`, and `NAME/main.rs`.
fn example_names(folder: &Path) -> Result<Vec<String>, std::io::Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_example = path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").is_file();
        if let Some(name) = path.file_stem().filter(|_| is_example) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_step_is_a_command_of_its_own() {
        let workspace = Workspace::find().unwrap();
        let cli = crate::Cli::command();
        for check in ALL {
            let name = Bound(check, &workspace).name();
            assert!(cli.find_subcommand(name).is_some(), "cargo xtask {name}");
        }
    }

    #[test]
    fn a_folder_with_a_main_is_an_example_and_a_manifest_is_none() {
        // `xtask` holds `Cargo.toml` and `src/main.rs`, which will do.
        let folder = Workspace::find().unwrap().root().join("xtask");
        assert_eq!(example_names(&folder).unwrap(), ["src"]);
        assert!(example_names(&folder.join("missing")).is_err());
    }
}
