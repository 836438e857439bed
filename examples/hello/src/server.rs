use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{Connection, Head, Response};
use crate::http2::Http2;
use crate::settings::{Settings, Unhealthy, variable};
use crate::{log, page, websocket};

/// What every connection shares.
pub(crate) struct Application {
    pub(crate) settings: Arc<Settings>,
    had_request: AtomicBool,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Serves until SIGTERM or SIGINT, then finishes what is in flight.
pub(crate) async fn run(settings: Arc<Settings>, http2: Option<Http2>) -> io::Result<()> {
    let listener = TcpListener::bind((settings.bind.as_str(), settings.port)).await?;
    log(&format!("hello {} listens on {}:{}", settings.version, settings.bind, settings.port));
    let application = Arc::new(Application::new(settings));
    if let Some(after) = application.settings.crash_after {
        application.tasks.spawn(crash(after));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    match http2.clone() {
                        Some(http2) => application.tasks.spawn(http2.serve(Arc::clone(&application), stream)),
                        None => application.tasks.spawn(serve(Arc::clone(&application), stream)),
                    };
                }
            }
            _ = terminate.recv(), if !application.settings.ignores_sigterm => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    log("hello: finishing what is in flight");
    application.stop.cancel();
    application.tasks.close();
    tokio::time::timeout(application.settings.drain, application.tasks.wait()).await.ok();
    Ok(())
}

/// Answers one connection's requests until either side wants no more.
async fn serve(application: Arc<Application>, stream: TcpStream) {
    let mut connection = Connection::new(stream);
    loop {
        let is_idle = connection.is_idle();
        let head = tokio::select! {
            head = connection.read_head() => head,
            () = application.stop.cancelled(), if is_idle => return,
        };
        let Ok(Some(head)) = head else { return };
        if head.path == "/ws" {
            websocket::echo(&mut connection, &head, &application.stop).await.ok();
            return;
        }
        let Ok(length) = connection.read_body(&head).await else { return };
        let mut response = application.answer(&head, length).await;
        response.headers.push(("X-Hello-Version", application.settings.version.clone()));
        let closes = head.wants_close() || application.stop.is_cancelled();
        let written = connection.write(&response, head.method == "HEAD", closes).await;
        if closes || written.is_err() {
            return;
        }
    }
}

impl Application {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { settings, had_request: AtomicBool::new(false), stop, tasks }
    }

    /// Answers a request whose body had so many bytes.
    pub(crate) async fn answer(&self, head: &Head, length: u64) -> Response {
        if head.path == "/up" {
            return self.health().await;
        }
        if !self.had_request.swap(true, Ordering::SeqCst)
            && let Some(after) = self.settings.crash_after_request
        {
            self.tasks.spawn(crash(after));
        }
        if let Some(status) = self.settings.fail {
            return Response::text(status, "told to fail\n");
        }
        let number = |name| head.parameter(name).and_then(|value| value.parse().ok());
        match head.path.as_str() {
            "/" => Response::html(page::render(&self.settings.version, &host_name())),
            "/version" => Response::text(200, format!("{}\n", self.settings.version)),
            "/env" => match head.parameter("name").and_then(variable) {
                Some(value) => Response::text(200, format!("{value}\n")),
                None => Response::text(404, "not set\n"),
            },
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(1000))).await;
                Response::text(200, "slow\n")
            }
            "/upload" => Response::text(200, format!("{length}\n")),
            "/log" => {
                log("hello: told to log");
                Response::text(200, "logged\n")
            }
            "/status" => {
                let status = number("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
                Response::text(status, format!("{status}\n"))
            }
            "/crash" => {
                self.tasks.spawn(crash(Duration::from_millis(number("after_ms").unwrap_or(0))));
                Response::text(200, "crashing\n")
            }
            _ => Response::text(404, "no such page\n"),
        }
    }

    async fn health(&self) -> Response {
        match self.settings.unhealthy {
            None => Response::text(200, "ok\n"),
            Some(Unhealthy::Status(301)) => {
                let location = ("Location", "https://elsewhere.example/up".to_owned());
                Response { headers: vec![location], ..Response::text(301, "moved\n") }
            }
            Some(Unhealthy::Status(status)) => Response::text(status, "told to be unhealthy\n"),
            Some(Unhealthy::Hang) => std::future::pending().await,
        }
    }
}

/// Ends the process the way a crash does, after a time.
async fn crash(after: Duration) {
    tokio::time::sleep(after).await;
    log("hello: crashing as told");
    #[expect(clippy::exit, reason = "a crash asks nobody")]
    std::process::exit(1);
}

fn host_name() -> String {
    fs_err::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}
