mod sample;

use std::path::{Path, PathBuf};

use freehold_model::ServiceName;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, FileError, UsageError};
use crate::ui::{Line, Tone};

/// Write a deploy file, a secrets file and samples of hooks to start from.
///
/// Files that exist are left as they are. The service is named after the folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  freehold init\n  freehold init && $EDITOR config/deploy.yml && freehold setup"
)]
pub(crate) struct Args {
    /// Kamal's: put the gem into the Gemfile. There is no gem of freehold.
    #[arg(long, hide = true)]
    bundle: bool,
}

#[derive(Debug, Serialize)]
struct Initialised {
    written: Vec<String>,
    kept: Vec<String>,
}

impl Initialised {
    fn note(&mut self, path: &Path, is_written: bool) {
        let list = if is_written { &mut self.written } else { &mut self.kept };
        list.push(path.display().to_string());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Text,
    /// Nobody else reads it.
    Secret,
    Executable,
}

pub(crate) fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    if arguments.bundle {
        let error = UsageError::new("`--bundle` is not supported: freehold is one executable, not a gem");
        return Err(error.help("leave out `--bundle`").into());
    }
    let root = &context.process.directory;
    let service = service_name(root);
    let has_dockerfile = root.join("Dockerfile").exists();
    let deploy_file = include_str!("init/deploy.yml").replace("SERVICE", &service);
    let files = [
        (context.arguments.config_file.clone(), deploy_file.as_str(), Mode::Text),
        (PathBuf::from(".kamal/secrets"), include_str!("init/secrets"), Mode::Secret),
    ];
    let mut outcome = Initialised { written: Vec::new(), kept: Vec::new() };
    for (path, text, mode) in &files {
        outcome.note(path, write_new(&root.join(path), text, *mode)?);
    }
    for (name, text) in sample::hooks() {
        let path = Path::new(".kamal/hooks").join(format!("{name}.sample"));
        outcome.note(&path, write_new(&root.join(&path), &text, Mode::Executable)?);
    }
    show(context, &outcome, has_dockerfile);
    context.ui.result_json(context.command, &outcome);
    Ok(())
}

fn show(context: &Context, outcome: &Initialised, has_dockerfile: bool) {
    let written =
        outcome.written.iter().map(|path| Line::new().add(Tone::Good, "wrote").plain(format!("  {path}")));
    let kept = outcome.kept.iter().map(|path| {
        Line::new().add(Tone::Faint, "kept ").plain(format!("  {path}")).add(Tone::Faint, ", which exists")
    });
    context.ui.result(&written.chain(kept).collect::<Vec<_>>());
    let mut steps = vec![format!("set the hosts in {}", context.arguments.config_file.display())];
    if !has_dockerfile {
        steps.push("write a Dockerfile".to_owned());
    }
    steps.push("run `freehold setup`: it prepares the hosts and deploys".to_owned());
    for (number, step) in steps.iter().enumerate() {
        let mark = if number == 0 { "next:" } else { "     " };
        context.ui.note(Line::new().add(Tone::Strong, mark).plain(format!("  {}. {step}", number + 1)));
    }
}

/// Writes a file that does not exist, and says whether it did.
fn write_new(path: &Path, text: &str, mode: Mode) -> Result<bool, FileError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| FileError { operation: "write the first files of the project".to_owned(), source };
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder).map_err(failed)?;
    }
    let mode = match mode {
        Mode::Text => 0o644,
        Mode::Secret => 0o600,
        Mode::Executable => 0o755,
    };
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true).options_mut().mode(mode);
    match options.open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a service's name of a folder's: what is not allowed in it becomes `-`.
fn service_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches('-').to_owned();
    if ServiceName::parse(name.as_str()).is_ok() { name } else { "app".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_names_the_service() {
        for (folder, service) in
            [("/srv/My Shop", "my-shop"), ("/srv/app.rb", "app-rb"), ("/", "app"), ("/x/äö", "app")]
        {
            assert_eq!(service_name(Path::new(folder)), service);
        }
    }
}
