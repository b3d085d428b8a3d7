//! `bastide run` beside services of the shop: a listener of mutual TLS in front of each, and an outbound proxy
//! to the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::DemoEnvironment;
use crate::demo::client::ClientCertificate;
use crate::demo::process::{POLL, Process, START_TIME_MAX};
use crate::demo::service::Announcement;

/// The proxy beside a service of the mesh: where it is reached, and goes out.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    /// The service.
    pub(crate) service: &'static str,
    /// Which of several instances.
    pub(crate) instance: u32,
    /// Its port in the mesh.
    pub(crate) inbound: u16,
    /// Its outbound proxy, on loopback.
    pub(crate) outbound: u16,
}

impl Sidecar {
    /// Its name in the demo's configuration: `inbound_orders_1`.
    pub(crate) fn place(&self) -> String {
        match self.service {
            "orders" => format!("{{{{inbound_{}_{}}}}}", self.service, self.instance),
            service => format!("{{{{inbound_{service}}}}}"),
        }
    }

    /// Its outbound proxy.
    pub(crate) fn outbound(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.outbound))
    }

    /// The executable that the kernel knows it by.
    pub(crate) fn executable(folder: &Path, service: &str) -> PathBuf {
        folder.join("bin").join(service)
    }

    /// Gives the service an executable of its own.
    ///
    /// # Errors
    /// It can be neither linked nor copied.
    pub(crate) fn install(folder: &Path, service: &str, executable: &Path) -> anyhow::Result<()> {
        let own = Self::executable(folder, service);
        std::fs::create_dir_all(own.with_file_name(""))?;
        if !own.exists() && std::fs::hard_link(executable, &own).is_err() {
            std::fs::copy(executable, &own).with_context(|| format!("cannot make {}", own.display()))?;
        }
        Ok(())
    }

    /// Starts it beside the service at `address`, and waits until both of its endpoints are open.
    ///
    /// # Errors
    /// It ends, or is not there in time.
    pub(crate) async fn start(self, address: SocketAddr, folder: &Path) -> anyhow::Result<Process> {
        let name = format!("mesh-{}-{}", self.service, self.instance);
        let arguments = [
            "run".to_owned(),
            "--leash".to_owned(),
            format!("--service={}", self.service),
            format!("--listen=127.0.0.1:{}", self.inbound),
            format!("--outbound-port={}", self.outbound),
            format!("--to={}", address.port()),
            format!("--state=state-{name}"),
            // The service runs already: what is run is a process that only waits.
            format!("--listener-uid={}", rustix::process::geteuid().as_raw()),
            "--".to_owned(),
            "sleep".to_owned(),
            "86400".to_owned(),
        ];
        let executable = Self::executable(folder, self.service);
        let mut process = Process::start(&name, &executable, &arguments, false, folder)?;
        let open = async |port: u16| tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        let waited = tokio::time::timeout(START_TIME_MAX, async {
            while !(open(self.outbound).await && open(self.inbound).await) {
                if let Some(how) = process.ended() {
                    return Err(how);
                }
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        });
        match waited.await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(how)) => bail!("{name} ended ({how}): {}", process.last_words(folder)),
            Err(_) => bail!("{name} is not ready: {}", process.last_words(folder)),
        }
    }
}

impl DemoEnvironment {
    /// Starts `bastide run` beside the services of the mesh, which get their identities now.
    pub(super) async fn start_proxies(&mut self) -> anyhow::Result<()> {
        let mut starting = tokio::task::JoinSet::new();
        for sidecar in self.mesh.clone() {
            let is_it = |service: &&Announcement| {
                (service.role.name(), service.instance) == (sidecar.service, sidecar.instance)
            };
            let address = self.services().find(is_it).map(|service| service.address);
            let address = address.with_context(|| format!("no service {} runs", sidecar.service))?;
            let folder = self.folder().to_owned();
            starting.spawn(async move { sidecar.start(address, &folder).await });
        }
        while let Some(started) = starting.join_next().await {
            self.proxies.push(started??);
        }
        Ok(())
    }

    /// What the Workload API gives to a service's executable: its certificate with its key, and
    /// the authorities that it trusts.
    ///
    /// # Errors
    /// It gives none.
    pub(crate) async fn certificate_of(&self, service: &str) -> anyhow::Result<(ClientCertificate, Vec<u8>)> {
        let out = self.path(&format!("copy-{service}"));
        let output = tokio::process::Command::new(Sidecar::executable(self.folder(), service))
            .args(["mesh", "svid", "--socket"])
            .arg(self.path("workload.sock"))
            .arg("--out")
            .arg(&out)
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "{service} gets no certificate: {said}");
        let chain = std::fs::read_to_string(out.join("svid.pem"))?;
        let key = std::fs::read_to_string(out.join("svid.key"))?;
        Ok((ClientCertificate { chain, key }, std::fs::read(out.join("bundle.pem"))?))
    }

    /// The outbound proxy and the listener in the mesh of a service's first instance.
    ///
    /// # Errors
    /// It is none of the mesh.
    pub(crate) fn in_mesh(&self, service: &str) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let found = self.mesh.iter().find(|sidecar| sidecar.service == service);
        let found = found.with_context(|| format!("{service} is not in the mesh"))?;
        Ok((found.outbound(), SocketAddr::from(([127, 0, 0, 1], found.inbound))))
    }
}
