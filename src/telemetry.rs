//! Logs: where they go, in which form, and what never gets into them.
//!
//! To the standard error output, as text for people or as one JSON object a line (`log.format`), filtered by `log.filter`.
//! Colours on a terminal only, and not where `NO_COLOR` is set.
//!
//! **The rule: no payload, no onion address, no key in any log line, at any level** (PR-2, PR-4). Our own types keep it by
//! redacting themselves. Other crates are held to it here, whatever the filter says: below `info`, only those are heard that are
//! known to redact (`HEARD_BELOW_INFO`); an MQTT or HTTP library that prints whole packets at `trace` is not among them. arti
//! replaces addresses by `[scrubbed]` itself. Its chatter at `info` is left out unless the filter asks for it by name.
//!
//! Where the standard error output is systemd's journal (`JOURNAL_STREAM`), each line begins with its level as sd-daemon(3) has it, which
//! the journal takes off: `journalctl -p warning` works then, and what is left of a JSON line is JSON.

use std::{
    fmt as text,
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt as _,
};
use tidegate_schemas::config::file::LogConfig;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, filter_fn},
    fmt::{
        FmtContext, MakeWriter,
        format::{FormatEvent, FormatFields, Writer, format},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Crates that say too much at their `info` or `warn`: these directives come before the config's own, which replace them.
const QUIET: &str =
    "arti_client=warn,tor_=warn,tor_netdir=error,sled=warn,rumqttc=warn,rumqttd=warn,hyper=warn,ruma=warn,actix=warn";
/// What the target of an event begins with for it to be heard at `debug` and `trace`.
const HEARD_BELOW_INFO: [&str; 3] = ["tidegate", "arti", "tor_"];

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` is no filter.
    #[error("log.filter is not a filter of log lines: {0}")]
    Filter(#[from] ParseError),
    /// Somebody else logs in this process already.
    #[error("logging is set up already")]
    SetUp,
}

/// Begins to log, for the whole process.
///
/// # Errors
/// When the filter is none, or when logging has begun already.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let form = if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref(), "/proc/self/fd/2") {
        Form::Journal
    } else {
        Form::Plain { colours }
    };
    subscriber(config, io::stderr, form)?.try_init().map_err(|_| TelemetryError::SetUp)
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each by itself.
    Plain {
        /// For a terminal.
        colours: bool,
    },
    /// For systemd's journal, which keeps the time by itself and takes the level from the line's beginning.
    Journal,
}

/// Whether this output is the journal's: systemd names the device and inode of the stream that it gave to the service. Who sends the
/// output elsewhere inherits the variable all the same.
fn is_journal(named: Option<&str>, output: &str) -> bool {
    let Ok(output) = std::fs::metadata(output) else { return false };
    named.is_some_and(|named| named == format!("{}:{}", output.dev(), output.ino()))
}

/// A line with its level before it, in the numbers of syslog.
struct Levelled<F>(F);

impl<S, N, F> FormatEvent<S, N> for Levelled<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> text::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(to, "<{level}>")?;
        self.0.format_event(context, to, event)
    }
}

/// The filter of a config, with the quiet ones before it.
///
/// # Errors
/// When the text is no filter.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{QUIET},{text}"))
}

fn subscriber<W>(
    config: &LogConfig,
    writer: W,
    form: Form,
) -> Result<impl Subscriber + Send + Sync + 'static, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match (config.json, form) {
        (true, Form::Plain { .. }) => lines.json().flatten_event(true).boxed(),
        (false, Form::Plain { colours }) => lines.with_ansi(colours).boxed(),
        (true, Form::Journal) => lines.json().event_format(Levelled(format().json().flatten_event(true))).boxed(),
        (false, Form::Journal) => lines.with_ansi(false).event_format(Levelled(format().without_time())).boxed(),
    };
    Ok(tracing_subscriber::registry().with(filter(&config.filter)?).with(filter_fn(is_heard)).with(lines))
}

fn is_heard(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::INFO || HEARD_BELOW_INFO.iter().any(|target| event.target().starts_with(target))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of some events under this config.
    fn written(filter: &str, json: bool) -> String {
        written_in(Form::Plain { colours: false }, filter, json)
    }

    fn written_in(form: Form, filter: &str, json: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig { filter: filter.to_owned(), json };
        let subscriber = subscriber(&config, move || writer.clone(), form).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(destination = "cardiology", "ours at info");
            tracing::debug!("ours at debug");
            tracing::info!(target: "tor_dirmgr::bootstrap", "chatter of arti");
            tracing::debug!(target: "tor_dirmgr::bootstrap", "detail of arti");
            tracing::trace!(target: "rumqttc::state", "a whole packet");
            tracing::error!(target: "rumqttc::state", "a failure");
            tracing::info!("hostile \u{1b}[31mred\u{1b}[0m");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn arti_is_quiet_until_it_is_asked_for_by_name() {
        let text = written("info", false);
        assert!(text.contains("ours at info") && text.contains("a failure"), "{text}");
        assert!(!text.contains("ours at debug") && !text.contains("arti"), "{text}");
        let text = written("info,tor_dirmgr=debug", false);
        assert!(text.contains("chatter of arti") && text.contains("detail of arti"), "{text}");
    }

    #[test]
    fn no_filter_makes_a_library_print_what_it_carries() {
        for filter in ["trace", "rumqttc=trace", "info,rumqttc::state=trace"] {
            assert!(!written(filter, false).contains("a whole packet"), "{filter}");
        }
        assert!(written("trace", false).contains("ours at debug"));
    }

    #[test]
    fn what_a_stranger_says_cannot_colour_the_terminal() {
        for json in [false, true] {
            assert!(!written("info", json).contains('\u{1b}'));
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written("info", true);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "ours at info");
        assert_eq!(first["destination"], "cardiology");
        assert_eq!(first["level"], "INFO");
    }

    #[test]
    fn the_journal_hears_the_level_of_each_line() {
        let text = written_in(Form::Journal, "info", false);
        let first = text.lines().next().unwrap();
        assert_eq!(first, "<6> INFO tidegate::telemetry::tests: ours at info destination=\"cardiology\"");
        assert!(text.contains("<3>ERROR rumqttc::state: a failure") && !text.contains('\u{1b}'), "{text}");

        let text = written_in(Form::Journal, "info", true);
        let first: serde_json::Value =
            serde_json::from_str(text.strip_prefix("<6>").unwrap().lines().next().unwrap()).unwrap();
        assert_eq!((&first["message"], &first["destination"]), (&"ours at info".into(), &"cardiology".into()));
    }

    #[test]
    fn only_the_stream_that_systemd_named_is_the_journal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (at, path) = (file.as_file().metadata().unwrap(), file.path().to_str().unwrap());
        assert!(is_journal(Some(&format!("{}:{}", at.dev(), at.ino())), path));
        for other in [Some(format!("{}:{}", at.dev(), at.ino() + 1)), Some(String::new()), None] {
            assert!(!is_journal(other.as_deref(), path));
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(filter("tidegate=loud").is_err());
        assert!(filter("info,tidegate=debug").is_ok() && filter("off").is_ok());
    }
}
