//! Which images may run: signatures, and what scanners say.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_docker::{
    FoundSignature, ImageSignature, RegistryError, Signers, Untrusted, check_signatures, signature_name,
};
use freehold_model::{Diagnose, ErrorKind, Evidence, ImageDigest, ImageReference};
use freehold_plan::{BuildPlaceName, ImageOrigin, ImagePlace, ImageScan};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::engine_host::build_program::Call;
use crate::engine_host::known::Found;
use crate::engine_host::program_output::{Bounds, OutputError};
use crate::engine_host::workshop::Workshop;
use crate::event::Progress;
use crate::host::{Outcome, StepError, Work};

use findings::{Findings, ReportError};

mod findings;

/// The longest report that is read, bytes.
const LARGEST_REPORT: usize = 64 << 20;

/// How many of the worst findings are shown.
const SHOWN: usize = 20;

/// What decides which images may run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageTrust {
    /// Of whom one must have signed; if nobody is named, nobody has to.
    pub signers: Signers,
    /// A folder with signatures beside those in the registry.
    pub signatures: Option<PathBuf>,
    /// Whether a scanner looks at images.
    pub scans: bool,
    /// The project's folder, in which scanners run.
    pub directory: PathBuf,
}

impl ImageTrust {
    /// Says whether images are checked before any host gets them.
    pub(super) fn decides(&self) -> bool {
        self.scans || !self.signers.is_empty()
    }
}

/// Why an image may not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("image `{name}` may not run here")]
    Untrusted { name: String, at: Signed, source: Untrusted },
    #[error("`{image}` names another image now than the one that was checked")]
    Moved { image: String },
    #[error("there is no image `{image}` {place}")]
    NoImage { image: String, place: &'static str },
    #[error("the engine names the image by `{id}`, which is no digest")]
    NoDigest { id: String },
    #[error("the registry cannot be asked for the image and its signatures")]
    Registry(#[source] RegistryError),
    #[error("a signature of the project cannot be read")]
    Folder(#[source] io::Error),
    #[error("the image cannot be written to a file for the scanner")]
    Archive(#[source] io::Error),
    #[error("the scan ended with {status}")]
    Scanner { status: String, last: Vec<String> },
    #[error("the scan took longer than {} seconds", limit.as_secs())]
    Slow { limit: Duration, last: Vec<String> },
    #[error("the scan printed more than {} MiB", LARGEST_REPORT >> 20)]
    Flood { last: Vec<String> },
    #[error("the scan cannot be run")]
    Lost(#[source] io::Error),
    #[error("{count} known flaws of image `{image}` are {least} or worse")]
    Flaws { image: String, least: String, count: usize, worst: Vec<String> },
    #[error("the report of the scanner cannot be understood")]
    Report(#[source] ReportError),
}

/// Where signatures were looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    InRegistry,
    InProject,
}

impl Diagnose for TrustError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry(source) => source.kind(),
            Self::Folder(_) | Self::Report(_) => ErrorKind::Configuration,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Untrusted { name, at: Signed::InRegistry, .. } => vec![format!(
                "sign it: `freehold build push`, `cosign sign [--key KEY] {name}`, `freehold deploy --skip-push`"
            )],
            Self::Untrusted { at: Signed::InProject, .. } => vec![
                "sign it and put `sha256-DIGEST.json` and `sha256-DIGEST.sig` or `.sigstore.json` into the folder `verify: signatures:`, \
                 then deploy with `--skip-push`"
                    .to_owned(),
            ],
            Self::Registry(source) => source.help(),
            Self::Report(_) => vec![
                "let the command print JSON: `trivy image --format json …`, `grype --output json …`".to_owned(),
            ],
            Self::Moved { .. } => {
                vec!["another build on that engine has taken its name meanwhile: deploy again".to_owned()]
            }
            Self::Slow { .. } => vec![
                "give it longer in the deploy file, in seconds: `scan: timeout: 3600`; what it started was ended".to_owned(),
            ],
            Self::Flood { .. } => vec!["let it print its report only".to_owned()],
            _ => Vec::new(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::Scanner { last, .. } | Self::Slow { last, .. } | Self::Flood { last }
                if !last.is_empty() =>
            {
                vec![Evidence { title: "last lines of its output".to_owned(), lines: last.clone() }]
            }
            Self::Flaws { worst, .. } => {
                vec![Evidence { title: "the worst of them".to_owned(), lines: worst.clone() }]
            }
            _ => Vec::new(),
        }
    }
}

impl Workshop {
    /// Sets what decides which images may run.
    pub fn trust(&self, trust: ImageTrust) {
        *self.trust.write() = trust;
    }

    /// Checks that an image is signed by a key of the project. What was checked is what hosts pull then.
    ///
    /// # Errors
    /// [`StepError`] with why it is not trusted.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn verify(&self, image: &ImageReference, at: &ImagePlace) -> Result<Outcome, StepError> {
        let checked = self.check(image, at).await;
        checked.map_err(|error| StepError::image(format!("verify the signature of `{image}`"), error))
    }

    async fn check(&self, image: &ImageReference, at: &ImagePlace) -> Result<Outcome, TrustError> {
        let trust = self.trust.read().clone();
        let digest = match at {
            ImagePlace::Registry(origin) => self.digest_in_registry(image, origin).await?,
            ImagePlace::Engine(place) => self.digest_on_engine(image, place).await?,
        };
        let mut signatures = match &trust.signatures {
            Some(folder) => stored(folder, &digest).map_err(TrustError::Folder)?,
            None => Vec::new(),
        };
        let (at, name) = match at {
            ImagePlace::Registry(_) => (Signed::InRegistry, format!("{}@{digest}", image.repository)),
            ImagePlace::Engine(_) => (Signed::InProject, format!("{image} ({digest})")),
        };
        let local = check_signatures(&digest, &signatures, &trust.signers);
        if local.is_err() && at == Signed::InRegistry {
            let client = self.registry_client(&image.repository).map_err(TrustError::Registry)?;
            signatures.extend(client.signatures(&digest).await.map_err(TrustError::Registry)?);
        }
        let signer = check_signatures(&digest, &signatures, &trust.signers)
            .map_err(|source| TrustError::Untrusted { name, at, source })?;
        let found = match at {
            Signed::InRegistry => Found::InRegistry(digest),
            Signed::InProject => Found::Checked(digest),
        };
        self.found.write().insert(image.clone(), found);
        Ok(Outcome::Done(Some(format!("signed by {signer}"))))
    }

    /// Returns the digest by which the engine that builds knows an image.
    async fn digest_on_engine(
        &self,
        image: &ImageReference,
        place: &BuildPlaceName,
    ) -> Result<ImageDigest, TrustError> {
        let engine = self.builder(place).await.ok();
        let details = match &engine {
            Some(engine) => engine.inspect_image(&image.to_string()).await.ok().flatten(),
            None => None,
        };
        let missing = || TrustError::NoImage { image: image.to_string(), place: "on the engine that builds" };
        let id = details.ok_or_else(missing)?.id;
        ImageDigest::parse(id.as_str()).map_err(|_| TrustError::NoDigest { id })
    }

    /// Returns the digest of the image that hosts will pull.
    async fn digest_in_registry(
        &self,
        image: &ImageReference,
        origin: &ImageOrigin,
    ) -> Result<ImageDigest, TrustError> {
        let tag = match origin {
            ImageOrigin::Pinned(pinned) => match &pinned.digest {
                // Another role may have another digest under the same name.
                Some(digest) => return Ok(digest.clone()),
                None => pinned.tag.as_ref().unwrap_or(&image.tag),
            },
            ImageOrigin::Pushed(_) | ImageOrigin::Tag => &image.tag,
        };
        if let Some(Found::InRegistry(digest)) = self.found(image) {
            return Ok(digest);
        }
        let client = self.registry_client(&image.repository).map_err(TrustError::Registry)?;
        let manifest = client.manifest(tag.as_str()).await.map_err(TrustError::Registry)?;
        let missing = || TrustError::NoImage { image: image.to_string(), place: "in the registry" };
        Ok(manifest.ok_or_else(missing)?.digest)
    }

    /// Lets a command of the project look at an image.
    ///
    /// # Errors
    /// [`StepError`] with what it found, or that it failed.
    ///
    /// # Cancel safety
    /// The command is ended.
    pub async fn scan(
        &self,
        image: &ImageReference,
        at: &ImagePlace,
        scan: &ImageScan,
        work: &Work<'_>,
    ) -> Result<Outcome, StepError> {
        let failed = |error| StepError::image(format!("scan image `{image}`"), error);
        // What is looked at is what hosts get then.
        let (name, found) = match at {
            ImagePlace::Registry(origin) => {
                let digest = self.digest_in_registry(image, origin).await.map_err(failed)?;
                (format!("{}@{digest}", image.repository), Found::InRegistry(digest))
            }
            ImagePlace::Engine(place) => {
                let digest = self.digest_on_engine(image, place).await.map_err(failed)?;
                (image.to_string(), Found::Checked(digest))
            }
        };
        self.found.write().insert(image.clone(), found);
        let mut call = Call::new("/bin/sh", vec!["-c".to_owned(), scan.command.clone()]);
        call.variables = vec![("FREEHOLD_IMAGE".to_owned(), name)];
        let folder = self.archive(image, at, scan, work).await?;
        if let Some(folder) = &folder {
            let path = folder.path().join("image.tar").display().to_string();
            call.variables.push(("FREEHOLD_ARCHIVE".to_owned(), path));
        }
        call.directory = Some(self.trust.read().directory.clone());
        let bounds = Bounds { result: LARGEST_REPORT, time: scan.timeout };
        let ended = match self.output_of(&call, bounds, work).await {
            Ok(ended) => ended,
            Err(OutputError::Stopped) => return Err(StepError::Stopped),
            Err(OutputError::TooLong(limit, last)) => return Err(failed(TrustError::Slow { limit, last })),
            Err(OutputError::TooMuch(_, last)) => return Err(failed(TrustError::Flood { last })),
            Err(OutputError::Start(source) | OutputError::Lost(source)) => {
                return Err(failed(TrustError::Lost(source)));
            }
        };
        if !ended.status.success() {
            let status = ended.status.to_string();
            return Err(failed(TrustError::Scanner { status, last: ended.last }));
        }
        let Some(least) = &scan.fail_on else { return Ok(Outcome::Done(None)) };
        let found = Findings::read(&ended.result, least).map_err(TrustError::Report).map_err(failed)?;
        if found.flaws.is_empty() {
            return Ok(Outcome::Done(Some(format!("{} known flaws, none {least} or worse", found.known))));
        }
        Err(failed(TrustError::Flaws {
            image: image.to_string(),
            least: least.clone(),
            count: found.flaws.len(),
            worst: found.flaws.into_iter().take(SHOWN).collect(),
        }))
    }

    /// Writes the image to a file where the command asks for one.
    async fn archive(
        &self,
        image: &ImageReference,
        at: &ImagePlace,
        scan: &ImageScan,
        work: &Work<'_>,
    ) -> Result<Option<Folder>, StepError> {
        let ImagePlace::Engine(place) = at else { return Ok(None) };
        if !scan.command.contains("FREEHOLD_ARCHIVE") {
            return Ok(None);
        }
        (work.progress)(Progress::Status { text: "reading the image from the engine".to_owned() });
        let operation = format!("scan image `{image}`");
        let broken = |error| StepError::image(&operation, TrustError::Archive(error));
        let engine = self.builder(place).await?;
        let parent = self.environment.get("TMPDIR").map_or("/tmp", String::as_str);
        let folder = Folder::make(Path::new(parent)).map_err(broken)?;
        let mut file = fs_err::tokio::File::create(folder.path().join("image.tar")).await.map_err(broken)?;
        let saved = engine.save_image(&image.to_string()).await;
        let mut saved = saved.map_err(|error| StepError::image(&operation, error))?;
        while let Some(piece) = saved.next().await {
            if work.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            file.write_all(&piece.map_err(broken)?).await.map_err(broken)?;
        }
        file.flush().await.map_err(broken)?;
        Ok(Some(folder))
    }
}

/// A folder that nobody else may read and that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn make(parent: &Path) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = parent.join(format!("freehold-scan-{name}"));
        fs_err::create_dir(&path)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs_err::set_permissions(&path, permissions)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_dir_all(&self.0) {
            tracing::warn!(%error, "a file for a scanner is left");
        }
    }
}

/// Reads the signatures of a digest from the project's folder: `sha256-DIGEST.sig` over `sha256-DIGEST.json`, or the bundle
/// `sha256-DIGEST.sigstore.json`.
fn stored(folder: &Path, digest: &ImageDigest) -> io::Result<Vec<FoundSignature>> {
    let name = signature_name(digest);
    let read = |extension: &str| match fs_err::read(folder.join(format!("{name}.{extension}"))) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let payload = read("json")?;
    let mut signatures = Vec::new();
    if let (Some(payload), Some(signature)) = (&payload, read("sig")?) {
        signatures.push(ImageSignature::by_key(payload, &String::from_utf8_lossy(&signature)));
    }
    if let Some(bundle) = read("sigstore.json")? {
        signatures.push(ImageSignature::of_bundle(&bundle, payload.as_deref()));
    }
    Ok(signatures)
}
