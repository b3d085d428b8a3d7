//! Statements to rules: the state of a load, `SecRule`, `SecAction`, `SecMarker`.

use super::{
    actions::ActionSet,
    fault::{FAULTS_MAX, Fault, LoadFaults, Place},
    lexer::{Statement, Text, Word},
    syntax::{self, Piece, RawOperator, RawTarget, Wrong},
};
use crate::{
    operator::{Operator, OperatorFault},
    rule::{Names, Phase, Test},
    ruleset::{Note, Weight},
    settings::Settings,
    sources::Sources,
    target::{Exclusion, Selector, Target},
    template::Template,
    variable::Variable,
};
use model::suggestion::nearest;
use std::collections::HashMap;

/// Most links of one chain.
pub(crate) const CHAIN_LINKS_MAX: usize = 64;
/// Most rules of one rule set, chained ones counted apart.
pub(crate) const RULES_MAX: usize = 50_000;
/// Largest compiled selector pattern, bytes.
const SELECTOR_BYTES_MAX: usize = 1 << 20;

/// The faults of a load, as many as are reported.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    further: usize,
}

impl Faults {
    pub(crate) fn push(&mut self, fault: Fault) {
        if self.list.len() < FAULTS_MAX {
            self.list.push(fault);
        } else {
            self.further += 1;
        }
    }

    /// Ok when there is none.
    pub(crate) fn verdict(self) -> Result<(), LoadFaults> {
        match self.list.is_empty() {
            true => Ok(()),
            false => Err(LoadFaults { faults: self.list, further: self.further }),
        }
    }
}

/// A word in its file: where faults in it are.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) text: &'a Text,
    pub(crate) word: &'a Word,
}

impl At<'_> {
    pub(crate) fn place(&self, at: usize) -> Place {
        self.text.place(self.word.offset(at))
    }

    pub(crate) fn fault(&self, at: usize, message: impl Into<String>) -> Fault {
        Fault { place: self.place(at), message: message.into(), suggestion: None }
    }

    /// An unknown name, with the nearest known one.
    pub(crate) fn unknown<'k>(
        &self,
        piece: &Piece,
        kind: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Fault {
        let known: Vec<&str> = known.collect();
        let suggestion = nearest(&piece.text, known.iter().copied()).map(str::to_owned);
        let mut message = format!("unknown {kind} \"{}\"", piece.text);
        if suggestion.is_none() && known.len() <= LISTED_MAX {
            message.push_str(&format!("; known: {}", known.join(", ")));
        }
        Fault { place: self.place(piece.at), message, suggestion }
    }

    pub(crate) fn wrong(&self, wrong: &Wrong) -> Fault {
        self.fault(wrong.at, wrong.message)
    }
}

/// Most names that a fault about an unknown one lists.
const LISTED_MAX: usize = 12;

/// What stands in a phase, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Index of a draft.
    Rule(usize),
    Marker(String),
}

/// A link as written, before defaults are applied.
#[derive(Debug)]
pub(crate) struct LinkDraft {
    pub(crate) targets: Vec<Target>,
    pub(crate) exclusions: Vec<Exclusion>,
    pub(crate) test: Option<Test>,
    pub(crate) actions: ActionSet,
}

/// A rule as written.
#[derive(Debug)]
pub(crate) struct RuleDraft {
    pub(crate) place: Place,
    pub(crate) links: Vec<LinkDraft>,
    /// What `SecDefaultAction` said for its phase when it was defined.
    pub(crate) defaults: ActionSet,
    pub(crate) phase: Phase,
    pub(crate) removed: bool,
}

impl RuleDraft {
    pub(crate) fn id(&self) -> u64 {
        self.links.first().and_then(|link| link.actions.id).unwrap_or(0)
    }
}

/// The state of a load.
pub(crate) struct Builder<'s> {
    pub(crate) sources: &'s dyn Sources,
    pub(crate) settings: Settings,
    pub(crate) names: Names,
    pub(crate) drafts: Vec<RuleDraft>,
    pub(crate) items: Vec<Item>,
    pub(crate) defaults: [Option<ActionSet>; 5],
    /// Every marker with its place.
    pub(crate) markers: Vec<(String, Place)>,
    pub(crate) notes: Vec<Note>,
    pub(crate) faults: Faults,
    pub(crate) links: usize,
    pub(crate) files: usize,
    /// The database of `SecGeoLookupDb`, for `@geoLookup`.
    pub(crate) geo_path: Option<String>,
    /// Whether a `SecResponseBodyMimeType` has been read.
    pub(crate) media_types_named: bool,
    ids: HashMap<u64, Place>,
    /// The last rule ended in `chain` and waits for its next link.
    open: Option<Place>,
    /// The chain at hand began with a fault: its links are read, then dropped.
    broken: bool,
}

impl<'s> Builder<'s> {
    pub(crate) fn new(sources: &'s dyn Sources) -> Self {
        Self {
            sources,
            settings: Settings::default(),
            names: Names::default(),
            drafts: Vec::new(),
            items: Vec::new(),
            defaults: [const { None }; 5],
            markers: Vec::new(),
            notes: Vec::new(),
            faults: Faults::default(),
            links: 0,
            files: 0,
            geo_path: None,
            media_types_named: false,
            ids: HashMap::new(),
            open: None,
            broken: false,
        }
    }

    pub(crate) fn note(&mut self, place: Place, message: impl Into<String>) {
        self.notes.push(Note { place, message: message.into(), suggestion: None, weight: Weight::Note });
    }

    pub(crate) fn warn(&mut self, place: Place, message: impl Into<String>) {
        self.notes.push(Note { place, message: message.into(), suggestion: None, weight: Weight::Warning });
    }

    /// A chain must be followed by its next link, whatever comes in between.
    pub(crate) fn close_chain(&mut self) {
        if let Some(place) = self.open.take() {
            let message = "the chain that begins here has no further SecRule".to_owned();
            self.faults.push(Fault { place, message, suggestion: None });
        }
    }

    pub(crate) fn is_chain_open(&self) -> bool {
        self.open.is_some()
    }

    /// `SecMarker NAME`.
    pub(crate) fn marker(&mut self, text: &Text, statement: &Statement) {
        match statement.words.as_slice() {
            [name] if !name.text.is_empty() => {
                self.items.push(Item::Marker(name.text.clone()));
                self.markers.push((name.text.clone(), text.place(name.offset(0))));
            }
            _ => self.faults.push(text.fault(statement.name.offset(0), "expected: SecMarker NAME")),
        }
    }

    /// `SecAction "ACTIONS"`.
    pub(crate) fn action(&mut self, text: &Text, statement: &Statement) {
        let [actions] = statement.words.as_slice() else {
            self.faults.push(text.fault(statement.name.offset(0), "expected: SecAction \"ACTIONS\""));
            return;
        };
        let place = text.place(statement.name.offset(0));
        let set = self.action_set(At { text, word: actions });
        let link =
            set.map(|actions| LinkDraft { targets: Vec::new(), exclusions: Vec::new(), test: None, actions });
        self.add(place, link);
    }

    /// `SecRule TARGETS "OPERATOR" ["ACTIONS"]`.
    pub(crate) fn rule(&mut self, text: &Text, statement: &Statement) {
        let place = text.place(statement.name.offset(0));
        let (targets, operator, actions) = match statement.words.as_slice() {
            [targets, operator] => (targets, operator, None),
            [targets, operator, actions] => (targets, operator, Some(actions)),
            words => {
                let message = format!(
                    "expected: SecRule TARGETS \"OPERATOR\" \"ACTIONS\"; found {} arguments (are the actions in quotes?)",
                    words.len()
                );
                self.faults.push(text.fault(statement.name.offset(0), message));
                self.add(place, None);
                return;
            }
        };
        let test = self.test(At { text, word: operator });
        let targets = self.targets(At { text, word: targets });
        let actions = match actions {
            Some(word) => self.action_set(At { text, word }),
            None => Some(ActionSet::default()),
        };
        let link = match (targets, test, actions) {
            (Some((targets, exclusions)), Some(test), Some(actions)) => {
                Some(LinkDraft { targets, exclusions, test: Some(test), actions })
            }
            _ => None,
        };
        self.add(place, link);
    }

    /// Puts a link at the end of the open chain, or begins a rule with it. None: it had faults.
    fn add(&mut self, place: Place, link: Option<LinkDraft>) {
        self.links += 1;
        let chained = self.open.take().is_some();
        let Some(link) = link else {
            // Whether the broken link went on is not known: its successor, if it is one,
            // has no id, and is then not blamed for that.
            self.broken = true;
            return;
        };
        if self.links > RULES_MAX {
            let message = format!("more than {RULES_MAX} rules");
            return self.faults.push(Fault { place, message, suggestion: None });
        }
        if chained || (self.broken && link.actions.id.is_none()) {
            self.chain(place, link);
        } else {
            self.broken = false;
            self.begin(place, link);
        }
    }

    fn chain(&mut self, place: Place, link: LinkDraft) {
        if let Some(word) = link.actions.starter_only() {
            let message = format!("\"{word}\" may stand only in the first rule of a chain");
            self.faults.push(Fault { place: place.clone(), message, suggestion: None });
        }
        if link.actions.chain {
            self.open = Some(place.clone());
        }
        if self.broken {
            return;
        }
        let Some(rule) = self.drafts.last_mut() else { return };
        rule.links.push(link);
        if rule.links.len() > CHAIN_LINKS_MAX {
            let message = format!("a chain of more than {CHAIN_LINKS_MAX} rules");
            self.faults.push(Fault { place, message, suggestion: None });
        }
    }

    fn begin(&mut self, place: Place, link: LinkDraft) {
        let fault = |message: String| Fault { place: place.clone(), message, suggestion: None };
        match link.actions.id {
            None => self.faults.push(fault("the rule has no id: add \"id:NUMBER\"".to_owned())),
            Some(id) => {
                if let Some(first) = self.ids.insert(id, place.clone()) {
                    self.faults.push(fault(format!("rule {id} is defined twice, first at {first}")));
                }
            }
        }
        let phase = link.actions.phase.unwrap_or(Phase::RequestBody);
        if link.actions.chain {
            self.open = Some(place.clone());
        }
        let defaults = self.defaults.get(phase.index()).cloned().flatten().unwrap_or_else(ActionSet::preset);
        self.items.push(Item::Rule(self.drafts.len()));
        self.drafts.push(RuleDraft { place, links: vec![link], defaults, phase, removed: false });
    }

    /// All targets of a word, or None when one is at fault.
    pub(crate) fn targets(&mut self, at: At<'_>) -> Option<(Vec<Target>, Vec<Exclusion>)> {
        let raw = match syntax::targets(&at.word.text) {
            Ok(raw) => raw,
            Err(wrong) => {
                self.faults.push(at.wrong(&wrong));
                return None;
            }
        };
        let (mut targets, mut exclusions) = (Vec::new(), Vec::new());
        let mut whole = true;
        for raw in &raw {
            match self.target(at, raw, 0) {
                Ok(target) if raw.negated => {
                    exclusions.push(Exclusion { variable: target.variable, selector: target.selector });
                }
                Ok(target) => targets.push(target),
                Err(fault) => {
                    self.faults.push(fault);
                    whole = false;
                }
            }
        }
        whole.then_some((targets, exclusions))
    }

    /// One target; `base` is where its text begins in the word.
    pub(crate) fn target(&mut self, at: At<'_>, raw: &RawTarget, base: usize) -> Result<Target, Fault> {
        let shift = |piece: &Piece| Piece { text: piece.text.clone(), at: piece.at + base };
        let name = shift(&raw.name);
        let Some(variable) = Variable::from_name(&name.text) else {
            return Err(match Variable::refused(&name.text) {
                Some(reason) => at.fault(name.at, format!("{} is not supported: {reason}", name.text)),
                None => at.unknown(&name, "variable", Variable::all().iter().map(|known| known.name())),
            });
        };
        let selector = raw.selector.as_ref().map(shift);
        if variable == Variable::Xml {
            return xml(at, raw, name.at, selector);
        }
        let selector = match selector {
            None => Selector::All,
            Some(piece) if !variable.is_collection() => {
                let message = format!("{} is a single value: it takes no selector", variable.name());
                return Err(at.fault(piece.at, message));
            }
            Some(piece) if raw.pattern => Selector::Pattern(pattern(at, &piece)?),
            Some(piece) if variable == Variable::Tx => Selector::Slot(self.names.slot(&piece.text)),
            Some(piece) => Selector::Name(piece.text.to_ascii_lowercase().into_bytes()),
        };
        Ok(Target { variable, selector, count: raw.count })
    }

    fn test(&mut self, at: At<'_>) -> Option<Test> {
        let raw = syntax::operator(&at.word.text);
        match self.compile(at, raw) {
            Ok(test) => Some(test),
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        }
    }

    fn compile(&mut self, at: At<'_>, raw: RawOperator) -> Result<Test, Fault> {
        let RawOperator { negated, name, argument } = raw;
        let is_pattern = name.text.to_ascii_lowercase().starts_with("rx");
        let template = match Template::parse(&argument.text, &mut self.names) {
            Ok(template) => template.literal().is_none().then_some(template),
            // `%{name}` is an honest regular expression for itself.
            Err(_) if is_pattern => None,
            Err(unknown) => return Err(self.unknown_macro(at, argument.at, &unknown)),
        };
        let geo = name.text.eq_ignore_ascii_case("geoLookup");
        let text = match &self.geo_path {
            Some(path) if geo && argument.text.is_empty() => path.clone(),
            _ => argument.text.clone(),
        };
        let compiled = Operator::compile(&name.text, &text, template.is_some(), self.sources, at.text.name());
        let operator = compiled.map_err(|fault| operator_fault(at, &name, &argument, fault))?;
        Ok(Test { operator, negated, argument: template })
    }

    pub(crate) fn unknown_macro(
        &self,
        at: At<'_>,
        base: usize,
        unknown: &crate::template::UnknownMacro,
    ) -> Fault {
        let variable = unknown.name.split(['.', ':']).next().unwrap_or_default();
        let piece = Piece { text: variable.to_owned(), at: base + unknown.at };
        at.unknown(&piece, "variable in a macro", Variable::all().iter().map(|known| known.name()))
    }
}

fn operator_fault(at: At<'_>, name: &Piece, argument: &Piece, fault: OperatorFault) -> Fault {
    match fault {
        OperatorFault::Unknown => at.unknown(name, "operator", Operator::names()),
        OperatorFault::Refused(reason) => at.fault(name.at, reason),
        OperatorFault::Argument { message, offset } => {
            at.fault(argument.at + offset, format!("@{}: {message}", name.text))
        }
        OperatorFault::File { path, message } => {
            at.fault(argument.at, format!("@{}: {path}: {message}", name.text))
        }
    }
}

fn pattern(at: At<'_>, piece: &Piece) -> Result<regex::bytes::Regex, Fault> {
    regex::bytes::RegexBuilder::new(&piece.text)
        .unicode(false)
        .case_insensitive(true)
        .dot_matches_new_line(true)
        .size_limit(SELECTOR_BYTES_MAX)
        .build()
        .map_err(|error| {
            let last = error.to_string();
            let last = last.lines().last().unwrap_or_default().to_owned();
            at.fault(piece.at, format!("the selector is no valid regular expression: {last}"))
        })
}

/// Of XPath, what rule sets use: the text of the whole document, and all attribute values.
fn xml(at: At<'_>, raw: &RawTarget, name_at: usize, selector: Option<Piece>) -> Result<Target, Fault> {
    let selector = match selector {
        None if raw.negated || raw.count => Selector::All,
        None => {
            return Err(at.fault(name_at, "expected XML:/* (all text) or XML://@* (all attribute values)"));
        }
        Some(piece) if matches!(piece.text.as_str(), "/*" | "//@*") => {
            Selector::Name(piece.text.into_bytes())
        }
        Some(piece) => {
            let message = format!(
                "XPath \"{}\" is not supported: use XML:/* (all text) or XML://@* (all attribute values)",
                piece.text
            );
            return Err(at.fault(piece.at, message));
        }
    };
    Ok(Target { variable: Variable::Xml, selector, count: raw.count })
}
