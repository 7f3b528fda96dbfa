//! The variables that a program is given.

use std::collections::BTreeMap;

use pillarbox_runtime::adapter::SendError;

use crate::parcel::Parcel;

/// How many messages a program has that is run for several.
pub(super) const MESSAGES: &str = "PILLARBOX_MESSAGES";

/// The variables that tell a program which message it has.
pub(super) const OWN: [&str; 9] = [
    "PILLARBOX_ATTEMPT",
    "PILLARBOX_BODY_BYTES",
    "PILLARBOX_DELIVERY",
    "PILLARBOX_IN_DOUBT",
    MESSAGES,
    "PILLARBOX_MESSAGE_ID",
    "PILLARBOX_PORT",
    "PILLARBOX_SEND_KEY",
    "PILLARBOX_SUBMITTED",
];

/// Whether this can be a variable's name that a shell can read.
pub(super) fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// The variables of a message: its own, and one for each header.
///
/// # Errors
/// Permanent: two headers would be the same variable, or a value has a NUL character.
pub(super) fn of(parcel: &Parcel<'_>, header_prefix: &str) -> Result<BTreeMap<String, String>, SendError> {
    let values = [
        Some(parcel.attempt.to_string()),
        Some(parcel.body.len().to_string()),
        Some(parcel.delivery.to_string()),
        parcel.in_doubt.then(|| "true".to_owned()),
        None,
        Some(parcel.message_id.to_string()),
        Some(parcel.port.to_string()),
        Some(parcel.send_key.to_owned()),
        Some(parcel.submitted.as_micros().to_string()),
    ];
    let own = OWN.into_iter().zip(values);
    let mut variables: BTreeMap<String, String> =
        own.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let mut from: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in parcel.headers.iter() {
        let variable = format!("{header_prefix}{}", variable(name));
        let value = value.to_string();
        if value.contains('\0') {
            return Err(SendError::permanent(format!(
                "the message's header {name:?} has a NUL character, which no variable can have"
            )));
        }
        if let Some(other) = from.insert(variable.clone(), name) {
            return Err(SendError::permanent(format!(
                "the message's headers {other:?} and {name:?} would both be the variable {variable}"
            )));
        }
        variables.insert(variable, value);
    }
    Ok(variables)
}

/// A header's name in upper case, with `_` for everything that a shell does not take.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
