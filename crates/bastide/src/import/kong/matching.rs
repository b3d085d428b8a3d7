//! Hosts, paths and headers of a Kong route as matches of ours.

use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerlKind, ClassSet, ClassSetItem, GroupKind, RepetitionKind, RepetitionRange,
    parse::Parser,
};

use super::access::cedar;

/// Most alternatives that one expression is taken apart into.
const ALTERNATIVES_MAX: usize = 64;

/// A path pattern, and how it differs from what it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// `/orders/{id}/**`
    pub(super) path: String,
    /// Why it takes more than the original; then the route has to be closed.
    pub(super) wider: Option<String>,
    /// What of the path was matched, for `strip_path`.
    pub(super) matched: Matched,
    /// What the pattern takes besides, where a policy can keep it out.
    pub(super) besides: Besides,
}

/// What `/docs/**` takes and the original does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Besides {
    /// Nothing.
    Nothing,
    /// `/docs`, where the original begins with `/docs/`.
    Folder,
    /// `/docs/` too, where something has to follow.
    FolderAndSlash,
}

impl Besides {
    /// The condition under which a request to this pattern is none of the original's.
    pub(super) fn when(self, path: &str) -> Option<String> {
        let base = path.strip_suffix("/**")?;
        let place = |segment| if str::starts_with(segment, '{') { "*" } else { segment };
        let base = base.split('/').map(place).collect::<Vec<_>>().join("/");
        let like = |end: &str| format!("context.path like {}", cedar(&format!("{base}{end}")));
        // Without a folder there is no path that lacks the slash.
        let folder = (!base.is_empty()).then(|| format!("!({})", like("/*")));
        match self {
            Self::Nothing => None,
            Self::Folder => folder,
            Self::FolderAndSlash => {
                let slash = format!("({} && !({}))", like("/"), like("/*/"));
                Some(folder.into_iter().chain([slash]).collect::<Vec<_>>().join(" || "))
            }
        }
    }
}

/// What Kong would strip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matched {
    /// Nothing: the path is `/`.
    Nothing,
    /// This literal beginning.
    Prefix(String),
    /// Everything before `**`.
    BeforeRest,
    /// The whole path.
    Whole,
}

/// A plain path: everything that begins with it.
pub(super) fn prefix(path: &str) -> Pattern {
    let tidy = collapse(path);
    if tidy.contains(['{', '}', '*', '?', '#', '%']) || !tidy.bytes().all(|b| b.is_ascii_graphic()) {
        return beginning(path, "the path has characters that a pattern cannot have");
    }
    let literal = tidy.trim_end_matches('/');
    let matched = if literal.is_empty() { Matched::Nothing } else { Matched::Prefix(literal.to_owned()) };
    let besides = if tidy.ends_with('/') { Besides::Folder } else { Besides::Nothing };
    Pattern { path: format!("{literal}/**"), wider: None, matched, besides }
}

fn collapse(path: &str) -> String {
    let mut tidy = String::from("/");
    for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        tidy.push_str(segment);
        tidy.push('/');
    }
    if !path.ends_with('/') && tidy.len() > 1 {
        tidy.pop();
    }
    tidy
}

/// The widest pattern that surely takes everything that `text` takes, for a closed route.
fn beginning(text: &str, why: &str) -> Pattern {
    let safe = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_-".contains(c)));
    let literal = text.get(..safe.unwrap_or(text.len())).unwrap_or_default();
    // What follows may belong to the last segment.
    let folder = literal.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = collapse(folder);
    let path = path.trim_end_matches('/');
    Pattern {
        path: format!("{path}/**"),
        wider: Some(why.to_owned()),
        matched: Matched::BeforeRest,
        besides: Besides::Nothing,
    }
}

/// What an expression is made of, as far as paths go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// Some of one segment; `true`: whatever a segment can be.
    Part(Option<String>, bool),
    /// Anything, slashes included; `true`: one character at least.
    Rest(bool),
    End,
}

/// A regular expression, which Kong anchors at the beginning.
pub(super) fn expression(text: &str) -> Vec<Pattern> {
    let Ok(ast) = Parser::new().parse(text) else {
        return vec![beginning(text, "the regular expression cannot be read here")];
    };
    let mut alternatives = vec![Vec::new()];
    if let Err(why) = walk(&ast, &mut alternatives) {
        return vec![beginning(text, why)];
    }
    let mut patterns: Vec<Pattern> = Vec::new();
    for pieces in &alternatives {
        let pattern = assemble(pieces, text);
        match patterns.iter_mut().find(|known| known.path == pattern.path) {
            Some(known) => known.besides = known.besides.min(pattern.besides),
            None => patterns.push(pattern),
        }
    }
    patterns
}

type Walked = Result<(), &'static str>;

/// Appends what `ast` takes to each alternative.
fn walk(ast: &Ast, alternatives: &mut Vec<Vec<Piece>>) -> Walked {
    let mut push = |piece: Piece| {
        alternatives.iter_mut().for_each(|pieces| pieces.push(piece.clone()));
        Ok(())
    };
    match ast {
        Ast::Empty(_) => Ok(()),
        Ast::Literal(literal) => push(Piece::Char(literal.c)),
        Ast::Assertion(assertion) => match assertion.kind {
            AssertionKind::StartLine | AssertionKind::StartText => Ok(()),
            AssertionKind::EndLine | AssertionKind::EndText => push(Piece::End),
            _ => Err("the regular expression asks for word boundaries"),
        },
        Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) | Ast::ClassUnicode(_) => {
            push(Piece::Part(None, false))
        }
        Ast::Concat(concat) => concat.asts.iter().try_for_each(|part| walk(part, alternatives)),
        Ast::Alternation(alternation) => branch(alternation.asts.iter().map(Some), alternatives),
        Ast::Group(group) => {
            if let GroupKind::NonCapturing(flags) = &group.kind
                && !flags.items.is_empty()
            {
                return Err("the regular expression has flags");
            }
            let name = match &group.kind {
                GroupKind::CaptureName { name, .. } => Some(name.name.clone()),
                GroupKind::CaptureIndex(_) | GroupKind::NonCapturing(_) => None,
            };
            let before: Vec<usize> = alternatives.iter().map(Vec::len).collect();
            let single = alternatives.len() == 1;
            walk(&group.ast, alternatives)?;
            // The name belongs to a group that is one part and nothing else.
            if let (true, Some(start)) = (single, before.first())
                && let [pieces] = alternatives.as_mut_slice()
                && let Some([Piece::Part(named, _)]) = pieces.get_mut(*start..)
            {
                *named = name;
            }
            Ok(())
        }
        Ast::Repetition(repetition) => repeat(&repetition.op.kind, &repetition.ast, alternatives),
        Ast::Flags(_) => Err("the regular expression has flags"),
    }
}

fn branch<'a>(branches: impl Iterator<Item = Option<&'a Ast>>, alternatives: &mut Vec<Vec<Piece>>) -> Walked {
    let mut all = Vec::new();
    for branch in branches {
        let mut own = alternatives.clone();
        if let Some(ast) = branch {
            walk(ast, &mut own)?;
        }
        all.extend(own);
        if all.len() > ALTERNATIVES_MAX {
            return Err("the regular expression has too many alternatives");
        }
    }
    *alternatives = all;
    Ok(())
}

fn repeat(kind: &RepetitionKind, ast: &Ast, alternatives: &mut Vec<Vec<Piece>>) -> Walked {
    if matches!(kind, RepetitionKind::ZeroOrOne) {
        return branch([None, Some(ast)].into_iter(), alternatives);
    }
    let some = !matches!(kind, RepetitionKind::ZeroOrMore);
    let piece = match ast {
        Ast::Dot(_) => Piece::Rest(some),
        Ast::ClassPerl(class) if class.kind != ClassPerlKind::Digit || class.negated => {
            match (class.negated, &class.kind) {
                (false, _) => Piece::Part(None, false),
                // Slashes too, and no path has a blank.
                (true, ClassPerlKind::Space) => Piece::Rest(some),
                (true, _) => return Err("the regular expression repeats what can hold slashes"),
            }
        }
        Ast::ClassPerl(_) => Piece::Part(None, false),
        Ast::ClassBracketed(class) => match (class.negated, &class.kind) {
            (true, ClassSet::Item(item)) => match all_but_slash(item) {
                Some(exact) => {
                    let unbounded = matches!(
                        kind,
                        RepetitionKind::OneOrMore
                            | RepetitionKind::ZeroOrMore
                            | RepetitionKind::Range(RepetitionRange::AtLeast(0 | 1))
                    );
                    Piece::Part(None, exact && unbounded)
                }
                None => return Err("the regular expression repeats what can hold slashes"),
            },
            (false, ClassSet::Item(item)) if !holds_slash(item) => Piece::Part(None, false),
            _ => return Err("the regular expression repeats what can hold slashes"),
        },
        _ => return Err("the regular expression repeats more than a character"),
    };
    // `.+` and `.*`; a bounded number of anything is less than the rest.
    if matches!(piece, Piece::Rest(_))
        && !matches!(kind, RepetitionKind::OneOrMore | RepetitionKind::ZeroOrMore)
    {
        return Err("the regular expression counts characters");
    }
    alternatives.iter_mut().for_each(|pieces| pieces.push(piece.clone()));
    Ok(())
}

/// Of a negated class: whether it is everything but the slash (and what ends a path);
/// `None` when it holds the slash.
fn all_but_slash(item: &ClassSetItem) -> Option<bool> {
    let chars = match item {
        ClassSetItem::Literal(literal) => vec![literal.c],
        ClassSetItem::Union(union) => union
            .items
            .iter()
            .map(|item| match item {
                ClassSetItem::Literal(literal) => Some(literal.c),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    chars.contains(&'/').then(|| chars.iter().all(|c| "/?#".contains(*c)))
}

fn holds_slash(item: &ClassSetItem) -> bool {
    match item {
        ClassSetItem::Empty(_) => false,
        ClassSetItem::Literal(literal) => literal.c == '/',
        ClassSetItem::Range(range) => {
            ('/'..='/').contains(&range.start.c) || (range.start.c..=range.end.c).contains(&'/')
        }
        ClassSetItem::Perl(class) => class.negated,
        ClassSetItem::Union(union) => union.items.iter().any(holds_slash),
        ClassSetItem::Ascii(_) | ClassSetItem::Unicode(_) | ClassSetItem::Bracketed(_) => true,
    }
}

/// A pattern of pieces: segments of characters, of one part, and at the end the rest.
fn assemble(pieces: &[Piece], text: &str) -> Pattern {
    let ends = matches!(pieces.last(), Some(Piece::End));
    let pieces = pieces.strip_suffix(&[Piece::End]).unwrap_or(pieces);
    if pieces.contains(&Piece::End) || pieces.first() != Some(&Piece::Char('/')) {
        return beginning(text, "the regular expression does not begin with / or ends in its middle");
    }
    let mut path = String::new();
    let mut wider = None;
    let (mut literal, mut rest, mut number) = (true, false, 0);
    let mut besides = Besides::Nothing;
    let segments: Vec<&[Piece]> =
        pieces.get(1..).unwrap_or_default().split(|piece| *piece == Piece::Char('/')).collect();
    for (place, segment) in segments.iter().copied().enumerate() {
        if segment.is_empty() && place + 1 < segments.len() {
            return beginning(text, "the regular expression has empty segments, which no path has");
        }
        if rest {
            return beginning(text, "the regular expression takes anything in its middle");
        }
        let chars: Option<String> =
            segment.iter().map(|piece| if let Piece::Char(c) = piece { Some(*c) } else { None }).collect();
        path.push('/');
        match (chars, segment) {
            (Some(chars), _) if chars.chars().all(|c| c.is_ascii_graphic() && !"{}*?#%".contains(c)) => {
                path.push_str(&chars);
            }
            (None, [Piece::Rest(some)]) => {
                path.push_str("**");
                rest = true;
                besides = if *some { Besides::FolderAndSlash } else { Besides::Folder };
            }
            (None, [Piece::Part(name, exact)]) => {
                number += 1;
                literal = false;
                let name = name.clone().filter(|name| !path.contains(&format!("{{{name}}}")));
                path.push_str(&format!("{{{}}}", name.unwrap_or_else(|| format!("part{number}"))));
                if !exact {
                    wider = Some("a whole segment is taken where the regular expression takes some of one");
                }
            }
            _ => return beginning(text, "a segment of the regular expression is made of several parts"),
        }
    }
    let matched = match (ends || rest, literal) {
        (true, _) => Matched::Whole,
        (false, true) => {
            let literal = path.trim_end_matches('/');
            if literal.is_empty() { Matched::Nothing } else { Matched::Prefix(literal.to_owned()) }
        }
        (false, false) => Matched::BeforeRest,
    };
    if !ends && !rest {
        if path.ends_with('/') {
            besides = Besides::Folder;
        }
        path = format!("{}/**", path.trim_end_matches('/'));
    }
    Pattern { path, wider: wider.map(str::to_owned), matched, besides }
}

/// A host as ours: `Err` says why it cannot be.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    };
    match name.strip_prefix("*.").unwrap_or(name).contains('*') {
        true => Err("a wildcard at the end of a host has no counterpart"),
        false => Ok(name.to_ascii_lowercase()),
    }
}

/// Whether `{name}` in `text` is a place of `path`, wherever there is one; `{{` is a brace.
pub(super) fn knows_places(path: &str, text: &str) -> bool {
    let text = text.replace("{{", "");
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { return false };
        // `${NAME}` is a variable of the environment.
        if !before.ends_with('$') && !path.contains(&format!("{{{name}}}")) {
            return false;
        }
        rest = after;
    }
    true
}

/// The pattern without the names of its places: two of one shape take the same.
pub(super) fn shape(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_prefixes() {
        for (text, path) in [("/orders", "/orders/**"), ("/", "/**"), ("/a//b/", "/a/b/**")] {
            assert_eq!((prefix(text).path.as_str(), prefix(text).wider), (path, None));
        }
        assert_eq!(prefix("/a/{b}/c").path, "/a/**");
        assert!(prefix("/a/{b}/c").wider.is_some());
    }

    /// What the pattern takes besides is kept out by the condition, and nothing else is.
    #[test]
    fn a_slash_at_the_end_and_something_behind_it_are_asked_for() {
        for (pattern, out, condition) in [
            (prefix("/docs"), Besides::Nothing, None),
            (prefix("/"), Besides::Folder, None),
            (prefix("/docs/"), Besides::Folder, Some(r#"!(context.path like "/docs/*")"#)),
        ] {
            assert_eq!((pattern.besides, pattern.besides.when(&pattern.path).as_deref()), (out, condition));
        }
        let some = r#"!(context.path like "/x/*/*") || (context.path like "/x/*/" && !(context.path like "/x/*/*/"))"#;
        for (text, condition) in [
            ("/docs", None),
            ("/docs/?", None),
            ("/docs(/.*)?", None),
            ("/docs/$", None),
            ("/docs/", Some(r#"!(context.path like "/docs/*")"#)),
            ("/docs/.*", Some(r#"!(context.path like "/docs/*")"#)),
            (
                "/docs/.+",
                Some(
                    r#"!(context.path like "/docs/*") || (context.path like "/docs/" && !(context.path like "/docs/*/"))"#,
                ),
            ),
            ("/.*", None),
            ("/.+", Some(r#"(context.path like "/" && !(context.path like "/*/"))"#)),
            ("/x/(?<id>[^/]+)/.+", Some(some)),
        ] {
            let [pattern] = expression(text).try_into().unwrap_or_else(|all| panic!("{text}: {all:?}"));
            assert_eq!(pattern.wider, None, "{text}");
            assert_eq!(pattern.besides.when(&pattern.path).as_deref(), condition, "{text}");
        }
    }

    #[test]
    fn expressions_become_patterns_or_are_marked_as_wider() {
        for (text, paths, exact) in [
            ("/orders$", &["/orders"][..], true),
            ("^/orders", &["/orders/**"], true),
            ("/orders/(?<id>[^/]+)$", &["/orders/{id}"], true),
            ("/orders/(?<id>[^/]+)", &["/orders/{id}/**"], true),
            ("/(v1|v2)/x$", &["/v1/x", "/v2/x"], true),
            ("/x/?$", &["/x", "/x/"], true),
            ("/x/.*", &["/x/**"], true),
            (r"/x/\d+$", &["/x/{part1}"], false),
            (r"/x/(?<id>\d+)/y$", &["/x/{id}/y"], false),
            (r"/x/[a-z]+-[0-9]+$", &["/x/**"], false),
            (r"/x/(?!y)z", &["/x/**"], false),
            (r"/x/.*/y$", &["/x/**"], false),
            ("(?i)/x", &["/**"], false),
            ("/x/[^a]+", &["/x/**"], false),
            ("/x/(a/b)*", &["/x/**"], false),
            (r"/x/\S+", &["/x/**"], true),
            (r"/x/\D+", &["/x/**"], false),
            ("[", &["/**"], false),
        ] {
            let found = expression(text);
            let written: Vec<&str> = found.iter().map(|pattern| pattern.path.as_str()).collect();
            assert_eq!(written, paths, "{text}");
            assert_eq!(found.iter().all(|pattern| pattern.wider.is_none()), exact, "{text}");
        }
    }

    #[test]
    fn what_is_stripped_is_what_was_matched() {
        assert_eq!(expression("/a/[^/]+").first().unwrap().matched, Matched::BeforeRest);
        assert_eq!(expression("/a/[^/]+$").first().unwrap().matched, Matched::Whole);
        assert_eq!(expression("/a/.*").first().unwrap().matched, Matched::Whole);
        assert_eq!(expression("/a").first().unwrap().matched, Matched::Prefix("/a".into()));
    }

    proptest::proptest! {
        /// A pattern that is not marked takes no path that the expression does not take,
        /// but for the slash before `**`.
        #[test]
        fn patterns_that_are_not_marked_take_no_more(
            expression_text in "(/([a-b]{1,2}|\\[\\^/\\]\\+|\\(\\?:a\\|b\\)|\\\\d\\+|\\.\\*|a\\?|\\[ab\\]\\+)){1,3}[$]?",
            path in "(/[ab1]{1,2}){0,4}",
        ) {
            let regex = regex::Regex::new(&format!("^(?:{expression_text})")).unwrap();
            for pattern in expression(&expression_text).iter().filter(|pattern| pattern.wider.is_none()) {
                let takes = takes(&pattern.path, &path);
                if takes && !path.is_empty() {
                    let slashed = format!("{path}/");
                    proptest::prop_assert!(
                        regex.is_match(&path) || regex.is_match(&slashed),
                        "{} takes {path}, {expression_text} does not", pattern.path
                    );
                }
            }
        }
    }

    /// How the router reads a pattern.
    fn takes(pattern: &str, path: &str) -> bool {
        let mut segments = path.split('/');
        for part in pattern.split('/') {
            match (part, segments.next()) {
                ("**", _) => return true,
                (part, Some(segment)) if part == segment => {}
                (part, Some(segment)) if part.starts_with('{') && !segment.is_empty() => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}
