//! What the engine warns of while it does what it was told, on standard error. (The daemon has a log for it.)

use std::fmt;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Shows warnings from now on. To be called once.
pub fn show() {
    tracing_subscriber::fmt().with_max_level(Level::WARN).with_writer(io::stderr).event_format(Remark).init();
}

/// `carrack: warning: TEXT`, as our other remarks look.
struct Remark;

impl<S, N> FormatEvent<S, N> for Remark
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // What crates of others warn of is for those who look for a fault in them.
        if !event.metadata().target().starts_with("carrack") {
            return Ok(());
        }
        out.write_str("carrack: warning: ")?;
        context.format_fields(out.by_ref(), event)?;
        out.write_char('\n')
    }
}
