//! Logs of a program that runs unattended: to standard error, for people or for
//! programs.
//!
//! Whatever a log line quotes may come from a miner. What could act on a terminal
//! is spelt out, and one event stays one line.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use super::say;
use crate::report::visible;

/// Names the filter, where `--log` does not.
const VARIABLE: &str = "EVALTASKS_LOG";
/// What is logged when nobody says: decisions, and what goes wrong elsewhere.
const DEFAULT_FILTER: &str = "warn,evaltasks=info";

/// How logs look and what they hold.
#[derive(Args, Clone, Debug, Default)]
pub struct LogArguments {
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to log, such as `debug` or `info,evaltasks_chain=trace`; else
    /// $EVALTASKS_LOG, else `warn,evaltasks=info`
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// See [`LogArguments::log_format`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text each.
    #[default]
    Human,
    /// A JSON object each.
    Json,
}

/// Why nothing is logged. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("read the log's filter `{0}`")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// The program logs already.
    #[error("start the log")]
    Started(#[source] tracing_subscriber::util::TryInitError),
}

impl LogArguments {
    /// Logs from now on.
    ///
    /// # Errors
    /// When the filter cannot be read, or the program logs already.
    pub fn start(&self) -> Result<(), LogError> {
        if self.log_format == LogFormat::Json {
            say::in_json();
        }
        let variable = std::env::var(VARIABLE).ok().filter(|filter| !filter.trim().is_empty());
        let filter = self.log.clone().or(variable);
        let subscriber = subscriber(self.log_format, filter.as_deref(), io::stderr)?;
        subscriber.try_init().map_err(LogError::Started)
    }
}

fn subscriber<W>(
    format: LogFormat,
    filter: Option<&str>,
    output: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter.unwrap_or(DEFAULT_FILTER);
    let parsed = EnvFilter::try_new(filter);
    let parsed = parsed.map_err(|error| LogError::Filter(filter.to_owned(), error))?;
    let output = Visible { output, format };
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(output);
    Ok(match format {
        LogFormat::Human => Box::new(builder.with_ansi(false).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

/// Writes lines in which nothing can act on the reader's terminal.
struct Visible<W> {
    output: W,
    format: LogFormat,
}

/// See [`Visible`].
struct VisibleWriter<W> {
    output: W,
    format: LogFormat,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Visible<W> {
    type Writer = VisibleWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        VisibleWriter { output: self.output.make_writer(), format: self.format }
    }
}

impl<W: Write> Write for VisibleWriter<W> {
    /// An event comes whole, in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = match self.format {
            LogFormat::Human => visible(line),
            LogFormat::Json => escaped(line),
        };
        self.output.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// JSON in which what [`visible`] spells out is escaped the way of JSON. Such
/// characters are in its strings alone.
pub(super) fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if visible(character.encode_utf8(&mut [0; 4])).starts_with('\\') && character != '\\' {
            let mut units = [0; 2];
            let units = character.encode_utf16(&mut units);
            shown.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\u{1b}[31m\nb\u{202e}\u{9b}\u{e0001}\"c";

    fn logged(format: LogFormat, filter: Option<&str>) -> String {
        let kept = Kept::default();
        let output = kept.clone();
        let subscriber = subscriber(format, filter, move || output.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "evaltasks::validator", model = HOSTILE, "rejected {HOSTILE}");
            tracing::info!(target: "hyper", "too much detail");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn nothing_that_is_logged_can_act() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = logged(format, None);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert_eq!(visible(text.trim_end()), text.trim_end());
            assert!(text.contains("rejected a") && !text.contains("hyper"), "{text}");
        }
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, None)).unwrap();
        assert_eq!(json["model"], HOSTILE);
        assert_eq!(json["message"], format!("rejected {HOSTILE}"));
    }

    #[test]
    fn filters_are_obeyed_or_refused() {
        assert_eq!(logged(LogFormat::Human, Some("off")), "");
        assert_eq!(logged(LogFormat::Human, Some("info")).lines().count(), 2);
        let refused = subscriber(LogFormat::Human, Some("evaltasks=loud"), io::sink);
        let error = refused.err().unwrap().to_string();
        assert_eq!(error, "read the log's filter `evaltasks=loud`");
    }
}
