//! The names in every folder: those that programs see, those that last, and the changes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use rand::Rng;
use rand::rngs::StdRng;

use super::{Keeps, NameRule};

/// The number of the top folder.
pub(super) const ROOT: u64 = 1;

/// Each folder's entries.
pub(super) type Folders = BTreeMap<u64, BTreeMap<OsString, u64>>;

/// One step that a journalling file system makes whole: a rename takes one name away and makes another.
#[derive(Debug, Clone)]
struct Change(Vec<Edit>);

#[derive(Debug, Clone)]
struct Edit {
    folder: u64,
    name: OsString,
    leads_to: Option<u64>,
}

impl Change {
    fn touches(&self, folder: u64) -> bool {
        self.0.iter().any(|edit| edit.folder == folder)
    }

    fn apply(&self, folders: &mut Folders) {
        for edit in &self.0 {
            let folder = folders.entry(edit.folder).or_default();
            match edit.leads_to {
                Some(number) => folder.insert(edit.name.clone(), number),
                None => folder.remove(&edit.name),
            };
        }
    }
}

/// The names of a file system.
#[derive(Debug, Clone)]
pub(super) struct Names {
    rule: NameRule,
    now: Folders,
    lasting: Folders,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new(rule: NameRule, lasting: Folders) -> Self {
        Self { rule, now: lasting.clone(), lasting, pending: Vec::new() }
    }

    /// A new folder, in which there is nothing yet.
    pub(super) fn add_folder(&mut self, number: u64) {
        self.now.entry(number).or_default();
        self.lasting.entry(number).or_default();
    }

    /// From now on names last by this rule.
    pub(super) fn follow(&mut self, rule: NameRule) {
        self.rule = rule;
    }

    pub(super) fn get(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.now.get(&folder)?.get(name).copied()
    }

    pub(super) fn list(&self, folder: u64) -> impl Iterator<Item = (&OsString, u64)> {
        self.now.get(&folder).into_iter().flatten().map(|(name, number)| (name, *number))
    }

    pub(super) fn set(&mut self, folder: u64, name: &OsStr, leads_to: Option<u64>) {
        self.change(Change(vec![Edit { folder, name: name.to_owned(), leads_to }]));
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), number: u64) {
        let old = Edit { folder: from.0, name: from.1.to_owned(), leads_to: None };
        let new = Edit { folder: to.0, name: to.1.to_owned(), leads_to: Some(number) };
        self.change(Change(vec![old, new]));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// A file was synced.
    pub(super) fn file_synced(&mut self) {
        if self.rule == NameRule::AnySync {
            self.keep(|_| true);
        }
    }

    /// A folder was synced.
    pub(super) fn folder_synced(&mut self, folder: u64) {
        match self.rule {
            NameRule::AnySync => self.keep(|_| true),
            NameRule::FolderSync => self.keep(|change| change.touches(folder)),
        }
    }

    fn keep(&mut self, lasts: impl Fn(&Change) -> bool) {
        let (last, wait) = std::mem::take(&mut self.pending).into_iter().partition(lasts);
        let last: Vec<Change> = last;
        last.iter().for_each(|change| change.apply(&mut self.lasting));
        self.pending = wait;
    }

    /// The names after a power cut now: those that last, and of the changes since then the first few. Under
    /// [`NameRule::FolderSync`] each folder has its own few.
    pub(super) fn after_cut(&self, keeps: Keeps, random: &mut StdRng) -> Folders {
        let mut folders = self.lasting.clone();
        if keeps != Keeps::Nothing {
            match self.rule {
                NameRule::AnySync => {
                    let kept = random.random_range(0..=self.pending.len());
                    self.pending.iter().take(kept).for_each(|change| change.apply(&mut folders));
                }
                NameRule::FolderSync => self.keep_some_by_folder(&mut folders, random),
            }
        }
        reachable(&folders)
    }

    fn keep_some_by_folder(&self, folders: &mut Folders, random: &mut StdRng) {
        let first = |change: &Change| change.0.first().map_or(ROOT, |edit| edit.folder);
        let touched: BTreeSet<u64> = self.pending.iter().map(first).collect();
        for folder in touched {
            let of_folder: Vec<&Change> =
                self.pending.iter().filter(|change| first(change) == folder).collect();
            let kept = random.random_range(0..=of_folder.len());
            of_folder.into_iter().take(kept).for_each(|change| change.apply(folders));
        }
    }

    /// Whether a name leads to `number`, or one may again after a cut.
    pub(super) fn may_lead_to(&self, number: u64) -> bool {
        let leads = |folders: &Folders| folders.values().any(|names| names.values().any(|to| *to == number));
        !self.pending.is_empty() || leads(&self.now) || leads(&self.lasting)
    }
}

/// Only what a path from the top leads to.
fn reachable(folders: &Folders) -> Folders {
    let mut found = Folders::new();
    let mut next = vec![ROOT];
    while let Some(number) = next.pop() {
        let names = folders.get(&number).cloned().unwrap_or_default();
        next.extend(names.values().filter(|to| folders.contains_key(to)));
        found.insert(number, names);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn top() -> Folders {
        Folders::from([(ROOT, BTreeMap::new())])
    }

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn names_after(names: &Names, keeps: Keeps, seed: u64, folder: u64) -> Vec<String> {
        let folders = names.after_cut(keeps, &mut StdRng::seed_from_u64(seed));
        let names = folders.get(&folder).into_iter().flat_map(BTreeMap::keys);
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn any_sync_makes_earlier_names_last() {
        let mut names = Names::new(NameRule::AnySync, top());
        names.set(ROOT, name("a"), Some(2));
        names.file_synced();
        names.set(ROOT, name("b"), Some(3));
        assert_eq!(names_after(&names, Keeps::Nothing, 0, ROOT), ["a"]);
        names.folder_synced(99);
        assert_eq!(names_after(&names, Keeps::Nothing, 0, ROOT), ["a", "b"]);
    }

    #[test]
    fn strictly_only_the_folder_makes_its_names_last() {
        let mut names = Names::new(NameRule::FolderSync, top());
        names.set(ROOT, name("folder"), Some(2));
        names.change(Change(vec![Edit { folder: 2, name: "a".into(), leads_to: Some(3) }]));
        names.file_synced();
        names.folder_synced(2);
        assert_eq!(names_after(&names, Keeps::Nothing, 0, ROOT), Vec::<String>::new());
        assert_eq!(names_after(&names, Keeps::Nothing, 0, 2), Vec::<String>::new(), "no path leads there");
        names.folder_synced(ROOT);
        assert_eq!(names_after(&names, Keeps::Nothing, 0, 2), ["a"]);
    }

    #[test]
    fn a_rename_is_made_whole_or_not_at_all() {
        for rule in [NameRule::AnySync, NameRule::FolderSync] {
            let mut names = Names::new(rule, top());
            names.set(ROOT, name("a"), Some(2));
            names.folder_synced(ROOT);
            names.rename((ROOT, name("a")), (ROOT, name("b")), 2);
            assert_eq!(names.get(ROOT, name("b")), Some(2));
            let seen: BTreeSet<Vec<String>> =
                (0..20).map(|seed| names_after(&names, Keeps::Sectors, seed, ROOT)).collect();
            assert_eq!(seen, BTreeSet::from([vec!["a".to_owned()], vec!["b".to_owned()]]));
        }
    }

    #[test]
    fn of_several_changes_the_first_few_are_made() {
        let mut names = Names::new(NameRule::AnySync, top());
        for (number, text) in (2..).zip(["a", "b", "c"]) {
            names.set(ROOT, name(text), Some(number));
        }
        for seed in 0..20 {
            let seen = names_after(&names, Keeps::Pages, seed, ROOT).concat();
            assert!("abc".starts_with(&seen), "{seen}");
        }
    }
}
