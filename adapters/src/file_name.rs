//! Names of files and objects made from a template, such that no value can lead out of the folder.

use std::fmt::Write as _;

use pillarbox_runtime::adapter::SendError;

use crate::parcel::Parcel;
use crate::template::{self, key_hash};

/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// The longest end of a name, from its last dot, that is kept when the name is cut.
const EXTENSION_BYTES_MAX: usize = 16;

/// A name template that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(template::Template);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (template, mut problems) = template::Template::read(text);
        check(&template, &mut problems);
        if problems.is_empty() { Ok(Self(template)) } else { Err(problems) }
    }

    /// Whether every message gets a name of its own.
    pub(crate) fn is_unique(&self) -> bool {
        self.0.is_unique()
    }

    /// The file's name for this message: never empty, `.` or `..`, never with a `/`, at most 255 bytes.
    ///
    /// # Errors
    /// Permanent: a header is missing, or the name would be empty.
    pub(crate) fn render(&self, parcel: &Parcel<'_>) -> Result<String, SendError> {
        let mut name = self.0.render(parcel, "the file's name", escape)?;
        if name.is_empty() {
            return Err(SendError::permanent(
                "the file's name is empty: the headers that it is made of are empty",
            ));
        }
        if let Some(rest) = name.strip_prefix('.') {
            name = format!("%2E{rest}");
        }
        Ok(shorten(name))
    }
}

fn check(template: &template::Template, problems: &mut Vec<String>) {
    if template.pieces().next().is_none() && problems.is_empty() {
        problems.push("the name is empty; write \"{message_id}\", say".to_owned());
    }
    let literals = || template.pieces().flatten();
    if literals().any(|text| text.contains('/')) {
        problems.push("a name cannot have a '/'; name the folder in the setting `folder`".to_owned());
    }
    if literals().any(|text| text.chars().any(char::is_control)) {
        problems.push("a name cannot have control characters".to_owned());
    }
    if literals().map(str::len).sum::<usize>() > NAME_BYTES_MAX / 2 {
        problems.push(format!("a name has room for at most {} bytes beside its macros", NAME_BYTES_MAX / 2));
    }
    if matches!(template.pieces().next(), Some(Some(text)) if text.starts_with('.')) {
        problems.push("a name cannot begin with a dot: such names are for unfinished files".to_owned());
    }
}

/// The value with every byte but `A-Z a-z 0-9 . _ - @ + = ,` as `%XX`. Different values stay different.
pub(crate) fn escape(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-@+=,".contains(&byte) {
            name.push(char::from(byte));
        } else {
            let _infallible = write!(name, "%{byte:02X}");
        }
    }
    name
}

/// A name that is too long, cut in front of its extension, with a hash of the whole name in the gap.
fn shorten(name: String) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let hash = key_hash(&name);
    let extension = match name.rfind('.') {
        Some(dot) if name.len() - dot <= EXTENSION_BYTES_MAX => &name[dot..],
        _ => "",
    };
    let mut cut = NAME_BYTES_MAX - hash.len() - 1 - extension.len();
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}~{hash}{extension}", &name[..cut])
}
