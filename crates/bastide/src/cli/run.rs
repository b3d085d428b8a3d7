//! `bastide run`: one service of the mesh.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ::mesh::directory;
use clap::{Args, ValueHint};

use super::Output;
use super::help::help;

/// Arguments of `bastide run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = help(
    "The program listens on 127.0.0.1 at the port that its environment names as PORT, or at --to.\n\
     It reaches other services of the mesh by name through BASTIDE_OUTBOUND_PROXY, which http_proxy names too:\n\
     http://payments/charges. TCP services, such as a database or a broker, are reached by --reach.",
    "the program's own; 128 plus the signal when a signal ended it; 2 wrong usage, 3 could not start it",
    "bastide run --service orders --listen 0.0.0.0:7001 -- ./orders\n\
     bastide run --service orders --listen 0.0.0.0:7001 --to 8080 --config /etc/bastide/mesh.yaml -- java -jar orders.jar\n\
     bastide run --service orders --listen 0.0.0.0:7001 --reach db=5432 -- ./orders --database 127.0.0.1:5432"
))]
pub struct RunArguments {
    /// The service: one of the identities that the Workload API issues to this process.
    #[arg(long)]
    pub service: String,
    /// Where the service is reached by mutual TLS.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The address and port at which others reach it, instead of --listen: registered at the
    /// control plane, where callers find services that are `registry` in `mesh.services`.
    /// Default there: the address of --listen; for 0.0.0.0 and [::], the one by which this machine
    /// reaches the control plane; on the control plane's, that of `mesh.agents` or of the default route.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = advertised)]
    pub advertise: Option<SocketAddr>,
    /// The port of 127.0.0.1 where the program listens. Default: a free one, in its environment as
    /// PORT.
    #[arg(long, value_name = "PORT")]
    pub to: Option<u16>,
    /// A user, by number, whose process listens at that port although it is none that the program starts, such as a
    /// server that runs already. Without, nobody may listen there before the program is started, and after that
    /// only processes of the program, of the user of this one, and of root.
    #[arg(long, value_name = "UID")]
    pub listener_uid: Vec<u32>,
    /// The port of 127.0.0.1 of the outbound proxy. Default: a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub outbound_port: u16,
    /// Opens a port of 127.0.0.1 that leads to a service of the mesh, for any protocol, even if the
    /// server speaks first. Without a port, or with 0, a free one; the program finds it as
    /// BASTIDE_TO_NAME.
    #[arg(long, value_name = "NAME[=PORT]", value_parser = reach)]
    pub reach: Vec<Reach>,
    /// The configuration shared by the mesh's services: `mesh:` with the socket of the Workload API
    /// and the services, `policies:`, `limits:`. It has no listeners and no routes. Default:
    /// `mesh.yaml`.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The state folder: audit log, retained policies. Default: `bastide-SERVICE` beside the
    /// configuration.
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// The port of 127.0.0.1 for metrics and health. Default: a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub admin: u16,
    /// Data-plane threads.
    #[arg(long, default_value_t = 1)]
    pub workers: u16,
    /// Leave http_proxy out of the program's environment.
    #[arg(long)]
    pub no_proxy_environment: bool,
    /// The format of the log on standard error, which the program's output is part of.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub log_format: Output,
    /// Allow core dumps, which have the keys in this process' memory in them. Those of the program are its own matter.
    #[arg(long)]
    pub danger_core_dumps: bool,
    /// End when standard input closes: for programs that start it as a child.
    #[arg(long, hide = true)]
    pub leash: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl RunArguments {
    /// The configuration that is meant.
    pub fn shared(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(SHARED))
    }
}

/// What the configuration shared by the mesh's services is called where nobody says otherwise.
pub(super) const SHARED: &str = "mesh.yaml";

/// A port of loopback that leads to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The service.
    pub service: String,
    /// The port; 0: a free one.
    pub port: u16,
}

fn advertised(text: &str) -> Result<SocketAddr, String> {
    let said = directory::parse(text).and_then(|said| directory::advertised(said, None));
    said.map_err(str::to_owned)
}

fn reach(text: &str) -> Result<Reach, String> {
    let (service, port) = text.split_once('=').unwrap_or((text, "0"));
    let port = port.parse().map_err(|_| format!("expected NAME or NAME=PORT, found {text:?}"))?;
    Ok(Reach { service: service.to_owned(), port })
}

/// Runs the program behind its proxy; the exit code is the program's.
///
/// # Errors
/// As [`crate::process::run::run`].
pub fn run(arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    crate::process::run::run(arguments)
}
