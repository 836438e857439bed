use tokio_util::sync::CancellationToken;

/// Listens for Ctrl-C and for the end that a service manager asks for: the first time cancels `stop`, the second `abort`.
///
/// # Cancel safety
/// Cancel safe; from then on a signal does nothing.
pub(crate) async fn listen(stop: CancellationToken, abort: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("cannot listen for signals: Ctrl-C ends at once");
        return;
    };
    for token in [&stop, &abort] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    }
    // The signals stay caught: a third Ctrl-C must not cut off what the second one is ending.
    std::future::pending::<()>().await;
}
