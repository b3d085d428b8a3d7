//! `bastide agent`: the mesh on a node without a store.

use std::path::PathBuf;
use std::process::ExitCode;

use ::mesh::node::Pin;
use clap::{Args, ValueHint};

use super::Output;
use super::help::help;

/// Arguments of `bastide agent`.
#[derive(Clone, Debug, Args)]
#[command(
    group = clap::ArgGroup::new("proof").required(true).args(["token_file", "cert", "kubernetes_token"]),
    after_help = help(
        "Attests this node to the control plane by one of: a join token of `bastide mesh token`, which is valid\n\
         once; a certificate; a projected token of a Kubernetes service account. Then serves the SPIFFE Workload\n\
         API and Envoy's SDS to the workloads that are registered for this node. Their keys are made here and\n\
         never leave it.\n\
         \n\
         Without the control plane it continues with what is still valid, and retries after 1 s to 30 s, sooner\n\
         if that is about to end; when its attestation expires, it attests again by itself.",
        "0 ended by a signal, 2 wrong usage, 3 could not start or continue",
        "bastide agent --server 10.0.0.2:7443 --token-file /etc/bastide/join --socket /run/bastide/workload.sock\n\
         bastide agent --server mesh.internal:7443 --pin 4fab… --cert node.pem --key node.key --socket /run/bastide/workload.sock\n\
         bastide agent --server mesh.internal:7443 --pin 4fab… --kubernetes-token /var/run/secrets/tokens/bastide --socket /run/bastide/workload.sock"
    )
)]
pub struct AgentArguments {
    /// The control plane's listener for agents (`mesh.agents`).
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// Where the Workload API listens.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub socket: PathBuf,
    /// The control plane's key, as `bastide mesh nodes` shows it. A join token contains it.
    #[arg(long, value_name = "SHA-256")]
    pub pin: Option<Pin>,
    /// A file with a join token. A new one that is put there is used without a restart.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// A PEM file with this node's certificate and its issuers'.
    #[arg(long, requires = "key", requires = "pin", value_hint = ValueHint::FilePath)]
    pub cert: Option<PathBuf>,
    /// A PEM file with its key, as PKCS #8.
    #[arg(long, requires = "cert", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// A file with a projected token of a service account.
    #[arg(long, requires = "pin", value_hint = ValueHint::FilePath)]
    pub kubernetes_token: Option<PathBuf>,
    /// The state folder: this node's key, the audit log.
    #[arg(long, default_value = "bastide-agent", value_hint = ValueHint::DirPath)]
    pub state: PathBuf,
    /// The format of the log on standard error.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub log_format: Output,
    /// Allow core dumps and debuggers: both can read the keys in this process' memory.
    #[arg(long)]
    pub danger_core_dumps: bool,
}

/// Serves the Workload API of this node until a signal ends it.
///
/// # Errors
/// As [`crate::process::mesh::run_agent`].
pub fn run(arguments: &AgentArguments) -> anyhow::Result<ExitCode> {
    crate::process::mesh::run_agent(arguments)
}
