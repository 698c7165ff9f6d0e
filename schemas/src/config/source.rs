//! The texts of a config, with the settings of the environment laid over them, and the place of every value.
//!
//! The first text is the config file; those of `conf.d` are merged into it (`super::merge`). Every problem comes with its
//! [`Place`], so that whoever shows it can point at the line. The environment is given as name and value; names other than
//! `TIDEGATE__...` are not ours and are left alone.
//!
//! All texts lie behind one another on one line of bytes, the environment's settings behind the last: a span says by itself which
//! file it is of.

use super::{
    Problem,
    check::Surroundings,
    file::{Config, DestinationSource},
    keys, merge,
    origins::Origins,
    raw::RawConfig,
    settings,
};
use crate::id::DestinationId;
use serde::Deserialize;
use std::{ops::Range, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// What the names of our settings in the environment begin with. `TIDEGATE_CONFIG` and the like are the command line's.
pub const ENVIRONMENT_PREFIX: &str = "TIDEGATE__";

/// One file of a config.
#[derive(Debug, Clone, Copy)]
pub struct SourceText<'i> {
    /// Its path, as it is shown.
    pub name: &'i str,
    /// What it holds.
    pub text: &'i str,
}

/// The parsed texts, not yet checked.
#[derive(Debug, Clone)]
pub struct ConfigText<'i> {
    texts: Texts<'i>,
    table: Spanned<DeTable<'i>>,
}

/// The line of bytes on which spans are counted.
#[derive(Debug, Clone)]
pub(super) struct Texts<'i> {
    files: Vec<SourceText<'i>>,
    /// Where each file begins, and where the environment does.
    begins: Vec<usize>,
    environment: &'i [(String, String)],
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a text: which of them, and where in it, in bytes; within one line.
    Text(usize, Range<usize>),
    /// In the environment, under this name.
    Environment(String),
    /// Nowhere: it is absent, and so is everything around it.
    Nowhere,
}

/// A problem and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What is wrong.
    pub problem: Problem,
    /// Where.
    pub place: Place,
}

impl<'i> Texts<'i> {
    fn new(files: &[SourceText<'i>], environment: &'i [(String, String)]) -> Self {
        let mut begins = vec![0];
        for file in files {
            begins.push(begins.last().unwrap_or(&0) + file.text.len() + 1);
        }
        Self { files: files.to_vec(), begins, environment }
    }

    /// Where a file begins; the one after the last is the environment.
    pub fn begin(&self, file: usize) -> usize {
        self.begins.get(file).copied().unwrap_or_default()
    }

    /// Spans behind the texts stand for the settings of the environment.
    fn environment_span(&self, index: usize) -> Range<usize> {
        let at = self.begin(self.files.len()) + index;
        at..at
    }

    /// Where the lines of each file end.
    pub fn lines(&self) -> Vec<Vec<usize>> {
        self.files.iter().map(|file| file.text.match_indices('\n').map(|(at, _)| at).collect()).collect()
    }

    /// The path of a file, as it is shown.
    pub fn name(&self, file: usize) -> &'i str {
        self.files.get(file).map_or("", |file| file.name)
    }

    /// Where a span is.
    pub fn place(&self, span: Range<usize>) -> Place {
        let end = self.begin(self.files.len());
        if span.start >= end {
            let setting = self.environment.get(span.start - end);
            return setting.map_or(Place::Nowhere, |(name, _)| Place::Environment(name.clone()));
        }
        let file = self.begins.partition_point(|begin| *begin <= span.start) - 1;
        let (text, begin) = (self.files[file].text, self.begin(file));
        let start = floor(text, span.start - begin);
        let end = floor(text, span.end.saturating_sub(begin).clamp(start, text.len()));
        // A table's span goes over many lines; its first one says enough.
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        Place::Text(file, start..end.min(line_end))
    }

    /// File and line of a place, for people and for the admin API.
    pub fn source(&self, place: &Place) -> DestinationSource {
        match place {
            Place::Text(file, span) => {
                let before = self.files.get(*file).and_then(|file| file.text.get(..span.start)).unwrap_or_default();
                DestinationSource::File { file: self.name(*file).to_owned(), line: lines_in(before) + 1 }
            }
            Place::Environment(name) => DestinationSource::Environment { name: name.clone() },
            Place::Nowhere => DestinationSource::File { file: self.name(0).to_owned(), line: 1 },
        }
    }
}

impl<'i> ConfigText<'i> {
    /// Parses one text and lays the environment over it.
    ///
    /// # Errors
    /// Every syntax error, and every setting of the environment that has no place to go.
    pub fn parse(text: &'i str, environment: &'i [(String, String)]) -> Result<Self, Vec<Located>> {
        Self::parse_files(&[SourceText { name: "tidegate.toml", text }], environment)
    }

    /// Parses the config file and those of `conf.d`, merges them, and lays the environment over them.
    ///
    /// # Errors
    /// Every syntax error, what doesn't belong into `conf.d` or is there twice, and every setting of the environment that has no
    /// place to go.
    pub fn parse_files(files: &[SourceText<'i>], environment: &'i [(String, String)]) -> Result<Self, Vec<Located>> {
        let texts = Texts::new(files, environment);
        let mut located = Vec::new();
        let mut whole: Option<Spanned<DeTable<'i>>> = None;
        for (index, file) in files.iter().enumerate() {
            let begin = texts.begin(index);
            let (table, errors) = DeTable::parse_recoverable(file.text);
            for error in &errors {
                let span = error.span().unwrap_or_default();
                let place = texts.place(begin + span.start..begin + span.end);
                located.push(Located { problem: Problem::new("", error.message(), ""), place });
            }
            match &mut whole {
                None => whole = Some(table),
                Some(whole) => merge::merge(whole.get_mut(), table.into_inner(), begin, &texts, &mut located),
            }
        }
        let mut table = whole.unwrap_or_else(|| Spanned::new(0..0, DeTable::new()));
        for (index, (name, value)) in environment.iter().enumerate() {
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if let Err(problem) = overlay(table.get_mut(), path, value, texts.environment_span(index)) {
                located.push(Located { problem, place: Place::Environment(name.clone()) });
            }
        }
        in_order(&mut located);
        if located.is_empty() { Ok(Self { texts, table }) } else { Err(located) }
    }

    /// The checked config.
    ///
    /// # Errors
    /// All problems at once, in the order of the texts.
    pub fn check(&self, around: &Surroundings<'_>) -> Result<Config, Vec<Located>> {
        let mut table = self.table.clone();
        let unknown = keys::take_unknown(table.get_mut());
        let mut located: Vec<Located> = unknown.into_iter().map(|problem| self.locate_key(problem)).collect();
        let checked = match RawConfig::deserialize(Deserializer::from(table)) {
            Ok(raw) => raw.check(around).map_err(|problems| {
                located.extend(problems.iter().map(|problem| self.locate(problem.clone())));
            }),
            Err(error) => {
                let place = self.texts.place(error.span().unwrap_or_default());
                located.push(Located { problem: Problem::new("", in_words(error.message()), ""), place });
                Err(())
            }
        };
        match checked {
            Ok(mut config) if located.is_empty() => {
                for (id, source) in self.sources() {
                    if let Some(declaration) = config.declarations.get_mut(&id) {
                        declaration.source = source;
                    }
                }
                config.settings = settings::of(self.table.get_ref());
                config.origins = Arc::new(Origins::of(self.table.get_ref(), &self.texts));
                Ok(config)
            }
            _ => {
                in_order(&mut located);
                Err(located)
            }
        }
    }

    /// Where each destination is declared: in one walk over the texts, as there may be thousands.
    fn sources(&self) -> Vec<(DestinationId, DestinationSource)> {
        let Some(DeValue::Table(table)) = self.table.get_ref().get("destination").map(Spanned::get_ref) else {
            return Vec::new();
        };
        let mut keys: Vec<_> = table.keys().filter_map(|key| Some((key.span(), key.get_ref().parse().ok()?))).collect();
        keys.sort_by_key(|(span, _)| span.start);
        let (mut walked, mut line) = ((0, 0), 1);
        let sources = keys.into_iter().map(|(span, id)| {
            let place = self.texts.place(span);
            let Place::Text(file, span) = &place else { return (id, self.texts.source(&place)) };
            if walked.0 != *file {
                (walked, line) = ((*file, 0), 1);
            }
            line += lines_in(&self.texts.files[*file].text[walked.1..span.start]);
            walked.1 = span.start;
            (id, DestinationSource::File { file: self.texts.name(*file).to_owned(), line })
        });
        sources.collect()
    }

    /// A problem with the place of its value, or of the nearest table around it that is there.
    #[must_use]
    pub fn locate(&self, problem: Problem) -> Located {
        let place = self.place(&problem.path, false);
        Located { problem, place }
    }

    /// A problem with the place of its key.
    fn locate_key(&self, problem: Problem) -> Located {
        let place = self.place(&problem.path, true);
        Located { problem, place }
    }

    fn place(&self, path: &str, at_key: bool) -> Place {
        let (mut table, mut rest) = (self.table.get_ref(), path);
        let mut found: Option<Range<usize>> = None;
        while let Some((key, value, after)) = step(table, rest) {
            found = Some(key.clone());
            let (value, after) = match elements(value, after, &mut found) {
                Some(inner) => inner,
                None => break,
            };
            if after.is_empty() {
                if !at_key && !matches!(value.get_ref(), DeValue::Table(_)) {
                    found = Some(value.span());
                }
                break;
            }
            let DeValue::Table(inner) = value.get_ref() else { break };
            (table, rest) = (inner, after.trim_start_matches('.'));
        }
        found.map_or(Place::Nowhere, |span| self.texts.place(span))
    }
}

/// serde names Rust's types; operators write TOML.
fn in_words(message: &str) -> String {
    let words = [
        ("expected u8", "expected a number from 0 to 255"),
        ("expected u16", "expected a number from 0 to 65535"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected struct ", "expected a table: "),
        ("expected path string", "expected a string"),
    ];
    words.iter().fold(message.to_owned(), |message, (from, to)| message.replace(from, to))
}

/// In the order of the texts; what is in none of them comes last.
fn in_order(located: &mut [Located]) {
    located.sort_by_key(|located| match &located.place {
        Place::Text(file, span) => (*file, span.start),
        Place::Environment(_) | Place::Nowhere => (usize::MAX, 0),
    });
}

/// The key of a table with which a path begins, its value, and the rest of the path. Keys may have dots of their own, so the
/// longest one that fits is taken.
fn step<'t, 'i, 'p>(
    table: &'t DeTable<'i>,
    path: &'p str,
) -> Option<(Range<usize>, &'t Spanned<DeValue<'i>>, &'p str)> {
    table
        .iter()
        .filter_map(|(key, value)| {
            let rest = path.strip_prefix(key.get_ref().as_ref())?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| (key.span(), value, rest))
        })
        .min_by_key(|(_, _, rest)| rest.len())
}

/// Follows `[0][1]` into lists; notes how far it came.
fn elements<'t, 'i, 'p>(
    mut value: &'t Spanned<DeValue<'i>>,
    mut rest: &'p str,
    found: &mut Option<Range<usize>>,
) -> Option<(&'t Spanned<DeValue<'i>>, &'p str)> {
    while let Some(inner) = rest.strip_prefix('[') {
        let (index, after) = inner.split_once(']')?;
        let DeValue::Array(array) = value.get_ref() else { return None };
        value = array.get(index.parse::<usize>().ok()?)?;
        *found = Some(value.span());
        rest = after;
    }
    Some((value, rest))
}

fn lines_in(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Puts one setting of the environment into the table. Names match without regard to case, `_` standing for `-` too.
fn overlay<'i>(table: &mut DeTable<'i>, path: &str, value: &'i str, span: Range<usize>) -> Result<(), Problem> {
    let names: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
    let dotted = names.join(".");
    let Some((last, tables)) = names.split_last().filter(|_| !names.iter().any(String::is_empty)) else {
        let hint = "write TIDEGATE__SECTION__KEY, with two underscores";
        return Err(Problem::new(dotted, "a setting in the environment needs the name of a key", hint));
    };
    let mut table = table;
    for name in tables {
        let name = existing(table, name).unwrap_or_else(|| name.clone());
        let key = Spanned::new(span.clone(), name.into());
        let entry = table.entry(key).or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
        let DeValue::Table(inner) = entry.get_mut() else {
            let message = "the environment can't reach into a list or a value";
            return Err(Problem::new(dotted, message, "set it in the config file"));
        };
        table = inner;
    }
    let name = existing(table, last).unwrap_or_else(|| last.clone());
    let parsed = DeValue::parse(value).map_or_else(|_| DeValue::String(value.into()), Spanned::into_inner);
    table.remove(name.as_str());
    table.insert(Spanned::new(span.clone(), name.into()), moved(parsed, &span));
    Ok(())
}

fn existing(table: &DeTable<'_>, name: &str) -> Option<String> {
    table.keys().map(|key| key.get_ref().to_string()).find(|key| key.to_ascii_lowercase().replace('-', "_") == name)
}

/// The value with this span in all its parts.
fn moved<'i>(value: DeValue<'i>, span: &Range<usize>) -> Spanned<DeValue<'i>> {
    let value = match value {
        DeValue::Array(array) => DeValue::Array(array.into_iter().map(|v| moved(v.into_inner(), span)).collect()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, v)| (Spanned::new(span.clone(), key.into_inner()), moved(v.into_inner(), span)))
                .collect(),
        ),
        value => value,
    };
    Spanned::new(span.clone(), value)
}

#[cfg(test)]
mod tests;
