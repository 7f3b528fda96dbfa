//! What a file route is configured with.

use std::path::PathBuf;

use pillarbox_runtime::adapter::{Settings, SettingsError};
use serde::Deserialize;

use crate::file_name::Template;
use crate::problems::Problems;

/// What happens where a file of the name is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is left as it is: a repeat is recognised by its content, anything else is an error.
    CreateNew,
    /// It is replaced in one step.
    Overwrite,
    /// The message is added at its end.
    Append,
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(super) struct FileSettings {
    pub(super) folder: PathBuf,
    pub(super) name: Template,
    pub(super) mode: Mode,
    pub(super) create_folder: bool,
    pub(super) separator: String,
    pub(super) permissions: Option<u32>,
    pub(super) two_phase: bool,
}

/// The settings as they are written.
#[derive(Debug, Deserialize)]
struct Written {
    folder: Option<String>,
    name: Option<String>,
    mode: Option<String>,
    create_folder: Option<bool>,
    separator: Option<String>,
    permissions: Option<String>,
    two_phase: Option<bool>,
}

impl FileSettings {
    /// Checks the settings without touching the disk.
    ///
    /// # Errors
    /// Every problem at once, each with its key.
    pub(super) fn check(settings: &Settings) -> Result<Self, SettingsError> {
        let written: Written = settings.parse()?;
        let mut problems = Problems::default();
        let folder = problems.take("folder", folder(written.folder));
        let mode = problems.take("mode", mode(written.mode.as_deref()));
        let name = match Template::parse(written.name.as_deref().unwrap_or("{message_id}")) {
            Ok(name) => Some(name),
            Err(found) => {
                found.into_iter().for_each(|reason| problems.add("name", reason));
                None
            }
        };
        if mode == Some(Mode::CreateNew) && name.as_ref().is_some_and(|name| !name.is_unique()) {
            problems.add(
                "name",
                "mode \"create-new\" needs {message_id} or {key} in the name, by which a repeat is recognised",
            );
        }
        if mode.is_some_and(|mode| mode != Mode::Append) && written.separator.is_some() {
            problems.add("separator", "it is for mode \"append\" only; remove it or set the mode");
        }
        let two_phase = written.two_phase.unwrap_or(false);
        if two_phase && mode == Some(Mode::Append) {
            problems.add("two_phase", "a message cannot be prepared at the end of a file; use another mode");
        }
        let permissions =
            written.permissions.and_then(|text| problems.take("permissions", permissions(&text)));
        let checked = folder.zip(name).zip(mode).map(|((folder, name), mode)| Self {
            folder,
            name,
            mode,
            create_folder: written.create_folder.unwrap_or(true),
            separator: written.separator.unwrap_or_default(),
            permissions,
            two_phase,
        });
        problems.finish(checked)
    }
}

fn folder(written: Option<String>) -> Result<PathBuf, String> {
    let written = written.ok_or("name the folder to write to, \"./out\" say")?;
    let path = match written.get(..7) {
        Some(prefix) if prefix.eq_ignore_ascii_case("file://") => &written[7..],
        _ => &written,
    };
    if path.is_empty() || path.contains('\0') {
        return Err("name the folder to write to, \"./out\" say".to_owned());
    }
    Ok(PathBuf::from(path))
}

fn mode(written: Option<&str>) -> Result<Mode, String> {
    match written {
        None | Some("create-new") => Ok(Mode::CreateNew),
        Some("overwrite") => Ok(Mode::Overwrite),
        Some("append") => Ok(Mode::Append),
        Some(other) => Err(format!("{other:?} is none of \"create-new\", \"overwrite\" and \"append\"")),
    }
}

fn permissions(written: &str) -> Result<u32, String> {
    let octal = written.len() <= 4 && written.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(written, 8) {
        Ok(bits) if octal && bits & !0o777 == 0 && bits & 0o200 != 0 => Ok(bits),
        _ => Err(format!(
            "{written:?} is no octal file mode with write permission for the owner; write \"0640\", say"
        )),
    }
}
