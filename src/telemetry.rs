//! Logs: where they go, in which form, and what never gets into them.
//!
//! To the standard error output, as text for people or as one JSON object a line (`log.format`), filtered by `log.filter`.
//! Colours on a terminal only, and not where `NO_COLOR` is set.
//!
//! **The rule: no payload, no onion address, no key in any log line, at any level** (PR-2, PR-4). Our own types keep it by
//! redacting themselves. Other crates are held to it here, whatever the filter says: below `info`, only those are heard that are
//! known to redact (`HEARD_BELOW_INFO`); an MQTT or HTTP library that prints whole packets at `trace` is not among them. arti
//! replaces addresses by `[scrubbed]` itself. Its chatter at `info` is left out unless the filter asks for it by name.

use std::io::{self, IsTerminal};
use tidegate_schemas::config::file::LogConfig;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{ParseError, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
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
    subscriber(config, io::stderr, colours)?.try_init().map_err(|_| TelemetryError::SetUp)
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
    colours: bool,
) -> Result<impl Subscriber + Send + Sync + 'static, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if config.json { lines.json().flatten_event(true).boxed() } else { lines.with_ansi(colours).boxed() };
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
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig { filter: filter.to_owned(), json };
        let subscriber = subscriber(&config, move || writer.clone(), false).unwrap();
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
    fn a_filter_that_is_none_is_refused() {
        assert!(filter("tidegate=loud").is_err());
        assert!(filter("info,tidegate=debug").is_ok() && filter("off").is_ok());
    }
}
