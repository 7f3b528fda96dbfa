//! What a route to a program is configured with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use super::environment::{self, OWN};
use crate::problems::Problems;
use crate::secret::Secret;
use crate::span;

/// The most messages that can be asked to be one run's.
const BATCH_LIMIT: u32 = 10_000;
/// The most programs that can be asked to run at once.
const PROGRAMS_LIMIT: u32 = 1_000;
/// What `sysexits.h` calls a temporary failure.
const TEMPORARY_FAILURE: u8 = 75;
/// What `sysexits.h` calls wrong input: the code for a message that no further attempt can cure.
const WRONG_INPUT: u8 = 65;
/// What a program gets of our environment unless told otherwise: what most need, and no secret.
const INHERITED: [&str; 5] = ["HOME", "LANG", "PATH", "TMPDIR", "TZ"];

/// What a program gets of our environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inherit {
    /// Every variable.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct ExecSettings {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) folder: Option<PathBuf>,
    pub(super) environment: Vec<(String, Secret)>,
    pub(super) inherit: Inherit,
    pub(super) header_prefix: String,
    pub(super) permanent: BTreeSet<u8>,
    /// The most messages of a run; `None` where each has a run of its own.
    pub(super) batch_max: Option<usize>,
    pub(super) timeout: Duration,
    pub(super) programs_max: usize,
    pub(super) program_deduplicates: bool,
}

/// The settings as they are written.
#[derive(Deserialize)]
struct Written {
    program: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    folder: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    inherit_environment: Option<Vec<String>>,
    header_prefix: Option<String>,
    permanent_exit_codes: Option<Vec<u8>>,
    per: Option<String>,
    batch_max: Option<u32>,
    timeout: Option<String>,
    programs_max: Option<u32>,
    program_deduplicates: Option<bool>,
}

impl ExecSettings {
    /// Checks the settings without touching the disk or the environment.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let program = problems.take("program", program(written.program));
        let args = problems.take("args", without_nul(written.args));
        let folder = problems.take("folder", folder(written.folder));
        let header_prefix = problems.take("header_prefix", header_prefix(written.header_prefix));
        let environment = variables(&written.environment, header_prefix.as_deref(), &mut problems);
        let inherit = problems.take("inherit_environment", inherit(written.inherit_environment));
        let permanent = problems.take("permanent_exit_codes", permanent(written.permanent_exit_codes));
        let batch_max = batch(written.per.as_deref(), written.batch_max, &mut problems);
        let timeout = problems.take("timeout", span::parse(written.timeout.as_deref().unwrap_or("30s")));
        let programs_max = problems.take("programs_max", programs(written.programs_max));
        let checked = (|| {
            Some(Self {
                program: program?,
                args: args?,
                folder: folder?,
                environment,
                inherit: inherit?,
                header_prefix: header_prefix?,
                permanent: permanent?,
                batch_max: batch_max?,
                timeout: timeout?,
                programs_max: programs_max?,
                program_deduplicates: written.program_deduplicates.unwrap_or(false),
            })
        })();
        problems.finish(checked)
    }
}

fn program(written: Option<String>) -> Result<PathBuf, String> {
    let hint = "write its whole path, \"/usr/local/bin/take-order\" say, or a name that is found on PATH";
    let written = written.filter(|text| !text.is_empty() && !text.contains('\0')).ok_or(hint)?;
    let path = PathBuf::from(&written);
    if path.is_absolute() || !written.contains('/') { Ok(path) } else { Err(hint.to_owned()) }
}

fn without_nul(written: Vec<String>) -> Result<Vec<String>, String> {
    if written.iter().any(|text| text.contains('\0')) {
        return Err("an argument cannot have a NUL character".to_owned());
    }
    Ok(written)
}

fn folder(written: Option<String>) -> Result<Option<PathBuf>, String> {
    match written {
        Some(text) if !Path::new(&text).is_absolute() || text.contains('\0') => {
            Err("write the whole path of the folder, \"/srv/orders\" say".to_owned())
        }
        written => Ok(written.map(PathBuf::from)),
    }
}

fn header_prefix(written: Option<String>) -> Result<String, String> {
    let written = written.unwrap_or_else(|| "PILLARBOX_H_".to_owned());
    if !environment::is_name(&written) {
        return Err(
            "write the beginning of a variable's name: letters, digits and '_', no digit first".into()
        );
    }
    if ["LD_", "DYLD_"].iter().any(|loader| loader.starts_with(&written) || written.starts_with(loader)) {
        return Err("variables that begin so tell the loader what to run; write \"ORDER_\", say".to_owned());
    }
    if !written.ends_with('_') {
        return Err("end it with a '_', so that no header passes for another variable".to_owned());
    }
    match OWN.iter().find(|own| own.starts_with(&written)) {
        Some(own) => Err(format!("a message's header could then pass for {own}; write \"ORDER_\", say")),
        None => Ok(written),
    }
}

fn variables(
    written: &BTreeMap<String, String>,
    prefix: Option<&str>,
    problems: &mut Problems,
) -> Vec<(String, Secret)> {
    let mut found = Vec::new();
    for (name, value) in written {
        let key = format!("environment.{name}");
        if !environment::is_name(name) {
            problems.add(&key, "a variable's name has letters, digits and '_', and no digit first");
        }
        if OWN.contains(&name.as_str()) || prefix.is_some_and(|prefix| name.starts_with(prefix)) {
            problems.add(&key, "this variable is set for every message; remove it");
        }
        if value.contains('\0') {
            problems.add(&key, "a variable's value cannot have a NUL character");
        }
        if let Some(value) = problems.take(&key, Secret::parse(value)) {
            found.push((name.clone(), value));
        }
    }
    found
}

fn inherit(written: Option<Vec<String>>) -> Result<Inherit, String> {
    let Some(names) = written else {
        return Ok(Inherit::Named(INHERITED.map(str::to_owned).to_vec()));
    };
    if names.iter().any(|name| name == "*") {
        return Ok(Inherit::All);
    }
    match names.iter().find(|name| !environment::is_name(name)) {
        Some(bad) => Err(format!("{bad:?} is no variable's name; list names, or [\"*\"] for all")),
        None => Ok(Inherit::Named(names)),
    }
}

fn permanent(written: Option<Vec<u8>>) -> Result<BTreeSet<u8>, String> {
    let codes = written.map_or_else(|| BTreeSet::from([WRONG_INPUT]), BTreeSet::from_iter);
    if codes.contains(&0) {
        return Err("0 says that the message was taken; remove it".to_owned());
    }
    if codes.contains(&TEMPORARY_FAILURE) {
        return Err("75 (EX_TEMPFAIL) asks for another attempt; remove it".to_owned());
    }
    Ok(codes)
}

/// The most messages of a run, where it has several.
fn batch(per: Option<&str>, written: Option<u32>, problems: &mut Problems) -> Option<Option<usize>> {
    let is_batch = match per.unwrap_or("message") {
        "message" => Ok(false),
        "batch" => Ok(true),
        _ => Err("write \"message\" or \"batch\"".to_owned()),
    };
    let is_batch = problems.take("per", is_batch);
    let most = match (is_batch, written) {
        (Some(false), Some(_)) => Err("this goes together with per = \"batch\"".to_owned()),
        (_, None) => Ok(100),
        (_, Some(most @ 1..=BATCH_LIMIT)) => Ok(most as usize),
        _ => Err(format!("write a number from 1 to {BATCH_LIMIT}")),
    };
    let most = problems.take("batch_max", most);
    Some(is_batch?.then_some(most?))
}

fn programs(written: Option<u32>) -> Result<usize, String> {
    match written.unwrap_or(4) {
        count @ 1..=PROGRAMS_LIMIT => Ok(count as usize),
        _ => Err(format!("write a number from 1 to {PROGRAMS_LIMIT}")),
    }
}
