//! A small shop to decide about, shared by the tests.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part of it")]

pub mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::principal::Attribute;
use model::{ClaimType, Credential, Principal, PrincipalKind, Timestamp};
use policy::{
    Access, Certificate, Circumstances, Denied, Fault, Member, Permit, Policies, Role, Route, Source,
    Subject, Vocabulary,
};

/// A request as the router would hand it over.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub route: usize,
    pub method: String,
    pub host: Vec<u8>,
    pub path: Vec<u8>,
    pub parameters: BTreeMap<String, String>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Subject for Request {
    fn route(&self) -> usize {
        self.route
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn path(&self) -> &[u8] {
        &self.path
    }
    fn host(&self) -> &[u8] {
        &self.host
    }
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_slice())
    }
}

pub const ORDERS: usize = 0;
pub const REFUNDS: usize = 1;
pub const CATALOGUE: usize = 2;
pub const PROFILE: usize = 3;
pub const STATUS: usize = 4;

fn route(name: &str, service: &str, parameters: &[&str], methods: &[&str], access: Access) -> Route {
    Route {
        name: name.into(),
        service: service.into(),
        host: Some("shop.example".into()),
        parameters: parameters.iter().map(|p| (*p).into()).collect(),
        methods: methods.iter().map(|m| (*m).into()).collect(),
        access,
        dry_run: false,
        position: format!("bastide.yaml:{}:5", name.len()),
    }
}

fn role(name: &str, includes: &[&str], members: &[(PrincipalKind, &str)]) -> Role {
    Role {
        name: name.into(),
        includes: includes.iter().map(|i| (*i).into()).collect(),
        members: members.iter().map(|(kind, id)| Member { kind: *kind, id: (*id).into() }).collect(),
        position: "bastide.yaml:3:3".into(),
    }
}

/// customer ← merchant ← admin; auditor apart.
pub fn vocabulary() -> Vocabulary {
    Vocabulary {
        roles: vec![
            role("customer", &[], &[]),
            role("merchant", &["customer"], &[(PrincipalKind::User, "bob")]),
            role("admin", &["merchant"], &[(PrincipalKind::ApiKey, "ci")]),
            role("auditor", &[], &[]),
        ],
        routes: vec![
            route("orders", "orders", &["owner", "id"], &["GET", "POST", "PUT"], Access::Policy),
            route("refunds", "payments", &["id"], &["POST"], Access::Policy),
            route("catalogue", "catalogue", &[], &[], Access::Policy),
            route("profile", "accounts", &["owner"], &[], Access::Authenticated),
            route("status", "catalogue", &[], &["GET"], Access::Public),
        ],
        upstreams: ["orders", "payments", "catalogue", "accounts"].map(String::from).to_vec(),
        services: Some(vec!["spiffe://shop.example/orders".into(), "spiffe://shop.example/payments".into()]),
        clients: Some(vec!["batch".into()]),
        api_keys: Some(vec!["ci".into()]),
        claims: BTreeMap::from([
            ("department".into(), ClaimType::Text),
            ("level".into(), ClaimType::Long),
            ("mfa".into(), ClaimType::Boolean),
            ("teams".into(), ClaimType::Texts),
        ]),
        headers: vec!["x-tenant".into(), "x-beta".into()],
    }
}

pub fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "shop.cedar".into(), text: text.into() }]
}

pub fn load(text: &str) -> Policies {
    match policy::load(vocabulary(), &source(text), 7) {
        Ok(policies) => policies,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
            panic!("{text}\ndid not load:\n{}", faults.join("\n"))
        }
    }
}

pub fn faults(text: &str) -> Vec<Fault> {
    policy::load(vocabulary(), &source(text), 7).err().unwrap_or_default()
}

pub fn somebody(kind: PrincipalKind, id: &str, roles: &[&str]) -> Principal {
    Principal {
        kind,
        id: id.into(),
        credential: if kind == PrincipalKind::Anonymous { Credential::None } else { Credential::Jwt },
        issuer: Some("https://id.shop.example".into()),
        roles: roles.iter().map(|role| (*role).into()).collect(),
        ..Principal::anonymous()
    }
}

pub fn user(id: &str, roles: &[&str]) -> Principal {
    somebody(PrincipalKind::User, id, roles)
}

/// Sunday 2026-11-22, 21:51 UTC.
pub const NOW: u64 = 1_795_384_267;

pub fn circumstances() -> Circumstances {
    Circumstances {
        now: Timestamp::from_unix_seconds(NOW),
        address: "10.1.2.3".parse().unwrap(),
        tls_version: Some("1.3"),
        certificate: None,
        user: None,
    }
}

pub fn certificate() -> Arc<Certificate> {
    Arc::new(Certificate {
        subject: "CN=orders".into(),
        issuer: "CN=town".into(),
        fingerprint: "ab".repeat(32),
        spiffe_id: Some("spiffe://shop.example/orders".into()),
        dns_names: vec!["orders.internal".into()],
    })
}

pub fn request(route: usize, method: &str, parameters: &[(&str, &str)]) -> Request {
    Request {
        route,
        method: method.into(),
        host: b"shop.example".to_vec(),
        path: b"/orders/alice/7".to_vec(),
        parameters: parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        headers: Vec::new(),
    }
}

pub fn with_headers(mut request: Request, headers: &[(&str, &str)]) -> Request {
    request.headers = headers.iter().map(|(k, v)| ((*k).into(), v.as_bytes().to_vec())).collect();
    request
}

pub fn decide(
    policies: &Policies,
    who: &Principal,
    around: &Circumstances,
    what: Request,
) -> Result<Permit<Request>, Box<Denied<Request>>> {
    policy::decide(policies, &Arc::new(who.clone()), around, what)
}

pub fn claim(mut principal: Principal, name: &str, value: Attribute) -> Principal {
    principal.claims.insert(name.into(), value);
    principal
}
