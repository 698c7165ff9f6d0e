//! The config as a file: read, checked, and every problem shown at its place, with file, line, column and a caret.
//!
//! ```text
//! error: unknown time zone "Europe/Madird"
//!  --> tidegate.toml:7:20
//!   |
//! 7 | windows.timezone = "Europe/Madird"
//!   |                    ^^^^^^^^^^^^^^^ destination.cardiology.windows.timezone
//!   |
//!   = help: use a name of the IANA time zone database, such as "Europe/Madrid" or "UTC"
//! ```
//!
//! The lines are those of the operator's file, but onion addresses in them are starred out, because what is shown may end up in a
//! journal (PR-4). Secrets are not in this file in the first place.

use crate::{adapters::system_clock::SystemClock, telemetry};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::{
    env,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::config::{
    Problem,
    check::Surroundings,
    file::Config,
    source::{ConfigText, ENVIRONMENT_PREFIX, Located, Place},
};

/// Largest config, secret, hosts file or file of device credentials that is read, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Width of a shown line, in columns; longer ones are cut around the caret.
const LINE_COLUMNS: usize = 140;

/// All that is wrong with a config, ready to be shown.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    /// The file's text, onion addresses starred out.
    text: String,
    problems: Vec<Located>,
}

/// The settings of this process's environment, in order of their names.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect();
    settings.sort();
    settings
}

/// Reads and checks a config file. `state_dir` is the state folder where the file names none.
///
/// # Errors
/// The report of all that is wrong with it.
pub fn load(path: &Path, state_dir: &Path, environment: &[(String, String)]) -> Result<Config, Report> {
    let text = read_file(path).map_err(|error| {
        let hint = "name the config file with --config FILE; schemas/config/example.toml is one to begin with";
        let problem = Problem::new("", format!("the config file could not be read: {error}"), hint);
        let problems = vec![Located { problem, place: Place::Nowhere }];
        Report { path: path.to_owned(), text: String::new(), problems }
    })?;
    check(path, &text, state_dir, environment).map_err(|problems| Report {
        path: path.to_owned(),
        text: without_onion_addresses(&text),
        problems,
    })
}

fn check(path: &Path, text: &str, state_dir: &Path, environment: &[(String, String)]) -> Result<Config, Vec<Located>> {
    let parsed = ConfigText::parse(text, environment)?;
    // A bare file name has the empty path as its parent, which is the current folder.
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let config = parsed.check(&Surroundings {
        base_dir,
        state_dir,
        now: SystemClock::default().now(),
        mqtt_tls: cfg!(feature = "mqtt-tls"),
        read_file: &read_file,
    })?;
    match telemetry::filter(&config.log.filter) {
        Ok(_) => Ok(config),
        Err(error) => {
            let message = format!("not a filter of log lines: {error}");
            let hint = "write a level (\"info\"), or targets with levels (\"info,tidegate=debug\")";
            Err(vec![parsed.locate(Problem::new("log.filter", message, hint))])
        }
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 8 MiB"));
    }
    Ok(text)
}

/// The text with every onion address, and what was meant to be one, starred out after its first four characters. The length in
/// bytes stays the same, so places stay right.
fn without_onion_addresses(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (end, _) in text.to_ascii_lowercase().match_indices(".onion") {
        let name = text[..end].bytes().rev().take_while(u8::is_ascii_alphanumeric).count();
        for byte in bytes.iter_mut().take(end).skip((end - name + 4).min(end)) {
            *byte = b'*';
        }
    }
    // Only ASCII letters and digits were replaced.
    String::from_utf8(bytes).unwrap_or_default()
}

impl Report {
    /// The problems, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Located] {
        &self.problems
    }

    /// Line and column of a problem's value, both from 1; columns count characters.
    #[must_use]
    pub fn line_and_column(&self, located: &Located) -> Option<(usize, usize)> {
        let Place::Text(span) = &located.place else { return None };
        let before = self.text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    /// The whole report as text, with colours for a terminal.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(LINE_COLUMNS);
        let path = self.path.display().to_string();
        let mut shown: Vec<String> =
            self.problems.iter().map(|located| renderer.render(&[self.group(located, &path)])).collect();
        let count = match self.problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        shown.push(format!("{path}: {count}; nothing was started"));
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, located: &'a Located, path: &'a str) -> Group<'a> {
        let Problem { path: key, message, hint } = &located.problem;
        let title = Level::ERROR.primary_title(message.as_str());
        let group = match &located.place {
            Place::Text(span) => {
                let annotation = AnnotationKind::Primary.span(span.clone());
                let annotation = if key.is_empty() { annotation } else { annotation.label(key.as_str()) };
                title.element(Snippet::source(self.text.as_str()).path(path).annotation(annotation))
            }
            Place::Environment(name) => title.element(Origin::path(format!("{name} in the environment"))),
            Place::Nowhere if key.is_empty() => title.element(Origin::path(path)),
            Place::Nowhere => title.element(Origin::path(format!("{path} ({key})"))),
        };
        if hint.is_empty() { group } else { group.element(Level::HELP.message(hint.as_str())) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

    fn report(text: &str, environment: &[(&str, &str)]) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, text).unwrap();
        let environment: Vec<_> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut report = load(&path, folder.path(), &environment).unwrap_err();
        report.path = "tidegate.toml".into();
        report
    }

    #[test]
    fn a_problem_is_shown_with_file_line_column_caret_and_help() {
        let text = format!("# é\n[destination.a]\nonion = \"{ONION}\"\nwindows.timezone = \"Europe/Madird\"\n");
        let shown = report(&text, &[]).render(false);
        let expected = "\
error: unknown time zone \"Europe/Madird\"
 --> tidegate.toml:4:20
  |
4 | windows.timezone = \"Europe/Madird\"
  |                    ^^^^^^^^^^^^^^^ destination.a.windows.timezone
  |
  = help: use a name of the IANA time zone database, such as \"Europe/Madrid\" or \"UTC\"

tidegate.toml: 1 problem; nothing was started";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_onion_address_is_starred_out_even_where_it_is_the_problem() {
        let wrong = ONION.replacen('g', "h", 1);
        let report = report(&format!("[destination.a]\nonion = \"{wrong}\"\n"), &[]);
        let shown = report.render(false);
        assert!(shown.contains("checksum") && shown.contains("tidegate.toml:2:9"), "{shown}");
        assert!(shown.contains("2hzy****") && !shown.contains(&wrong[4..20]), "{shown}");
        assert_eq!(report.line_and_column(&report.problems()[0]), Some((2, 9)));
    }

    #[test]
    fn the_environment_and_the_absent_are_named() {
        let environment = report("", &[("TIDEGATE__MQTT__PORT", "0")]).render(false);
        assert!(environment.contains("--> TIDEGATE__MQTT__PORT in the environment"), "{environment}");
        let filter = report("[log]\nfilter = \"tidegate=loud\"\n", &[]).render(false);
        assert!(filter.contains("tidegate.toml:2:10"), "{filter}");
        let missing = load(Path::new("/nonexistent/tidegate.toml"), Path::new("/state"), &[]).unwrap_err();
        let shown = missing.render(false);
        assert!(shown.contains("--> /nonexistent/tidegate.toml") && shown.contains("--config"), "{shown}");
        assert_eq!(missing.line_and_column(&missing.problems()[0]), None);
    }

    #[test]
    fn a_syntax_error_at_the_very_end_is_shown_too() {
        for text in ["[mqtt", "[mqtt]\nhost =", "é = \"", "\n\n[[[", "a = 1\na = 2\n"] {
            let shown = report(text, &[]).render(false);
            assert!(shown.contains("--> tidegate.toml:"), "{text:?}: {shown}");
        }
    }

    #[test]
    fn starring_out_keeps_every_place() {
        let text = format!("é {ONION} .onion x.onion {}", ONION.to_ascii_uppercase());
        let starred = without_onion_addresses(&text);
        assert_eq!(starred.len(), text.len());
        assert!(starred.contains("x.onion") && !starred.to_ascii_lowercase().contains("xa5ihm7n"), "{starred}");
    }
}
