//! The workloads of the mesh: those of the configuration, and those that are registered here.

use ::mesh::workload::Workload;
use schemars::JsonSchema;
use serde::Serialize;

use super::Page;
use super::holder::Holder;
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};
use crate::config::{Area, Mesh, NewWorkload, registered};

/// A workload as it is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct WorkloadOut {
    /// Its name.
    name: String,
    #[serde(flatten)]
    workload: NewWorkload,
    /// Whether the configuration declares it: changes are made there.
    declared: bool,
    /// Why nobody is it: the configuration has come to declare its name or SPIFFE ID. Absent: it
    /// counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<String>,
}

impl WorkloadOut {
    fn registered(workload: &Workload, mesh: &Mesh) -> Self {
        Self { set_aside: mesh.declared().claims(workload), ..Self::of(workload, false) }
    }

    fn of(workload: &Workload, declared: bool) -> Self {
        let name = workload.name.clone();
        Self { name, workload: NewWorkload::of(workload), declared, set_aside: None }
    }
}

/// Whoever lets a node join can be every workload that runs there: that takes the permit over their
/// roles.
///
/// # Errors
/// The policies do not permit one of them.
pub(super) async fn check_node(asked: &Call, node: &str) -> Result<(), Problem> {
    let Some(mesh) = asked.view.configuration.mesh.as_ref() else { return Ok(()) };
    let registered = asked.state.trust.domain()?.registrations().await?;
    let all = mesh.workloads.list.iter().chain(registered.iter().map(|(one, _)| one));
    let mut there = all.filter(|workload| workload.nodes.iter().any(|name| name == node));
    there.try_for_each(|workload| Holder::workload(asked, workload).check(asked))
}

/// The mesh of the configuration.
fn mesh(asked: &Call) -> Result<&Mesh, Problem> {
    let mesh = asked.view.configuration.mesh.as_ref();
    mesh.ok_or_else(|| Problem::unfit("the configuration has no `mesh:`"))
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("workload {name:?}"))
}

/// Whoever may register some names gets no other by a SPIFFE ID: it takes the permit over the workload
/// that is called like it, and over each that is registered with it.
async fn owns_identity(asked: &Call, workload: &Workload) -> Result<(), Problem> {
    let called = workload.id.path().trim_start_matches('/');
    if called != workload.name {
        asked.also(Area::Workloads, "PUT", &[("workload", called)])?;
    }
    let registered = asked.state.trust.domain()?.registrations().await?;
    let others = registered.iter().map(|(one, _)| one);
    let mut others = others.filter(|one| one.id == workload.id && one.name != workload.name);
    others.try_for_each(|one| asked.also(Area::Workloads, "PUT", &[("workload", &one.name)]))
}

/// The workload of the configuration that the path names.
fn declared<'a>(asked: &Call, mesh: &'a Mesh) -> Option<&'a Workload> {
    mesh.workloads.list.iter().find(|one| one.name == asked.parameter("workload"))
}

/// `GET /v1/workloads`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let mesh = mesh(asked)?;
    let registered = asked.state.trust.domain()?.registrations().await?;
    let declared = mesh.workloads.list.iter().map(|one| WorkloadOut::of(one, true));
    let registered = registered.iter().map(|(one, _)| WorkloadOut::registered(one, mesh));
    Reply::ok(&Page::whole(declared.chain(registered).collect()))
}

/// `GET /v1/workloads/{workload}`
pub async fn get(asked: &Call) -> Result<Reply, Problem> {
    let (mesh, name) = (mesh(asked)?, asked.parameter("workload"));
    if let Some(workload) = declared(asked, mesh) {
        return Reply::ok(&WorkloadOut::of(workload, true));
    }
    let found = asked.state.trust.domain()?.registration(name).await?;
    let (workload, version) = found.ok_or_else(|| unknown(name))?;
    Ok(Reply::ok(&WorkloadOut::registered(&workload, mesh))?.of(version))
}

/// `PUT /v1/workloads/{workload}`
pub async fn put(asked: &Call) -> Result<Reply, Problem> {
    let mesh = mesh(asked)?;
    let domain = asked.state.trust.domain()?;
    let name = asked.parameter("workload");
    let mut given: NewWorkload = asked.body()?;
    if given.id.is_none() {
        let before = domain.registration(name).await?;
        given.id = before.map(|(before, _)| before.id.as_str().to_owned());
    }
    let workload = registered(name, given, &mesh.settings).map_err(Problem::unfit)?;
    if let Some(why) = mesh.declared().claims(&workload) {
        return Err(Problem::conflict(why));
    }
    owns_identity(asked, &workload).await?;
    Holder::workload(asked, &workload).check(asked)?;
    let version = domain.register(&workload, asked.expect()).await?;
    let about = format!("registered: {}", workload.id);
    Ok(Reply::ok(&WorkloadOut::registered(&workload, mesh))?.of(version).about(about))
}

/// `DELETE /v1/workloads/{workload}`
pub async fn remove(asked: &Call) -> Result<Reply, Problem> {
    let (mesh, name) = (mesh(asked)?, asked.parameter("workload"));
    let removed = asked.state.trust.domain()?.unregister(name, asked.expect()).await?;
    match removed {
        Some(workload) => Ok(Reply::done().about(format!("removed: {}", workload.id))),
        None if declared(asked, mesh).is_some() => Err(Problem::conflict(format!(
            "the workload {name:?} is the configuration's: remove it from `mesh.workloads`"
        ))),
        None => Err(unknown(name)),
    }
}
