//! Request bodies as the rules see them: read piece by piece, each limit held while
//! reading.
//!
//! The way through it: [`BodyKind::from_name`] says which processor; [`BodyReader::feed`]
//! takes the body as it arrives; [`BodyReader::finish`] gives what was found, or how far
//! it came and the error that ended it. A reader that has met an error or a limit takes
//! no more: it costs nothing from then on.
//!
//! What it must never do: keep more than its limits say, read anything outside of the
//! body, take a body for well formed that another reader could read differently and
//! say nothing of it.

pub(crate) mod charset;
pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod urlencoded;
pub(crate) mod xml;

pub(crate) use multipart::MultipartFlags;

/// Which processor reads a body (`ctl:requestBodyProcessor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BodyKind {
    /// `application/x-www-form-urlencoded`
    Urlencoded,
    /// `multipart/form-data` (RFC 7578)
    Multipart,
    /// JSON (RFC 8259)
    Json,
    /// XML 1.0
    Xml,
}

impl BodyKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Urlencoded, Self::Multipart, Self::Json, Self::Xml];

    /// The name that rules use: `REQBODY_PROCESSOR`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Urlencoded => "URLENCODED",
            Self::Multipart => "MULTIPART",
            Self::Json => "JSON",
            Self::Xml => "XML",
        }
    }

    /// The processor of this name, in any case.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The processor that a content type asks for without any rule: forms of both kinds.
    /// JSON and XML are asked for by rules (`ctl:requestBodyProcessor`).
    pub(crate) fn from_content_type(value: &[u8]) -> Option<Self> {
        let starts = |with: &[u8]| value.get(..with.len()).is_some_and(|v| v.eq_ignore_ascii_case(with));
        if starts(b"application/x-www-form-urlencoded") {
            Some(Self::Urlencoded)
        } else if starts(b"multipart/form-data") {
            Some(Self::Multipart)
        } else {
            None
        }
    }
}

/// How much of a body is read. Each is held while reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyLimits {
    /// Bytes besides the contents of files (`SecRequestBodyNoFilesLimit`).
    pub(crate) no_files_bytes_max: u64,
    /// Arguments (`SecArgumentsLimit`).
    pub(crate) arguments_max: usize,
    /// Nesting of JSON (`SecRequestBodyJsonDepthLimit`).
    pub(crate) json_depth_max: usize,
    /// Nesting of XML elements.
    pub(crate) xml_depth_max: usize,
    /// Files in one multipart body (`SecUploadFileLimit`).
    pub(crate) files_max: usize,
    /// Parts of one multipart body, files included.
    pub(crate) parts_max: usize,
    /// Whether the headers of parts are kept for `MULTIPART_PART_HEADERS`.
    pub(crate) keeps_part_headers: bool,
    /// Bytes of files that are kept for `FILES_TMP_CONTENT`; 0 when no rule reads it.
    pub(crate) files_content_bytes_max: usize,
    /// What stands between arguments (`SecArgumentSeparator`).
    pub(crate) separator: u8,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            no_files_bytes_max: 131_072,
            arguments_max: 1_000,
            json_depth_max: 512,
            xml_depth_max: 256,
            files_max: 100,
            parts_max: 1_000,
            keeps_part_headers: true,
            files_content_bytes_max: 0,
            separator: b'&',
        }
    }
}

/// A file of a multipart body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePart {
    /// The name of its part.
    pub(crate) name: Vec<u8>,
    /// The name of the file.
    pub(crate) filename: Vec<u8>,
    /// Its other name, where it has two: readers take either.
    pub(crate) filename_besides: Option<Vec<u8>>,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its beginning, as far as [`BodyLimits::files_content_bytes_max`] reaches.
    pub(crate) content: Vec<u8>,
}

/// What a body held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Arguments in their order: name, value. One without a name of its own has that of the
    /// argument before it, which is kept once.
    pub(crate) args: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    /// Files in their order.
    pub(crate) files: Vec<FilePart>,
    /// Each header line of each part, with the part's name, which is kept once:
    /// `MULTIPART_PART_HEADERS`.
    pub(crate) part_headers: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    /// All `MULTIPART_…` flags.
    pub(crate) multipart: MultipartFlags,
    /// `XML:/*`: all text of the document, in its order.
    pub(crate) xml_text: Vec<u8>,
    /// `XML://@*`: the value of each attribute.
    pub(crate) xml_attributes: Vec<Vec<u8>>,
    /// Whether a percent-encoding was broken (`URLENCODED_ERROR`).
    pub(crate) urlencoded_error: bool,
    /// Why reading ended early (`REQBODY_ERROR_MSG`).
    pub(crate) error: Option<String>,
    /// Whether that was [`BodyLimits::no_files_bytes_max`].
    pub(crate) over_no_files_limit: bool,
}

/// Reads one body.
#[derive(Debug)]
pub(crate) struct BodyReader {
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Urlencoded(Box<urlencoded::Urlencoded>),
    Multipart(Box<multipart::Multipart>),
    Json(Box<json::Json>),
    Xml(Box<xml::Xml>),
}

impl BodyReader {
    /// For a body of this kind. The content type carries a multipart body's boundary.
    pub(crate) fn new(kind: BodyKind, content_type: &[u8], limits: &BodyLimits) -> Self {
        let reader = match kind {
            BodyKind::Urlencoded => Reader::Urlencoded(Box::new(urlencoded::Urlencoded::new(limits))),
            BodyKind::Multipart => {
                Reader::Multipart(Box::new(multipart::Multipart::new(content_type, limits)))
            }
            BodyKind::Json => Reader::Json(Box::new(json::Json::new(limits))),
            BodyKind::Xml => Reader::Xml(Box::new(xml::Xml::new(limits))),
        };
        Self { reader }
    }

    /// Reads the next piece. After an error nothing is read any more.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        match &mut self.reader {
            Reader::Urlencoded(reader) => reader.feed(bytes),
            Reader::Multipart(reader) => reader.feed(bytes),
            Reader::Json(reader) => reader.feed(bytes),
            Reader::Xml(reader) => reader.feed(bytes),
        }
    }

    /// The body is over.
    pub(crate) fn finish(self) -> Parsed {
        self.end(false)
    }

    /// The body goes on, but no more of it is inspected (`ProcessPartial`): that its end
    /// is missing is no error.
    pub(crate) fn finish_cut(self) -> Parsed {
        self.end(true)
    }

    fn end(self, cut: bool) -> Parsed {
        match self.reader {
            Reader::Urlencoded(reader) => reader.finish(),
            Reader::Multipart(reader) => reader.finish(cut),
            Reader::Json(reader) => reader.finish(cut),
            Reader::Xml(reader) => reader.finish(cut),
        }
    }
}

/// The text of the error for a body over [`BodyLimits::no_files_bytes_max`].
fn over_no_files_limit(limit: u64) -> String {
    format!("Request body no files data length is larger than the configured limit ({limit}).")
}

/// The text of the error for more arguments than [`BodyLimits::arguments_max`].
pub(crate) fn over_arguments_limit(limit: usize) -> String {
    format!("SecArgumentsLimit exceeded: more than {limit} arguments.")
}

/// What the fuzzer calls: the first byte chooses the processor and how the rest is cut
/// into pieces. Must never panic, and pieces must not change what comes out.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some((&first, body)) = bytes.split_first() else { return };
    let Some(&kind) = BodyKind::ALL.get(usize::from(first & 3)) else { return };
    let limits = BodyLimits {
        no_files_bytes_max: 4096,
        arguments_max: 16,
        json_depth_max: 8,
        xml_depth_max: 8,
        files_max: 2,
        parts_max: 8,
        keeps_part_headers: first & 0x80 == 0,
        files_content_bytes_max: 64,
        separator: b'&',
    };
    let content_type = b"multipart/form-data; boundary=xyz";
    let read = |step: usize| {
        let mut reader = BodyReader::new(kind, content_type, &limits);
        for piece in body.chunks(step.max(1)) {
            reader.feed(piece);
        }
        reader.finish()
    };
    let whole = read(body.len());
    let pieces = read(usize::from(first >> 2) + 1);
    assert_eq!(whole, pieces, "the cut into pieces changed what was read");
    assert!(whole.args.len() <= limits.arguments_max, "more arguments than the limit");
}

#[cfg(test)]
mod tests;
