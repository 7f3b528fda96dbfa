//! Addresses of mails: `Orders <orders@example.com>`. Nothing of a text is passed over: what is not understood is
//! refused, for it may name somebody.

use lettre::Address;
use lettre::message::Mailbox;

/// What an address looks like, for who wrote none.
pub(super) const HINT: &str =
    "write an address, \"orders@example.com\" or \"Orders <orders@example.com>\" say";

/// Reads the one address that the text is.
///
/// # Errors
/// Why it is none.
pub(super) fn one(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("an address has no control characters".to_owned());
    }
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>') {
        Some(rest) => {
            let (name, address) = rest.split_once('<').ok_or(HINT)?;
            (unquoted(name.trim()).ok_or(HINT)?, address)
        }
        None => ("", text),
    };
    if !address.is_ascii() {
        return Err(format!(
            "{address:?} is not ASCII; write the domain as xn--..., what is in front of the @ cannot be sent"
        ));
    }
    // In quotes could stand what ends a command.
    if address.contains('"') {
        return Err(format!("{address:?} has quotes, which are not sent; {HINT}"));
    }
    let address: Address = address.parse().map_err(|_| format!("{address:?} is no address; {HINT}"))?;
    Ok(Mailbox::new((!name.is_empty()).then(|| name.to_owned()), address))
}

/// Reads addresses with a comma between any two.
///
/// # Errors
/// Why one is none.
pub(super) fn many(text: &str) -> Result<Vec<Mailbox>, String> {
    let mut quoted = false;
    let is_end = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    text.split(is_end).map(one).collect()
}

/// A name without its quotes. One that has some inside is not understood.
fn unquoted(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('"').map_or(Some(name), |rest| rest.strip_suffix('"'))?;
    (!inner.contains(['"', '\\', '<', '>'])).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        many(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "))
    }

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            ("a@example.com", "a@example.com"),
            (" Orders <a@example.com> ", "Orders <a@example.com>"),
            (
                "\"Smith, Jane\" <a@example.com>,b@[127.0.0.1]",
                "\"Smith, Jane\" <a@example.com> + b@[127.0.0.1]",
            ),
            ("<a@example.com>", "a@example.com"),
            ("Jörg <a@xn--bcher-kva.example>", "Jörg <a@xn--bcher-kva.example>"),
        ] {
            assert_eq!(shown(text).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_whole() {
        for text in [
            "",
            "a",
            "a@",
            "a@example.com b@example.com",
            "a@example.com; b@example.com",
            "a@example.com,",
            "a@example.com>",
            "a <b <c@example.com>",
            "\"a\" \"b\" <c@example.com>",
            "\"a <c@example.com>",
            "<a@example.com> b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "a@bücher.example",
            "jörg@example.com",
            "a\r\n@example.com",
        ] {
            assert!(many(text).is_err(), "{text}");
        }
    }
}
