use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_docker::{
    BuildRequest, ByteStream, Deadlines, EngineError, ExposedRegistry, FileSource, Owner, RegistryExposure,
    ScratchEntry, ScratchImage, TransferError, TransferProgress, TransferStrategy, TransferTarget,
    TransferWay, Transferred, transfer, transfer_to_many,
};
use freehold_model::{Diagnose, ErrorKind, ImageReference};
use parking_lot::Mutex;
use rustix::thread::LinkNameSpaceType;

use crate::faults::{Fault, dial, faulty};
use crate::lab::{TestEngine, busybox_image, busybox_layer, file, must, reference, unique};

#[tokio::test]
async fn images_travel_between_engines() {
    let (source, target) = tokio::join!(TestEngine::start(), TestEngine::start());
    sends_only_what_is_missing(&source, &target).await;
    sends_repeated_layers(&source, &target).await;
    sends_built_images(&source, &target).await;
    says_what_the_source_lacks(&source, &target).await;
    sends_all_when_the_base_has_gone(&source, &target).await;
    leaves_no_half_image(&source, &target).await;
    lets_the_engine_pull(&source, &target).await;
    sends_much_with_little_memory(&source, &target).await;
    tells_of_a_full_disk(&source).await;
}

#[tokio::test]
async fn several_engines_share_one_reading() {
    let (source, first, second) = tokio::join!(TestEngine::start(), TestEngine::start(), TestEngine::start());
    let base = two_layers(file("/a", "base"));
    let next = two_layers(file("/a", "next"));
    for image in [&base, &next] {
        put(&source, image.clone()).await;
    }
    must(send(&source, &first, &base.reference).await);
    let saves = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&saves);
    let path = source.socket().to_owned();
    let counting = Fault::Before("GET /images/fh-it", Arc::new(move || *counted.lock() += 1));
    // Every save has a connection of its own, so its request is what such a connection begins with.
    let reader = source.engine.with_dedicated(dial(path, counting));
    let dead = faulty(second.socket().to_owned(), Fault::BreakAfterWriting(100_000), Deadlines::default());
    let engines = [&first.engine, &dead, &second.engine, &source.engine];
    let targets: Vec<TransferTarget> = engines.map(|engine| TransferTarget::new(engine.clone())).into();
    let outcomes = must(transfer_to_many(&reader, &targets, None, &next.reference, &|_, _| {}).await);
    let ways: Vec<Option<TransferWay>> =
        outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|o| o.way)).collect();
    let (missing, everything) = (Some(TransferWay::MissingLayers), Some(TransferWay::Everything));
    assert_eq!(ways, [missing, None, everything, Some(TransferWay::AlreadyThere)], "{outcomes:?}");
    assert_eq!(*saves.lock(), 1, "the source is read once");
    assert!(outcomes[0].as_ref().unwrap().bytes_sent < 60_000, "{outcomes:?}");
    for lab in [&first, &second] {
        check(&source, lab, &next.reference).await;
    }
}

/// A large layer and a small one.
fn two_layers(top: ScratchEntry) -> ScratchImage {
    let mut image = busybox_image();
    image.reference = reference(&unique("app"), "1");
    image.layers.push(vec![top]);
    image
}

async fn put(lab: &TestEngine, image: ScratchImage) {
    let sealed = must(image.seal().await);
    must(lab.engine.load_archive(sealed.archive()).await);
}

async fn send(
    source: &TestEngine,
    target: &TestEngine,
    reference: &ImageReference,
) -> Result<Transferred, TransferError> {
    transfer(&source.engine, &TransferTarget::new(target.engine.clone()), reference, &|_| {}).await
}

/// Both engines have the same image, and the target can export it whole.
async fn check(source: &TestEngine, target: &TestEngine, reference: &ImageReference) {
    let name = reference.to_string();
    let left = must(source.engine.inspect_image(&name).await).expect("on the source");
    let right = must(target.engine.inspect_image(&name).await).expect("on the target");
    assert_eq!((&left.fingerprint, &left.layers, &left.id), (&right.fingerprint, &right.layers, &right.id));
    let again = TestEngine::exported_size(&target.engine, &name).await;
    assert_eq!(again, TestEngine::exported_size(&source.engine, &name).await);
}

async fn sends_only_what_is_missing(source: &TestEngine, target: &TestEngine) {
    let first = two_layers(file("/a", "first"));
    let name = first.reference.clone();
    put(source, first.clone()).await;
    let steps = Mutex::new(Vec::new());
    let note = |step: TransferProgress| steps.lock().push(step);
    let sent =
        must(transfer(&source.engine, &TransferTarget::new(target.engine.clone()), &name, &note).await);
    assert_eq!((sent.way, sent.layers_total, sent.layers_sent), (TransferWay::Everything, 2, 2));
    check(source, target, &name).await;
    let last = *steps.lock().last().expect("progress");
    assert_eq!((last.layers_total, last.layers_sent, last.bytes_sent), (2, 2, sent.bytes_sent));
    let total = last.bytes_total.expect("the history tells");
    assert!(sent.bytes_sent.abs_diff(total) < total / 5, "{last:?}");
    assert!(steps.lock().windows(2).all(|pair| pair[0].bytes_sent <= pair[1].bytes_sent));

    let again = must(send(source, target, &name).await);
    assert_eq!((again.way, again.bytes_sent), (TransferWay::AlreadyThere, 0));

    let changed = two_layers(file("/a", "changed"));
    put(source, changed.clone()).await;
    let sent = must(send(source, target, &changed.reference).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::MissingLayers, 1));
    assert!(sent.bytes_sent < 60_000, "{sent:?}");
    check(source, target, &changed.reference).await;

    let renamed = reference(changed.reference.repository.as_str(), "2");
    must(source.engine.tag_image(&changed.reference.to_string(), &renamed).await);
    assert_eq!(must(send(source, target, &renamed).await).way, TransferWay::Tagged);

    // The same layers under another configuration need no layer at all.
    let mut configured = changed.clone();
    configured.reference = reference(&unique("configured"), "1");
    configured.config.labels = [("other".to_owned(), "label".to_owned())].into();
    put(source, configured.clone()).await;
    let sent = must(send(source, target, &configured.reference).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::MissingLayers, 0));
    check(source, target, &configured.reference).await;

    let strategy = TransferStrategy::Everything;
    let other = two_layers(file("/a", "everything"));
    put(source, other.clone()).await;
    let everything = TransferTarget { strategy, ..TransferTarget::new(target.engine.clone()) };
    let sent = must(transfer(&source.engine, &everything, &other.reference, &|_| {}).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::Everything, 2));
}

/// Old engines save a repeated layer as a link to the first.
async fn sends_repeated_layers(source: &TestEngine, target: &TestEngine) {
    let mut image = two_layers(file("/a", "repeated"));
    image.layers.push(vec![file("/b", "between")]);
    image.layers.push(vec![file("/a", "repeated")]);
    put(source, image.clone()).await;
    must(send(source, target, &image.reference).await);
    check(source, target, &image.reference).await;
    let mut more = image.clone();
    more.reference = reference(&unique("more"), "1");
    more.layers.push(vec![file("/b", "between")]);
    put(source, more.clone()).await;
    must(send(source, target, &more.reference).await);
    check(source, target, &more.reference).await;
}

async fn sends_built_images(source: &TestEngine, target: &TestEngine) {
    let base = source.load_busybox().await;
    let build = async |content: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let dockerfile =
            format!("FROM {base}\nRUN echo <setup> & true\nENV A=\"<&>\"\nCOPY app /app\nWORKDIR /app\n");
        fs_err::write(folder.path().join("Dockerfile"), dockerfile.replace("<setup> &", "setup &&"))
            .expect("a file");
        fs_err::create_dir(folder.path().join("app")).expect("a folder");
        fs_err::write(folder.path().join("app/file"), content).expect("a file");
        let mut request = BuildRequest::new(folder.path());
        let tag = reference(&unique("built"), "1");
        request.tags = vec![tag.clone()];
        must(source.engine.build(request, &mut |_| {}).await);
        tag
    };
    let first = build("first").await;
    assert_eq!(must(send(source, target, &first).await).layers_sent, 4 - 1);
    check(source, target, &first).await;
    let second = build("second").await;
    let sent = must(send(source, target, &second).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::MissingLayers, 2));
    assert!(sent.bytes_sent < 60_000, "{sent:?}");
    check(source, target, &second).await;
}

async fn says_what_the_source_lacks(source: &TestEngine, target: &TestEngine) {
    let error = send(source, target, &reference(&unique("absent"), "1")).await.expect_err("it is not there");
    assert!(matches!(error, TransferError::NotOnSource { .. }), "{error:?}");
}

async fn sends_all_when_the_base_has_gone(source: &TestEngine, target: &TestEngine) {
    let mut base = busybox_image();
    base.layers = vec![vec![file("/large", vec![7; 300_000])]];
    base.reference = reference(&unique("base"), "1");
    let mut app = base.clone();
    app.reference = reference(&unique("app"), "1");
    app.layers.push(vec![file("/a", "app")]);
    put(target, base.clone()).await;
    put(source, app.clone()).await;
    let (socket, name) = (target.socket().to_owned(), base.reference.to_string());
    let prune = move || {
        let status = std::process::Command::new("docker")
            .args(["--host", &format!("unix://{}", socket.display()), "image", "rm", "--force", &name])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.is_ok());
    };
    let fault = Fault::Before("POST /images/load", Arc::new(prune));
    let engine = faulty(target.socket().to_owned(), fault, Deadlines::default());
    let sent = must(transfer(&source.engine, &TransferTarget::new(engine), &app.reference, &|_| {}).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::Everything, 2));
    check(source, target, &app.reference).await;
}

async fn leaves_no_half_image(source: &TestEngine, target: &TestEngine) {
    let mut image = busybox_image();
    image.reference = reference(&unique("cut"), "1");
    image.layers = vec![vec![file("/large", vec![9; 5_000_000])], vec![file("/a", "a")]];
    put(source, image.clone()).await;
    let name = image.reference.to_string();
    let quick = Deadlines {
        transfer_idle: Duration::from_secs(2),
        request: Duration::from_secs(2),
        ..Deadlines::default()
    };
    let through = |lab: &TestEngine, fault| faulty(lab.socket().to_owned(), fault, quick.clone());

    let cut = through(target, Fault::BreakAfterWriting(2_000_000));
    let error =
        transfer(&source.engine, &TransferTarget::new(cut), &image.reference, &|_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Target { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(must(target.engine.inspect_image(&name).await).is_none());

    let cut = through(source, Fault::BreakAfterReading(2_000_000));
    let target_engine = TransferTarget::new(target.engine.clone());
    let error = transfer(&cut, &target_engine, &image.reference, &|_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Source { .. }), "{error:?}");
    assert!(must(target.engine.inspect_image(&name).await).is_none());

    let silent = through(target, Fault::Silence);
    let error =
        transfer(&source.engine, &TransferTarget::new(silent), &image.reference, &|_| {}).await.unwrap_err();
    assert!(matches!(&error, TransferError::Target { cause: EngineError::Timeout { .. }, .. }), "{error:?}");
    must(send(source, target, &image.reference).await);
    check(source, target, &image.reference).await;
}

async fn tells_of_a_full_disk(source: &TestEngine) {
    let full = TestEngine::start_on_disk(16).await;
    let mut image = busybox_image();
    image.reference = reference(&unique("too-large"), "1");
    image.layers = vec![vec![file("/large", vec![9; 40_000_000])]];
    put(source, image.clone()).await;
    let error = send(source, &full, &image.reference).await.unwrap_err();
    let TransferError::Target { cause, .. } = &error else { panic!("{error:?}") };
    let words = cause.engine_message().expect("the engine says it");
    assert!(words.contains("no space left on device"), "{words}");
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(must(full.engine.inspect_image(&image.reference.to_string()).await).is_none());
}

/// A port on the loopback address of the engine's own network.
struct InNetworkOf(u32);

#[async_trait]
impl RegistryExposure for InNetworkOf {
    async fn expose(&self) -> std::io::Result<ExposedRegistry> {
        let namespace = fs_err::File::open(format!("/proc/{}/ns/net", self.0))?;
        // A socket stays in the network that its thread was in when it was made.
        let bound = std::thread::spawn(move || {
            use std::os::fd::AsFd;
            rustix::thread::move_into_link_name_space(
                namespace.file().as_fd(),
                Some(LinkNameSpaceType::Network),
            )?;
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        });
        let listener = tokio::net::TcpListener::from_std(bound.join().expect("the thread")?)?;
        let port = listener.local_addr()?.port();
        let connections = futures_util::stream::unfold(listener, |listener| async move {
            let connection =
                listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn ByteStream>);
            Some((connection, listener))
        });
        Ok(ExposedRegistry { port, connections: Box::pin(connections) })
    }
}

async fn lets_the_engine_pull(source: &TestEngine, target: &TestEngine) {
    let image = two_layers(file("/a", "pulled"));
    put(source, image.clone()).await;
    let exposure: Arc<dyn RegistryExposure> = Arc::new(InNetworkOf(target.pid().expect("an engine of ours")));
    let way = TransferTarget {
        strategy: TransferStrategy::Registry,
        exposure: Some(exposure),
        ..TransferTarget::new(target.engine.clone())
    };
    let sent = must(transfer(&source.engine, &way, &image.reference, &|_| {}).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::Registry, 2));
    check(source, target, &image.reference).await;
    let names = target.docker(&["image", "ls", "--format", "{{.Repository}}"]);
    assert!(!names.contains("127.0.0.1"), "the temporary name stays: {names}");
    // Now the engine knows the lower layer by the digest under which we offer it.
    let next = two_layers(file("/a", "pulled next"));
    put(source, next.clone()).await;
    let sent = must(transfer(&source.engine, &way, &next.reference, &|_| {}).await);
    assert_eq!((sent.way, sent.layers_sent), (TransferWay::Registry, 1));
    assert!(sent.bytes_sent < 60_000, "{sent:?}");
    check(source, target, &next.reference).await;
}

async fn sends_much_with_little_memory(source: &TestEngine, target: &TestEngine) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large");
    let mut random = 1u64;
    let mut block = Vec::with_capacity(1 << 20);
    let mut writer = fs_err::File::create(&path).expect("a file");
    for _ in 0..40 {
        block.clear();
        while block.len() < 1 << 20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            block.extend_from_slice(&random.to_le_bytes());
        }
        std::io::Write::write_all(&mut writer, &block).expect("the disk has room");
    }
    let mut image = busybox_image();
    image.reference = reference(&unique("large"), "1");
    image.layers = vec![
        busybox_layer(),
        vec![ScratchEntry::File {
            path: "/large".to_owned(),
            mode: 0o644,
            owner: Owner::default(),
            content: FileSource::Path(path),
        }],
    ];
    put(source, image.clone()).await;
    must(send(source, target, &image.reference).await);
    let status = fs_err::read_to_string("/proc/self/status").expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 36 * 1024, "the peak of memory is {peak} KiB");
}
