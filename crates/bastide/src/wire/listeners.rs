//! Which listener is which: over reloads, and to the end of its last connection.

use std::sync::Arc;

use gateway::serve::TrustedProxies;
use gateway::snapshot::Outbound;
use gateway::step::challenge::HttpsRedirect;
use keys::CertificateRules;
use proxy::address::AddressList;
use proxy::{ListenerKey, ListenerSettings};

use super::tls::{Sources, listener};
use crate::config::{Configuration, Listener};

/// The listeners of a configuration, and those that a configuration before it had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listeners {
    /// The names of those of the configuration, in its order.
    pub open: Vec<ListenerKey>,
    /// Those that it has no more, and that have connections.
    pub closing: Vec<(ListenerKey, Listener)>,
    /// What those that close are made of without, and was said.
    pub missed: Vec<String>,
}

impl Listeners {
    /// Those of a first configuration.
    pub fn first(listeners: &[Listener]) -> Self {
        Self::default().followed_by(&[], listeners, |_| true)
    }

    /// Those of the `next` configuration after the one of `before`. What is at one address is one
    /// listener, whatever else of it changed. Of several at the same (port 0) those for the same
    /// service are; where one is taken away, the others stay who they are.
    #[must_use]
    pub fn followed_by(
        &self,
        before: &[Listener],
        next: &[Listener],
        has_ended: impl Fn(ListenerKey) -> bool,
    ) -> Self {
        let mut left: Vec<(ListenerKey, &Listener)> = self.open.iter().copied().zip(before).collect();
        let mut take = |same: &dyn Fn(&Listener) -> bool| {
            let place = left.iter().position(|(_, listener)| same(listener))?;
            Some(left.remove(place).0)
        };
        let mut open: Vec<Option<ListenerKey>> = Vec::new();
        for listener in next {
            open.push(take(&|old| old.address == listener.address && old.to == listener.to));
        }
        for (key, listener) in open.iter_mut().zip(next).filter(|(key, _)| key.is_none()) {
            *key = take(&|old| old.address == listener.address);
        }
        let gone = left.into_iter().map(|(key, listener)| (key, listener.clone()));
        let closing = self.closing.iter().filter(|(key, _)| !has_ended(*key)).cloned().chain(gone);
        let mut closing: Vec<(ListenerKey, Listener)> = closing.collect();
        let mut used: Vec<ListenerKey> = open.iter().flatten().copied().collect();
        let mut named = Vec::new();
        for (key, listener) in open.into_iter().zip(next) {
            let address = listener.address;
            // A port of its own is the same place again; what the system picks is another one.
            let free = |key: &ListenerKey| {
                !used.contains(key) && (address.port() != 0 || closing.iter().all(|(other, _)| other != key))
            };
            let mut numbers = (0..=u16::MAX).map(|ordinal| ListenerKey { address, ordinal });
            let key =
                key.or_else(|| numbers.find(free)).unwrap_or(ListenerKey { address, ordinal: u16::MAX });
            used.push(key);
            named.push(key);
        }
        closing.retain(|(key, _)| !named.contains(key));
        Self { open: named, closing, missed: self.missed.clone() }
    }

    /// Each with its name, those of this configuration first.
    pub(super) fn all<'l>(
        &'l self,
        configuration: &'l Configuration,
    ) -> impl Iterator<Item = (ListenerKey, &'l Listener)> {
        let open = self.open.iter().copied().zip(&configuration.listeners);
        open.chain(self.closing.iter().map(|(key, listener)| (*key, listener)))
    }

    /// Says what those that close miss, once.
    pub fn say_missed(&mut self, missed: Vec<String>) {
        for fault in missed.iter().filter(|fault| !self.missed.contains(fault)) {
            tracing::warn!("a listener that closes stays as it was: {fault}");
        }
        self.missed = missed;
    }

    /// Each as the cores take it. One that closes judges its connections by what is trusted now.
    pub(super) fn settings(&self, sources: &Sources<'_>) -> anyhow::Result<Vec<ListenerSettings>> {
        let open = self.open.iter().zip(&sources.configuration.listeners);
        let mut all =
            open.map(|(key, one)| listener(one, *key, sources)).collect::<anyhow::Result<Vec<_>>>()?;
        // Their files may be gone as they are, or the mesh: that is no reason to refuse the next
        // configuration, nor to wait for them. What was there before still holds then.
        let reading = sources.reading.of_what_ends();
        let of_closing = Sources { reading: &reading, ..*sources };
        for (key, one) in &self.closing {
            let made = listener(one, *key, &of_closing);
            let made = reading.or_before(made, |_| sources.before(*key).cloned())?;
            all.push(ListenerSettings { closing: true, ..made });
        }
        sources.reading.miss(reading.into_refused());
        Ok(all)
    }

    /// Those that are for one service.
    pub(super) fn services(&self, configuration: &Configuration) -> Vec<(ListenerKey, Arc<str>)> {
        self.all(configuration).filter_map(|(key, one)| Some((key, one.to.as_deref()?.into()))).collect()
    }

    /// The outbound proxy of a service of the mesh, and whom it leads to.
    pub(super) fn outbound(&self, configuration: &Configuration) -> Option<Outbound> {
        let (listener, _) = self.all(configuration).find(|(_, one)| one.is_outbound)?;
        let own = configuration.listeners.iter().find_map(|one| one.to.as_deref())?;
        let reached =
            configuration.routes.iter().filter_map(|route| configuration.services.get(route.service));
        let others = reached.map(|service| service.name.clone()).filter(|name| name != own).collect();
        Some(Outbound { listener, own: own.into(), others })
    }

    /// The trusted proxies of those that have some.
    pub(super) fn trusted_proxies(&self, configuration: &Configuration) -> TrustedProxies {
        let by_listener = self
            .all(configuration)
            .filter(|(_, one)| !one.trusted_proxies.is_empty())
            .map(|(key, one)| (key, AddressList::new(one.trusted_proxies.iter().copied())));
        TrustedProxies { by_listener: by_listener.collect() }
    }

    /// How the client certificates of those that verify some become principals.
    ///
    /// INVARIANT: identities of the mesh are for those alone whose clients the mesh's own
    /// authorities certify, and whom it can revoke.
    pub(super) fn certificates(&self, configuration: &Configuration) -> Vec<(ListenerKey, CertificateRules)> {
        let mesh = configuration.mesh.as_ref().map(|mesh| mesh.settings.trust_domain.as_str());
        let issuers = configuration.authentication.issuers.iter().map(|issuer| issuer.prefix.clone());
        let issuers: Vec<String> = issuers.filter(|prefix| !prefix.is_empty()).collect();
        let rules = |listener: &Listener| match listener.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            Some(client) => CertificateRules {
                trust_domain: configuration.authentication.certificates.trust_domain.clone(),
                reserved: mesh.map(str::to_owned),
                prefix: client.prefix.clone().unwrap_or_default(),
                other_prefixes: issuers.clone(),
            },
            None => mesh.map(CertificateRules::of_trust_domain).unwrap_or_default(),
        };
        let asking = self.all(configuration).filter(|(_, listener)| listener.asks_clients());
        asking.map(|(key, listener)| (key, rules(listener))).collect()
    }

    /// Those that send everybody to https.
    pub(super) fn https_redirects(&self, configuration: &Configuration) -> Vec<HttpsRedirect> {
        self.all(configuration)
            .filter_map(|(listener, one)| Some(HttpsRedirect { listener, port: one.https_redirect? }))
            .collect()
    }
}

/// What listeners put in front of the names of certificates.
pub(super) fn prefixes(configuration: &Configuration) -> Vec<String> {
    let clients =
        configuration.listeners.iter().filter_map(|listener| listener.tls.as_ref()?.client.as_ref());
    let prefixes = clients.filter_map(|client| client.prefix.clone());
    prefixes.filter(|prefix| !prefix.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Memory};

    /// Listeners of these addresses, of each the service that it is for.
    fn listeners(of: &[(&str, &str)]) -> Vec<Listener> {
        let items: Vec<String> = of
            .iter()
            .map(|(address, to)| match *to {
                "" => format!("{{ address: \"{address}\" }}"),
                to => format!("{{ address: \"{address}\", to: {to} }}"),
            })
            .collect();
        let text = format!(
            "state: ./state\nlisten: [ {} ]\nservices: {{ a: [ \"http://127.0.0.1:1\" ], b: [ \"http://127.0.0.1:1\" ] }}\n\
             routes: [ {{ match: a/**, to: a, allow: anyone }}, {{ match: b/**, to: b, allow: anyone }} ]\n",
            items.join(", ")
        );
        let files = Memory::new([("bastide.yaml".into(), text.into_bytes())]);
        config::load("bastide.yaml".as_ref(), &|_| None, &files).unwrap().listeners
    }

    fn key(address: &str, ordinal: u16) -> ListenerKey {
        ListenerKey { address: address.parse().unwrap(), ordinal }
    }

    /// What happens, the listeners after it, and which are open and which close then.
    type Change<'t> = (&'t str, &'t [(&'t str, &'t str)], &'t [u16], &'t [u16]);

    const ANY: &str = "127.0.0.1:0";
    const PORT: &str = "127.0.0.1:7001";

    #[test]
    fn a_listener_stays_who_it_is_when_others_go_and_come() {
        let own = |ordinals: &[u16]| ordinals.iter().map(|ordinal| key(ANY, *ordinal)).collect::<Vec<_>>();
        let table: [Change<'_>; 7] = [
            ("the same", &[(ANY, "a"), (ANY, ""), (ANY, "b")], &[0, 1, 2], &[]),
            ("the first goes", &[(ANY, ""), (ANY, "b")], &[1, 2], &[0]),
            ("the last goes", &[(ANY, "a"), (ANY, "")], &[0, 1], &[2]),
            ("another order", &[(ANY, "b"), (ANY, "a"), (ANY, "")], &[2, 0, 1], &[]),
            ("one more", &[(ANY, ""), (ANY, "a"), (ANY, ""), (ANY, "b")], &[1, 0, 3, 2], &[]),
            ("one becomes another", &[(ANY, "a"), (ANY, "b"), (ANY, "b")], &[0, 2, 1], &[]),
            ("none", &[(PORT, "")], &[], &[0, 1, 2]),
        ];
        let before = listeners(&[(ANY, "a"), (ANY, ""), (ANY, "b")]);
        let first = Listeners::first(&before);
        assert_eq!((first.open.clone(), first.closing.len()), (own(&[0, 1, 2]), 0));
        for (what, next, open, closing) in table {
            let next = first.followed_by(&before, &listeners(next), |_| false);
            let found: Vec<_> = next.open.into_iter().filter(|key| key.address.port() == 0).collect();
            let closes: Vec<_> = next.closing.into_iter().map(|(key, _)| key).collect();
            assert_eq!((found, closes), (own(open), own(closing)), "{what}");
        }
    }

    #[test]
    fn one_that_closes_stays_until_its_connections_have_ended_and_gives_its_name_to_nobody() {
        let [both, one] = [listeners(&[(ANY, "a"), (ANY, "b")]), listeners(&[(ANY, "b")])];
        let closing = Listeners::first(&both).followed_by(&both, &one, |_| true);
        let names = |listeners: &Listeners| {
            (listeners.open.clone(), listeners.closing.iter().map(|(key, _)| *key).collect::<Vec<_>>())
        };
        assert_eq!(names(&closing), (vec![key(ANY, 1)], vec![key(ANY, 0)]));
        assert_eq!(closing.closing[0].1.to.as_deref(), Some("a"));
        // Renewed while it has some, and once more when the last has ended.
        let again = closing.followed_by(&one, &one, |_| false);
        assert_eq!(again, closing);
        assert_eq!(names(&again.followed_by(&one, &one, |_| true)), (vec![key(ANY, 1)], vec![]));
        // Another one for the same is another port.
        let back = closing.followed_by(&one, &both, |_| false);
        assert_eq!(names(&back), (vec![key(ANY, 2), key(ANY, 1)], vec![key(ANY, 0)]));
    }

    #[test]
    fn at_an_address_of_its_own_a_listener_is_the_same_again_whatever_it_is_for() {
        let [a, none, nowhere] =
            [listeners(&[(PORT, "a")]), listeners(&[(PORT, "")]), listeners(&[(ANY, "")])];
        let first = Listeners::first(&a);
        assert_eq!(first.followed_by(&a, &none, |_| false).open, [key(PORT, 0)]);
        let gone = first.followed_by(&a, &nowhere, |_| false);
        assert_eq!(gone.closing[0].0, key(PORT, 0));
        let back = gone.followed_by(&nowhere, &none, |_| false);
        assert_eq!(back.open, [key(PORT, 0)]);
        assert_eq!(back.closing.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(ANY, 0)]);
    }
}
