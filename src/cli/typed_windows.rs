//! Windows as they are typed on a command line.

use super::exit::Failure;
use clap::Args;
use tidegate_schemas::window::{RawWindow, RawWindows};

/// The options that say when a destination is open.
#[derive(Debug, Clone, Default, Args)]
pub struct TypedWindows {
    /// Time zone, such as Europe/Madrid [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Open on these days and times: 'DAYS', 'FROM-TO' or 'DAYS FROM-TO'
    #[arg(long, value_name = "WINDOW")]
    pub allow: Vec<String>,
    /// Open by a cron expression, for a time: 'MIN HOUR DAY MONTH WEEKDAY for LENGTH'
    #[arg(long, value_name = "WINDOW")]
    pub cron: Vec<String>,
}

impl TypedWindows {
    /// Whether none was typed.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.cron.is_empty()
    }

    /// As the config and the admin API have them. Whether they can be kept, those say.
    ///
    /// # Errors
    /// When a `--cron` does not say for how long.
    pub fn raw(self) -> Result<RawWindows, Failure> {
        let mut allow: Vec<RawWindow> = self.allow.iter().map(|text| by_days(text)).collect();
        for text in &self.cron {
            allow.push(by_cron(text)?);
        }
        Ok(RawWindows { timezone: self.timezone, allow, ..RawWindows::default() })
    }
}

/// `mon-fri 22:00-02:00`, `22:00-02:00` or `sat,sun`.
fn by_days(text: &str) -> RawWindow {
    let mut window = RawWindow::default();
    for part in text.split_whitespace() {
        match part.split_once('-') {
            Some((from, to)) if part.contains(':') => {
                window.from = Some(from.to_owned());
                window.to = Some(to.to_owned());
            }
            _ => window.days = Some(window.days.map_or_else(|| part.to_owned(), |days| format!("{days} {part}"))),
        }
    }
    window
}

/// `0 */6 * * * for 20m`.
fn by_cron(text: &str) -> Result<RawWindow, Failure> {
    let (cron, lasts) = text
        .split_once(" for ")
        .ok_or_else(|| Failure::usage(format!("--cron is 'MIN HOUR DAY MONTH WEEKDAY for LENGTH', not {text:?}")))?;
    Ok(RawWindow { cron: Some(cron.trim().to_owned()), lasts: Some(lasts.trim().to_owned()), ..RawWindow::default() })
}
