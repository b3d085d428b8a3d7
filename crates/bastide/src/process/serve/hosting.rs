//! The program that a process was started for: its beginning, and the order of its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::Server;
use crate::process::log::Log;
use crate::process::mesh::{Address, Registered};
use crate::process::program::{Advertise, Program};
use crate::wire::Reading;

impl Server {
    /// Starts the program that this process was started for: everything that it needs is there.
    pub(super) fn start_program(&mut self, program: Program, log: &Log) -> anyhow::Result<()> {
        let (mut outbound_proxy, mut reached, mut inbound) = (None, Vec::new(), None);
        for (listener, key) in self.configuration.listeners.iter().zip(&self.listeners.open) {
            match (&listener.to, self.cores.address(*key)) {
                (None, address) => outbound_proxy = address,
                (Some(service), Some(address)) if *service != program.service => {
                    reached.push((service.clone(), address));
                }
                (Some(_), address) => inbound = address,
            }
        }
        let address = match program.advertise {
            Advertise::Nothing => None,
            Advertise::Listener => inbound,
            Advertise::At(address) => Some(address),
        };
        let port = Some(Arc::clone(&program.port));
        self.program = Some(program.start(outbound_proxy, &reached, log)?);
        let socket = self.configuration.mesh.as_ref().and_then(|mesh| mesh.socket.clone());
        if let Some((address, socket)) = address.zip(socket) {
            let id = self.parts.mesh.member()?.id().clone();
            let address = Address { socket, id, address, program: port };
            self.registered = Some(Registered::start(address, Arc::clone(&self.parts.random)));
        }
        Ok(())
    }

    /// Takes the program's address out of the registry: first of all that ends.
    pub(super) async fn withdraw(&mut self) {
        if let Some(registered) = self.registered.take() {
            registered.withdraw().await;
        }
    }

    /// Passes on a signal that the program is meant by.
    pub(super) fn pass_on(&self, signal: Signal) {
        if let Some(program) = &self.program {
            program.pass_on(signal);
        }
    }

    /// Takes no new connection from the mesh, then asks the program to end; the outbound proxy stays
    /// open until it has. Nothing to do without a program.
    pub(super) async fn retire(&mut self, signal: Signal) -> bool {
        self.told.get_or_insert_with(tokio::time::Instant::now);
        self.withdraw().await;
        let Some(program) = &self.program else { return false };
        // Whoever is connected already stays at the listener, which closes.
        let mut configuration = self.configuration.clone();
        configuration.listeners.retain(|listener| listener.to.as_ref() != Some(&program.service));
        let current = Arc::clone(&self.current);
        // A file that cannot be read keeps no listener open.
        match self.publish_read(&configuration, &Reading::as_far_as_possible(&current)).await {
            // Whatever is renewed from here on opens no listener again.
            Ok(()) => self.configuration = configuration,
            Err(fault) => tracing::error!("the listener of the mesh stays open: {fault:#}"),
        }
        self.shared.draining.store(true, Ordering::Release);
        if let Some(program) = &mut self.program {
            program.ask_to_end(signal, self.current.limits.drain_ms_max);
        }
        true
    }
}
