//! Just enough of Rust's grammar to check house rules: what is code, where functions end, which paths
//! are named.

/// The source with the content of comments, strings and characters replaced by blanks. Lines and
/// columns stay where they were.
pub(crate) fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out: Vec<char> = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if !follows_name(&chars, at) => raw_string(&chars, at),
            '\'' => character(&chars, at),
            _ => at,
        };
        for place in &mut out[at..end] {
            if *place != '\n' {
                *place = ' ';
            }
        }
        at = end.max(at + 1);
    }
    out.into_iter().collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the `r` at `at` is the end of a longer name (`br"..."` is a raw string, too).
fn follows_name(chars: &[char], at: usize) -> bool {
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => at >= 2 && is_name(chars[at - 2]),
        Some(before) => is_name(before),
        None => false,
    }
}

fn line_comment(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| at + length)
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end + 1 < chars.len() {
        match (chars[end], chars[end + 1]) {
            ('/', '*') => {
                depth += 1;
                end += 2;
            }
            ('*', '/') => {
                depth -= 1;
                end += 2;
                if depth == 0 {
                    return end;
                }
            }
            _ => end += 1,
        }
    }
    chars.len()
}

fn string(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != '"' {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let close = |end: usize| {
        chars[end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let end = (open + 1..chars.len()).find(|end| close(*end));
    end.map_or(chars.len(), |end| end + 1 + hashes)
}

/// A character literal; a lifetime is left alone.
fn character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let close = (at + 3..chars.len()).find(|end| chars[*end] == '\'');
            close.map_or(chars.len(), |end| end + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Names and marks of blanked code, with their lines from 1.
pub(crate) fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let mut name = String::new();
        for c in line.chars().chain([' ']) {
            if is_name(c) {
                name.push(c);
                continue;
            }
            if !name.is_empty() {
                out.push((at + 1, std::mem::take(&mut name)));
            }
            if !c.is_whitespace() {
                out.push((at + 1, c.to_string()));
            }
        }
    }
    out
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From `fn` to the closing brace.
    pub(crate) lines: usize,
}

/// Every function with a body.
pub(crate) fn functions(tokens: &[(usize, String)]) -> Vec<Function> {
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        let name = match (tokens.get(at), tokens.get(at + 1)) {
            (Some((_, word)), Some((_, name))) if word == "fn" && name.starts_with(is_name) => name,
            _ => continue,
        };
        if let Some(open) = body(tokens, at)
            && let Some(close) = closing(tokens, open)
        {
            let line = tokens[at].0;
            out.push(Function {
                name: name.clone(),
                line,
                lines: tokens[close].0 - line + 1,
            });
        }
    }
    out
}

/// The brace that opens the body of the item at `at`; `None` when it has none.
pub(crate) fn body(tokens: &[(usize, String)], at: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (place, (_, token)) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(place),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
pub(crate) fn closing(tokens: &[(usize, String)], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (place, (_, token)) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return Some(place);
                }
            }
            _ => {}
        }
    }
    None
}

/// Lines of modules that are only compiled for tests, as (first, last).
pub(crate) fn test_modules(tokens: &[(usize, String)]) -> Vec<(usize, usize)> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        let here = tokens[at..].iter().map(|(_, t)| t.as_str());
        if here.take(marker.len()).eq(marker)
            && let Some(open) = body(tokens, at + marker.len())
            && let Some(close) = closing(tokens, open)
        {
            out.push((tokens[at].0, tokens[close].0));
        }
    }
    out
}

/// Every path that is named, trees of `use` written out: `std::fs` for `use std::{fs, io}`.
pub(crate) fn paths(tokens: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_start = tokens[at].1.starts_with(is_name) && !is_after_colons(tokens, at);
        if is_start {
            at = path(tokens, at, "", &mut out);
        } else {
            at += 1;
        }
    }
    out
}

fn is_after_colons(tokens: &[(usize, String)], at: usize) -> bool {
    at >= 2 && tokens[at - 1].1 == ":" && tokens[at - 2].1 == ":" && {
        // `::std::fs` begins with the colons.
        at >= 3 && (tokens[at - 3].1.starts_with(is_name) || tokens[at - 3].1 == ">")
    }
}

fn colons(tokens: &[(usize, String)], at: usize) -> bool {
    let is_colon = |at: usize| tokens.get(at).is_some_and(|(_, t)| t == ":");
    is_colon(at) && is_colon(at + 1)
}

/// Reads one path from `at` on, below `prefix`; returns where it ends.
fn path(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &str,
    out: &mut Vec<(usize, String)>,
) -> usize {
    let mut text = prefix.to_string();
    let line = tokens[at].0;
    loop {
        text.push_str(&tokens[at].1);
        at += 1;
        if !colons(tokens, at) {
            break;
        }
        match tokens.get(at + 2).map(|(_, t)| t.as_str()) {
            Some("{") => {
                text.push_str("::");
                at += 3;
                while at < tokens.len() && tokens[at].1 != "}" {
                    let is_part = tokens[at].1.starts_with(is_name) || tokens[at].1 == "*";
                    at = if is_part {
                        path(tokens, at, &text, out)
                    } else {
                        at + 1
                    };
                }
                return at + 1;
            }
            Some(next) if next.starts_with(is_name) || next == "*" => {
                text.push_str("::");
                at += 2;
            }
            _ => break,
        }
    }
    out.push((line, text));
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blank_and_lifetimes_are_not() {
        let source =
            "a /* x /* y */ z */ b // c\n\"d\\\"e\" f<'g>('h', '\\'') r#\"i\"j\"# br\"k\" l";
        let words: Vec<String> = (tokens(&blank(source)).into_iter().map(|(_, t)| t))
            .filter(|t| t.starts_with(is_name))
            .collect();
        assert_eq!(words, ["a", "b", "f", "g", "b", "l"]);
        assert_eq!(blank(source).lines().count(), 2);
        assert_eq!(blank(source).chars().count(), source.chars().count());
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = "trait T { fn none(&self); }\nfn one() -> [u8; 2] {\n  let f: fn(u8) = g;\n}\n\
                      fn two<T>(a: [u8; 3])\nwhere\n  T: Fn(),\n{\n  if a { b } else { c }\n}\n";
        let found = functions(&tokens(&blank(source)));
        let lengths: Vec<(&str, usize)> = found.iter().map(|f| (&*f.name, f.lines)).collect();
        assert_eq!(lengths, [("one", 3), ("two", 6)]);
    }

    #[test]
    fn paths_are_written_out() {
        let source =
            "use std::{fs, io::{self, Read}, time::*};\nlet x = ::std::env::var(y::Z::new());";
        let found: Vec<String> = (paths(&tokens(source)).into_iter().map(|(_, p)| p)).collect();
        for path in [
            "std::fs",
            "std::io::Read",
            "std::time::*",
            "std::env::var",
            "y::Z::new",
        ] {
            assert!(found.iter().any(|p| p == path), "{path} in {found:?}");
        }
    }
}
