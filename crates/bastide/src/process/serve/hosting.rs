//! The program that a process was started for: its beginning, and the order of its end.

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::Server;
use crate::process::guest::Guest;

impl Server {
    /// Starts the program that this process was started for: everything that it needs is there.
    pub(super) fn welcome(&mut self, guest: Guest) -> anyhow::Result<()> {
        let bound = self.cores.addresses();
        let keys: Vec<_> = proxy::world::keyed(&self.current.listeners).map(|(key, _)| key).collect();
        let way_out =
            self.configuration.listeners.iter().zip(keys).find(|(listener, _)| listener.tls.is_none());
        let address = way_out.and_then(|(_, key)| bound.iter().find(|(bound, _)| *bound == key));
        self.guest = Some(guest.start(address.map(|(_, address)| *address))?);
        Ok(())
    }

    /// Takes no new connection from the mesh, then asks the program to end; the way out stays
    /// open until it has. Nothing to do without a program.
    pub(super) async fn retire(&mut self, signal: Signal) -> bool {
        if self.guest.is_none() {
            return false;
        }
        let mut configuration = self.configuration.clone();
        configuration.listeners.retain(|listener| listener.tls.is_none());
        match self.publish(&configuration).await {
            // Whatever is renewed from here on opens no listener again.
            Ok(()) => self.configuration = configuration,
            Err(fault) => tracing::error!("the listener of the mesh stays open: {fault:#}"),
        }
        self.shared.draining.store(true, Ordering::Release);
        if let Some(guest) = &mut self.guest {
            guest.ask_to_end(signal, self.current.limits.drain_ms_max);
        }
        true
    }
}
