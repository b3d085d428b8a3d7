//! What the process is told from outside: signals, and the end of its standard input.

use std::fs::File;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Each of them, and the leash.
pub(super) struct Signals {
    pub(super) ends: Ends,
    pub(super) passed: Passed,
    pub(super) hang_up: Signal,
    pub(super) upgrade: Signal,
    /// Whether there is a terminal whose end is ours.
    terminal: bool,
    /// Says that standard input closed.
    pub(super) leash: oneshot::Receiver<()>,
    /// Holds the leash where nobody else does.
    _unleashed: Option<oneshot::Sender<()>>,
}

/// Those that tell it to end.
pub(super) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    /// Where a program runs here: without one it ends the process as it does every other.
    quit: Option<Signal>,
}

/// Those that a program that runs here is meant by, and nobody where none does.
pub(super) struct Passed(Option<[(Signal, Number); 3]>);

impl Signals {
    /// From here on they are heard. `hosts`: a program runs here.
    pub(super) fn new(leashed: bool, hosts: bool) -> std::io::Result<Self> {
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
        let passed = || -> std::io::Result<_> {
            Ok([
                (signal(SignalKind::user_defined1())?, Number::USR1),
                (signal(SignalKind::user_defined2())?, Number::USR2),
                (signal(SignalKind::alarm())?, Number::ALARM),
            ])
        };
        let terminal = hosts && has_terminal() && !ignores_hang_up();
        Ok(Self {
            leash,
            _unleashed: unleashed,
            ends: Ends {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: hosts.then(|| signal(SignalKind::quit())).transpose()?,
            },
            passed: Passed(hosts.then(passed).transpose()?),
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminal,
        })
    }

    /// Whether the terminal has gone that a program was started from. It is not in the terminal's
    /// foreground itself, and hears of it from us alone.
    pub(super) fn terminal_has_gone(&self) -> bool {
        self.terminal && !has_terminal()
    }
}

impl Ends {
    /// The next of them.
    pub(super) async fn told(&mut self) -> Number {
        tokio::select! {
            _ = self.terminate.recv() => Number::TERM,
            _ = self.interrupt.recv() => Number::INT,
            () = heard(&mut self.quit) => Number::QUIT,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

impl Passed {
    /// The next of them; never where no program runs.
    pub(super) async fn told(&mut self) -> Number {
        let Some([(first, one), (second, two), (third, three)]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = first.recv() => *one,
            _ = second.recv() => *two,
            _ = third.recv() => *three,
        }
    }
}

/// Whether the process has a controlling terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether it was started to outlive its terminal, as nohup(1) does.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // Bit 0 is signal 1, SIGHUP.
    ignored & 1 == 1
}
