//! Whether a value brings a script into a page: by a tag, by an attribute that holds code
//! or a link, by a comment that some browser runs.

use super::html::{Kind, State, Token, Tokenizer};

/// Each place in a page that a value could be put in.
const PLACES: [State; 5] =
    [State::Data, State::BeforeName, State::Quoted(b'\''), State::Quoted(b'"'), State::Quoted(b'`')];

/// Tags that run or fetch something by themselves.
const TAGS: &[&[u8]] = &[
    b"APPLET",
    b"BASE",
    b"COMMENT",
    b"EMBED",
    b"FRAME",
    b"FRAMESET",
    b"HANDLER",
    b"IFRAME",
    b"IMPORT",
    b"ISINDEX",
    b"LINK",
    b"LISTENER",
    b"META",
    b"NOSCRIPT",
    b"OBJECT",
    b"SCRIPT",
    b"STYLE",
    b"VMLFRAME",
    b"XML",
    b"XSS",
];

/// What an attribute's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Harmless,
    /// Code, or dangerous in itself.
    Code,
    /// A link.
    Link,
    /// The name of another attribute (SVG's animations).
    Name,
}

const ATTRIBUTES: &[(&[u8], Attribute)] = &[
    (b"ACTION", Attribute::Link),
    (b"ATTRIBUTENAME", Attribute::Name),
    (b"BY", Attribute::Link),
    (b"BACKGROUND", Attribute::Link),
    (b"DATAFORMATAS", Attribute::Code),
    (b"DATASRC", Attribute::Code),
    (b"DYNSRC", Attribute::Link),
    (b"FILTER", Attribute::Code),
    (b"FORMACTION", Attribute::Link),
    (b"FOLDER", Attribute::Link),
    (b"FROM", Attribute::Link),
    (b"HANDLER", Attribute::Link),
    (b"HREF", Attribute::Link),
    (b"LOWSRC", Attribute::Link),
    (b"POSTER", Attribute::Link),
    (b"SRC", Attribute::Link),
    (b"STYLE", Attribute::Code),
    (b"TO", Attribute::Link),
    (b"VALUES", Attribute::Link),
    (b"XLINK:HREF", Attribute::Link),
];

/// Schemes that run something, as a link starts with them.
const SCHEMES: &[&[u8]] = &[b"DATA", b"VIEW-SOURCE", b"JAVA", b"VBSCRIPT"];

/// Whether `value` runs a script in one of the places.
pub(super) fn detect(value: &[u8]) -> bool {
    // Tags, comments and document types start with one, attributes have values by the other.
    if memchr::memchr2(b'<', b'=', value).is_none() {
        return false;
    }
    PLACES.into_iter().any(|place| runs_in(value, place))
}

fn runs_in(value: &[u8], place: State) -> bool {
    let mut tokenizer = Tokenizer::new(value, place);
    let mut attribute = Attribute::Harmless;
    while let Some(Token { kind, text }) = tokenizer.next() {
        let named = std::mem::replace(&mut attribute, Attribute::Harmless);
        let runs = match kind {
            Kind::Doctype => true,
            Kind::Tag => is_dangerous_tag(text),
            Kind::AttributeName => {
                attribute = attribute_of(text);
                false
            }
            Kind::AttributeValue => match named {
                Attribute::Harmless => false,
                Attribute::Code => true,
                Attribute::Link => is_dangerous_link(text),
                Attribute::Name => attribute_of(text) != Attribute::Harmless,
            },
            Kind::Comment => is_dangerous_comment(text),
            Kind::Text | Kind::End => false,
        };
        if runs {
            return true;
        }
    }
    false
}

/// Whether the text without its NUL bytes is this name, in any case of letters.
fn is(text: &[u8], name: &[u8]) -> bool {
    let mut bytes = text.iter().filter(|byte| **byte != 0);
    name.iter().all(|letter| bytes.next().is_some_and(|byte| byte.eq_ignore_ascii_case(letter)))
        && bytes.next().is_none()
}

fn starts_with(text: &[u8], name: &[u8]) -> bool {
    text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn is_dangerous_tag(text: &[u8]) -> bool {
    text.len() >= 3
        && (TAGS.iter().any(|name| is(text, name)) || starts_with(text, b"SVG") || starts_with(text, b"XSL"))
}

fn attribute_of(text: &[u8]) -> Attribute {
    // Every event handler starts with `on`, and XMLNS makes any tag of any other.
    if text.len() >= 5
        && (starts_with(text, b"ON") || starts_with(text, b"XMLNS") || starts_with(text, b"XLINK"))
    {
        return Attribute::Code;
    }
    if text.len() < 2 {
        return Attribute::Harmless;
    }
    ATTRIBUTES
        .iter()
        .find(|(name, _)| is(text, name))
        .map_or(Attribute::Harmless, |&(_, attribute)| attribute)
}

fn is_dangerous_comment(text: &[u8]) -> bool {
    // Internet Explorer ends a tag at a backtick, runs conditional comments and imports.
    memchr::memchr(b'`', text).is_some()
        || (text.len() > 3 && (starts_with(text, b"[if") || starts_with(text, b"xml")))
        || (text.len() > 5 && (starts_with(text, b"IMPORT") || starts_with(text, b"ENTITY")))
}

fn is_dangerous_link(text: &[u8]) -> bool {
    // Browsers skip white space, and Opera bytes outside of ASCII.
    let start = text.iter().take_while(|byte| **byte <= b' ' || **byte >= 0x7f).count();
    let text = text.get(start..).unwrap_or_default();
    SCHEMES.iter().any(|scheme| spells(text, scheme))
}

/// Whether the text starts with the scheme once its numeric entities are read; NUL, line
/// ends and control characters at the start are skipped.
fn spells(text: &[u8], scheme: &[u8]) -> bool {
    let mut letters = scheme.iter();
    let mut expected = letters.next();
    let (mut rest, mut started) = (text, false);
    while !rest.is_empty() {
        let Some(letter) = expected else { return true };
        let (code, length) = character(rest);
        rest = rest.get(length..).unwrap_or_default();
        if (!started && code <= 32) || code == 0 || code == 10 {
            continue;
        }
        started = true;
        // One byte of the number counts, as in browsers of old.
        if code.to_le_bytes()[0].to_ascii_uppercase() != *letter {
            return false;
        }
        expected = letters.next();
    }
    expected.is_none()
}

/// The character at the start of the text, its numeric entity read, and its length.
fn character(text: &[u8]) -> (u32, usize) {
    /// Numbers past it are no character.
    const LAST: u32 = 0x1000ff;
    let (base, start) = match text {
        [b'&', b'#', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (16, 3),
        [b'&', b'#', digit, ..] if digit.is_ascii_digit() => (10, 2),
        [byte, ..] => return (u32::from(*byte), 1),
        [] => return (0, 1),
    };
    let mut code = 0_u32;
    let mut length = start;
    while let Some(digit) = text.get(length).and_then(|byte| char::from(*byte).to_digit(base)) {
        code = code * base + digit;
        if code > LAST {
            return (u32::from(b'&'), 1);
        }
        length += 1;
    }
    (code, length + usize::from(text.get(length) == Some(&b';')))
}
