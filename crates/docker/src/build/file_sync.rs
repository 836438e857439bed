//! How BuildKit gets files: it asks for a list, and then for the content of those that it does not have.
//!
//! Source: github.com/tonistiigi/fsutil (`send.go`, `validator.go`) and github.com/moby/buildkit/session/filesync.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use futures_util::Stream;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

use super::context::{Context, Extras};
use crate::scratch_image::hex;

/// How many messages may wait for the connection.
const WAITING: usize = 32;

/// The size of a piece of a file.
const PIECE: usize = 32 * 1024;

/// Gives BuildKit the files of one build.
#[derive(Clone)]
pub(crate) struct FileSource {
    context: Arc<Context>,
    /// How many bytes have been sent.
    sent: Arc<watch::Sender<u64>>,
}

/// What one request of BuildKit is after.
enum Wanted {
    /// All that is not ignored.
    Context,
    /// These files, each under the name behind it, if they are there.
    Files(Vec<(PathBuf, String)>),
}

type Packets = mpsc::Sender<Result<Packet, Status>>;

impl FileSource {
    pub(crate) fn new(context: Context, sent: watch::Sender<u64>) -> Self {
        Self { context: Arc::new(context), sent: Arc::new(sent) }
    }

    /// By this key BuildKit finds what it has of the same folder from an earlier build.
    pub(crate) fn shared_key(&self) -> String {
        hex(&Sha256::digest(self.context.folder.as_os_str().as_encoded_bytes()))
    }

    fn wanted(&self, request: &Request<Streaming<Packet>>) -> Result<Wanted, Status> {
        let values = |name: &str| -> Vec<String> {
            let values = request.metadata().get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        match values("dir-name").first().map(String::as_str) {
            // It looks for the list of files to leave out before it asks for the rest.
            Some("context") if values("followpaths") == [".dockerignore"] => {
                let name = ".dockerignore".to_owned();
                Ok(Wanted::Files(vec![(self.context.folder.join(&name), name)]))
            }
            Some("context") => Ok(Wanted::Context),
            Some("dockerfile") => {
                let path = &self.context.dockerfile_path;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let ignore_name = format!("{name}.dockerignore");
                let beside = path.with_file_name(&ignore_name);
                Ok(Wanted::Files(vec![(path.clone(), name), (beside, ignore_name)]))
            }
            other => Err(Status::not_found(format!("there is no folder {other:?} in this build"))),
        }
    }

    /// Lists what is wanted, in the order in which BuildKit counts it.
    fn list(&self, wanted: &Wanted, paths: &Mutex<Vec<PathBuf>>, packets: &Packets) -> io::Result<()> {
        let mut tell = |path: &Path, relative: &str, metadata: &Metadata| {
            // The content may be asked for as soon as the entry is out.
            paths.lock().push(path.to_owned());
            let packet = Packet {
                r#type: PacketType::PacketStat.into(),
                stat: Some(stat(path, relative, metadata)?),
                ..Packet::default()
            };
            packets.blocking_send(Ok(packet)).map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        match wanted {
            Wanted::Context => self.context.visit(Extras::None, &mut tell)?,
            Wanted::Files(files) => {
                for (path, name) in files {
                    match fs_err::metadata(path) {
                        Ok(metadata) => tell(path, name, &metadata)?,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let end = Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() };
        packets.blocking_send(Ok(end)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Answers until BuildKit has all it wants.
    async fn answer(
        &self,
        mut questions: Streaming<Packet>,
        paths: &Mutex<Vec<PathBuf>>,
        packets: &Packets,
    ) -> Result<(), Status> {
        while let Some(question) = questions.message().await? {
            match PacketType::try_from(question.r#type) {
                Ok(PacketType::PacketReq) => {
                    let index = usize::try_from(question.id).unwrap_or(usize::MAX);
                    let path = paths.lock().get(index).cloned();
                    let path = path.ok_or_else(|| Status::not_found("there is no such file in the list"))?;
                    self.send_file(&path, question.id, packets).await.map_err(|error| {
                        Status::internal(format!("`{}` cannot be read: {error}", path.display()))
                    })?;
                }
                Ok(PacketType::PacketFin) => {
                    let end = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                    let told = packets.send(Ok(end)).await;
                    tracing::trace!(told = told.is_ok(), "BuildKit has its files");
                    return Ok(());
                }
                Ok(PacketType::PacketErr) => {
                    return Err(Status::aborted(String::from_utf8_lossy(&question.data).into_owned()));
                }
                _ => return Err(Status::invalid_argument("that is no question")),
            }
        }
        Ok(())
    }

    async fn send_file(&self, path: &Path, id: u32, packets: &Packets) -> io::Result<()> {
        let mut file = fs_err::tokio::File::open(path).await?;
        loop {
            let mut data = vec![0; PIECE];
            let count = file.read(&mut data).await?;
            data.truncate(count);
            let packet = Packet { r#type: PacketType::PacketData.into(), id, data, stat: None };
            packets.send(Ok(packet)).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.sent.send_modify(|bytes| *bytes += u64::try_from(count).unwrap_or_default());
            // A piece without bytes is the end of the file.
            if count == 0 {
                return Ok(());
            }
        }
    }
}

#[tonic::async_trait]
impl FileSync for FileSource {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type TarStreamStream = futures_util::stream::Empty<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let wanted = self.wanted(&request)?;
        let questions = request.into_inner();
        let (packets, mut answers) = mpsc::channel(WAITING);
        let paths = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (source, listed, outlet) = (self.clone(), Arc::clone(&paths), packets.clone());
        tasks.spawn_blocking(move || {
            if let Err(error) = source.list(&wanted, &listed, &outlet) {
                let told = outlet.blocking_send(Err(Status::internal(error.to_string())));
                tracing::debug!(told = told.is_ok(), error = %error, "the build context cannot be listed");
            }
        });
        let source = self.clone();
        tasks.spawn(async move {
            if let Err(status) = source.answer(questions, &paths, &packets).await {
                let told = packets.send(Err(status)).await;
                tracing::debug!(told = told.is_ok(), "BuildKit did not get its files");
            }
        });
        // The tasks end with the stream.
        Ok(Response::new(Box::pin(futures_util::stream::poll_fn(move |context| {
            let _owned = &tasks;
            answers.poll_recv(context)
        }))))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("ask with DiffCopy"))
    }
}

fn stat(path: &Path, relative: &str, metadata: &Metadata) -> io::Result<Stat> {
    let kind = metadata.file_type();
    let linkname = if kind.is_symlink() {
        fs_err::read_link(path)?.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let seconds = metadata.mtime().saturating_mul(1_000_000_000);
    Ok(Stat {
        path: relative.to_owned(),
        mode: go_mode(metadata),
        // As Docker's client does: owners of this machine mean nothing in the image.
        uid: 0,
        gid: 0,
        size: if kind.is_dir() { 0 } else { i64::try_from(metadata.len()).unwrap_or(i64::MAX) },
        mod_time: seconds.saturating_add(metadata.mtime_nsec()),
        linkname,
        ..Stat::default()
    })
}

/// Go's `os.FileMode`. Source: https://pkg.go.dev/io/fs#FileMode
fn go_mode(metadata: &Metadata) -> u32 {
    let kind = metadata.file_type();
    let mode = metadata.mode();
    let flag = |set: bool, bit: u32| if set { 1 << bit } else { 0 };
    mode & 0o777
        | flag(kind.is_dir(), 31)
        | flag(kind.is_symlink(), 27)
        | flag(kind.is_block_device() || kind.is_char_device(), 26)
        | flag(kind.is_fifo(), 25)
        | flag(mode & 0o4000 != 0, 23)
        | flag(mode & 0o2000 != 0, 22)
        | flag(kind.is_char_device(), 21)
        | flag(mode & 0o1000 != 0, 20)
}
