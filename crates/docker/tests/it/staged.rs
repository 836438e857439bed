//! Transfers in pieces, which survive broken connections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_docker::{
    DiffId, Engine, EngineError, PieceOnWay, PieceWriter, Reopen, Room, ScratchImage, Staging, StagingError,
    TransferError, TransferTarget, TransferWay, transfer,
};
use freehold_model::{Diagnose, ErrorKind, ImageReference};
use futures_util::StreamExt;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::lab::{TestEngine, busybox_image, busybox_layer, file, must, reference, unique};

const PIECE: u64 = 4 * 1024 * 1024;

/// A folder that stands for that of a host.
struct Shelf {
    folder: TempDir,
    engine: Engine,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    room: Room,
    /// After so many bytes on the wire, one after another, the connection breaks.
    breaks: Vec<u64>,
    /// The rate that writers tell, if they do.
    rate: Option<u64>,
    on_the_wire: u64,
    compressed: usize,
    loads: usize,
}

impl Shelf {
    fn new(engine: &TestEngine, state: State) -> Arc<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        Arc::new(Self { folder, engine: engine.engine.clone(), state: Mutex::new(state) })
    }

    fn target(self: &Arc<Self>) -> TransferTarget {
        let mut target = TransferTarget::new(self.engine.clone());
        target.staging = Some(Arc::new(OnShelf(Arc::clone(self))));
        target.reopen = Some(Arc::new(OnShelf(Arc::clone(self))));
        target
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs_err::read_dir(self.folder.path()) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

fn roomy() -> Room {
    Room {
        engine_free_bytes: Some(10_000_000_000),
        staging_free_bytes: Some(10_000_000_000),
        is_one_disk: true,
        left_bytes: 0,
    }
}

fn broken() -> StagingError {
    StagingError::lost("take a piece", std::io::Error::from(std::io::ErrorKind::ConnectionReset))
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct OnShelf(Arc<Shelf>);

#[async_trait]
impl Reopen for OnShelf {
    async fn reopen(&self) -> Result<TransferTarget, EngineError> {
        Ok(self.0.target())
    }
}

#[async_trait]
impl Staging for OnShelf {
    async fn room(&self, _data_root: &Path) -> Result<Room, StagingError> {
        let left = self.0.files().len() as u64;
        Ok(Room { left_bytes: left, ..self.0.state.lock().room })
    }

    async fn found(&self, layers: &[DiffId]) -> Result<BTreeMap<String, String>, StagingError> {
        let mut found = BTreeMap::new();
        for path in self.0.files() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let layer = name.split('.').next().unwrap();
            if layer == "f" || layers.iter().any(|wanted| wanted.as_str().ends_with(layer)) {
                found.insert(name, digest(&fs_err::read(path).expect("a piece")));
            }
        }
        Ok(found)
    }

    async fn open(&self) -> Result<Box<dyn PieceWriter>, StagingError> {
        Ok(Box::new(ShelfWriter { shelf: Arc::clone(&self.0), confirmed: 0 }))
    }

    async fn load(&self, order: &[String]) -> Result<(), StagingError> {
        self.0.state.lock().loads += 1;
        let folder = self.0.folder.path().to_owned();
        let paths: Vec<PathBuf> = order.iter().map(|name| folder.join(name)).collect();
        let pieces = futures_util::stream::iter(paths).map(|path| fs_err::read(path).map(Bytes::from));
        self.0.engine.load_archive(Box::pin(pieces)).await.map_err(|error| StagingError::Refused {
            action: "load the image".to_owned(),
            message: error.engine_message().unwrap_or("?").to_owned(),
        })
    }

    async fn clear(&self) -> Result<(), StagingError> {
        self.0.files().iter().for_each(|path| fs_err::remove_file(path).expect("a piece"));
        Ok(())
    }
}

struct ShelfWriter {
    shelf: Arc<Shelf>,
    confirmed: usize,
}

#[async_trait]
impl PieceWriter for ShelfWriter {
    async fn send(&mut self, piece: PieceOnWay<'_>) -> Result<(), StagingError> {
        let content = if piece.gzip {
            let mut content = Vec::new();
            let mut reader = flate2::read::GzDecoder::new(piece.bytes.as_ref());
            std::io::Read::read_to_end(&mut reader, &mut content).expect("gzip");
            content
        } else {
            piece.bytes.to_vec()
        };
        assert_eq!(content.len(), piece.size);
        let mut state = self.shelf.state.lock();
        let after = state.on_the_wire + piece.bytes.len() as u64;
        if let Some(limit) = state.breaks.first().copied().filter(|limit| *limit < after) {
            state.breaks.remove(0);
            state.on_the_wire = limit.max(state.on_the_wire);
            return Err(broken());
        }
        state.on_the_wire = after;
        state.compressed += usize::from(piece.gzip);
        fs_err::write(self.shelf.folder.path().join(piece.name), content).expect("a piece");
        self.confirmed += 1;
        Ok(())
    }

    fn confirmed(&self) -> usize {
        self.confirmed
    }

    fn rate(&self) -> Option<u64> {
        self.shelf.state.lock().rate.filter(|_| self.confirmed > 0)
    }

    async fn finish(&mut self) -> Result<(), StagingError> {
        Ok(())
    }
}

/// A busybox and a layer of 40 MB that nothing compresses.
fn large(seed: u64) -> ScratchImage {
    let mut random = seed;
    let content: Vec<u8> = (0..5_000_000)
        .flat_map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random ^ (random >> 29)).to_le_bytes()
        })
        .collect();
    with_layer("large", content)
}

fn with_layer(name: &str, content: Vec<u8>) -> ScratchImage {
    let mut image = busybox_image();
    image.reference = reference(&unique(name), "1");
    image.layers = vec![busybox_layer(), vec![file("/content", content)]];
    image
}

async fn put(lab: &TestEngine, image: ScratchImage) -> ImageReference {
    let reference = image.reference.clone();
    let sealed = must(image.seal().await);
    must(lab.engine.load_archive(sealed.archive()).await);
    reference
}

async fn check(source: &TestEngine, target: &TestEngine, image: &ImageReference) {
    let name = image.to_string();
    let left = must(source.engine.inspect_image(&name).await).expect("on the source");
    let right = must(target.engine.inspect_image(&name).await).expect("on the target");
    assert_eq!((&left.fingerprint, &left.layers), (&right.fingerprint, &right.layers));
    let again = TestEngine::exported_size(&target.engine, &name).await;
    assert_eq!(again, TestEngine::exported_size(&source.engine, &name).await);
}

#[tokio::test]
async fn pieces_survive_what_happens_to_connections() {
    let (source, first) = tokio::join!(TestEngine::start(), TestEngine::start());
    goes_on_where_it_broke(&source, &first).await;
    leaves_no_name_and_no_byte_is_sent_twice_later(&source, &first).await;
    compresses_for_slow_links_only(&source, &first).await;
    sends_nothing_without_room(&source, &first).await;
}

async fn goes_on_where_it_broke(source: &TestEngine, target: &TestEngine) {
    let image = put(source, large(1)).await;
    let breaks: Vec<u64> = (1..=10).map(|number| number * 5_500_000 + number).collect();
    let shelf = Shelf::new(target, State { room: roomy(), breaks, ..State::default() });
    let steps = Mutex::new(Vec::new());
    let note = |step: freehold_docker::TransferProgress| steps.lock().push(step.bytes_sent);
    let sent = must(transfer(&source.engine, &shelf.target(), &image, &note).await);
    let count = sent.reconnects;
    assert_eq!(sent.way, TransferWay::Everything);
    assert!(count >= 8, "{sent:?}");
    check(source, target, &image).await;
    let wire = shelf.state.lock().on_the_wire;
    let size = TestEngine::exported_size(&source.engine, &image.to_string()).await;
    assert!(wire <= size + count as u64 * PIECE, "{wire} of {size}");
    assert_eq!(shelf.state.lock().loads, 1);
    assert!(shelf.files().is_empty(), "pieces are removed at the end");
    assert!(steps.lock().last().is_some_and(|last| *last > 40_000_000));
    target.docker(&["image", "rm", &image.to_string()]);
}

async fn leaves_no_name_and_no_byte_is_sent_twice_later(source: &TestEngine, target: &TestEngine) {
    let image = put(source, large(2)).await;
    let state = State { room: roomy(), breaks: vec![30_000_000], ..State::default() };
    let shelf = Shelf::new(target, state);
    // Nobody connects again, as after a client that was killed.
    let once = TransferTarget { reopen: None, ..shelf.target() };
    let error = transfer(&source.engine, &once, &image, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let there = must(target.engine.inspect_image(&image.to_string()).await);
    assert!(there.is_none(), "no half image has the name");
    let names = target.docker(&["image", "ls", "--all", "--format", "{{.Repository}}"]);
    assert!(!names.contains("large"), "{names}");
    // A later run, and one of the pieces is not what it was.
    let damaged = shelf.files().into_iter().find(|path| path.extension().unwrap() == "000001").unwrap();
    fs_err::write(damaged, b"something else").unwrap();
    let before = shelf.state.lock().on_the_wire;
    let sent = must(transfer(&source.engine, &shelf.target(), &image, &|_| {}).await);
    check(source, target, &image).await;
    let wire = shelf.state.lock().on_the_wire - before;
    assert!(wire < 22_000_000, "{wire} more after 30 MB of 42 MB");
    assert_eq!(sent.bytes_sent, wire);
    assert!(sent.bytes_saved > 20_000_000, "{sent:?}");
}

async fn compresses_for_slow_links_only(source: &TestEngine, target: &TestEngine) {
    for (rate, compressed) in [(Some(2_000_000), true), (Some(5_000_000_000), false), (None, false)] {
        // What gzip likes, and different each time.
        let line = format!("{rate:?} what a program is full of\n");
        let content: Vec<u8> = line.bytes().cycle().take(30_000_000).collect();
        let image = put(source, with_layer("text", content)).await;
        let shelf = Shelf::new(target, State { room: roomy(), rate, ..State::default() });
        let sent = must(transfer(&source.engine, &shelf.target(), &image, &|_| {}).await);
        check(source, target, &image).await;
        let state = shelf.state.lock();
        assert_eq!(state.compressed > 0, compressed, "{rate:?}");
        assert_eq!(sent.bytes_sent, state.on_the_wire, "what is shown is what was sent");
        assert_eq!(sent.bytes_saved > 20_000_000, compressed, "{sent:?}");
    }
    let image = put(source, large(3)).await;
    let shelf = Shelf::new(target, State { room: roomy(), rate: Some(2_000_000), ..State::default() });
    must(transfer(&source.engine, &shelf.target(), &image, &|_| {}).await);
    assert!(shelf.state.lock().compressed <= 1, "what does not get smaller goes as it is");
}

async fn sends_nothing_without_room(source: &TestEngine, target: &TestEngine) {
    let image = put(source, large(4)).await;
    let room = Room { engine_free_bytes: Some(60_000_000), ..roomy() };
    let shelf = Shelf::new(target, State { room, ..State::default() });
    let error = transfer(&source.engine, &shelf.target(), &image, &|_| {}).await.unwrap_err();
    let TransferError::NoRoom { needed_bytes, free_bytes, .. } = &error else { panic!("{error:?}") };
    assert!((112_000_000..120_000_000).contains(needed_bytes), "{needed_bytes}");
    assert_eq!(*free_bytes, 60_000_000);
    assert!(error.to_string().contains("60 MB are free") && error.help()[0].contains("freehold prune"));
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(must(target.engine.inspect_image(&image.to_string()).await).is_none());
    assert_eq!(shelf.state.lock().on_the_wire, 0);
    // There is room for the image, but not for pieces that wait beside it.
    shelf.state.lock().room.engine_free_bytes = Some(130_000_000);
    let sent = must(transfer(&source.engine, &shelf.target(), &image, &|_| {}).await);
    assert_eq!((sent.layers_total, shelf.state.lock().loads), (2, 0));
    check(source, target, &image).await;
}
