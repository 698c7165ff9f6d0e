//! The files of `conf.d`: merged into the config file, in the order of their names.
//!
//! They hold `[destination.NAME]` and `[[route]]`, nothing else: a second place for the broker or the listeners would leave nobody
//! knowing what holds. A destination is declared in one place; routes of later files come after those of earlier ones.

use super::{
    Problem,
    source::{Located, Texts},
};
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// Merges one file, whose bytes begin at `begin`, into the whole.
pub(super) fn merge<'i>(
    whole: &mut DeTable<'i>,
    part: DeTable<'i>,
    begin: usize,
    texts: &Texts<'i>,
    located: &mut Vec<Located>,
) {
    let mut refuse = |span: Range<usize>, path: &str, message: String, hint: &str| {
        located.push(Located { problem: Problem::new(path, message, hint), place: texts.place(span) });
    };
    for (key, value) in shifted_table(part, begin) {
        let (name, at) = (key.get_ref().to_string(), key.span());
        let span = value.span();
        match (name.as_str(), value.into_inner()) {
            ("destination", DeValue::Table(declared)) => {
                let into = whole.entry(key).or_insert_with(|| Spanned::new(span, DeValue::Table(DeTable::new())));
                // Whatever else the config file has there, serde refuses.
                let DeValue::Table(into) = into.get_mut() else { continue };
                for (id, declaration) in declared {
                    let earlier = into.get_key_value(id.get_ref().as_ref()).map(|(known, _)| known.span());
                    match earlier {
                        Some(earlier) => {
                            let first = texts.source(&texts.place(earlier));
                            let message = format!("the destination {:?} is declared in {first} too", id.get_ref());
                            let path = format!("destination.{}", id.get_ref());
                            refuse(
                                id.span(),
                                &path,
                                message,
                                "a destination is declared in one place: remove one of the two",
                            );
                        }
                        None => drop(into.insert(id, declaration)),
                    }
                }
            }
            ("route", DeValue::Array(routes)) => {
                let into = whole.entry(key).or_insert_with(|| Spanned::new(span, DeValue::Array(DeArray::new())));
                if let DeValue::Array(into) = into.get_mut() {
                    routes.into_iter().for_each(|route| into.push(route));
                }
            }
            ("destination" | "route", _) => {
                refuse(at, &name, format!("{name:?} is a table here"), "write [destination.NAME] or [[route]]");
            }
            _ => {
                let message = format!(
                    "{name:?} can't stand in a file of conf.d: these hold [destination.NAME] and [[route]] alone"
                );
                refuse(at, &name, message, "move it to the config file itself");
            }
        }
    }
}

fn shifted_table<'i>(table: DeTable<'i>, by: usize) -> DeTable<'i> {
    let moved = |span: Range<usize>| span.start + by..span.end + by;
    table
        .into_iter()
        .map(|(key, value)| (Spanned::new(moved(key.span()), key.into_inner()), shifted(value, by)))
        .collect()
}

/// The value with all its spans counted from another beginning.
fn shifted<'i>(value: Spanned<DeValue<'i>>, by: usize) -> Spanned<DeValue<'i>> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::Array(array) => DeValue::Array(array.into_iter().map(|value| shifted(value, by)).collect()),
        DeValue::Table(table) => DeValue::Table(shifted_table(table, by)),
        value => value,
    };
    Spanned::new(span.start + by..span.end + by, value)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use crate::config::source::{ConfigText, Place, SourceText};

    fn refused(files: &[(&str, &str)]) -> Vec<(usize, String, String)> {
        let files: Vec<_> = files.iter().map(|(name, text)| SourceText { name, text }).collect();
        let located = ConfigText::parse_files(&files, &[]).unwrap_err();
        let told = located.into_iter().map(|located| {
            let Place::Text(file, span) = located.place else { panic!("{located:?}") };
            (file, files[file].text[span].to_owned(), located.problem.message)
        });
        told.collect()
    }

    #[test]
    fn a_destination_that_is_declared_twice_is_refused_naming_both_places() {
        let told = refused(&[
            ("tidegate.toml", "[destination.a]\nlanes = 1\n"),
            ("conf.d/1.toml", "# é\n[destination.b]\nlanes = 1\n"),
            ("conf.d/2.toml", "[destination]\na = { lanes = 2 }\n\n[destination.b]\nlanes = 2\n"),
        ]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!((told[0].0, told[0].1.as_str()), (2, "a"));
        assert!(told[0].2.contains("tidegate.toml:1"), "{told:?}");
        assert_eq!((told[1].0, told[1].1.as_str()), (2, "b"));
        assert!(told[1].2.contains("conf.d/1.toml:2"), "{told:?}");
    }

    #[test]
    fn other_sections_and_errors_of_syntax_are_told_in_their_own_file() {
        let told = refused(&[
            ("tidegate.toml", "[mqtt]\nport = 1\n"),
            ("conf.d/1.toml", "[http]\nenabled = true\n"),
            ("conf.d/2.toml", "route = 1\n"),
            ("conf.d/3.toml", "\n[destination"),
        ]);
        let files: Vec<usize> = told.iter().map(|told| told.0).collect();
        assert_eq!(files, [1, 2, 3], "{told:?}");
        assert_eq!(told[0].1, "http");
    }
}
