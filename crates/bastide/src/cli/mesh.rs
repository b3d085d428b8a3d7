//! `bastide mesh`: what an operator does with the trust domain: look, rotate by hand, ask for
//! a document.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::mesh::TrustDomain;
use ::mesh::workload_api::Client;
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use keys::SystemRandom;
use keys::encoding::encode_pem;
use serde_json::{Value, json};
use store::{Store, UnsealKey};

use super::check::{self, Loaded};
use super::help::{EXIT_CODES, examples, help};
use super::{Output, refuse, say, say_json};
use crate::admin::client::{AdminClient, Answer};
use crate::admin::resource::{PartnerOut, encoded};
use crate::config::{Configuration, Mesh};
use crate::process::clock::SystemClock;
use crate::process::mesh::{Attempts, stored_bundles};
use crate::process::storage;

mod authorities;
mod nodes;
mod revoke;
mod status;
mod workloads;

use revoke::Whom;
use status::MeshStatus;
use workloads::WorkloadCommand;

const NO_MESH: &str = "the configuration has no `mesh:`";

/// Arguments of `bastide mesh`.
#[derive(Debug, Args)]
#[command(after_help = help(
    "A running process applies the change at once.",
    EXIT_CODES,
    "bastide mesh status                        authorities, workloads, valid certificates\n\
     bastide mesh bundle > bundle.json          what others verify this trust domain with\n\
     bastide mesh prepare                       another issuing authority: trusted, not yet used\n\
     bastide mesh taint 3Jf…                    it no longer signs; what it signed is replaced at once\n\
     bastide mesh revoke 3Jf…                   what it signed is no longer valid\n\
     bastide mesh revoke --serial 4fab…         this certificate is no longer valid\n\
     bastide mesh revoke --identity spiffe://shop.example/orders   none of this workload's is, and it gets no others\n\
     bastide mesh lift --identity spiffe://shop.example/orders     until this is run\n\
     bastide mesh workload add orders --uid 1000     these processes are orders from now on\n\
     bastide mesh token edge-1                  a token with which the node's agent joins, once\n\
     bastide mesh evict edge-1 --why stolen     this node gets nothing more, and cannot join again\n\
     bastide mesh tap --service payments --config mesh.yaml    calls as they end\n\
     bastide mesh svid --socket /run/bastide/workload.sock --out folder\n\
     bastide mesh advertise --socket /run/bastide/workload.sock --service orders 10.0.0.5:7001"
))]
pub struct MeshArguments {
    #[command(subcommand)]
    command: MeshCommand,
    /// The configuration: where the store is, and where the services are.
    #[arg(long, short, default_value = "bastide.yaml", global = true, value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// With `unseal: shares`, a file that holds a share; may be given several times.
    #[arg(long = "share-file", global = true, value_hint = ValueHint::FilePath)]
    share_files: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum MeshCommand {
    /// Shows the authorities and their states, the workloads, how many certificates are valid, and the
    /// trust domains that are federated with.
    #[command(after_help = examples(
        "bastide mesh status\n\
         bastide mesh status --output json | jq '.authorities[] | select(.state == \"active\")'"
    ))]
    Status,
    /// Prints the bundle: the document of the bundle endpoint.
    #[command(after_help = examples("bastide mesh bundle > bundle.json"))]
    Bundle,
    /// Makes another authority, which is trusted at once and signs when its turn comes.
    #[command(after_help = examples(
        "bastide mesh prepare            an issuing authority\n\
         bastide mesh prepare root\n\
         bastide mesh prepare jwt"
    ))]
    Prepare {
        /// Its kind.
        #[arg(value_enum, default_value_t = AuthorityKind::Issuing)]
        kind: AuthorityKind,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Lets a prepared authority sign from now on.
    #[command(after_help = examples("bastide mesh activate 3Jf…"))]
    Activate {
        /// Its id, as `status` shows it, or the beginning of it.
        #[arg(allow_hyphen_values = true)]
        authority: String,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Stops an authority from signing; what it signed is replaced at once.
    #[command(after_help = examples(
        "bastide mesh taint 3Jf…                                as `bastide mesh status` lists it\n\
         bastide mesh taint 3Jf… --why \"a copy of its key was found\""
    ))]
    Taint {
        /// Its id, or the beginning of it.
        #[arg(allow_hyphen_values = true)]
        authority: String,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Removes a tainted authority from the bundle, so that what it signed is no longer valid; or
    /// revokes one certificate; or a workload, which gets no documents until that is lifted.
    #[command(group = clap::ArgGroup::new("what").required(true).args(["authority", "serial", "identity"]))]
    #[command(after_help = examples(
        "bastide mesh revoke 3Jf…\n\
         bastide mesh revoke --serial 4fab0c…\n\
         bastide mesh revoke --identity spiffe://shop.example/orders"
    ))]
    Revoke {
        /// The authority's id, or the beginning of it.
        #[arg(allow_hyphen_values = true)]
        authority: Option<String>,
        #[command(flatten)]
        whom: Whom,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Lifts the revocation of a certificate or a workload. Earlier certificates of a workload
    /// stay revoked.
    #[command(group = clap::ArgGroup::new("what").required(true).args(["serial", "identity"]))]
    #[command(after_help = examples(
        "bastide mesh lift --identity spiffe://shop.example/orders\n\
         bastide mesh lift --serial 4fab0c…"
    ))]
    Lift {
        #[command(flatten)]
        whom: Whom,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Makes a token with which a node's agent may join, once.
    #[command(after_help = examples(
        "bastide mesh token edge-1 > join\n\
         bastide mesh token edge-1 --expires 10m --output json"
    ))]
    Token {
        /// The node's name, as in `workloads.NAME.node`.
        node: String,
        /// How long it may be used, such as `10m`: at most 7d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::key::parse_lifetime)]
        expires: Duration,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Lists the nodes that are attested, and the key that agents know the control plane by.
    #[command(after_help = examples(
        "bastide mesh nodes\n\
         bastide mesh nodes --output json | jq -r .pin"
    ))]
    Nodes,
    /// Withdraws a node's attestation and keeps it out, whatever it presents, until another token is
    /// made for it or it is admitted. The certificates that were issued on it are revoked; tokens stay
    /// valid until they expire.
    #[command(after_help = examples(
        "bastide mesh evict edge-1\n\
         bastide mesh evict x509/edge-2"
    ))]
    Evict {
        /// Its name.
        node: String,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Lets an evicted node join again.
    #[command(after_help = examples("bastide mesh admit edge-1"))]
    Admit {
        /// Its name.
        node: String,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Registers workloads in addition to those of the configuration.
    #[command(subcommand, after_help = examples(
        "bastide mesh workload add orders --uid 1000     these processes are orders from now on\n\
         bastide mesh workload list"
    ))]
    Workload(WorkloadCommand),
    /// Shows the calls of a proxy as they end: who called what, what was decided, how long it took.
    Tap(super::mesh_tap::TapArguments),
    /// Registers where a service that holds its own certificates listens, for as long as this runs,
    /// for callers that have it as `registry`. This process has to be attested as the service.
    #[command(after_help = examples(
        "bastide mesh advertise --socket /run/bastide/workload.sock --service orders 10.0.0.5:7001\n\
         bastide mesh advertise --socket /run/bastide/workload.sock --service orders 0.0.0.0:7001"
    ))]
    Advertise {
        /// The socket of the Workload API.
        #[arg(long, value_hint = ValueHint::FilePath)]
        socket: PathBuf,
        /// The service.
        #[arg(long)]
        service: String,
        /// The address and port at which others reach it; of 0.0.0.0 and [::] the one by which
        /// this machine reaches the control plane; on the control plane's, that of `mesh.agents` or of
        /// the default route.
        #[arg(value_name = "ADDRESS:PORT", value_parser = address)]
        address: SocketAddr,
    },
    /// Asks a Workload API for the certificates of this process, as a workload would.
    #[command(after_help = examples(
        "bastide mesh svid --socket /run/bastide/workload.sock\n\
         bastide mesh svid --socket /run/bastide/workload.sock --out folder && openssl x509 -in folder/svid.pem -noout -text"
    ))]
    Svid {
        /// The socket.
        #[arg(long, value_hint = ValueHint::FilePath)]
        socket: PathBuf,
        /// A folder for `svid.pem`, `svid.key` and `bundle.pem` of the first. Default: only show
        /// their SPIFFE IDs.
        #[arg(long, value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
}

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuthorityKind {
    /// Issuing authorities.
    Root,
    /// Certificates.
    Issuing,
    /// Tokens.
    Jwt,
}

/// Carries out a command on the trust domain, through a running process or on the store.
///
/// # Errors
/// The configuration has faults, or the store cannot be read or written.
pub fn run(arguments: MeshArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let MeshCommand::Svid { socket, out } = &arguments.command {
        return runtime.block_on(svid(socket, out.as_deref(), arguments.output));
    }
    if let MeshCommand::Advertise { socket, service, address } = &arguments.command {
        runtime.block_on(crate::process::mesh::advertise(socket, service, *address, arguments.output))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let MeshCommand::Tap(tap) = &arguments.command {
        return runtime.block_on(super::mesh_tap::run(tap, &arguments.config, arguments.output));
    }
    let (config, output) = (&arguments.config, arguments.output);
    if let MeshCommand::Status | MeshCommand::Bundle | MeshCommand::Nodes = &arguments.command {
        let configuration = check::load_or_report(config, output)?;
        let mesh = configuration.mesh.as_ref().context(NO_MESH)?;
        let key = super::store::unlock(&configuration, &arguments.share_files)?;
        return runtime.block_on(show(&configuration, mesh, key, &arguments.command, output));
    }
    // What a running process carries out waits for nobody who mends its file.
    let loaded = check::load_or_running(config, output)?;
    let configuration = match &loaded {
        Loaded::Whole(configuration) => Some(&**configuration),
        Loaded::Running(_) => None,
    };
    let mesh = configuration.map(|known| known.mesh.as_ref().context(NO_MESH)).transpose()?;
    let admin = || match &loaded {
        Loaded::Whole(configuration) => {
            let unlock = || super::store::unlock(configuration, &arguments.share_files);
            AdminClient::unlocked(configuration, unlock)
        }
        Loaded::Running(state) => Ok(AdminClient::at(state)),
    };
    match &arguments.command {
        MeshCommand::Prepare { kind, why } => authorities::prepare(&admin()?, *kind, why.as_deref(), output),
        MeshCommand::Activate { authority, why } => {
            authorities::step(&admin()?, authority, "activate", why.as_deref(), output)
        }
        MeshCommand::Taint { authority, why } => {
            authorities::step(&admin()?, authority, "taint", why.as_deref(), output)
        }
        MeshCommand::Revoke { authority: Some(authority), why, .. } => {
            authorities::step(&admin()?, authority, "revoke", why.as_deref(), output)
        }
        MeshCommand::Revoke { whom, why, .. } => {
            revoke::revoke(&admin()?, mesh, whom, why.as_deref(), output)
        }
        MeshCommand::Lift { whom, why } => revoke::lift(&admin()?, whom, why.as_deref(), output),
        MeshCommand::Token { node, expires, why } => {
            nodes::token(&admin()?, node, *expires, why.as_deref(), output)
        }
        MeshCommand::Evict { node, why } => nodes::evict(&admin()?, node, why.as_deref(), output),
        MeshCommand::Admit { node, why } => nodes::admit(&admin()?, node, why.as_deref(), output),
        MeshCommand::Workload(command) => workloads::run(&admin()?, command.clone(), output),
        // Done before.
        MeshCommand::Status
        | MeshCommand::Bundle
        | MeshCommand::Nodes
        | MeshCommand::Advertise { .. }
        | MeshCommand::Svid { .. }
        | MeshCommand::Tap(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Shows what the store says.
async fn show(
    configuration: &Configuration,
    mesh: &Mesh,
    key: UnsealKey,
    command: &MeshCommand,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let database = &configuration.storage.database;
    let opened = storage::open(database, key, Arc::new(SystemClock::start())).await;
    let store = opened.with_context(|| storage::place(database))?;
    if matches!(command, MeshCommand::Nodes) {
        return nodes::list(&store, output).await;
    }
    let (settings, random) = (mesh.settings.clone(), Arc::new(SystemRandom::new()));
    let domain = TrustDomain::open(settings, store.clone(), random).await?;
    if matches!(command, MeshCommand::Bundle) {
        say(domain.authorities().bundle.to_document());
        return Ok(ExitCode::SUCCESS);
    }
    let partners = partners(configuration, mesh, &store).await?;
    let status = MeshStatus::read(&domain, mesh, partners, store.clock().now()).await?;
    match output {
        Output::Json => say_json(&status.json()),
        Output::Text => say(status.text()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of partners: what the running process says of them, else what is kept.
async fn partners(configuration: &Configuration, mesh: &Mesh, store: &Store) -> anyhow::Result<Vec<Value>> {
    if AdminClient::answers(&configuration.state)
        && let Ok(list) = AdminClient::at(&configuration.state).list("/v1/partners", false)
    {
        return Ok(list);
    }
    let kept = stored_bundles(store, &mesh.partners).await;
    let one = |partner: &crate::config::Partner| {
        let bundle = kept.get(&partner.trust_domain).or(partner.bundle.as_ref());
        serde_json::to_value(PartnerOut::of(partner, bundle, Attempts::default()))
    };
    Ok(mesh.partners.iter().map(one).collect::<Result<_, _>>()?)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    ::mesh::directory::parse(text).map_err(str::to_owned)
}

/// Says what became of a call: that it was refused, or what was done, as JSON or in words.
fn tell(
    answer: &Answer,
    output: Output,
    json: impl FnOnce() -> Value,
    words: impl FnOnce() -> String,
) -> ExitCode {
    if !answer.is_done() {
        return refuse(&answer.complaint(), output);
    }
    match output {
        Output::Json => say_json(&json()),
        Output::Text => say(words()),
    }
    ExitCode::SUCCESS
}

/// The reason that is given, as the query of a call.
fn because(why: Option<&str>) -> String {
    why.map_or(String::new(), |why| format!("?why={}", encoded(why)))
}

async fn svid(
    socket: &std::path::Path,
    out: Option<&std::path::Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let client = Client::connect(socket).await?;
    let asked = match client.x509().await {
        Ok(mut updates) => updates.next().await,
        Err(refused) => Err(refused),
    };
    let context = match asked {
        Ok(context) => context.context("the Workload API ended")?,
        Err(refused) => {
            return Ok(refuse(&format!("{:?}: {}", refused.code(), refused.message()), output));
        }
    };
    for identity in &context.identities {
        match output {
            Output::Json => say(json!({ "id": identity.id, "hint": identity.hint })),
            Output::Text => say(&identity.id),
        }
    }
    if let (Some(folder), Some(first)) = (out, context.identities.first()) {
        let pem =
            |list: &[Vec<u8>]| -> String { list.iter().map(|der| encode_pem("CERTIFICATE", der)).collect() };
        let anchors = context.anchors.get(first.id.trust_domain()).map_or(&[][..], Vec::as_slice);
        let key = encode_pem("PRIVATE KEY", &first.key);
        crate::process::state::make_private_folder(folder)?;
        for (name, text) in [("svid.pem", pem(&first.chain)), ("svid.key", key), ("bundle.pem", pem(anchors))]
        {
            crate::process::state::write_atomically(&folder.join(name), text.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
