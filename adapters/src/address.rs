//! Addresses of servers in settings: `redis://example.com:6379/0`.

use std::fmt;

/// A server's address: scheme, host, port and path. Never with a user or a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: &'static str,
    /// Without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What follows the first `/`.
    pub(crate) path: String,
}

impl Address {
    /// Reads `SCHEME://HOST[:PORT][/PATH]`; `schemes` has each scheme with its usual port.
    ///
    /// # Errors
    /// What is wrong with it, without its text: there may be a password in it.
    pub(crate) fn parse(text: Option<&str>, schemes: &[(&'static str, u16)]) -> Result<Self, String> {
        let names: Vec<String> = schemes.iter().map(|(scheme, _)| format!("{scheme}://HOST:PORT")).collect();
        let hint = format!("write {}", names.join(" or "));
        let text = text.ok_or_else(|| hint.clone())?;
        let (scheme, rest) = text.split_once("://").ok_or_else(|| hint.clone())?;
        let found = schemes.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
        let (scheme, usual) = *found.ok_or_else(|| hint.clone())?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(
                "user and password do not belong there; use the settings `user` and `password`".into()
            );
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| hint.clone())?;
                (
                    host,
                    after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(|| hint.clone())?,
                )
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, if port.is_empty() { "none" } else { port }),
                None => (authority, ""),
            },
        };
        let possible = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(possible) {
            return Err(format!("it names no host; {hint}"));
        }
        let port = if port.is_empty() { Some(usual) } else { port.parse().ok().filter(|port| *port > 0) };
        let port = port.ok_or_else(|| format!("it names no possible port; {hint}"))?;
        if path.chars().any(|c| c.is_whitespace() || c.is_control() || "?#".contains(c)) {
            return Err(format!("what follows the '/' is no name; {hint}"));
        }
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{}{close}:{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [(&str, u16); 2] = [("redis", 6379), ("rediss", 6380)];

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(Some(text), &SCHEMES)
    }

    #[test]
    fn addresses_are_read() {
        for (text, shown, path) in [
            ("redis://example.com", "redis://example.com:6379", ""),
            ("REDISS://example.com/3", "rediss://example.com:6380", "3"),
            ("redis://127.0.0.1:7000/", "redis://127.0.0.1:7000", ""),
            ("redis://[::1]", "redis://[::1]:6379", ""),
            ("redis://[::1]:7000/a/b", "redis://[::1]:7000", "a/b"),
        ] {
            let address = parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.path.as_str()), (shown, path));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for text in [
            "",
            "example.com",
            "http://example.com",
            "redis://",
            "redis://:6379",
            "redis://example.com:0",
            "redis://example.com:",
            "redis://example.com:99999",
            "redis://[::1",
            "redis://[::1]x",
            "redis://exa mple.com",
            "redis://example.com/a b",
            "redis://example.com/?password=hunter2",
            "redis://user:hunter2@example.com",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("redis://HOST:PORT") || error.contains("`password`"), "{error}");
        }
        assert_eq!(
            Address::parse(None, &SCHEMES).unwrap_err(),
            "write redis://HOST:PORT or rediss://HOST:PORT"
        );
    }
}
