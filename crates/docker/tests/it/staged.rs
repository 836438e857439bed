//! Transfers in pieces, which survive broken connections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_docker::{
    DiffId, Engine, EngineError, Neighbours, PieceOnWay, PieceOrder, PieceWriter, Reopen, Room, ScratchImage,
    Staging, StagingError, TransferError, TransferTarget, TransferWay, transfer, transfer_to_many,
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
    /// After so many bytes on the wire its disk is full.
    full_after: Option<u64>,
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
        if state.full_after.is_some_and(|limit| limit < after) {
            let needed_bytes = piece.size as u64;
            return Err(StagingError::Full {
                folder: "shelf".to_owned(),
                needed_bytes,
                free_bytes: 1_000_000,
            });
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

#[tokio::test]
async fn a_disk_that_gets_full_ends_a_transfer() {
    let (source, target) = tokio::join!(TestEngine::start(), TestEngine::start());
    stops_where_the_disk_is_full(&source, &target).await;
}

#[tokio::test]
async fn neighbours_hand_pieces_on() {
    let (source, first, second) = tokio::join!(TestEngine::start(), TestEngine::start(), TestEngine::start());
    goes_to_one_of_them_once(&source, [&first, &second]).await;
    comes_from_here_where_a_neighbour_gives_nothing(&source, [&first, &second]).await;
}

/// Copies files from shelf to shelf.
struct Street {
    shelves: [Arc<Shelf>; 2],
    works: bool,
    orders: Mutex<Vec<(usize, usize, usize)>>,
}

#[async_trait]
impl Neighbours for Street {
    fn network(&self, _target: usize) -> Option<String> {
        Some("street".to_owned())
    }

    async fn copy(
        &self,
        from: usize,
        orders: &[PieceOrder],
        copied: &(dyn Fn(usize) + Sync),
    ) -> Vec<Result<(), StagingError>> {
        let mut outcomes = Vec::new();
        for PieceOrder { target, pieces } in orders {
            self.orders.lock().push((from, *target, pieces.len()));
            for name in pieces.iter().filter(|_| self.works) {
                let [there, here] = [from, *target].map(|index| self.shelves[index].folder.path().join(name));
                fs_err::copy(there, here).expect("the piece is there until it is handed on");
                copied(*target);
            }
            let (action, message) = ("get pieces".to_owned(), "nobody opens".to_owned());
            outcomes.push(if self.works { Ok(()) } else { Err(StagingError::Refused { action, message }) });
        }
        outcomes
    }
}

fn street(targets: [&TestEngine; 2], works: bool, breaks: &[u64]) -> Street {
    let shelf = |target, breaks: &[u64]| {
        Shelf::new(target, State { room: roomy(), breaks: breaks.to_vec(), ..State::default() })
    };
    let shelves = [shelf(targets[0], breaks), shelf(targets[1], &[])];
    Street { shelves, works, orders: Mutex::default() }
}

async fn goes_to_one_of_them_once(source: &TestEngine, targets: [&TestEngine; 2]) {
    let image = put(source, large(11)).await;
    // The other one waits also while the connection to the first breaks.
    let street = street(targets, true, &[9_000_000, 22_000_000]);
    let shelves = [street.shelves[0].target(), street.shelves[1].target()];
    let steps = Mutex::new(Vec::new());
    let note =
        |index: usize, step: freehold_docker::TransferProgress| steps.lock().push((index, step.bytes_sent));
    let sent = transfer_to_many(&source.engine, &shelves, Some(&street), &image, &note).await;
    let sent: Vec<_> = must(sent).into_iter().map(must).collect();
    for target in targets {
        check(source, target, &image).await;
    }
    let wire = [0, 1].map(|index| street.shelves[index].state.lock().on_the_wire);
    assert!(wire[0] > 40_000_000 && wire[1] == 0, "{wire:?}");
    assert_eq!((sent[0].reconnects, sent[0].bytes_from_neighbour), (2, 0), "{sent:?}");
    assert!(sent[1].bytes_from_neighbour > 40_000_000 && sent[1].bytes_sent == 0, "{sent:?}");
    assert_eq!(sent[1].neighbour_failed, None);
    assert_eq!(street.orders.lock().len(), 1, "{:?}", street.orders.lock());
    assert!(steps.lock().iter().any(|(index, bytes)| *index == 1 && (1..40_000_000).contains(bytes)));
    assert!(street.shelves.iter().all(|shelf| shelf.files().is_empty()), "nothing is left");
    let again = transfer_to_many(&source.engine, &shelves, Some(&street), &image, &|_, _| {}).await;
    assert!(must(again).into_iter().all(|sent| must(sent).way == TransferWay::AlreadyThere));
    // What is small goes to each by itself.
    let small = put(source, with_layer("small", vec![7; 9_000_000])).await;
    must(transfer_to_many(&source.engine, &shelves, Some(&street), &small, &|_, _| {}).await);
    assert_eq!(street.orders.lock().len(), 1);
    for target in targets {
        check(source, target, &small).await;
    }
}

async fn comes_from_here_where_a_neighbour_gives_nothing(source: &TestEngine, targets: [&TestEngine; 2]) {
    let image = put(source, large(12)).await;
    let street = street(targets, false, &[]);
    let shelves = [street.shelves[0].target(), street.shelves[1].target()];
    let sent = transfer_to_many(&source.engine, &shelves, Some(&street), &image, &|_, _| {}).await;
    let sent: Vec<_> = must(sent).into_iter().map(must).collect();
    for target in targets {
        check(source, target, &image).await;
    }
    let wire = [0, 1].map(|index| street.shelves[index].state.lock().on_the_wire);
    assert!(wire.iter().all(|bytes| *bytes > 40_000_000), "{wire:?}");
    let said = sent[1].neighbour_failed.as_deref().expect("why");
    assert!(said.contains("nobody opens"), "{said}");
    assert_eq!((sent[1].bytes_from_neighbour, sent[0].neighbour_failed.as_deref()), (0, None));
}

/// A disk that gets full on the way is no reason to send everything again.
async fn stops_where_the_disk_is_full(source: &TestEngine, target: &TestEngine) {
    let mut image = large(13);
    let base = put(source, with_layer("base", vec![3; 100_000])).await;
    must(transfer(&source.engine, &TransferTarget::new(target.engine.clone()), &base, &|_| {}).await);
    image.layers.truncate(2);
    let image = put(source, image).await;
    let state = State { room: roomy(), full_after: Some(20_000_000), ..State::default() };
    let shelf = Shelf::new(target, state);
    let error = transfer(&source.engine, &shelf.target(), &image, &|_| {}).await.unwrap_err();
    let TransferError::Staging { cause: StagingError::Full { needed_bytes, free_bytes, .. }, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert!((20_000_000..26_000_000).contains(needed_bytes), "{needed_bytes}");
    assert_eq!((*free_bytes, error.kind()), (1_000_000, ErrorKind::Failed));
    assert!(error.help()[0].contains("freehold prune"), "{:?}", error.help());
    let (wire, loads) = {
        let state = shelf.state.lock();
        (state.on_the_wire, state.loads)
    };
    assert!(wire <= 20_000_000 && loads == 0, "{wire} bytes");
    assert!(must(target.engine.inspect_image(&image.to_string()).await).is_none());
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
