//! What a destination said, fit to be shown.

/// Parts of secrets shorter than this are not looked for in what is shown: they would be found everywhere.
#[cfg(any(feature = "exec", feature = "http", feature = "s3", feature = "sftp", feature = "smtp"))]
const SECRET_BYTES_MIN: usize = 6;

/// As one line of text of at most so many bytes, without our secrets and without anything that moves a terminal's
/// cursor. `secrets` has the whole of a secret before its parts.
pub(crate) fn line(bytes: &[u8], bytes_max: usize, secrets: &[String]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for secret in secrets {
        text = text.replace(secret, "[redacted]");
    }
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !is_invisible(*c)));
    }
    if line.len() > bytes_max {
        let cut = (0..=bytes_max).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        line.truncate(cut);
    }
    line
}

/// Characters that change how those around them are shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What of a secret must not be shown: all of it, and the credential after `Bearer` and the like.
#[cfg(any(feature = "exec", feature = "http", feature = "s3", feature = "sftp", feature = "smtp"))]
pub(crate) fn guarded(value: &str) -> impl Iterator<Item = String> + use<> {
    let credential = value.split_once(' ').map(|(_, credential)| credential.to_owned());
    [Some(value.to_owned()), credential].into_iter().flatten().filter(|part| part.len() >= SECRET_BYTES_MIN)
}
