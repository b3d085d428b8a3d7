//! What the process is told from outside: signals, and the end of its standard input.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Each of them, and the leash.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) hang_up: Signal,
    pub(super) upgrade: Signal,
    /// Says that standard input closed.
    pub(super) leash: oneshot::Receiver<()>,
    /// Holds the leash where nobody else does.
    _unleashed: Option<oneshot::Sender<()>>,
}

impl Signals {
    pub(super) fn new(leashed: bool) -> std::io::Result<Self> {
        let (closed, leash) = oneshot::channel();
        let unleashed = if leashed {
            // A thread, because a read of standard input cannot be called off.
            std::thread::Builder::new().name("leash".to_owned()).spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = closed.send(());
            })?;
            None
        } else {
            Some(closed)
        };
        Ok(Self {
            leash,
            _unleashed: unleashed,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}
