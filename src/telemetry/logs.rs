//! Log lines: for people on a terminal, as JSON elsewhere, and there each says whose it is.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, ConfigError, LogFormat};

/// Sends logs to standard error, panics among them. Each line that is JSON says first whose it is: `kind` with the
/// process's `id`, such as the `worker` that an invocation names, and the release.
pub fn init(config: &Config, kind: &str, id: &str) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.log.filter).map_err(|error| ConfigError {
        key: "log.filter".to_owned(),
        given: error.to_string(),
        accepted: "a level such as info, or directives such as info,authio_actions::egress=debug".to_owned(),
    })?;
    let on_terminal = std::io::stderr().is_terminal();
    let format = config.log.format.unwrap_or(if on_terminal { LogFormat::Pretty } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(on_terminal);
    let outcome = match format {
        LogFormat::Pretty => builder.compact().try_init(),
        LogFormat::Json => builder.fmt_fields(JsonFields::new()).event_format(Stamped::new(kind, id)).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("a subscriber was there already");
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic as one line like the others; its backtrace where the environment asks for one (`RUST_BACKTRACE`).
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let payload = panic.payload();
    let why = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(place, backtrace, "panicked: {}", why.unwrap_or("not a text"));
}

/// JSON lines that begin with whose they are.
struct Stamped {
    lines: Format<Json>,
    stamp: String,
}

impl Stamped {
    fn new(kind: &str, id: &str) -> Self {
        let stamp = serde_json::json!({ kind: id, "version": env!("CARGO_PKG_VERSION") }).to_string();
        Self { lines: Format::default().json().flatten_event(true), stamp: stamp.trim_end_matches('}').to_owned() }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Stamped {
    fn format_event(&self, context: &FmtContext<'_, S, JsonFields>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{},{}", self.stamp, line.strip_prefix('{').unwrap_or(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_says_whose_it_is_and_a_panic_is_one_of_them() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Stamped::new("worker", "worker-\"7\""))
            .finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(n = 1, "in order");
            std::panic::catch_unwind(|| panic!("on \"purpose\"")).unwrap_err();
        });
        std::panic::set_hook(before);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let [first, second] = &text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()[..] else {
            panic!("not two lines: {text}");
        };
        for line in [first, second] {
            assert_eq!((line["worker"].as_str(), line["version"].as_str()), (Some("worker-\"7\""), Some(env!("CARGO_PKG_VERSION"))));
        }
        assert_eq!((first["message"].as_str(), first["n"].as_i64()), (Some("in order"), Some(1)));
        assert_eq!((second["message"].as_str(), second["level"].as_str()), (Some("panicked: on \"purpose\""), Some("ERROR")));
        assert!(second["place"].as_str().unwrap().starts_with("src/telemetry/logs.rs:"), "{second}");
    }
}
