//! The files of the workspace: those that are kept, and those that would be if committed now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Paths from the root, with `/`, each with its text; `None` where it is no text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

/// This workspace, read once.
pub(crate) static WORKSPACE: LazyLock<Tree> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
    Tree::read(root)
});

impl Tree {
    fn read(root: &Path) -> Self {
        let paths = git_files(root).unwrap_or_else(|| walked_files(root));
        let read = |path: String| {
            // A file that is deleted but not yet committed so is still listed.
            let bytes = fs::read(root.join(&path)).ok()?;
            Some((path, String::from_utf8(bytes).ok()))
        };
        Self { files: paths.into_iter().filter_map(read).collect() }
    }

    /// A tree of samples.
    pub(crate) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        let owned = |(path, text): (&str, &str)| (path.to_owned(), Some(text.to_owned()));
        Self { files: files.into_iter().map(owned).collect() }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Every text file whose name ends with `ending`.
    pub(crate) fn texts(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        let inside = format!("{}/", path.trim_end_matches('/'));
        self.files.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside))
    }
}

/// Tracked files and untracked ones that are not ignored. `None` without git or outside a repository.
fn git_files(root: &Path) -> Option<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    let paths: Vec<_> = text.split_terminator('\0').map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

/// The same by looking, for a copy of the sources without their repository.
fn walked_files(root: &Path) -> Vec<String> {
    let ignored = ["target", ".git", "pillarbox-data", "undelivered"];
    let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && folder.is_empty() && ignored.contains(&name.as_str()) => {}
                Ok(kind) if kind.is_dir() => folders.push(format!("{path}/")),
                _ => files.push(path),
            }
        }
    }
    files
}

#[test]
fn without_git_the_same_sources_are_found() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["store/src/box", "target/debug"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    for file in ["Cargo.toml", "store/src/lib.rs", "store/src/box/mod.rs", "target/debug/build.rs"] {
        fs::write(root.path().join(file), "text").unwrap();
    }
    let mut found = walked_files(root.path());
    found.sort_unstable();
    assert_eq!(found, ["Cargo.toml", "store/src/box/mod.rs", "store/src/lib.rs"]);
}

#[test]
fn the_workspace_is_read() {
    assert!(WORKSPACE.has_file("tests/tidy/tree.rs"));
    assert!(WORKSPACE.has_folder("tests/tidy") && !WORKSPACE.has_folder("tests/tid"));
    assert!(!WORKSPACE.has_folder("target"));
}
