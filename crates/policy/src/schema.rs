//! The Cedar schema, generated from the vocabulary: one table of leaves gives the text
//! that `bastide policy schema` prints, the names that policies are checked against
//! and the values that a decision reads.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::Fragment;
use model::ClaimType;
use smol_str::SmolStr;

use crate::names::Bits;
use crate::vocabulary::Vocabulary;

/// Principal entity types, in the order of [`kind_index`].
pub(crate) const PRINCIPAL_TYPES: [&str; 5] = ["Anonymous", "User", "Service", "Client", "ApiKey"];
/// All entity types.
pub(crate) const ENTITY_TYPES: [&str; 8] =
    ["Anonymous", "User", "Service", "Client", "ApiKey", "Role", "Route", "Action"];
/// The one anonymous principal.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// Methods that always have an action, and whether they are in `Action::"read"`
/// (RFC 9110 §9.2.1) rather than `Action::"write"`.
const METHODS: [(&str, bool); 9] = [
    ("GET", true),
    ("HEAD", true),
    ("OPTIONS", true),
    ("TRACE", true),
    ("POST", false),
    ("PUT", false),
    ("PATCH", false),
    ("DELETE", false),
    (CONNECT, false),
];
/// The action of an opaque connection. HTTP's own method of this name is refused at admission.
const CONNECT: &str = "CONNECT";
/// The action of every method without one of its own.
pub(crate) const OTHER: &str = "other";
/// The group of safe methods.
pub(crate) const READ: &str = "read";
/// The group of all other methods.
pub(crate) const WRITE: &str = "write";

/// Which variable a leaf hangs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    Principal,
    Resource,
    Context,
}

impl Root {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Resource => "resource",
            Self::Context => "context",
        }
    }
}

/// Where a leaf's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Id,
    Issuer,
    Scopes,
    Acr,
    Amr,
    Claim(String),
    RouteName,
    RouteService,
    Parameter(String),
    Minute,
    Hour,
    Weekday,
    Address,
    Tls,
    TlsVersion,
    CertificateSubject,
    CertificateIssuer,
    CertificateFingerprint,
    CertificateSpiffeId,
    CertificateDnsNames,
    UserId,
    UserKind,
    UserIssuer,
    UserRoles,
    UserScopes,
    UserAcr,
    UserAmr,
    Credential,
    Header(String),
    Host,
    Path,
    Method,
}

/// The type of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean,
    Long,
    Text,
    Texts,
    Address,
}

impl Type {
    const fn cedar(self) -> &'static str {
        match self {
            Self::Boolean => "Bool",
            Self::Long => "Long",
            Self::Text => "String",
            Self::Texts => "Set<String>",
            Self::Address => "ipaddr",
        }
    }
}

impl From<ClaimType> for Type {
    fn from(claim: ClaimType) -> Self {
        match claim {
            ClaimType::Boolean => Self::Boolean,
            ClaimType::Long => Self::Long,
            ClaimType::Text => Self::Text,
            ClaimType::Texts => Self::Texts,
        }
    }
}

/// One attribute that a policy can read.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) root: Root,
    /// The record between root and key: `headers`, `params` ….
    pub(crate) group: Option<SmolStr>,
    pub(crate) key: SmolStr,
    pub(crate) ty: Type,
    /// Whether it can be absent from its record.
    pub(crate) optional: bool,
    pub(crate) read: Read,
    /// `context.headers.x-tenant`: the name in records and explanations.
    pub(crate) text: String,
    /// The only values that it can have, when they are known at load.
    pub(crate) values: Option<Vec<String>>,
}

impl Leaf {
    /// Whether it is there only where HTTP is spoken.
    pub(crate) fn is_of_http(&self) -> bool {
        matches!(self.read, Read::Parameter(_) | Read::Header(_) | Read::Host | Read::Path)
    }
}

impl Leaf {
    /// Whether it is about the end user of a call.
    pub(crate) fn is_of_user(&self) -> bool {
        self.root == Root::Context && self.group.as_deref() == Some("user")
    }

    /// Whether the record of a call for an end user holds it, whoever reads it: what policies tell
    /// end users apart by.
    pub(crate) fn is_always_recorded(&self) -> bool {
        matches!(self.read, Read::UserKind | Read::UserRoles)
    }
}

/// Whether a record between root and key is there only where HTTP is spoken.
pub(crate) fn is_group_of_http(group: &str) -> bool {
    matches!(group, "params" | "headers")
}

/// A method's action.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) safe: bool,
}

/// What policies can name and read.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    /// Sorted by root, then group (`None` first), then key.
    pub(crate) leaves: Vec<Leaf>,
    /// By number; the last is [`OTHER`].
    pub(crate) actions: Vec<Action>,
}

impl Schema {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let mut leaves = identity_leaves(vocabulary, Root::Principal);
        leaves.extend(identity_leaves(vocabulary, Root::Context));
        leaves.extend(resource_leaves(vocabulary));
        leaves.extend(context_leaves(vocabulary));
        leaves.sort_by(|a, b| (a.root, &a.group, &a.key).cmp(&(b.root, &b.group, &b.key)));
        Self { leaves, actions: actions(vocabulary) }
    }

    /// The number of a method's action.
    pub(crate) fn action(&self, method: &str) -> usize {
        let other = self.actions.len().saturating_sub(1);
        self.actions.iter().take(other).position(|action| action.name == method).unwrap_or(other)
    }

    /// Whether an action is that of opaque connections, of which nothing is known that HTTP
    /// says.
    pub(crate) fn is_opaque(&self, action: usize) -> bool {
        self.actions.get(action).is_some_and(|action| action.name == CONNECT)
    }

    /// The first of these leaves and groups that only HTTP has.
    pub(crate) fn needs_http(&self, leaves: &Bits) -> Option<String> {
        leaves.iter().find_map(|number| match self.leaves.get(number) {
            Some(leaf) => leaf.is_of_http().then(|| leaf.text.clone()),
            None => {
                let (root, group, _) = Self::GROUPS.get(number - self.leaves.len())?;
                is_group_of_http(group).then(|| format!("{}.{group}", root.name()))
            }
        })
    }

    /// Records that lie between a variable and its leaves: root, name, whether it can
    /// be absent.
    pub(crate) const GROUPS: [(Root, &'static str, bool); 6] = [
        (Root::Principal, "claims", false),
        (Root::Resource, "params", false),
        (Root::Context, "certificate", true),
        (Root::Context, "user", true),
        (Root::Context, "claims", false),
        (Root::Context, "headers", false),
    ];

    /// The number of a group.
    pub(crate) fn group(root: Root, name: &str) -> Option<usize> {
        Self::GROUPS.iter().position(|(of, group, _)| *of == root && *group == name)
    }

    /// The schema in Cedar's own syntax.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("// Generated from the configuration: do not edit.\n\n");
        for (root, group, _) in Self::GROUPS {
            if (root, group) != (Root::Context, "claims") {
                let _ = writeln!(out, "type {} = {};\n", type_name(group), self.record(root, Some(group)));
            }
        }
        let identity = self.record(Root::Principal, None);
        let _ = writeln!(out, "entity Role in [Role];\n");
        let _ = writeln!(out, "entity User, Service, Client, ApiKey in [Role] = {identity};\n");
        let _ = writeln!(out, "entity Anonymous = {identity};\n");
        let _ = writeln!(out, "entity Route = {};\n", self.record(Root::Resource, None));
        let _ = writeln!(out, "type Context = {};\n", self.record(Root::Context, None));
        let _ = writeln!(out, "action {READ:?}, {WRITE:?};\n");
        for (group, safe) in [(READ, true), (WRITE, false)] {
            let names: Vec<String> =
                self.actions.iter().filter(|a| a.safe == safe).map(|a| format!("{:?}", a.name)).collect();
            let _ = writeln!(
                out,
                "action {} in [{group:?}] appliesTo {{\n  principal: [User, Service, Client, ApiKey, \
                 Anonymous],\n  resource: Route,\n  context: Context,\n}};\n",
                names.join(", ")
            );
        }
        out
    }

    fn record(&self, root: Root, group: Option<&str>) -> String {
        let mut fields: BTreeSet<String> = self
            .leaves
            .iter()
            .filter(|leaf| leaf.root == root && leaf.group.as_deref() == group)
            .map(|leaf| field(&leaf.key, leaf.optional, leaf.ty.cedar()))
            .collect();
        if group.is_none() {
            let groups = Self::GROUPS.iter().filter(|(of, _, _)| *of == root);
            fields.extend(groups.map(|(_, name, optional)| field(name, *optional, &type_name(name))));
        }
        if fields.is_empty() {
            return "{}".to_owned();
        }
        fields.iter().fold("{\n".to_owned(), |text, field| text + "  " + field + ",\n") + "}"
    }
}

fn field(name: &str, optional: bool, ty: &str) -> String {
    format!("{name:?}{}: {ty}", if optional { "?" } else { "" })
}

fn type_name(group: &str) -> String {
    let mut letters = group.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn leaf(root: Root, group: Option<&str>, key: &str, ty: Type, optional: bool, read: Read) -> Leaf {
    let text = match group {
        Some(group) => format!("{}.{group}.{key}", root.name()),
        None => format!("{}.{key}", root.name()),
    };
    Leaf { root, group: group.map(Into::into), key: key.into(), ty, optional, read, text, values: None }
}

/// What the credential says: the same for `principal` and `context`.
fn identity_leaves(vocabulary: &Vocabulary, root: Root) -> Vec<Leaf> {
    let mut leaves = vec![
        leaf(root, None, "scopes", Type::Texts, false, Read::Scopes),
        leaf(root, None, "acr", Type::Text, true, Read::Acr),
        leaf(root, None, "amr", Type::Texts, false, Read::Amr),
    ];
    if root == Root::Principal {
        leaves.push(leaf(root, None, "id", Type::Text, false, Read::Id));
        leaves.push(leaf(root, None, "issuer", Type::Text, true, Read::Issuer));
    }
    leaves.extend(vocabulary.claims.iter().map(|(name, ty)| {
        leaf(root, Some("claims"), name, Type::from(*ty), true, Read::Claim(name.clone()))
    }));
    leaves
}

fn resource_leaves(vocabulary: &Vocabulary) -> Vec<Leaf> {
    let root = Root::Resource;
    let mut name = leaf(root, None, "name", Type::Text, false, Read::RouteName);
    name.values = Some(vocabulary.routes.iter().map(|route| route.name.clone()).collect());
    let mut service = leaf(root, None, "service", Type::Text, false, Read::RouteService);
    let used = vocabulary.routes.iter().map(|route| &route.service);
    let known: BTreeSet<&String> = vocabulary.upstreams.iter().chain(used).collect();
    service.values = Some(known.into_iter().cloned().collect());
    let parameters: BTreeSet<&String> = vocabulary.routes.iter().flat_map(|r| &r.parameters).collect();
    let parameters = parameters.into_iter().map(|parameter| {
        leaf(root, Some("params"), parameter, Type::Text, true, Read::Parameter(parameter.clone()))
    });
    [name, service].into_iter().chain(parameters).collect()
}

fn context_leaves(vocabulary: &Vocabulary) -> Vec<Leaf> {
    let root = Root::Context;
    let (certificate, user) = (Some("certificate"), Some("user"));
    let mut leaves = vec![
        leaf(root, None, "minute", Type::Long, false, Read::Minute),
        leaf(root, None, "hour", Type::Long, false, Read::Hour),
        leaf(root, None, "weekday", Type::Long, false, Read::Weekday),
        leaf(root, None, "address", Type::Address, false, Read::Address),
        leaf(root, None, "tls", Type::Boolean, false, Read::Tls),
        leaf(root, None, "host", Type::Text, false, Read::Host),
        leaf(root, None, "path", Type::Text, false, Read::Path),
        leaf(root, None, "method", Type::Text, false, Read::Method),
        leaf(root, certificate, "subject", Type::Text, false, Read::CertificateSubject),
        leaf(root, certificate, "issuer", Type::Text, false, Read::CertificateIssuer),
        leaf(root, certificate, "fingerprint", Type::Text, false, Read::CertificateFingerprint),
        leaf(root, certificate, "spiffe_id", Type::Text, true, Read::CertificateSpiffeId),
        leaf(root, certificate, "dns_names", Type::Texts, false, Read::CertificateDnsNames),
        leaf(root, user, "id", Type::Text, false, Read::UserId),
        leaf(root, user, "issuer", Type::Text, true, Read::UserIssuer),
        leaf(root, user, "roles", Type::Texts, false, Read::UserRoles),
        leaf(root, user, "scopes", Type::Texts, false, Read::UserScopes),
        leaf(root, user, "acr", Type::Text, true, Read::UserAcr),
        leaf(root, user, "amr", Type::Texts, false, Read::UserAmr),
    ];
    let closed = |mut leaf: Leaf, values: &[&str]| {
        leaf.values = Some(values.iter().map(|value| (*value).to_owned()).collect());
        leaf
    };
    let version = leaf(root, None, "tls_version", Type::Text, true, Read::TlsVersion);
    leaves.push(closed(version, &["1.2", "1.3"]));
    let kind = leaf(root, user, "kind", Type::Text, false, Read::UserKind);
    leaves.push(closed(kind, &["User", "Client", "ApiKey"]));
    let credential = leaf(root, None, "credential", Type::Text, false, Read::Credential);
    leaves.push(closed(credential, &["none", "jwt", "opaque", "session", "api_key", "mtls", "local"]));
    let headers: BTreeSet<&String> = vocabulary.headers.iter().collect();
    leaves.extend(
        headers
            .into_iter()
            .map(|name| leaf(root, Some("headers"), name, Type::Texts, true, Read::Header(name.clone()))),
    );
    leaves
}

fn actions(vocabulary: &Vocabulary) -> Vec<Action> {
    let mut actions: Vec<Action> =
        METHODS.iter().map(|(name, safe)| Action { name: (*name).to_owned(), safe: *safe }).collect();
    for method in vocabulary.routes.iter().flat_map(|route| &route.methods) {
        if ![OTHER, READ, WRITE].contains(&method.as_str()) && !actions.iter().any(|a| a.name == *method) {
            actions.push(Action { name: method.clone(), safe: false });
        }
    }
    actions.push(Action { name: OTHER.to_owned(), safe: false });
    actions
}

/// The schema as Cedar's JSON, for programs.
///
/// # Errors
/// The configuration's names make no schema: what Cedar says about it.
pub fn schema_json(vocabulary: &Vocabulary) -> Result<serde_json::Value, String> {
    let text = schema_text(vocabulary);
    let (fragment, _) = Fragment::<RawName>::from_cedarschema_str(&text, Extensions::all_available())
        .map_err(|fault| fault.to_string())?;
    serde_json::to_value(fragment).map_err(|fault| fault.to_string())
}

/// The schema in Cedar's own syntax, for `bastide policy schema` and for editors.
pub fn schema_text(vocabulary: &Vocabulary) -> String {
    Schema::new(vocabulary).text()
}
