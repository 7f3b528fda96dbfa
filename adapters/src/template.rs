//! Names made from a template, such that no value can lead out of the folder.

use std::fmt::Write as _;

use pillarbox_runtime::adapter::SendError;
use pillarbox_store::{Headers, Timestamp};
use sha2::{Digest, Sha256};

use crate::parcel::Parcel;

/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// The longest end of a name, from its last dot, that is kept when the name is cut.
const EXTENSION_BYTES_MAX: usize = 16;

/// A name template that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Macro {
    MessageId,
    DeliveryId,
    Port,
    Header(String),
    Time,
    Date,
    Key,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '{' | '}' if after.starts_with(c) => {
                    literal.push(c);
                    &after[1..]
                }
                '{' => match after.find(['{', '}']) {
                    Some(end) if after[end..].starts_with('}') => {
                        match Macro::parse(&after[..end]) {
                            Ok(value) => {
                                pieces.extend(take_literal(&mut literal));
                                pieces.push(Piece::Value(value));
                            }
                            Err(problem) => problems.push(problem),
                        }
                        &after[end + 1..]
                    }
                    _ => {
                        problems.push("a '{' is not closed; write {{ for the brace itself".to_owned());
                        after
                    }
                },
                '}' => {
                    problems.push("a '}' closes nothing; write }} for the brace itself".to_owned());
                    after
                }
                c => {
                    literal.push(c);
                    after
                }
            };
        }
        pieces.extend(take_literal(&mut literal));
        check_literals(&pieces, &mut problems);
        if problems.is_empty() { Ok(Self(pieces)) } else { Err(problems) }
    }

    /// Whether every message gets a name of its own.
    pub(crate) fn is_unique(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(Macro::MessageId | Macro::Key)))
    }

    /// The file's name for this message: never empty, `.` or `..`, never with a `/`, at most 255 bytes.
    ///
    /// # Errors
    /// Permanent: a header is missing, or the name would be empty.
    pub(crate) fn render(&self, parcel: &Parcel<'_>) -> Result<String, SendError> {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => name.push_str(text),
                Piece::Value(value) => name.push_str(&escape(&value.of(parcel)?)),
            }
        }
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

fn take_literal(literal: &mut String) -> Option<Piece> {
    (!literal.is_empty()).then(|| Piece::Literal(std::mem::take(literal)))
}

fn check_literals(pieces: &[Piece], problems: &mut Vec<String>) {
    if pieces.is_empty() && problems.is_empty() {
        problems.push("the name is empty; write \"{message_id}\", say".to_owned());
    }
    let literals = || {
        pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text),
            Piece::Value(_) => None,
        })
    };
    if literals().any(|text| text.contains('/')) {
        problems.push("a name cannot have a '/'; name the folder in the setting `folder`".to_owned());
    }
    if literals().any(|text| text.chars().any(char::is_control)) {
        problems.push("a name cannot have control characters".to_owned());
    }
    if literals().map(String::len).sum::<usize>() > NAME_BYTES_MAX / 2 {
        problems.push(format!("a name has room for at most {} bytes beside its macros", NAME_BYTES_MAX / 2));
    }
    if matches!(pieces.first(), Some(Piece::Literal(text)) if text.starts_with('.')) {
        problems.push("a name cannot begin with a dot: such names are for unfinished files".to_owned());
    }
}

impl Macro {
    fn parse(text: &str) -> Result<Self, String> {
        let known = "{message_id}, {delivery_id}, {port}, {header:NAME}, {time}, {date} and {key}";
        if let Some(name) = text.strip_prefix("header:") {
            return match Headers::default().set(name, "") {
                Ok(()) => Ok(Self::Header(name.to_ascii_lowercase())),
                Err(_) => Err(format!("{{{text}}} names no possible header; write {{header:NAME}}")),
            };
        }
        match text {
            "message_id" => Ok(Self::MessageId),
            "delivery_id" => Ok(Self::DeliveryId),
            "port" => Ok(Self::Port),
            "time" => Ok(Self::Time),
            "date" => Ok(Self::Date),
            "key" => Ok(Self::Key),
            "attempt" => {
                Err("{attempt} changes with every attempt, so that a repeat would leave a second file; \
                              remove it"
                    .to_owned())
            }
            _ => Err(format!("there is no macro {{{text}}}; there are {known}")),
        }
    }

    fn of(&self, parcel: &Parcel<'_>) -> Result<String, SendError> {
        Ok(match self {
            Self::MessageId => parcel.message_id.to_string(),
            Self::DeliveryId => parcel.delivery.to_string(),
            Self::Port => parcel.port.to_string(),
            Self::Time => utc(parcel.submitted, "%Y%m%dT%H%M%S.%6fZ")?,
            Self::Date => utc(parcel.submitted, "%Y%m%d")?,
            Self::Key => key_hash(parcel.send_key),
            Self::Header(name) => match parcel.headers.get(name) {
                Some(value) => value.to_string(),
                None => {
                    return Err(SendError::permanent(format!(
                        "the message has no header {name:?}, which the file's name is made of"
                    )));
                }
            },
        })
    }
}

fn utc(moment: Timestamp, format: &str) -> Result<String, SendError> {
    let moment = jiff::Timestamp::from_microsecond(moment.as_micros()).map_err(|error| {
        SendError::permanent("the time of submission is too far from now to be written").caused_by(error)
    })?;
    Ok(moment.strftime(format).to_string())
}

/// The first 128 bits of the send key's SHA-256, in hexadecimal.
pub(crate) fn key_hash(send_key: &str) -> String {
    let digest = Sha256::digest(send_key.as_bytes());
    digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
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
