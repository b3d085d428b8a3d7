//! What systemd is told (sd_notify(3)): one datagram per change, and nothing when nobody
//! asked for it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Where to, when somebody asked.
#[derive(Debug, Default)]
pub struct Notifier {
    address: Option<SocketAddr>,
}

impl Notifier {
    /// By the value of `NOTIFY_SOCKET`: a path, or an abstract name after `@`.
    pub fn new(socket: Option<&str>) -> Self {
        let address = socket.and_then(|socket| match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(Path::new(socket)).ok(),
        });
        Self { address }
    }

    /// Requests are served.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// A reload begins; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Another process is the main one now. This one says nothing more: its end would be taken
    /// for the service's.
    pub fn succeeded_by(&mut self, process: u32) {
        self.tell(&format!("MAINPID={process}\nREADY=1"));
        self.address = None;
    }

    fn tell(&self, text: &str) {
        let Some(address) = &self.address else { return };
        // Nobody is served worse because systemd did not hear it.
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(text.as_bytes(), address));
        if let Err(error) = sent {
            tracing::debug!(%error, ?address, "systemd was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_one_datagram_and_nobody_is_asked_without_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::new(path.to_str());
        notifier.ready();
        notifier.reloading();
        notifier.stopping();
        notifier.succeeded_by(7);
        // The service goes on.
        notifier.stopping();
        let mut bytes = [0; 128];
        for expected in ["READY=1", "RELOADING=1", "STOPPING=1", "MAINPID=7\nREADY=1"] {
            let count = socket.recv(&mut bytes).unwrap();
            assert_eq!(std::str::from_utf8(&bytes[..count]).unwrap(), expected);
        }
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut bytes).is_err(), "a word after the last");
        Notifier::new(None).ready();
        Notifier::new(Some("/nowhere/at/all")).ready();
    }
}
