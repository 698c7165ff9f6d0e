//! Reading Rust source just well enough for the house rules: what is code and what is comment or literal, and which paths
//! (`std::fs::read`, `tokio::net`) it names.
//!
//! Not a parser: macros are read as written, and a path that a macro puts together is not seen. Pure, over text.

/// The code of a source file: comments and the contents of literals are blanked, line breaks stay where they are.
pub fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends, or `at` when none begins there.
fn blank_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\0');
    match chars[at] {
        '/' if next(1) == '/' => find(chars, at, |i| chars[i] == '\n').unwrap_or(chars.len()),
        '/' if next(1) == '*' => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if at == 0 || !is_word(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c') => {
            raw_string_end(chars, at).unwrap_or(at)
        }
        // A character literal, not a lifetime.
        '\'' if next(1) == '\\' => find(chars, at + 3, |i| chars[i] == '\'').map_or(chars.len(), |i| i + 1),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(usize) -> bool) -> Option<usize> {
    (from..chars.len()).find(|&i| wanted(i))
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let quote = find(chars, at + 1, |i| chars[i] != '#')?;
    if chars[quote] != '"' {
        return None;
    }
    let hashes = quote - at - 1;
    let close = find(chars, quote + 1, |i| {
        chars[i] == '"' && i + hashes < chars.len() && chars[i + 1..=i + hashes].iter().all(|&c| c == '#')
    });
    Some(close.map_or(chars.len(), |i| i + hashes + 1))
}

/// Whether a character can stand in an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// One path that code names, with the line (from 1) on which it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// From 1.
    pub line: usize,
    /// `["std", "fs", "read"]`
    pub segments: Vec<String>,
    /// Came from a `use`, where even one segment is a path.
    pub imported: bool,
}

/// Every path that `code` (from [`code_of`]) names: the trees of its `use` items spelled out, and the paths in expressions.
pub fn paths_of(code: &str) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    for (line, tree) in use_trees(code) {
        let mut full = Vec::new();
        spell_out(tree.trim(), &[], &mut full);
        paths.extend(full.into_iter().map(|segments| NamedPath { line, segments, imported: true }));
    }
    for (index, text) in code.lines().enumerate() {
        for chain in text.split(|c: char| !is_word(c) && c != ':') {
            let segments: Vec<String> = chain.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect();
            if segments.len() > 1 {
                paths.push(NamedPath { line: index + 1, segments, imported: false });
            }
        }
    }
    paths
}

/// The text between each `use` and its semicolon.
fn use_trees(code: &str) -> Vec<(usize, &str)> {
    let mut trees = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let begins_a_word = code[..at].chars().next_back().is_none_or(|c| !is_word(c));
        let Some(length) = code[at..].find(';') else { continue };
        if begins_a_word {
            trees.push((code[..at].matches('\n').count() + 1, &code[at + 4..at + length]));
        }
    }
    trees
}

fn spell_out(tree: &str, prefix: &[String], full: &mut Vec<Vec<String>>) {
    let (head, group) = match tree.find('{') {
        Some(open) => (&tree[..open], Some(tree[open + 1..].trim_end().trim_end_matches('}'))),
        None => (tree, None),
    };
    let head = head.split(" as ").next().unwrap_or_default();
    let mut path = prefix.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|s| !s.is_empty() && *s != "self").map(str::to_owned));
    match group {
        None => full.push(path),
        Some(group) => top_level_parts(group).into_iter().for_each(|part| spell_out(part, &path, full)),
    }
}

/// Splits at the commas that stand in no inner braces.
fn top_level_parts(group: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    group
        .split(move |c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"tokio::x // \\\" y\"; // sled\n/* a /* b */ rand */ let c = 'x'; fn f<'a>() {}\nr#\"q\"w\"# b\"z\" '\\'' end";
    let code = code_of(text);
    assert_eq!(code.lines().count(), 3);
    for gone in ["tokio", "sled", "rand", "'x'", "q", "w", "z"] {
        assert!(!code.contains(gone), "{gone} is left in {code}");
    }
    for kept in ["let a =", "let c =", "fn f<'a>() {}", "end"] {
        assert!(code.contains(kept), "{kept} is gone from {code}");
    }
    assert_eq!(code_of("let r#type = 1;"), "let r#type = 1;");
}

#[test]
fn use_trees_are_spelled_out() {
    let code = "use std::{fs, io::{self, Read as R}};\npub use tokio;\nlet x = jiff::Timestamp::now();";
    let named: Vec<String> = paths_of(code).iter().map(|p| format!("{} {}", p.line, p.segments.join("::"))).collect();
    for wanted in ["1 std::fs", "1 std::io", "1 std::io::Read", "2 tokio", "3 jiff::Timestamp::now"] {
        assert!(named.iter().any(|n| n == wanted), "{wanted} is not in {named:?}");
    }
}
