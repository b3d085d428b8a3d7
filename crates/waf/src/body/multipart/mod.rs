//! `multipart/form-data` (RFC 7578), read line by line and strictly: whatever two
//! readers could read differently raises a flag that rules can ask for, and what no
//! reader should accept ends the reading with an error. Flags and errors are those of
//! ModSecurity 2.9.

mod boundary;
mod disposition;
mod head;

use super::{BodyLimits, FilePart, Parsed, charset, over_arguments_limit, over_no_files_limit};
use boundary::Boundary;
use head::Header;

/// A longer line is taken in pieces, and is an error in a part's header, bytes.
const LINE_BYTES_MAX: usize = 4096;
/// Header lines of one part.
const PART_HEADERS_MAX: usize = 64;

/// The `MULTIPART_…` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MultipartFlags {
    /// Whether a multipart body was read at all.
    pub(crate) seen: bool,
    /// An error ended the reading.
    pub(crate) error: bool,
    /// `MULTIPART_BOUNDARY_QUOTED`
    pub(crate) boundary_quoted: bool,
    /// `MULTIPART_BOUNDARY_WHITESPACE`
    pub(crate) boundary_whitespace: bool,
    /// `MULTIPART_DATA_BEFORE`
    pub(crate) data_before: bool,
    /// `MULTIPART_DATA_AFTER`
    pub(crate) data_after: bool,
    /// `MULTIPART_HEADER_FOLDING`
    pub(crate) header_folding: bool,
    /// `MULTIPART_INVALID_HEADER_FOLDING`
    pub(crate) invalid_header_folding: bool,
    /// Lines that end with LF alone.
    pub(crate) lf: bool,
    /// Lines that end with CRLF.
    pub(crate) crlf: bool,
    /// `MULTIPART_MISSING_SEMICOLON`
    pub(crate) missing_semicolon: bool,
    /// `MULTIPART_INVALID_QUOTING`
    pub(crate) invalid_quoting: bool,
    /// `MULTIPART_INVALID_PART`
    pub(crate) invalid_part: bool,
    /// A line begins as boundaries do, or holds this one.
    pub(crate) unmatched_boundary: bool,
    /// The boundary stands where it is none, or what some reader could take for it.
    pub(crate) boundary_within: bool,
    /// A field's text is said to be in a character set in which it was not read.
    pub(crate) foreign_charset: bool,
    /// A field's text is said to be in a transfer encoding in which it was not read.
    pub(crate) foreign_encoding: bool,
    /// `MULTIPART_FILE_LIMIT_EXCEEDED`
    pub(crate) file_limit_exceeded: bool,
    /// `MULTIPART_NAME`: the last part's name.
    pub(crate) name: Vec<u8>,
    /// `MULTIPART_FILENAME`: the last file's name.
    pub(crate) filename: Vec<u8>,
    /// Its other name, where it has two.
    pub(crate) filename_besides: Option<Vec<u8>>,
}

impl MultipartFlags {
    /// `MULTIPART_STRICT_ERROR`: whether any of the flags that it stands for is up.
    pub(crate) fn strict_error(&self) -> bool {
        self.error
            || self.boundary_quoted
            || self.boundary_whitespace
            || self.data_before
            || self.data_after
            || self.header_folding
            || self.lf
            || self.missing_semicolon
            || self.invalid_quoting
            || self.invalid_part
            || self.invalid_header_folding
            || self.file_limit_exceeded
    }

    /// `MULTIPART_UNMATCHED_BOUNDARY`, as libmodsecurity has it since 3.0.3: 1 where readers could
    /// find other parts than these; 2 where all boundaries are there, and lines besides begin with
    /// two dashes, as in keys (PEM), differences of files and signatures of mails.
    pub(crate) fn unmatched(&self) -> u8 {
        match (self.boundary_within, self.unmatched_boundary) {
            (true, _) => 1,
            (false, true) if self.error => 1,
            (false, true) => 2,
            (false, false) => 0,
        }
    }

    /// `MULTIPART_CRLF_LF_LINES`: both kinds of line end were met.
    pub(crate) fn crlf_lf_lines(&self) -> bool {
        self.lf && self.crlf
    }
}

/// Why reading ended; the text is `REQBODY_ERROR_MSG`.
type Fault = String;

/// Reads a multipart body.
#[derive(Debug)]
pub(crate) struct Multipart {
    parsed: Parsed,
    boundary: Boundary,
    /// The line, or the piece of a long one, that is being read.
    line: Vec<u8>,
    /// Whether that begins where a line begins.
    at_line_start: bool,
    /// The end of the pieces before it, as far as a boundary may reach back.
    tail: Vec<u8>,
    part: Option<Part>,
    boundaries: usize,
    /// Bytes before the first one.
    bytes_before: usize,
    complete: bool,
    seen_data: bool,
    /// Bytes besides the contents of files.
    bytes: u64,
    parts: usize,
    files: usize,
    files_content_left: usize,
    limits: BodyLimits,
}

/// A part that is being read.
#[derive(Debug, Default)]
struct Part {
    headers: Vec<Header>,
    in_body: bool,
    data_read: bool,
    name: Option<Vec<u8>>,
    filename: Option<Vec<u8>>,
    /// Its other name, where it has two.
    filename_besides: Option<Vec<u8>>,
    /// Whether its content is an argument: without a file's name it is, and with one that is no
    /// name it is one besides a file, since readers differ on that.
    is_field: bool,
    value: Vec<u8>,
    size: u64,
    content: Vec<u8>,
    /// A line end that belongs to the content unless a boundary follows.
    reserve: &'static [u8],
}

impl Multipart {
    /// The content type carries the boundary.
    pub(super) fn new(content_type: &[u8], limits: &BodyLimits) -> Self {
        let mut parsed = Parsed::default();
        parsed.multipart.seen = true;
        let boundary = match Boundary::read(content_type, &mut parsed.multipart) {
            Ok(boundary) => boundary,
            Err(fault) => {
                parsed.multipart.error = true;
                parsed.error = Some(said(fault));
                Boundary::default()
            }
        };
        Self {
            parsed,
            boundary,
            line: Vec::new(),
            at_line_start: true,
            tail: Vec::new(),
            part: None,
            boundaries: 0,
            bytes_before: 0,
            complete: false,
            seen_data: false,
            bytes: 0,
            parts: 0,
            files: 0,
            files_content_left: limits.files_content_bytes_max,
            limits: limits.clone(),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        self.seen_data |= !rest.is_empty();
        while !rest.is_empty() && self.parsed.error.is_none() {
            if self.complete {
                // Some clients end with an empty line more, in which nobody finds a part.
                let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
                self.parsed.multipart.data_after |= !rest.iter().all(is_blank);
                return;
            }
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len()).max(1);
            let window = rest.get(..room).unwrap_or(rest);
            let end = memchr::memchr(b'\n', window);
            let (taken, after) = rest.split_at(end.map_or(window.len(), |end| end + 1));
            self.line.extend_from_slice(taken);
            rest = after;
            if end.is_none() && self.line.len() < LINE_BYTES_MAX {
                return;
            }
            let mut line = std::mem::take(&mut self.line);
            // A piece never ends with a CR whose LF may follow.
            let held = (end.is_none() && line.last() == Some(&b'\r')).then(|| line.pop()).flatten();
            let whole = end.is_some();
            if let Err(fault) = self.line(&line, whole) {
                self.parsed.multipart.error = true;
                self.parsed.error = Some(said(&fault));
            }
            line.clear();
            line.extend(held);
            self.line = line;
            self.at_line_start = whole;
        }
    }

    pub(super) fn finish(mut self, cut: bool) -> Parsed {
        if self.parsed.error.is_none()
            && self.seen_data
            && !self.complete
            && let Err(fault) = self.end(cut)
        {
            self.parsed.multipart.error = true;
            self.parsed.error = Some(said(&fault));
        }
        // What was sent is shown to the rules, even when it was not sent whole.
        if let Some(part) = self.part.take()
            && part.name.is_some()
        {
            self.keep(part);
        }
        self.parsed
    }

    /// The body ended within the line that is being read, or before its last boundary.
    fn end(&mut self, cut: bool) -> Result<(), Fault> {
        let line = std::mem::take(&mut self.line);
        if self.boundaries == 0 && !cut {
            return Err("Multipart: No boundaries found in payload.".to_owned());
        }
        if self.at_line_start && self.boundary.is_final_without_line_end(&line) {
            self.at_boundary(true)?;
            self.complete = true;
            return Ok(());
        }
        if !line.is_empty() && self.part.as_ref().is_some_and(|part| part.in_body) {
            self.data(&line)?;
        }
        if cut { Ok(()) } else { Err("Multipart: Final boundary missing.".to_owned()) }
    }

    /// One line with its end, or a piece of a long one.
    fn line(&mut self, line: &[u8], whole: bool) -> Result<(), Fault> {
        if self.at_line_start {
            match self.boundary.look(line, &mut self.parsed.multipart)? {
                boundary::Look::Boundary { is_final } => {
                    self.at_boundary(is_final)?;
                    self.complete = is_final;
                    self.boundaries += 1;
                    return Ok(());
                }
                boundary::Look::Unmatched => self.parsed.multipart.unmatched_boundary = true,
                boundary::Look::Other => {}
            }
        }
        self.between_pieces(line, whole);
        match &self.part {
            None => {
                // Some clients write the line end that a boundary begins with before the first one too.
                let is_line_end = self.bytes_before == 0 && line == b"\r\n";
                self.bytes_before += line.len();
                self.parsed.multipart.data_before |= !is_line_end;
                Ok(())
            }
            Some(part) if part.in_body => self.data(line),
            Some(_) if whole => self.header(line),
            Some(_) => Err(format!("Multipart: Part header line over {LINE_BYTES_MAX} bytes long")),
        }
    }

    /// A line in pieces may hold the boundary in a later one, or across two.
    fn between_pieces(&mut self, piece: &[u8], whole: bool) {
        if !self.at_line_start {
            self.tail.extend_from_slice(piece);
            let within = self.boundary.is_within(&self.tail, &mut self.parsed.multipart);
            self.parsed.multipart.unmatched_boundary |= within;
            self.tail.clear();
        }
        if !whole {
            let kept = piece.len().saturating_sub(self.boundary.reach());
            self.tail.extend_from_slice(piece.get(kept..).unwrap_or_default());
        }
    }

    /// Ends the part before a boundary, and begins the next one.
    fn at_boundary(&mut self, is_final: bool) -> Result<(), Fault> {
        if let Some(part) = self.part.take() {
            // Many readers look for the boundary with CRLF before it.
            self.parsed.multipart.lf |= part.reserve == b"\n";
            if part.name.is_none() || !part.data_read {
                // Headers without an end, or content without the line end that a
                // boundary begins with: readers differ on both.
                self.parsed.multipart.invalid_part = true;
            }
            if part.name.is_some() {
                self.keep(part);
                self.arguments()?;
            }
        }
        if !is_final {
            self.parts += 1;
            if self.parts > self.limits.parts_max {
                return Err(format!("Multipart: More than {} parts.", self.limits.parts_max));
            }
            self.part = Some(Part::default());
        }
        Ok(())
    }

    fn arguments(&self) -> Result<(), Fault> {
        let most = self.limits.arguments_max;
        if self.parsed.args.len() > most { Err(over_arguments_limit(most)) } else { Ok(()) }
    }

    /// A part is over.
    fn keep(&mut self, part: Part) {
        let name = part.name.unwrap_or_default();
        if self.limits.keeps_part_headers {
            let mut own = Some(name.clone());
            let headers = part.headers.into_iter().map(|header| (own.take(), header.line));
            self.parsed.part_headers.extend(headers);
        }
        if let Some(filename) = part.filename {
            self.parsed.files.push(FilePart {
                name: name.clone(),
                filename,
                filename_besides: part.filename_besides,
                size: part.size,
                content: part.content,
            });
        }
        if part.is_field {
            // The field that says in which set the others are (HTML, "form submission").
            let says = name.eq_ignore_ascii_case(b"_charset_");
            self.parsed.multipart.foreign_charset |= says && !charset::is_read(part.value.trim_ascii());
            self.parsed.args.push((Some(name), part.value));
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.bytes > self.limits.no_files_bytes_max {
            self.parsed.over_no_files_limit = true;
            return Err(over_no_files_limit(self.limits.no_files_bytes_max));
        }
        Ok(())
    }

    /// A piece of a part's content.
    fn data(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.data_read = true;
        let end: &'static [u8] = if piece.ends_with(b"\r\n") {
            b"\r\n"
        } else if piece.ends_with(b"\n") {
            b"\n"
        } else {
            b""
        };
        let piece = piece.strip_suffix(end).unwrap_or(piece);
        let before = std::mem::replace(&mut part.reserve, end);
        let length = before.len() + piece.len();
        if part.filename.is_some() {
            part.size += length as u64;
            for bytes in [before, piece] {
                let taken = bytes.get(..self.files_content_left).unwrap_or(bytes);
                part.content.extend_from_slice(taken);
                self.files_content_left -= taken.len();
            }
        }
        let counted = if part.is_field { self.count(length) } else { Ok(()) };
        if part.is_field && counted.is_ok() {
            part.value.extend_from_slice(before);
            part.value.extend_from_slice(piece);
        }
        self.part = Some(part);
        counted
    }

    /// A line of a part's header, line end included.
    fn header(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.count(line.len())?;
        if line.contains(&0) {
            return Err("Multipart: Nul byte in part headers.".to_owned());
        }
        let Some(mut part) = self.part.take() else { return Ok(()) };
        let done = self.header_of(&mut part, line);
        self.part = Some(part);
        done
    }

    fn header_of(&mut self, part: &mut Part, line: &[u8]) -> Result<(), Fault> {
        let flags = &mut self.parsed.multipart;
        let text = match line.strip_suffix(b"\r\n") {
            Some(text) => {
                flags.crlf = true;
                text
            }
            None => {
                flags.lf = true;
                line.strip_suffix(b"\n").unwrap_or(line)
            }
        };
        if text.is_empty() {
            return self.end_of_headers(part);
        }
        if boundary::is_space(text.first()) {
            return fold(flags, part, text);
        }
        let colon = memchr::memchr(b':', text).ok_or_else(|| {
            format!("Multipart: Invalid part header (colon missing): {}.", String::from_utf8_lossy(text))
        })?;
        if colon == 0 {
            return Err("Multipart: Invalid part header (header name missing).".to_owned());
        }
        let (name, value) = text.split_at(colon);
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err("Multipart: Invalid part header (contains invalid character).".to_owned());
        }
        let value = value.get(1..).unwrap_or_default();
        check_value(value)?;
        let blank = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if part.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
            return Err(format!("Multipart: Duplicate part header: {}.", String::from_utf8_lossy(name)));
        }
        if part.headers.len() >= PART_HEADERS_MAX {
            return Err(format!("Multipart: More than {PART_HEADERS_MAX} headers of one part."));
        }
        part.headers.push(Header {
            name: name.to_vec(),
            value: value.get(blank..).unwrap_or_default().to_vec(),
            line: text.to_vec(),
        });
        Ok(())
    }

    fn end_of_headers(&mut self, part: &mut Part) -> Result<(), Fault> {
        let disposition = part
            .headers
            .iter()
            .find(|header| header.is_disposition())
            .ok_or_else(|| "Multipart: Part missing Content-Disposition header.".to_owned())?;
        let flags = &mut self.parsed.multipart;
        let said = disposition::read(&disposition.value, &mut flags.invalid_quoting).map_err(|code| {
            format!(
                "Multipart: Invalid Content-Disposition header ({code}): {}.",
                String::from_utf8_lossy(&disposition.value)
            )
        })?;
        let name = said
            .name
            .ok_or_else(|| "Multipart: Content-Disposition header missing name field.".to_owned())?;
        flags.name.clone_from(&name);
        // A crude reader looks for this very text.
        if said.filename.is_some() && memchr::memmem::find(&disposition.value, b"filename=").is_none() {
            return Err("Multipart: Invalid Content-Disposition header (filename).".to_owned());
        }
        // To those who do not know the other name a part that has no more is a field.
        let is_plain = said.filename.is_some();
        let mut names = said.filename.into_iter().chain(said.filename_extended);
        (part.filename, part.filename_besides) = (names.next(), names.next());
        part.filename_besides.take_if(|besides| Some(&*besides) == part.filename.as_ref());
        if let Some(filename) = &part.filename {
            flags.filename.clone_from(filename);
            flags.filename_besides.clone_from(&part.filename_besides);
            self.files += 1;
            flags.file_limit_exceeded |= self.files > self.limits.files_max;
        }
        part.name = Some(name);
        let mut names = part.filename.iter().chain(&part.filename_besides);
        part.is_field = !is_plain
            || said.is_doubtful
            || part.headers.iter().any(|header| header.hides_the_file() || header.misleads())
            || names.any(|name| disposition::names_no_file(name))
            || disposition::is_overlooked(&disposition.value);
        flags.foreign_charset |= part.is_field && part.headers.iter().any(Header::is_in_foreign_charset);
        flags.foreign_encoding |= part.is_field && part.headers.iter().any(Header::is_encoded);
        flags.invalid_part |= part.headers.iter().any(Header::misleads);
        part.in_body = true;
        Ok(())
    }
}

/// How rules and log are told.
fn said(fault: &str) -> String {
    format!("Multipart parsing error: {fault}")
}

/// To some readers a CR alone ends a header line, and two of them all headers (Werkzeug): what
/// stands behind it they do not read as we do. Other control characters are none's either
/// (RFC 9110 §5.5).
fn check_value(text: &[u8]) -> Result<(), Fault> {
    match text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        true => Err("Multipart: Invalid part header (control character).".to_owned()),
        false => Ok(()),
    }
}

/// A line that continues the header line before it.
fn fold(flags: &mut MultipartFlags, part: &mut Part, text: &[u8]) -> Result<(), Fault> {
    flags.header_folding = true;
    let blank = text.iter().take_while(|byte| boundary::is_space(Some(byte))).count();
    let (space, text) = text.split_at(blank);
    flags.invalid_header_folding |= space.iter().any(|byte| !matches!(byte, b' ' | b'\t'));
    check_value(text)?;
    let Some(header) = part.headers.last_mut() else {
        return Err("Multipart: Invalid part header (folding error).".to_owned());
    };
    for place in [&mut header.value, &mut header.line] {
        place.push(b' ');
        place.extend_from_slice(text);
    }
    if header.line.len() > LINE_BYTES_MAX {
        return Err("Multipart: Part header too long.".to_owned());
    }
    Ok(())
}
