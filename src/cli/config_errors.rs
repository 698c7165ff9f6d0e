//! The config as files: read, checked, and every problem shown at its place, with file, line, column and a caret.
//!
//! ```text
//! error: unknown time zone "Europe/Madird"
//!  --> tidegate.toml:7:20
//!   |
//! 7 | windows.timezone = "Europe/Madird"
//!   |                    ^^^^^^^^^^^^^^^ destination.cardiology.windows.timezone
//!   |
//!   = help: did you mean "Europe/Madrid"?
//! ```
//!
//! The lines are those of the operator's file, but onion addresses in them are starred out, because what is shown may end up in a
//! journal (PR-4). Secrets are not in this file in the first place.

use super::config_files::{self, ConfigFile};
use crate::{adapters::system_clock::SystemClock, telemetry};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::{env, path::Path};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::config::{
    Problem,
    check::{Occasion, Surroundings},
    file::Config,
    source::{ConfigText, ENVIRONMENT_PREFIX, Located, Place, SourceText},
};

/// Width of a shown line, in columns; longer ones are cut around the caret.
const LINE_COLUMNS: usize = 140;

/// All that is wrong with a config, ready to be shown.
#[derive(Debug)]
pub struct Report {
    /// The config file, then those of `conf.d`; onion addresses are starred out.
    files: Vec<ConfigFile>,
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

/// Reads and checks a config file and those of `conf.d` beside it. `state_dir` is the state folder where they name none.
///
/// # Errors
/// The report of all that is wrong with it.
pub fn load(
    path: &Path,
    state_dir: &Path,
    environment: &[(String, String)],
    occasion: Occasion,
) -> Result<Config, Report> {
    let files = config_files::read(path).map_err(|(path, error)| {
        let hint = "name the config file with --config FILE; schemas/config/example.toml is one to begin with";
        let problem = Problem::new("", format!("{} could not be read: {error}", path.display()), hint);
        let problems = vec![Located { problem, place: Place::Nowhere }];
        Report { files: vec![ConfigFile { path, text: String::new() }], problems }
    })?;
    check(path, &files, state_dir, environment, occasion).map_err(|problems| {
        let starred = |ConfigFile { path, text }| ConfigFile { path, text: without_onion_addresses(&text) };
        Report { files: files.into_iter().map(starred).collect(), problems }
    })
}

fn check(
    path: &Path,
    files: &[ConfigFile],
    state_dir: &Path,
    environment: &[(String, String)],
    occasion: Occasion,
) -> Result<Config, Vec<Located>> {
    let names: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
    let texts: Vec<SourceText<'_>> =
        files.iter().zip(&names).map(|(file, name)| SourceText { name, text: &file.text }).collect();
    let parsed = ConfigText::parse_files(&texts, environment)?;
    let config = parsed.check(&Surroundings {
        base_dir: config_files::base_dir(path),
        state_dir,
        occasion,
        now: SystemClock::default().now(),
        mqtt_tls: cfg!(feature = "mqtt-tls"),
        read_file: &config_files::read_file,
        read_registry: &config_files::read_registry,
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

    /// File, line and column of a problem's value, the latter from 1; columns count characters.
    #[must_use]
    pub fn position(&self, located: &Located) -> Option<(&Path, usize, usize)> {
        let Place::Text(file, span) = &located.place else { return None };
        let ConfigFile { path, text } = self.files.get(*file)?;
        let before = text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((path, before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    /// Where a problem is, in words: `tidegate.toml:7:20`, or the setting of the environment.
    #[must_use]
    pub fn place(&self, located: &Located) -> String {
        match (&located.place, self.position(located)) {
            (_, Some((path, line, column))) => format!("{}:{line}:{column}", path.display()),
            (Place::Environment(name), _) => format!("{name} in the environment"),
            _ => self.path().display().to_string(),
        }
    }

    fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// The whole report as text, with colours for a terminal.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(LINE_COLUMNS);
        let paths: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
        let mut shown: Vec<String> =
            self.problems.iter().map(|located| renderer.render(&[self.group(located, &paths)])).collect();
        let count = match self.problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        shown.push(format!("{}: {count}; nothing was started", self.path().display()));
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, located: &'a Located, paths: &'a [String]) -> Group<'a> {
        let Problem { path: key, message, hint } = &located.problem;
        let title = Level::ERROR.primary_title(message.as_str());
        let path = paths.first().map_or("", String::as_str);
        let group = match &located.place {
            Place::Text(file, span) => {
                let annotation = AnnotationKind::Primary.span(span.clone());
                let annotation = if key.is_empty() { annotation } else { annotation.label(key.as_str()) };
                let text = self.files.get(*file).map_or("", |file| file.text.as_str());
                let path = paths.get(*file).map_or(path, String::as_str);
                title.element(Snippet::source(text).path(path).annotation(annotation))
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
        let mut report = load(&path, folder.path(), &environment, Occasion::New).unwrap_err();
        report.files[0].path = "tidegate.toml".into();
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
  = help: did you mean \"Europe/Madrid\"?

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
        assert_eq!(report.position(&report.problems()[0]), Some((Path::new("tidegate.toml"), 2, 9)));
    }

    #[test]
    fn the_environment_and_the_absent_are_named() {
        let environment = report("", &[("TIDEGATE__MQTT__PORT", "0")]).render(false);
        assert!(environment.contains("--> TIDEGATE__MQTT__PORT in the environment"), "{environment}");
        let filter = report("[log]\nfilter = \"tidegate=loud\"\n", &[]).render(false);
        assert!(filter.contains("tidegate.toml:2:10"), "{filter}");
        let missing =
            load(Path::new("/nonexistent/tidegate.toml"), Path::new("/state"), &[], Occasion::New).unwrap_err();
        let shown = missing.render(false);
        assert!(shown.contains("--> /nonexistent/tidegate.toml") && shown.contains("--config"), "{shown}");
        assert_eq!(missing.position(&missing.problems()[0]), None);
    }

    #[test]
    fn a_problem_of_a_file_in_conf_d_is_shown_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        let parts = folder.path().join(config_files::FOLDER);
        std::fs::create_dir(&parts).unwrap();
        std::fs::write(&path, format!("[destination.a]\nonion = \"{ONION}\"\nlanes = 99\n")).unwrap();
        let text = format!("# é\n[destination.b]\nonion = \"{ONION}\"\nwindows.timezone = \"Europe/Madird\"\n");
        std::fs::write(parts.join("b.toml"), &text).unwrap();
        let twice = "[mqtt]\nport = 1\n";
        let shown = |report: &Report| report.render(false).replace(&format!("{}/", folder.path().display()), "");
        let report = load(&path, folder.path(), &[], Occasion::New).unwrap_err();
        let expected = "\
error: unknown time zone \"Europe/Madird\"
 --> conf.d/b.toml:4:20
  |
4 | windows.timezone = \"Europe/Madird\"
  |                    ^^^^^^^^^^^^^^^ destination.b.windows.timezone
";
        let said = shown(&report);
        assert!(said.contains(expected) && said.contains("--> tidegate.toml:3:9"), "{said}");
        assert!(!said.contains(&ONION[..20]) && said.ends_with("tidegate.toml: 2 problems; nothing was started"));
        assert!(report.place(&report.problems()[1]).ends_with("conf.d/b.toml:4:20"));
        std::fs::write(parts.join("c.toml"), twice).unwrap();
        let said = shown(&load(&path, folder.path(), &[], Occasion::New).unwrap_err());
        assert!(said.contains("--> conf.d/c.toml:1:2") && said.contains("alone"), "{said}");
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
