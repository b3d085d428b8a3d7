//! What the operations see of the process: the configuration, its policies, the realms, and the
//! trust domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::mesh::TrustDomain;
use identity::Realm;
use model::suggestion::suggestion;
use policy::Policies;

use super::problem::Problem;
use crate::config::Configuration;
use crate::process::generations::Generations;
use crate::process::mesh::MeshHost;
use crate::process::realms::Realms;

/// The newest configuration and its policies.
#[derive(Debug)]
pub struct View {
    /// What is configured.
    pub configuration: Arc<Configuration>,
    /// What is allowed.
    pub policies: Arc<Policies>,
}

impl View {
    /// What the administration sees of a configuration: with the policies that are `served`,
    /// where they know of the administration. Else with the same policies, that know of it
    /// besides: those of the view `before` while nothing is another, and else kept for `bastide
    /// explain` as those are.
    ///
    /// # Errors
    /// The policies cannot be loaded or kept.
    pub fn of(
        configuration: &Configuration,
        served: Option<&Arc<Policies>>,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let policies = match served.filter(|_| configuration.is_administered()) {
            Some(served) => Arc::clone(served),
            None => {
                let (vocabulary, sources) = configuration.administration();
                match before.filter(|before| before.policies.are(&vocabulary, &sources)) {
                    Some(before) => Arc::clone(&before.policies),
                    None => {
                        let generations = Generations::of(&configuration.state);
                        Arc::new(generations.keep_once(vocabulary, &sources)?)
                    }
                }
            }
        };
        Ok(Self { configuration: Arc::new(configuration.clone()), policies })
    }

    /// The roles that the configuration declares.
    pub fn roles(&self) -> BTreeSet<&str> {
        self.configuration.roles.iter().map(|role| role.name.as_str()).collect()
    }

    /// Refuses roles that the configuration does not declare: policies know no others.
    ///
    /// # Errors
    /// The first one that is not, with what was probably meant.
    pub fn check_roles<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> Result<(), Problem> {
        let declared = self.roles();
        for role in roles {
            if !declared.contains(role.as_str()) {
                let known: Vec<&str> = declared.iter().copied().collect();
                let hint = suggestion(role, known.iter().copied());
                let known = match known.as_slice() {
                    [] => "the configuration declares no role".to_owned(),
                    known => format!("declared are: {}", known.join(", ")),
                };
                let detail = format!("role {role:?} is not declared{hint}; {known}");
                return Err(Problem::unfit(detail));
            }
        }
        Ok(())
    }
}

/// Where the realms are.
pub enum RealmSource {
    /// Those that this process serves, as they are at each call.
    Served(Arc<Realms>),
    /// Those that a command opened.
    Opened(BTreeMap<String, Arc<Realm>>),
}

impl RealmSource {
    /// The realms by name.
    ///
    /// # Errors
    /// The store is sealed.
    pub fn all(&self) -> Result<BTreeMap<String, Arc<Realm>>, Problem> {
        match self {
            Self::Opened(realms) => Ok(realms.clone()),
            Self::Served(realms) => realms.opened().ok_or_else(|| {
                let told = "the store is sealed; give shares of its key with `bastide unseal`";
                Problem::unavailable("sealed", told, told)
            }),
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none of this name; the store is sealed.
    pub fn one(&self, name: &str) -> Result<Arc<Realm>, Problem> {
        let all = self.all()?;
        all.get(name).cloned().ok_or_else(|| {
            Problem::not_found(format!("realm {name:?}{}", suggestion(name, all.keys().map(String::as_str))))
        })
    }
}

/// Where the trust domain is.
pub enum Trust {
    /// The one that this process holds, as it is at each call.
    Served(Arc<MeshHost>),
    /// The one that a command opened, where there is one.
    Opened(Option<Arc<TrustDomain>>),
}

impl Trust {
    /// The trust domain.
    ///
    /// # Errors
    /// There is none; its store is sealed.
    pub fn domain(&self) -> Result<Arc<TrustDomain>, Problem> {
        let open = match self {
            Self::Opened(domain) => domain.clone(),
            Self::Served(host) => host.domain(),
        };
        open.ok_or_else(|| {
            Problem::unfit(
                "this process has no mesh: the configuration has no `mesh:`, or its store is sealed",
            )
        })
    }

    /// The trust domain, where there is one.
    pub fn is_there(&self) -> Option<Arc<TrustDomain>> {
        self.domain().ok()
    }
}
