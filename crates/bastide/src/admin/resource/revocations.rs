//! What is revoked before its time: at the gateway, whoever issued it; in the mesh, what its own
//! trust domain issued.

use std::time::Duration;

use ::keys::{Revocation, RevocationFile};
use ::mesh::{Revocation as OfMesh, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Page, done, why};
use crate::admin::problem::Problem;
use crate::admin::serve::{Call, Reply};

/// What is to be revoked: exactly one of `token`, `grant`, `session`, `subject`, `certificate` and
/// `identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// A token's `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub token: Option<String>,
    /// All tokens whose `jti` begins with this and a dot, as the realms' of one grant do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub grant: Option<String>,
    /// A session's `sid`: all its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub session: Option<String>,
    /// A principal's id as events name it: what was issued until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// The serial number of a certificate of the mesh, hexadecimal: until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub certificate: Option<String>,
    /// The SPIFFE ID of a workload of the mesh: its certificates and tokens, and its right to
    /// others, until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub identity: Option<String>,
    /// With `subject`: what is issued from now on, too.
    #[serde(default)]
    pub all: bool,
    /// Only tokens of this `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// For how long it is remembered, seconds: until nothing that it names is good any more.
    /// Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub expires_in: Option<u64>,
}

/// What is revoked.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct RevocationOut {
    /// A token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// A grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// A session's `sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// A principal's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// A client's id: the tokens that it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// The serial number of a certificate of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// The SPIFFE ID of a workload of the mesh; of a certificate, whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// With `subject` or `client`: what was issued until then, Unix seconds. Absent: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_until: Option<u64>,
    /// With `subject`: what it was issued by the time that it had lost roles so often.
    #[serde(skip_serializing_if = "Option::is_none")]
    role_version_until: Option<u64>,
    /// Only tokens of this `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// When it is forgotten, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl From<Revocation> for RevocationOut {
    fn from(entry: Revocation) -> Self {
        Self {
            token: entry.token,
            grant: entry.grant,
            session: entry.session,
            subject: entry.subject,
            client: entry.client,
            issued_until: entry.issued_until,
            role_version_until: entry.role_version_until,
            issuer: entry.issuer,
            until: entry.until,
            ..Self::default()
        }
    }
}

impl RevocationOut {
    /// `None`: it is lifted.
    fn of_mesh(entry: OfMesh) -> Option<Self> {
        let identity = |id: &model::SpiffeId| Some(id.as_str().to_owned());
        match entry {
            OfMesh::Certificate { serial, id, ends, .. } => Some(Self {
                certificate: Some(serial),
                identity: identity(&id),
                until: Some(ends.unix_seconds()),
                ..Self::default()
            }),
            OfMesh::Identity { id, lifted: None, .. } => {
                Some(Self { identity: identity(&id), ..Self::default() })
            }
            OfMesh::Identity { .. } => None,
        }
    }

    fn describe(&self) -> String {
        match (&self.certificate, &self.identity) {
            (Some(serial), Some(id)) => format!("the certificate {serial} of {id}"),
            (_, Some(id)) => format!("{id} with all its certificates"),
            _ => String::new(),
        }
    }
}

fn file(asked: &Call) -> RevocationFile {
    RevocationFile::new(&asked.state.revocations, asked.state.random.clone())
}

/// `GET /v1/revocations`
pub async fn list(asked: &Call) -> Result<Reply, Problem> {
    let mut list: Vec<RevocationOut> = file(asked).entries()?.into_iter().map(RevocationOut::from).collect();
    if let Some(domain) = asked.state.trust.is_there() {
        list.extend(domain.revocations().await?.into_iter().filter_map(RevocationOut::of_mesh));
    }
    Reply::ok(&Page::whole(list))
}

/// What of the mesh a call names.
fn target(given: &NewRevocation) -> Result<Option<Target>, Problem> {
    let bare = NewRevocation {
        certificate: given.certificate.clone(),
        identity: given.identity.clone(),
        ..NewRevocation::default()
    };
    let target = match (&given.certificate, &given.identity) {
        (None, None) => return Ok(None),
        (Some(serial), None) => Target::Serial(serial.clone()),
        (None, Some(id)) => Target::Identity(read_id(id)?),
        _ => return Err(Problem::unfit("expected one of certificate and identity")),
    };
    if bare != *given {
        return Err(Problem::unfit("certificate and identity stand alone"));
    }
    Ok(Some(target))
}

fn read_id(text: &str) -> Result<model::SpiffeId, Problem> {
    text.parse().map_err(|why| Problem::unfit(format!("identity: {why}")))
}

/// `POST /v1/revocations`
pub async fn revoke(asked: &Call) -> Result<Reply, Problem> {
    let (given, why): (NewRevocation, String) = (asked.body()?, why(asked)?);
    if let Some(target) = target(&given)? {
        let domain = asked.state.trust.domain()?;
        let mut revoked = domain.revoke(&target).await?.into_iter().filter_map(RevocationOut::of_mesh);
        let Some(first) = revoked.next() else { return Err(Problem::unfit("there is nothing to revoke")) };
        let about = done(format!("revoked: {}", first.describe()), &why);
        return Ok(Reply::ok(&first)?.created("/v1/revocations".to_owned()).about(about));
    }
    let now = asked.state.now();
    if given.all && given.subject.is_none() {
        return Err(Problem::unfit("all: stands only with subject"));
    }
    if given.expires_in == Some(0) {
        return Err(Problem::unfit("expires_in: expected more than nothing"));
    }
    let entry = Revocation {
        issued_until: (given.subject.is_some() && !given.all).then(|| now.unix_seconds()),
        token: given.token,
        grant: given.grant,
        session: given.session,
        subject: given.subject,
        issuer: given.issuer,
        until: given.expires_in.map(|seconds| now.plus(Duration::from_secs(seconds)).unix_seconds()),
        ..Revocation::default()
    };
    entry.check().map_err(Problem::unfit)?;
    file(asked).add(std::slice::from_ref(&entry), now)?;
    asked.state.file_written().await;
    Ok(Reply::ok(&RevocationOut::from(entry))?.created("/v1/revocations".to_owned()).about(why))
}

/// `DELETE /v1/revocations/{name}`
pub async fn undo(asked: &Call) -> Result<Reply, Problem> {
    let (name, why) = (asked.parameter("name"), why(asked)?);
    let mut count = file(asked).remove(name, asked.state.now())?;
    if count > 0 {
        asked.state.file_written().await;
    }
    if let Some(domain) = asked.state.trust.is_there() {
        let target = name.parse().map_or_else(|_| Target::Serial(name.to_owned()), Target::Identity);
        count += usize::from(domain.lift(&target).await?);
    }
    match count {
        0 => Err(Problem::not_found(format!("revocation of {name:?}"))),
        _ => Ok(Reply::done().about(why)),
    }
}
