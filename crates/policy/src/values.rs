//! Attribute values: from a live request or from a record, to Cedar and to JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use cedar_policy_core::ast::{Literal, Name, PartialValue, Value};
use cedar_policy_core::extensions::Extensions;
use model::Principal;
use model::principal::Attribute;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use smol_str::SmolStr;

use crate::decide::Circumstances;
use crate::names::Bits;
use crate::permit::Subject;
use crate::schema::{Leaf, Read, Root, Schema, Type, is_group_of_http};
use crate::vocabulary::Route;

/// A value on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum<'a> {
    Boolean(bool),
    Long(i64),
    Text(Cow<'a, str>),
    Texts(Vec<Cow<'a, str>>),
    Address(IpAddr),
}

impl Serialize for Datum<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Long(value) => serializer.serialize_i64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Texts(texts) => serializer.collect_seq(texts),
            Self::Address(address) => serializer.collect_str(address),
        }
    }
}

/// A value that is there but is not what the schema says: the decision is a denial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0} is not UTF-8")]
    NotText(String),
    #[error("{0} has another type than the configuration declares")]
    OtherType(String),
    #[error("the address {0} could not be read")]
    Address(IpAddr),
    #[error("the request's own entities could not be built")]
    Entities,
}

/// Where values come from.
pub(crate) trait Reader {
    /// The leaf's value; `None` when it is absent.
    fn read<'a>(&'a self, leaf: &'a Leaf) -> Result<Option<Datum<'a>>, Unreadable>;
    /// Whether the optional record of this name in the context is there: `certificate`, `user`.
    fn has(&self, group: &str) -> bool;
}

/// Reads a request that is being decided.
pub(crate) struct Live<'a, S> {
    pub(crate) principal: &'a Principal,
    pub(crate) circumstances: &'a Circumstances,
    pub(crate) subject: &'a S,
    pub(crate) route: &'a Route,
}

impl<S: Subject> Reader for Live<'_, S> {
    fn read<'a>(&'a self, leaf: &'a Leaf) -> Result<Option<Datum<'a>>, Unreadable> {
        let now = self.circumstances.now;
        let certificate = self.circumstances.certificate.as_deref();
        let user = self.circumstances.user.as_deref();
        Ok(match &leaf.read {
            Read::Id => Some(borrowed(&self.principal.id)),
            Read::Issuer => self.principal.issuer.as_deref().map(borrowed),
            Read::Scopes => Some(list(&self.principal.scopes)),
            Read::Acr => self.principal.acr.as_deref().map(borrowed),
            Read::Amr => Some(list(&self.principal.amr)),
            Read::Claim(name) => {
                self.principal.claims.get(name).map(|value| claim(leaf, value)).transpose()?
            }
            Read::RouteName => Some(borrowed(&self.route.name)),
            Read::RouteService => Some(borrowed(&self.route.service)),
            Read::Parameter(name) => self.subject.parameter(name).map(borrowed),
            Read::Minute => Some(Datum::Long(i64::from(now.minute()))),
            Read::Hour => Some(Datum::Long(i64::from(now.hour()))),
            Read::Weekday => Some(Datum::Long(i64::from(now.weekday()))),
            // An IPv4 client of an IPv6 socket must still be in 10.0.0.0/8.
            Read::Address => Some(Datum::Address(self.circumstances.address.to_canonical())),
            Read::Tls => Some(Datum::Boolean(self.circumstances.tls_version.is_some())),
            Read::TlsVersion => self.circumstances.tls_version.map(borrowed),
            Read::CertificateSubject => certificate.map(|found| borrowed(&found.subject)),
            Read::CertificateIssuer => certificate.map(|found| borrowed(&found.issuer)),
            Read::CertificateFingerprint => certificate.map(|found| borrowed(&found.fingerprint)),
            Read::CertificateSpiffeId => {
                certificate.and_then(|found| found.spiffe_id.as_deref()).map(borrowed)
            }
            Read::CertificateDnsNames => certificate.map(|found| list(&found.dns_names)),
            Read::UserId => user.map(|user| borrowed(&user.id)),
            Read::UserKind => user.map(|user| borrowed(user.kind.name())),
            Read::UserIssuer => user.and_then(|user| user.issuer.as_deref()).map(borrowed),
            Read::UserRoles => user.map(|user| list(&user.roles)),
            Read::UserScopes => user.map(|user| list(&user.scopes)),
            Read::UserAcr => user.and_then(|user| user.acr.as_deref()).map(borrowed),
            Read::UserAmr => user.map(|user| list(&user.amr)),
            Read::Credential => Some(borrowed(self.principal.credential.name())),
            Read::Header(name) => {
                let values = self.subject.header(name).map(|value| text(leaf, value).map(Cow::Borrowed));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                (!values.is_empty()).then_some(Datum::Texts(values))
            }
            Read::Host => Some(borrowed(text(leaf, self.subject.host())?)),
            Read::Path => Some(borrowed(text(leaf, self.subject.path())?)),
            Read::Method => Some(borrowed(self.subject.method())),
        })
    }

    fn has(&self, group: &str) -> bool {
        match group {
            "certificate" => self.circumstances.certificate.is_some(),
            "user" => self.circumstances.user.is_some(),
            _ => true,
        }
    }
}

fn text<'a>(leaf: &Leaf, bytes: &'a [u8]) -> Result<&'a str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText(leaf.text.clone()))
}

fn borrowed(text: &str) -> Datum<'_> {
    Datum::Text(Cow::Borrowed(text))
}

fn list(texts: &[String]) -> Datum<'_> {
    Datum::Texts(texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect())
}

pub(crate) fn claim<'a>(leaf: &Leaf, value: &'a Attribute) -> Result<Datum<'a>, Unreadable> {
    match (leaf.ty, value) {
        (Type::Boolean, Attribute::Boolean(value)) => Ok(Datum::Boolean(*value)),
        (Type::Long, Attribute::Long(value)) => Ok(Datum::Long(*value)),
        (Type::Text, Attribute::Text(value)) => Ok(borrowed(value)),
        (Type::Texts, Attribute::Texts(value)) => Ok(list(value)),
        _ => Err(Unreadable::OtherType(leaf.text.clone())),
    }
}

/// Reads what a record holds.
pub(crate) struct Recorded<'a>(pub(crate) &'a BTreeMap<String, Json>);

impl Reader for Recorded<'_> {
    fn read<'a>(&'a self, leaf: &'a Leaf) -> Result<Option<Datum<'a>>, Unreadable> {
        self.0.get(&leaf.text).map(|json| Datum::of(leaf, json)).transpose()
    }

    fn has(&self, group: &str) -> bool {
        self.0.keys().any(|key| {
            let rest = key.strip_prefix("context.").and_then(|rest| rest.strip_prefix(group));
            rest.is_some_and(|rest| rest.starts_with('.'))
        })
    }
}

impl<'a> Datum<'a> {
    /// The value of an attribute as a record writes it.
    pub(crate) fn of(leaf: &Leaf, json: &'a Json) -> Result<Self, Unreadable> {
        let other = || Unreadable::OtherType(leaf.text.clone());
        let datum = match leaf.ty {
            Type::Boolean => json.as_bool().map(Datum::Boolean),
            Type::Long => json.as_i64().map(Datum::Long),
            Type::Text => json.as_str().map(borrowed),
            Type::Address => json.as_str().and_then(|text| text.parse().ok()).map(Datum::Address),
            Type::Texts => json.as_array().and_then(|array| {
                let texts: Option<Vec<_>> = array.iter().map(|v| v.as_str().map(Cow::Borrowed)).collect();
                texts.map(Datum::Texts)
            }),
        };
        datum.ok_or_else(other)
    }
}

impl Datum<'_> {
    pub(crate) fn json(&self) -> Json {
        match self {
            Self::Boolean(value) => Json::from(*value),
            Self::Long(value) => Json::from(*value),
            Self::Text(value) => Json::from(value.as_ref()),
            Self::Texts(values) => Json::from_iter(values.iter().map(AsRef::as_ref)),
            Self::Address(value) => Json::from(value.to_string()),
        }
    }

    fn cedar(&self) -> Result<Value, Unreadable> {
        Ok(match self {
            Self::Boolean(value) => Value::from(*value),
            Self::Long(value) => Value::from(*value),
            Self::Text(value) => Value::from(value.as_ref()),
            Self::Texts(values) => {
                Value::set_of_lits(values.iter().map(|value| Literal::from(value.as_ref())), None)
            }
            Self::Address(value) => address(*value)?,
        })
    }
}

fn address(value: IpAddr) -> Result<Value, Unreadable> {
    static IP: LazyLock<Option<Name>> = LazyLock::new(|| "ip".parse().ok());
    let refused = || Unreadable::Address(value);
    let name = IP.as_ref().ok_or_else(refused)?;
    let function = Extensions::all_available().func(name).map_err(|_| refused())?;
    match function.call(&[Value::from(value.to_string())]) {
        Ok(PartialValue::Value(value)) => Ok(value),
        _ => Err(refused()),
    }
}

/// The records of one decision, holding only what its policies can read.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) principal: BTreeMap<SmolStr, Value>,
    pub(crate) resource: BTreeMap<SmolStr, Value>,
    pub(crate) context: BTreeMap<SmolStr, Value>,
}

impl Records {
    fn of(&mut self, root: Root) -> &mut BTreeMap<SmolStr, Value> {
        match root {
            Root::Principal => &mut self.principal,
            Root::Resource => &mut self.resource,
            Root::Context => &mut self.context,
        }
    }
}

/// Reads the named leaves and lays them out as the schema says. Of an opaque connection
/// what only HTTP has is not there: whoever reads it gets an error, not an empty value.
pub(crate) fn assemble(
    schema: &Schema,
    wanted: &Bits,
    reader: &impl Reader,
    opaque: bool,
) -> Result<Records, Unreadable> {
    let mut records = Records::default();
    let mut groups: [BTreeMap<SmolStr, Value>; Schema::GROUPS.len()] = Default::default();
    let mut grouped = Bits::default();
    for number in wanted.iter() {
        let Some(leaf) = schema.leaves.get(number) else {
            grouped.insert(number - schema.leaves.len());
            continue;
        };
        if opaque && leaf.is_of_http() {
            continue;
        }
        let group = leaf.group.as_ref().and_then(|group| Schema::group(leaf.root, group));
        if let Some(group) = group {
            grouped.insert(group);
        }
        let Some(value) = reader.read(leaf)? else { continue };
        let record = match group.and_then(|group| groups.get_mut(group)) {
            Some(record) => record,
            None => records.of(leaf.root),
        };
        record.insert(leaf.key.clone(), value.cedar()?);
    }
    for (number, ((root, name, optional), fields)) in Schema::GROUPS.into_iter().zip(groups).enumerate() {
        let absent = (optional && !reader.has(name)) || (opaque && is_group_of_http(name));
        if grouped.contains(number) && !absent {
            records.of(root).insert(SmolStr::new_static(name), Value::record(fields, None));
        }
    }
    Ok(records)
}
