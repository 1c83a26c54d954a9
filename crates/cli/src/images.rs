//! The verbs on images but `pull`.

use std::path::Path;

use carrack_engine::{Engine, Force, RemoveNames};
use carrack_image::Image;
use carrack_words::Timestamp;
use serde_json::json;

use crate::args::{Format, Images, Rmi, Tag};
use crate::failure::{Failure, told};
use crate::print::{remark, say};
use crate::{human, print, pull};

/// `carrack images`.
pub fn list(engine: &Engine, flags: &Images) -> Result<u8, Failure> {
    let images = engine.images().list().map_err(|error| Failure::Engine(error.into()))?;
    let id = |image: &Image| if flags.no_trunc { image.id.to_string() } else { image.id.hex()[..12].to_owned() };
    if flags.quiet {
        images.iter().try_for_each(|image| say!("{}", id(image)))?;
        return Ok(0);
    }
    let mut rows = Vec::new();
    for image in &images {
        let names: Vec<(String, String)> = match image.repo_tags.is_empty() {
            true => vec![("<none>".into(), "<none>".into())],
            false => image
                .repo_tags
                .iter()
                .map(|name| (name.familiar_name(), name.tag().unwrap_or("<none>").to_owned()))
                .collect(),
        };
        for (repository, tag) in names {
            if flags.format == Format::Json {
                say!(
                    "{}",
                    json!({
                        "Repository": repository, "Tag": tag, "ID": image.id, "Digest": image.manifest_digest, "Size": image.unpacked_bytes,
                        "CreatedAt": image.created.map(|time| time.to_string()),
                    })
                )?;
                continue;
            }
            let age = image
                .created
                .map_or("unknown".into(), |time| format!("{} ago", human::span(Timestamp::now().since(time))));
            rows.push(vec![repository, tag, id(image), age, human::bytes(image.unpacked_bytes)]);
        }
    }
    if flags.format == Format::Table {
        let header = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
        print::text(format_args!("{}", human::table(&header, &rows)))?;
    }
    Ok(0)
}

/// `carrack tag`.
pub fn tag(engine: &Engine, flags: &Tag) -> Result<u8, Failure> {
    let source = flags.source.parse().map_err(pull::invalid)?;
    let name = pull::reference(&flags.target)?;
    engine.images().tag(&source, &name).map_err(|error| Failure::Engine(error.into()))?;
    Ok(0)
}

/// `carrack rmi`.
pub fn remove(engine: &Engine, flags: &Rmi) -> Result<u8, Failure> {
    let force = if flags.force { Force::Yes } else { Force::No };
    let mut has_failed = false;
    for name in &flags.images {
        match engine.remove_image(name, RemoveNames::One, force) {
            Ok(removed) => {
                removed.untagged.iter().try_for_each(|name| say!("Untagged: {}", name.familiar()))?;
                removed.deleted.iter().try_for_each(|id| say!("Deleted: {id}"))?;
            }
            Err(error) => {
                remark!("carrack: {}", told(&error));
                has_failed = true;
            }
        }
    }
    if has_failed { Err(Failure::Several) } else { Ok(0) }
}

/// `carrack load`.
pub fn load(engine: &Engine, directory: &Path, name: &str) -> Result<u8, Failure> {
    let name = pull::reference(name)?;
    let runtime = pull::runtime()?;
    let loaded = runtime.block_on(engine.images().load_oci_layout(directory, &name, None, std::sync::Arc::new(())));
    say!("{}", loaded.map_err(|error| Failure::Engine(error.into()))?.id)?;
    Ok(0)
}
