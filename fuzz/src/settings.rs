//! The settings of an adapter: a table in a route, over handler settings.

use crate::config::check;

/// The first byte chooses the kind; the rest is the table's text, before the first `[` the route's and behind it the
/// handler's.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let kind = if kind % 2 == 0 { "file" } else { "http" };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (route, handler) = text.split_once("\n[").map_or((text, ""), |(route, rest)| (route, rest));
    let handler = handler.split_once('\n').map_or("", |(_, handler)| handler);
    check(&format!(
        "[adapter.{kind}]\n{handler}\n[[port]]\nname = \"p\"\n[port.primary]\nadapter = \"{kind}\"\n{route}\n"
    ));
}
