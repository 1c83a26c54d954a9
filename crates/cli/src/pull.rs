//! `carrack pull`, and the pull before a run.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use carrack_engine::Engine;
use carrack_image::{Image, Platform, PullOptions};
use carrack_words::{Digest, ImageQuery, ImageRef, Kind};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Pull;
use crate::failure::Failure;
use crate::print::{remark, say};
use crate::progress::{Bars, Lines};

/// `carrack pull`.
pub fn pull(engine: &Engine, flags: &Pull) -> Result<u8, Failure> {
    for text in &flags.images {
        let name = reference(text)?;
        let image = fetch(engine, &name, flags.platform.as_deref(), flags.quiet)?;
        // Who asks for an image wants to find it after a power cut.
        engine.store().promote().map_err(|error| Failure::Engine(error.into()))?;
        match flags.quiet {
            true => say!("{}", image.id)?,
            false => say!("{name}\n{}", image.id)?,
        }
    }
    Ok(0)
}

/// The id of the image that `text` names: one that is here, else one pulled now.
pub fn find_or_pull(engine: &Engine, text: &str, platform: Option<&str>) -> Result<Digest, Failure> {
    let query: ImageQuery = text.parse().map_err(invalid)?;
    let wanted = platform.map(parse_platform).transpose()?;
    let missing = match engine.images().find(&query) {
        Ok(image) if wanted.as_ref().is_none_or(|wanted| *wanted == image.platform) => return Ok(image.id),
        Ok(image) => format!("is here for {} only", image.platform),
        Err(error) if error.kind() == Kind::NotFound => "is not here".to_owned(),
        Err(error) => return Err(Failure::Engine(error.into())),
    };
    let (ImageQuery::Name(name) | ImageQuery::NameOrIdPrefix { name, .. }) = query else {
        return Err(Failure::usage(format!("no image has the id {text}; only a name can be pulled")));
    };
    remark!("{} {missing}: pulling it", name.familiar());
    Ok(fetch(engine, &name, platform, false)?.id)
}

/// Threads for what is asynchronous.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().map_err(Failure::io("start the tasks of a pull"))
}

/// Parses an image's name.
pub fn reference(text: &str) -> Result<ImageRef, Failure> {
    text.parse().map_err(invalid)
}

/// The failure for a name that is none.
pub fn invalid(error: carrack_words::ImageRefError) -> Failure {
    Failure::usage(error.to_string())
}

fn parse_platform(text: &str) -> Result<Platform, Failure> {
    text.parse().map_err(|error: carrack_image::PlatformError| Failure::usage(error.to_string()))
}

fn fetch(engine: &Engine, name: &ImageRef, platform: Option<&str>, quiet: bool) -> Result<Image, Failure> {
    let options = PullOptions { platform: platform.map(parse_platform).transpose()?, ..PullOptions::default() };
    let progress: Arc<dyn carrack_image::Progress> = match (quiet, io::stderr().is_terminal()) {
        (true, _) => Arc::new(()),
        (false, true) => Arc::new(Bars::new()),
        (false, false) => Arc::new(Lines::new()),
    };
    let runtime = runtime()?;
    let pulled = runtime.block_on(async {
        tokio::select! {
            pulled = engine.images().pull(name, options, progress) => Ok(pulled),
            signal = told_to_end() => Err(signal),
        }
    });
    // Dropping the future has cancelled what was under way; its clean-up is awaited here.
    drop(runtime);
    match pulled {
        Ok(Ok(image)) => {
            // What an earlier pull left that was ended, and this one had no use for.
            engine.store().gc().map_err(|error| Failure::Engine(error.into()))?;
            Ok(image)
        }
        Ok(Err(error)) => Err(Failure::Engine(error.into())),
        Err(Ok(signal)) => Err(Failure::Interrupted { signal }),
        Err(Err(error)) => Err(Failure::io("receive signals")(error)),
    }
}

/// Returns when a signal says that this program is to end.
async fn told_to_end() -> io::Result<u8> {
    let (mut interrupt, mut terminate, mut hangup) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    Ok(kind.as_raw_value() as u8)
}
