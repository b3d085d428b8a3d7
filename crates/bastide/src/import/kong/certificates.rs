//! Certificates: files beside the configuration.

use std::path::PathBuf;

use super::source::Entity;
use super::{Importer, Names};
use crate::import::yaml::Yaml;
use crate::import::{Outcome, SideFile};

impl<'n> Importer<'n> {
    /// The certificates that listeners show: `cert` and `key` of each.
    pub(super) fn listener_certificates(&mut self) -> Vec<Yaml> {
        let all = self.source.list(self.source.top, "certificates", "certificate");
        let mut pairs = Vec::new();
        for (number, entity) in all.into_iter().enumerate() {
            let place = format!("certificate {:?}", certificate_name(&entity, number));
            match self.pair(entity, number) {
                Some(pair) => {
                    let note = "files; chosen by the names in the certificate, whatever snis say";
                    self.say(entity, &place, Outcome::Translated, note);
                    pairs.push(pair);
                }
                None => {
                    let note = "cert and key are not in the file; put them into tls.certificates by hand";
                    self.say(entity, &place, Outcome::Dropped, note);
                }
            }
        }
        pairs
    }

    /// The certificate with this id or name, as a client's.
    pub(super) fn certificate_of(&mut self, reference: &str) -> Option<Yaml> {
        let all = self.source.list(self.source.top, "certificates", "certificate");
        let (number, entity) = all.into_iter().enumerate().find(|(_, entity)| entity.is_called(reference))?;
        self.pair(entity, number)
    }

    fn pair(&mut self, entity: Entity<'n>, number: usize) -> Option<Yaml> {
        let pem = |key: &str| {
            entity.get(key)?.text().filter(|text| text.contains("-----BEGIN ")).map(str::to_owned)
        };
        let (certificate, key) = (pem("cert")?, pem("key")?);
        let name = file_name(&certificate_name(&entity, number));
        let paths = [format!("certificates/{name}.pem"), format!("certificates/{name}.key")];
        for (path, text) in paths.iter().zip([certificate, key]) {
            self.file(path, text);
        }
        let [certificate, key] = paths.map(Yaml::Text);
        Some(Yaml::Map(vec![("cert".to_owned(), certificate), ("key".to_owned(), key)]))
    }

    /// The authorities with these ids in one file; `None` when one is not there.
    pub(super) fn authorities(&mut self, ids: &[String]) -> Option<String> {
        let all = self.source.list(self.source.top, "ca_certificates", "ca_certificate");
        let mut bundle = String::new();
        for id in ids {
            let found = all.iter().find(|entity| entity.is_called(id))?;
            let pem = found.get("cert")?.text().filter(|text| text.contains("-----BEGIN "))?;
            bundle.push_str(pem.trim());
            bundle.push('\n');
        }
        if bundle.is_empty() {
            return None;
        }
        let known = self.files.iter().find(|file| file.bytes == bundle.as_bytes());
        if let Some(known) = known {
            return Some(known.path.display().to_string());
        }
        let number =
            self.files.iter().filter(|file| file.path.to_string_lossy().contains("/authorities")).count();
        let path = format!("certificates/authorities-{}.pem", number + 1);
        self.file(&path, bundle);
        Some(path)
    }

    fn file(&mut self, path: &str, text: String) {
        let path = PathBuf::from(path);
        if !self.files.iter().any(|file| file.path == path) {
            self.files.push(SideFile { path, bytes: text.into_bytes() });
        }
    }
}

fn certificate_name(entity: &Entity<'_>, number: usize) -> String {
    let sni = entity.items("snis").first();
    let sni =
        sni.and_then(|node| node.text().map(str::to_owned).or_else(|| Entity::new(node, None).text("name")));
    let number = format!("certificate-{}", number + 1);
    sni.map_or_else(|| number.clone(), |sni| format!("{number}-{sni}"))
}

fn file_name(name: &str) -> String {
    let tidy: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
    Names::default().take(&tidy)
}
