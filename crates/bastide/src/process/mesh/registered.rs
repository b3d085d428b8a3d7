//! The address of a service in the registry: said when its program takes connections, said again
//! while it runs, and taken back at its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::mesh::directory::pause_before_renewal;
use ::mesh::workload_api::{Client, said};
use keys::SystemRandom;
use model::SpiffeId;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::process::program_port::ProgramPort;

/// How often a program is looked at that does not take connections yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one word to the Workload API may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the last one may take.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(2);
/// How long callers have to hear of it before nobody listens there any more.
const HEARD_WITHIN: Duration = Duration::from_millis(200);

/// What is said.
pub struct Address {
    /// Where the Workload API is.
    pub socket: PathBuf,
    /// Who listens.
    pub id: SpiffeId,
    /// Where; `0.0.0.0` and `[::]`: at the machine's own address.
    pub address: SocketAddr,
    /// Where the program behind it takes connections, which is waited for; `None`: it does.
    pub program: Option<Arc<ProgramPort>>,
}

/// An address that is kept registered. Dropped, it is not said any more.
pub struct Registered {
    over: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Registered {
    /// Begins to say it.
    pub fn start(address: Address, random: Arc<SystemRandom>) -> Self {
        let (over, told) = oneshot::channel();
        Self { over: Some(over), task: tokio::spawn(run(address, random, told)) }
    }

    /// Takes it back, within a bounded time, and lets callers hear of that.
    pub async fn withdraw(mut self) {
        drop(self.over.take());
        if tokio::time::timeout(WITHDRAWN_WITHIN, &mut self.task).await.is_ok() {
            tokio::time::sleep(HEARD_WITHIN).await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(address: Address, random: Arc<SystemRandom>, mut over: oneshot::Receiver<()>) {
    let listens = async {
        let Some(program) = &address.program else { return };
        let mut said = None;
        while let Err(why) = takes_connections(program).await {
            if why.is_some() && said != why {
                tracing::warn!(id = %address.id, why, "mesh: not registered");
                said = why;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = listens => {}
        _ = &mut over => return,
    }
    let (mut failures, mut known) = (0_u32, None);
    loop {
        match say(&address, true).await {
            Ok(at) => {
                if known.replace(at) != Some(at) {
                    tracing::info!(id = %address.id, address = %at, "mesh: registered");
                }
                failures = 0;
            }
            Err(why) => {
                failures = failures.saturating_add(1);
                tracing::warn!(id = %address.id, address = %address.address, why, "mesh: the address could not be registered; it is tried again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause_before_renewal(failures, random.as_ref())) => {}
            _ = &mut over => break,
        }
    }
    if known.is_some()
        && let Err(why) = say(&address, false).await
    {
        tracing::warn!(id = %address.id, why, "mesh: the address could not be withdrawn; its registration expires without renewal");
    }
}

/// Whether it is the program that does.
///
/// # Errors
/// Nobody does; or somebody else, whom it says.
async fn takes_connections(program: &ProgramPort) -> Result<(), Option<String>> {
    program.check().map_err(Some)?;
    TcpStream::connect(program.address()).await.map_err(|_| None)?;
    Ok(())
}

/// Registers it, or takes it back.
async fn say(address: &Address, registered: bool) -> Result<SocketAddr, String> {
    let Address { socket, id, address, program } = address;
    let asked = async {
        if let Some(program) = program.as_ref().filter(|_| registered) {
            program.check()?;
        }
        let client = connect(socket).await?;
        let asked = match registered {
            true => client.register(id, *address).await,
            false => client.withdraw(id, *address).await,
        };
        asked.map_err(|status| said(&status))
    };
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
    answer.unwrap_or_else(|_| Err("the Workload API does not answer in time".to_owned()))
}

async fn connect(socket: &Path) -> Result<Client, String> {
    Client::connect(socket).await.map_err(|error| error.to_string())
}
