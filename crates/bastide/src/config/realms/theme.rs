//! `realms.NAME.theme` and `realms.NAME.language`: what pages look like and speak.

use std::path::{Path, PathBuf};

use identity::theme::{Format, LOGO_BYTES_MAX, STYLE_BYTES_MAX};
use identity::{Language, Theme};

use crate::config::decoder::Decoder;
use crate::config::node::Node;

const STYLE: &str = "style.css";

impl Decoder<'_> {
    pub(super) fn language(&mut self, node: &Node) -> Option<Language> {
        self.word(node, "language", &Language::ALL.map(|language| (language.tag(), language)))
    }

    /// The files of a theme's folder. A file that comes or goes is a reason to load again.
    pub(super) fn theme(&mut self, node: &Node) -> Option<Theme> {
        let folder = self.path(node)?;
        let found = match self.sources.glob(&folder.join("*")) {
            Ok(found) => found,
            Err(reason) => {
                self.fault(node.at, reason);
                return None;
            }
        };
        let is_there = |name: &str| Some(folder.join(name)).filter(|path| found.contains(path));
        let style = is_there(STYLE);
        let logos: Vec<(Format, PathBuf)> = Format::ALL
            .into_iter()
            .filter_map(|format| Some((format, is_there(&logo_name(format))?)))
            .collect();
        let unused = found
            .iter()
            .find(|path| Some(*path) != style.as_ref() && !logos.iter().any(|(_, logo)| logo == *path));
        if style.is_none() && logos.is_empty() {
            let what = format!("theme {}: no style.css and no logo there", node.shown());
            self.advise(node.at, what, "a theme is a folder with style.css, logo.svg, logo.png or logo.webp");
            return None;
        }
        if let Some(unused) = unused {
            let what = format!("{} is not part of a theme and is not served", unused.display());
            self.warn(node.at, what, "a theme has style.css and one of logo.svg, logo.png and logo.webp");
        }
        if let [_, (_, second), ..] = logos.as_slice() {
            self.fault(node.at, format!("{} is a second logo; keep one", second.display()));
            return None;
        }
        let style = match style {
            Some(path) => Some(self.part(node, &path, STYLE_BYTES_MAX)?),
            None => None,
        };
        let logo = match logos.into_iter().next() {
            Some((format, path)) => Some((format, self.part(node, &path, LOGO_BYTES_MAX)?)),
            None => None,
        };
        Theme::new(style, logo).map_err(|why| self.fault(node.at, format!("theme: {why}"))).ok()
    }

    fn part(&mut self, node: &Node, path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
        self.sources.read(path, bytes_max).map_err(|reason| self.fault(node.at, reason)).ok()
    }
}

fn logo_name(format: Format) -> String {
    format!("logo.{}", format.extension())
}
