//! Sockets that systemd opened (sd_listen_fds(3)): socket activation.

use anyhow::Context;
use listenfd::ListenFd;
use proxy::ListenerSettings;
use proxy::listen::Inherited;

use super::handover::HandoverResources;

/// `FileDescriptorName=` of the admin listener's socket.
const ADMIN: &str = "admin";

/// Takes the sockets that came with the start, each for the listener that is configured
/// with its address; the one named `admin` for the admin listener.
///
/// # Errors
/// A socket that is none of TCP, or on an address that no listener has.
pub fn sockets(
    environment: &dyn Fn(&str) -> Option<String>,
    listeners: &[ListenerSettings],
    resources: &mut HandoverResources,
) -> anyhow::Result<()> {
    let names = environment("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    for (place, name) in (0..sockets.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
        let socket = sockets.take_tcp_listener(place);
        let socket = socket.with_context(|| format!("socket {place} of systemd ({name:?}) is not TCP"))?;
        let Some(socket) = socket else { continue };
        if name == ADMIN {
            resources.admin = Some(socket);
            continue;
        }
        let address = socket.local_addr()?;
        let known = listeners.iter().find(|listener| listener.address == address);
        let known = known.with_context(|| {
            let expected: Vec<String> =
                listeners.iter().map(|listener| listener.address.to_string()).collect();
            format!(
                "systemd opened {address} ({name:?}), which no listener of the configuration has: expected {}; \
                 `ListenStream=` with a port alone opens [::]; the socket of the admin listener needs \
                 FileDescriptorName={ADMIN}",
                expected.join(" or ")
            )
        })?;
        let key = known.key();
        resources.listeners.push(Inherited { key, address, sockets: vec![socket], claim: None });
    }
    Ok(())
}
