//! What an object says of the message that it is.

use std::fmt::Write as _;

use object_store::{Attribute, Attributes};
use pillarbox_runtime::adapter::SendError;

use super::settings::S3Settings;
use crate::parcel::Parcel;

/// The metadata with the send key, by which a repeat recognises its own object.
const KEY: &str = "pillarbox-key";
/// What the names of forwarded message headers begin with.
const FORWARDED: &str = "pillarbox-h-";

/// The attributes of the message's object: the same on every attempt.
///
/// # Errors
/// Permanent: the message's `content-type` is none.
pub(super) fn of(parcel: &Parcel<'_>, settings: &S3Settings) -> Result<Attributes, SendError> {
    let mut attributes = Attributes::new();
    let mut content_type = settings.content_type.clone();
    let mut add = |name: String, value: &str| {
        attributes.insert(Attribute::Metadata(name.into()), escape(value).into());
    };
    add(KEY.to_owned(), parcel.send_key);
    add("pillarbox-message-id".to_owned(), &parcel.message_id.to_string());
    for (name, value) in parcel.headers.iter() {
        if name == "content-type" {
            content_type = value.to_string();
        } else if settings.forward.takes(name) {
            add(format!("{FORWARDED}{name}"), &value.to_string());
        }
    }
    if !content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(SendError::permanent(
            "the message's header \"content-type\" has a value that HTTP does not take",
        ));
    }
    attributes.insert(Attribute::ContentType, content_type.into());
    Ok(attributes)
}

/// Whether these are the attributes of an object that this message's delivery made.
pub(super) fn is_of(attributes: &Attributes, parcel: &Parcel<'_>) -> bool {
    let key = attributes.get(&Attribute::Metadata(KEY.into()));
    key.is_some_and(|key| **key == *escape(parcel.send_key))
}

/// Metadata is ASCII, and spaces at its ends or next to each other are lost on the way: these, `%`, and every byte
/// beyond ASCII become `%XX`.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    let mut before = b' ';
    for (at, byte) in value.bytes().enumerate() {
        let plain = match byte {
            b' ' => before != b' ' && at != last,
            b'%' => false,
            byte => byte.is_ascii_graphic(),
        };
        if plain {
            escaped.push(char::from(byte));
        } else {
            let _infallible = write!(escaped, "%{byte:02X}");
        }
        before = byte;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn values_are_ascii_and_stay_different() {
        for (value, escaped) in [
            ("", ""),
            ("A-17 x", "A-17 x"),
            (" a  b ", "%20a %20b%20"),
            (" ", "%20"),
            ("100%", "100%25"),
            ("ü\t", "%C3%BC%09"),
        ] {
            assert_eq!(escape(value), escaped);
        }
    }
}
