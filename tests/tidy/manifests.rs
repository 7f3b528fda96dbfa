//! Rules for the crates: their manifests, what they may depend on, and the files they hold.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::Finding;
use crate::tree::Tree;

/// The crates that are used, each only by those after it.
const LAYERS: [&str; 5] = ["store", "runtime", "adapters", "pillarbox", "server"];

/// Crates that see all the others and are used by tests and benches alone.
const WORKSHOP: [&str; 6] = ["tests", ADAPTER_KIT, SIMULATION, "fuzz", "benches", "xtask"];

/// What the authors of adapters test with: of the layers it sees the first two only, so that the third can use it.
const ADAPTER_KIT: &str = "tests/kit/adapter";

/// What the simulation is made of: it sees the first two layers only, so that it is soon built with faults in them.
const SIMULATION: &str = "tests/sim";

/// What every folder in `adapters/src` holds. More files are an adapter's own affair.
const ADAPTER_FILES: [&str; 5] = ["docs.md", "mod.rs", "send.rs", "settings.rs", "tests.rs"];

const LICENSES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// The manifest of each member, by its folder.
fn manifests(tree: &Tree) -> Result<BTreeMap<String, Table>, Finding> {
    let root = manifest(tree, "Cargo.toml")?;
    let members =
        root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(Value::as_array);
    let members = members.ok_or_else(|| Finding::new("Cargo.toml", 1, "no `workspace.members`"))?;
    let named = members.iter().filter_map(Value::as_str);
    named.map(|folder| Ok((folder.to_owned(), manifest(tree, &format!("{folder}/Cargo.toml"))?))).collect()
}

fn manifest(tree: &Tree, path: &str) -> Result<Table, Finding> {
    let text = tree.text(path).ok_or_else(|| Finding::new(path, 1, "missing"))?;
    text.parse().map_err(|error| Finding::new(path, 1, format!("{error}")))
}

/// Applies `rule` to every member.
fn each_manifest(tree: &Tree, rule: impl Fn(&str, &Table) -> Vec<Finding>) -> Vec<Finding> {
    match manifests(tree) {
        Ok(manifests) => manifests.iter().flat_map(|(folder, table)| rule(folder, table)).collect(),
        Err(finding) => vec![finding],
    }
}

/// Members that leave the lints, the licence or the toolchain to themselves.
fn own_rules(tree: &Tree) -> Vec<Finding> {
    each_manifest(tree, |folder, table| {
        let inherits = |table: Option<&Value>| {
            table.and_then(|table| table.get("workspace")).and_then(Value::as_bool) == Some(true)
        };
        let mut wanted = vec![("lints", table.get("lints"))];
        let package = table.get("package");
        for field in ["edition", "rust-version", "license", "publish"] {
            wanted.push((field, package.and_then(|package| package.get(field))));
        }
        let path = format!("{folder}/Cargo.toml");
        let missing = wanted.into_iter().filter(|(_, value)| !inherits(*value));
        missing
            .map(|(name, _)| Finding::new(&path, 1, format!("`{name}` is not that of the workspace")))
            .collect()
    })
}

fn unknown_members(tree: &Tree) -> Vec<Finding> {
    each_manifest(tree, |folder, _| {
        let known = LAYERS.contains(&folder) || WORKSHOP.contains(&folder);
        let finding =
            || Finding::new("Cargo.toml", 1, format!("member `{folder}` has no place among the layers"));
        (!known).then(finding).into_iter().collect()
    })
}

/// Dependencies that point up, or out of the workshop.
fn wrong_arrows(tree: &Tree) -> Vec<Finding> {
    let folders: BTreeMap<String, String> = match manifests(tree) {
        Ok(manifests) => {
            manifests.into_iter().filter_map(|(folder, table)| Some((name(&table)?, folder))).collect()
        }
        Err(finding) => return vec![finding],
    };
    each_manifest(tree, |folder, table| {
        let path = format!("{folder}/Cargo.toml");
        let arrows = dependencies(table).into_iter().filter_map(|(to, kind)| Some((folders.get(&to)?, kind)));
        let wrong = arrows.filter(|(to, kind)| !may_depend(folder, to, kind));
        wrong
            .map(|(to, kind)| Finding::new(&path, 1, format!("[{kind}] points from {folder} to {to}")))
            .collect()
    })
}

fn name(manifest: &Table) -> Option<String> {
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}

/// Each dependency, with the kind of table it is in, also those of one platform.
fn dependencies(manifest: &Table) -> Vec<(String, &'static str)> {
    let platforms = manifest.get("target").and_then(Value::as_table);
    let tables = platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table).chain([manifest]);
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for (key, value) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let renamed = value.get("package").and_then(Value::as_str);
                found.push((renamed.unwrap_or(key).to_owned(), kind));
            }
        }
    }
    found
}

fn may_depend(from: &str, to: &str, kind: &str) -> bool {
    let layer = |folder: &str| LAYERS.iter().position(|layer| *layer == folder);
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => to < from,
        (None, Some(to)) if [ADAPTER_KIT, SIMULATION].contains(&from) => to < 2,
        (None, Some(_)) => from != "xtask",
        (Some(_), None) => ["tests", ADAPTER_KIT].contains(&to) && kind == "dev-dependencies",
        (None, None) if from == SIMULATION => false,
        (None, None) => {
            to == "tests" && from != "xtask" || [ADAPTER_KIT, SIMULATION].contains(&to) && from == "tests"
        }
    }
}

fn uneven_adapters(tree: &Tree) -> Vec<Finding> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in tree.paths() {
        let inside = path.strip_prefix("adapters/src/").and_then(|inside| inside.split_once('/'));
        if let Some((folder, file)) = inside {
            folders.entry(folder).or_default().push(file);
        }
    }
    let mut findings = Vec::new();
    for (folder, files) in folders {
        let path = |file: &str| format!("adapters/src/{folder}/{file}");
        let missing = ADAPTER_FILES.iter().filter(|file| !files.contains(file));
        findings
            .extend(missing.map(|file| Finding::new(&path(file), 1, "missing: every adapter has this file")));
    }
    findings
}

fn missing_licenses(tree: &Tree) -> Vec<Finding> {
    let missing =
        LICENSES.into_iter().filter(|path| tree.text(path).is_none_or(|text| text.trim().is_empty()));
    missing.map(|path| Finding::new(path, 1, "missing")).collect()
}

mod rules {
    //! Each rule about this workspace, then about samples that break it.

    use super::*;
    use crate::assert_none;
    use crate::tree::WORKSPACE;

    const ROOT: &str = "[workspace]\nmembers = [\"store\", \"runtime\", \"tests\"]\n";
    const RUNTIME: &str = "[package]\nname = \"pillarbox-runtime\"\n";
    const TESTS: &str = "[package]\nname = \"pillarbox-tests\"\n";

    fn whats(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    /// The sample workspace with this manifest of the store.
    fn with_store(store: &str) -> Tree {
        Tree::of([
            ("Cargo.toml", ROOT),
            ("store/Cargo.toml", store),
            ("runtime/Cargo.toml", RUNTIME),
            ("tests/Cargo.toml", TESTS),
        ])
    }

    #[test]
    fn every_crate_lives_by_the_rules_of_the_workspace() {
        assert_none(&own_rules(&WORKSPACE));
    }

    #[test]
    fn a_crate_with_rules_of_its_own_is_found() {
        let good = "\
lints.workspace = true
[package]
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true
";
        let tree = |store: &str| {
            Tree::of([("Cargo.toml", "workspace.members = [\"store\"]"), ("store/Cargo.toml", store)])
        };
        assert_none(&own_rules(&tree(good)));
        let bad = good
            .replace("lints.workspace = true", "")
            .replace("license.workspace = true", "license = \"MIT\"");
        let expected = ["lints", "license"]
            .map(|name| format!("store/Cargo.toml:1: `{name}` is not that of the workspace"));
        assert_eq!(whats(&own_rules(&tree(&bad))), expected);
        assert_eq!(
            whats(&own_rules(&Tree::of([("Cargo.toml", "workspace.members = [\"gone\"]")]))),
            ["gone/Cargo.toml:1: missing"]
        );
    }

    #[test]
    fn every_member_has_its_place() {
        assert_none(&unknown_members(&WORKSPACE));
    }

    #[test]
    fn a_member_without_a_place_is_found() {
        let tree = Tree::of([("Cargo.toml", "workspace.members = [\"extra\"]"), ("extra/Cargo.toml", "")]);
        assert_eq!(
            whats(&unknown_members(&tree)),
            ["Cargo.toml:1: member `extra` has no place among the layers"]
        );
    }

    #[test]
    fn dependencies_point_one_way() {
        assert_none(&wrong_arrows(&WORKSPACE));
    }

    #[test]
    fn a_dependency_that_points_up_is_found() {
        let up = "\
[package]
name = \"pillarbox-store\"
[dependencies]
pillarbox-runtime.workspace = true
serde = \"1\"
";
        let expected = ["store/Cargo.toml:1: [dependencies] points from store to runtime"];
        assert_eq!(whats(&wrong_arrows(&with_store(up))), expected);
        let hidden = "\
[package]
name = \"pillarbox-store\"
[target.'cfg(unix)'.build-dependencies]
other = { package = \"pillarbox-runtime\" }
";
        let expected = ["store/Cargo.toml:1: [build-dependencies] points from store to runtime"];
        assert_eq!(whats(&wrong_arrows(&with_store(hidden))), expected);
        let kit = "\
[package]
name = \"pillarbox-store\"
[dev-dependencies]
pillarbox-tests.workspace = true
";
        assert_none(&wrong_arrows(&with_store(kit)));
        let shipped_kit = kit.replace("dev-dependencies", "dependencies");
        let expected = ["store/Cargo.toml:1: [dependencies] points from store to tests"];
        assert_eq!(whats(&wrong_arrows(&with_store(&shipped_kit))), expected);
    }

    #[test]
    fn every_adapter_has_the_same_files() {
        assert_none(&uneven_adapters(&WORKSPACE));
    }

    #[test]
    fn an_uneven_adapter_is_found() {
        let [docs, module, send, settings, tests] =
            ADAPTER_FILES.map(|file| format!("adapters/src/file/{file}"));
        let tree = Tree::of([
            ("adapters/src/lib.rs", ""),
            (&docs, ""),
            (&module, ""),
            (&send, ""),
            (&settings, ""),
            (&tests, ""),
        ]);
        assert_none(&uneven_adapters(&tree));
        let tree = Tree::of([
            (&docs, ""),
            (&module, ""),
            (&send, ""),
            (&tests, ""),
            ("adapters/src/file/only_this_one_needs_it.rs", ""),
        ]);
        let expected = ["adapters/src/file/settings.rs:1: missing: every adapter has this file"];
        assert_eq!(whats(&uneven_adapters(&tree)), expected);
    }

    #[test]
    fn both_licences_are_there() {
        assert_none(&missing_licenses(&WORKSPACE));
    }

    #[test]
    fn a_missing_licence_is_found() {
        assert_eq!(
            whats(&missing_licenses(&Tree::of([("LICENSE-MIT", "MIT")]))),
            ["LICENSE-APACHE:1: missing"]
        );
    }
}
