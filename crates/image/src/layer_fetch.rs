//! Brings one layer into the store: from the source through the store's blob file and the unpacker in one pass.
//!
//! ```text
//!  socket ──▶ bounded queue ──▶ PieceReader ──▶ Tee ──▶ inflate, hash, write files
//!  (async)                      (blocking)       └──▶ blob file, sha256, size
//! ```
//!
//! Nothing is kept before everything is known to be right: the blob's size and digest, and the digest of the tar in it. A layer that depends on
//! the layers below comes back [`Brought::Unsettled`]; [`settle`] fits it in once they are there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use carrack_layer::{Lowers, SelfContained, Settled, UnpackOptions, Unpacked};
use carrack_registry::{Bytes, Repository};
use carrack_store::{
    ActiveLayer, CheckedBlob, Expected, Ingest, Layer, LayerFacts, LayerKey, Lease, Store, StoreError,
};
use carrack_words::{ChainId, DiffId, Kind};
use tokio::sync::mpsc;

use crate::FetchError;
use crate::document::BlobInfo;
use crate::progress::{Fan, PullEvent};
use crate::source::Source;
use crate::work::Work;

/// Pieces on their way from the socket to the unpacker. A piece is what the connection had ready, at most about 400 KiB.
const QUEUE: usize = 8;

/// One layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerPlan {
    pub(crate) blob: BlobInfo,
    pub(crate) diff_id: DiffId,
    pub(crate) chain_id: ChainId,
    /// Nothing is below it.
    pub(crate) is_bottom: bool,
}

/// A layer in the store.
pub(crate) enum Brought {
    /// Ready to be mounted.
    Ready(Layer),
    /// Unpacked alone, to be fitted to the layers below.
    Unsettled(Box<Unsettled>),
}

pub(crate) struct Unsettled {
    active: ActiveLayer,
    unpacked: Unpacked,
}

/// Brings a layer into the store. One at a time for each blob, over all processes; who waited finds it there.
pub(crate) async fn bring(
    work: &Work,
    source: &Source,
    plan: LayerPlan,
    options: Arc<UnpackOptions>,
) -> Result<Brought, FetchError> {
    let digest = plan.blob.digest;
    let _only_one = work.exclusively(digest).await?;
    if let Some(layer) = work.blocking(move |store, lease| Ok(find(store, lease, &plan)?)).await? {
        work.fan.tell(PullEvent::LayerExists { digest });
        return Ok(Brought::Ready(layer));
    }
    let has_blob = work.blocking(move |store, lease| Ok(store.blobs().claim(lease, &digest)?.is_some())).await?;
    let brought = match source {
        _ if has_blob => {
            work.fan.tell(PullEvent::LayerExists { digest });
            work.blocking(move |store, lease| from_store(store, lease, &plan, &options)).await?
        }
        Source::Registry(repository) => download(work, repository, plan, options).await?,
        Source::Layout(layout) => {
            let (layout, fan) = (layout.clone(), work.fan.clone());
            work.blocking(move |store, lease| {
                let file = layout.open_blob(&digest, plan.blob.size_bytes)?;
                receive(store, lease, &fan, &plan, &options, file)
            })
            .await?
        }
    };
    if let Brought::Ready(_) = brought {
        work.fan.tell(PullEvent::LayerUnpacked { digest });
    }
    Ok(brought)
}

/// The layer, if it is there under either of its names. The lease holds it, and its blob if that is there too.
pub(crate) fn find(store: &Store, lease: &Lease, plan: &LayerPlan) -> Result<Option<Layer>, StoreError> {
    for key in [LayerKey::Diff(plan.diff_id), LayerKey::Chain(plan.chain_id)] {
        if let Some(layer) = store.layers().claim(lease, &key)? {
            store.blobs().claim(lease, &plan.blob.digest)?;
            return Ok(Some(layer));
        }
    }
    Ok(None)
}

async fn download(
    work: &Work,
    repository: &Repository,
    plan: LayerPlan,
    options: Arc<UnpackOptions>,
) -> Result<Brought, FetchError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let fan = work.fan.clone();
    let reader = PieceReader { receiver, current: Bytes::new(), has_ended: false };
    let received = work.blocking(move |store, lease| receive(store, lease, &fan, &plan, &options, reader));
    // Both run at the same time, and both to their ends: an error of one ends the other by way of the queue.
    let (sent, received) = tokio::join!(send(&work.fan, repository, plan.blob, sender), received);
    sent?;
    received
}

/// Puts the blob's pieces into the queue, and a mark behind the last one. Returns early, without an error, if nobody takes them any more.
async fn send(
    fan: &Fan,
    repository: &Repository,
    blob: BlobInfo,
    sender: mpsc::Sender<Piece>,
) -> Result<(), FetchError> {
    let mut stream = repository.blob(&blob.digest, blob.size_bytes);
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        bytes += piece.len() as u64;
        if sender.send(Piece::Bytes(piece)).await.is_err() {
            return Ok(());
        }
        fan.tell(PullEvent::LayerProgress { digest: blob.digest, bytes });
    }
    // Whether somebody still listens is the receiver's own business.
    let _ = sender.send(Piece::End).await;
    Ok(())
}

enum Piece {
    Bytes(Bytes),
    /// Tells the end apart from a sender that was dropped half-way.
    End,
}

/// The blocking end of the queue.
struct PieceReader {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    has_ended: bool,
}

impl Read for PieceReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.has_ended = true,
                None => return Err(io::Error::other("the download was given up")),
            }
        }
        let count = self.current.len().min(out.len());
        out[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Writes what passes into a blob's file.
struct Tee<R> {
    source: R,
    ingest: Ingest,
    /// Why the file could not be written.
    failure: Option<StoreError>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        if let Err(error) = self.ingest.write_all(&out[..count]) {
            let kind = error.kind();
            self.failure = error.into_inner().and_then(|inner| inner.downcast::<StoreError>().ok()).map(|inner| *inner);
            return Err(io::Error::new(kind, "the blob cannot be written"));
        }
        Ok(count)
    }
}

/// Unpacks what `source` yields and keeps it as a blob too. Blocks.
fn receive(
    store: &Store,
    lease: &Lease,
    fan: &Fan,
    plan: &LayerPlan,
    options: &UnpackOptions,
    source: impl Read,
) -> Result<Brought, FetchError> {
    let mut ingest = store.blobs().ingest(lease)?;
    ingest.limit(plan.blob.size_bytes);
    let active = store.layers().prepare(lease)?;
    let mut tee = Tee { source, ingest, failure: None };
    let unpacked = match unpack(&mut tee, &active, plan, options) {
        Ok(unpacked) => unpacked,
        Err(error) => return Err(blame(tee, plan, error)),
    };
    let blob = check(tee.ingest, plan)?;
    fan.tell(PullEvent::LayerDownloaded { digest: plan.blob.digest });
    let brought = keep(active, unpacked, plan)?;
    blob.commit()?;
    Ok(brought)
}

/// The real reason why unpacking failed: the file could not be written, or the bytes are not those that were promised. Only if they are, the layer
/// itself is to blame.
fn blame(mut tee: Tee<impl Read>, plan: &LayerPlan, error: FetchError) -> FetchError {
    if let Some(failure) = tee.failure {
        return failure.into();
    }
    if !matches!(error.kind(), Kind::DataLoss | Kind::Invalid | Kind::Unsupported) {
        return error;
    }
    match io::copy(&mut tee, &mut io::sink()) {
        Ok(_) => check(tee.ingest, plan).err().unwrap_or(error),
        Err(_) => tee.failure.map_or(error, FetchError::from),
    }
}

fn check(ingest: Ingest, plan: &LayerPlan) -> Result<CheckedBlob, FetchError> {
    Ok(ingest.finish(&Expected { digest: plan.blob.digest, size_bytes: Some(plan.blob.size_bytes) })?)
}

/// Unpacks a layer whose blob is here. Blocks.
fn from_store(store: &Store, lease: &Lease, plan: &LayerPlan, options: &UnpackOptions) -> Result<Brought, FetchError> {
    let active = store.layers().prepare(lease)?;
    let unpacked = unpack(store.blobs().open(&plan.blob.digest)?, &active, plan, options)?;
    keep(active, unpacked, plan)
}

fn unpack(
    input: impl Read,
    active: &ActiveLayer,
    plan: &LayerPlan,
    options: &UnpackOptions,
) -> Result<Unpacked, FetchError> {
    let lowers = if plan.is_bottom { Lowers::Known(&[]) } else { Lowers::Unknown };
    let unpacked = carrack_layer::unpack(input, active.dir(), lowers, options)
        .map_err(|source| FetchError::Unpack { digest: plan.blob.digest, source })?;
    check_diff_id(plan, &unpacked)?;
    Ok(unpacked)
}

fn check_diff_id(plan: &LayerPlan, unpacked: &Unpacked) -> Result<(), FetchError> {
    if unpacked.diff_id == plan.diff_id {
        return Ok(());
    }
    Err(FetchError::WrongDiffId { digest: plan.blob.digest, want: plan.diff_id, got: unpacked.diff_id })
}

fn keep(active: ActiveLayer, unpacked: Unpacked, plan: &LayerPlan) -> Result<Brought, FetchError> {
    let key = match (&unpacked.self_contained, plan.is_bottom) {
        (SelfContained::Yes, _) => LayerKey::Diff(plan.diff_id),
        // Unpacked over nothing, which is what lies below it.
        (SelfContained::No { .. }, true) => LayerKey::Chain(plan.chain_id),
        (SelfContained::No { .. }, false) => return Ok(Brought::Unsettled(Box::new(Unsettled { active, unpacked }))),
    };
    Ok(Brought::Ready(active.commit(key, facts(&unpacked))?))
}

fn facts(unpacked: &Unpacked) -> LayerFacts {
    LayerFacts { tar_bytes: unpacked.tar_bytes, totals: unpacked.totals }
}

/// Fits a layer to those below it, bottom first, and keeps it. Blocks. Its blob has to be in the store.
pub(crate) fn settle(
    store: &Store,
    below: &[Layer],
    unsettled: Unsettled,
    plan: &LayerPlan,
    options: &UnpackOptions,
) -> Result<Layer, FetchError> {
    let Unsettled { mut active, mut unpacked } = unsettled;
    let opened = open_lowers(store, below)?;
    let lowers: Vec<BorrowedFd<'_>> = opened.iter().map(|directory| directory.as_fd()).collect();
    let failed = |source| FetchError::Unpack { digest: plan.blob.digest, source };
    let settled = carrack_layer::settle(active.dir(), &unpacked.unsettled, &lowers).map_err(failed)?;
    if settled == Settled::UnpackAgain {
        active.reset()?;
        let blob = store.blobs().open(&plan.blob.digest)?;
        unpacked = carrack_layer::unpack(blob, active.dir(), Lowers::Known(&lowers), options).map_err(failed)?;
        check_diff_id(plan, &unpacked)?;
    }
    Ok(active.commit(LayerKey::Chain(plan.chain_id), facts(&unpacked))?)
}

/// Makes a layer anew from its blob, with the layers below known. Blocks.
pub(crate) fn rebuild(
    store: &Store,
    lease: &Lease,
    below: &[Layer],
    plan: &LayerPlan,
    options: &UnpackOptions,
) -> Result<Layer, FetchError> {
    match from_store(store, lease, plan, options)? {
        Brought::Ready(layer) => Ok(layer),
        Brought::Unsettled(unsettled) => settle(store, below, *unsettled, plan, options),
    }
}

/// Handles of the directories below, topmost first, cut where one hides the rest.
fn open_lowers(store: &Store, below: &[Layer]) -> Result<Vec<File>, FetchError> {
    let stack = store.layers().stack(below);
    let open = |path: &std::path::PathBuf| {
        File::open(path).map_err(|source| StoreError::Io { action: "open the layer", path: path.clone(), source })
    };
    Ok(stack.lowers.iter().map(open).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pieces: Vec<Piece>) -> PieceReader {
        let (sender, receiver) = mpsc::channel(QUEUE);
        for piece in pieces {
            assert!(sender.try_send(piece).is_ok());
        }
        PieceReader { receiver, current: Bytes::new(), has_ended: false }
    }

    #[test]
    fn the_queues_end_is_told_apart_from_a_download_that_was_given_up() {
        let bytes = |text: &'static str| Piece::Bytes(Bytes::from_static(text.as_bytes()));
        let mut text = String::new();
        reader(vec![bytes("ab"), bytes(""), bytes("c"), Piece::End]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let error = reader(vec![bytes("ab")]).read_to_string(&mut String::new()).unwrap_err();
        assert_eq!(error.to_string(), "the download was given up");
    }
}
