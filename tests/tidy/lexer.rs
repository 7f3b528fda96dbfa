//! Just enough of Rust's lexis to tell code from comments and strings, and where functions and tests are.

use std::ops::RangeInclusive;

/// Source with every comment, string and character literal blanked out, line by line where it was.
#[derive(Debug)]
pub(crate) struct Code {
    text: String,
}

/// A function: its name, the line of its `fn`, and that of its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: RangeInclusive<usize>,
}

impl Code {
    pub(crate) fn new(source: &str) -> Self {
        let bytes = source.as_bytes();
        let mut text = bytes.to_vec();
        let mut at = 0;
        while at < bytes.len() {
            let end = literal_end(bytes, at);
            for byte in &mut text[at..end.unwrap_or(at)] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end.unwrap_or(at + 1);
        }
        Self { text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// The lines, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// How many of these lines hold code.
    pub(crate) fn count(&self, lines: &RangeInclusive<usize>) -> usize {
        self.lines().filter(|(number, line)| lines.contains(number) && !line.trim().is_empty()).count()
    }

    /// Every function with a body, also those inside others.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = self.text.match_indices("fn ").filter(|(at, _)| is_word_start(&self.text, *at));
        starts
            .filter_map(|(at, keyword)| {
                let rest = &self.text[at + keyword.len()..];
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let open = self.body_start(at).filter(|_| !name.is_empty())?;
                Some(Function { name, lines: self.line(at)..=self.line(self.block_end(open)?) })
            })
            .collect()
    }

    /// The line ranges of `#[cfg(test)] mod … { … }`.
    pub(crate) fn test_modules(&self) -> Vec<RangeInclusive<usize>> {
        self.text
            .match_indices("#[cfg(test)]")
            .filter_map(|(at, _)| {
                let item = at + self.text[at..].find("mod ")?;
                let between = &self.text[at..item];
                let open = self.body_start(item).filter(|_| !between.contains([';', '{', '}']))?;
                Some(self.line(at)..=self.line(self.block_end(open)?))
            })
            .collect()
    }

    /// Where the body of the item at `at` opens; `None` if it ends with `;` instead.
    fn body_start(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (offset, byte) in self.text.as_bytes()[at..].iter().enumerate() {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.saturating_sub(1),
                b';' if depth == 0 => return None,
                b'{' if depth == 0 => return Some(at + offset),
                _ => {}
            }
        }
        None
    }

    fn block_end(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (offset, byte) in self.text.as_bytes()[open..].iter().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => return Some(open + offset),
                b'}' => depth -= 1,
                _ => {}
            }
        }
        None
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// Where the comment or literal that starts at `at` ends, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(at + block_comment(rest)),
        [b'"', ..] => Some(at + quoted(rest, b'"')),
        [b'r', b'"' | b'#', ..] if !in_word => raw_string(rest, 1).map(|length| at + length),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => raw_string(rest, 2).map(|length| at + length),
        // A lifetime is a quote that no other follows after one character.
        [b'\'', b'\\', ..] => Some(at + quoted(rest, b'\'')),
        [b'\'', ..] => {
            let text = &rest[1..rest.len().min(6)];
            let close = text.iter().position(|byte| *byte == b'\'')?;
            let one = close > 0 && text[1..close].iter().all(|byte| byte & 0xC0 == 0x80);
            one.then_some(at + close + 2)
        }
        _ => None,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

fn raw_string(rest: &[u8], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    // `r#name` is an identifier.
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'#'; hashes + 1];
    close[0] = b'"';
    let length = rest[open + 1..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(rest.len(), |length| open + 1 + length + close.len()))
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether the word at `at` is not the end of a longer one.
pub(crate) fn is_word_start(text: &str, at: usize) -> bool {
    at == 0 || !is_word(text.as_bytes()[at - 1])
}

/// Whether `text` holds `word` by itself.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = text.as_bytes().get(at + word.len());
        is_word_start(text, at) && !after.is_some_and(|byte| is_word(*byte))
    })
}

#[test]
fn comments_and_literals_are_no_code() {
    let blank = |source: &str| Code::new(source).text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(blank("a // b\nc /* d /* e */ f */ g"), "a c g");
    assert_eq!(blank(r#"a("b \" c", 'd', '\'', b'e', 'é')"#), "a( , , , b , )");
    assert_eq!(blank("a(r\"b\\\", r##\"c\"# d\"##, br\"e\", f)"), "a( , , , f)");
    assert_eq!(blank("fn a<'b>(c: &'b r#fn) -> &'static str"), "fn a<'b>(c: &'b r#fn) -> &'static str");
    assert_eq!(blank("a(\"never closed"), "a(");
}

#[test]
fn functions_are_found_with_their_lines() {
    let source = "\
trait T {
 fn none();
 fn one(x: [u8; 2]) { \"}\"; }
}
fn two()
where
 A: B,
{
 fn three() {
 }
 // }
}
";
    let found: Vec<_> = Code::new(source).functions().into_iter().map(|f| (f.name, f.lines)).collect();
    let expected =
        [("one", 3..=3), ("two", 5..=12), ("three", 9..=10)].map(|(name, lines)| (name.to_owned(), lines));
    assert_eq!(found, expected);
}

#[test]
fn test_modules_are_found() {
    let source = "\
use a;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod tests {
 {}
}
#[cfg(test)]
use b;
mod c {}
";
    assert_eq!(Code::new(source).test_modules(), [4..=7]);
}
