//! Bodies as they come in: buffered within their limits, read by a processor.

use super::{
    Intake,
    cause::Cause,
    state::{Ended, State},
    tx::parse_number,
};
use crate::{
    body::{BodyKind, BodyLimits, BodyReader, MultipartFlags, Parsed, over_arguments_limit},
    plan::Plan,
    ruleset::RuleSet,
    settings::{EngineMode, LimitAction, Settings},
    variable::Variable,
};
use std::sync::Arc;

/// Deepest nesting of XML elements.
const XML_DEPTH_MAX: usize = 256;
/// Most parts of a multipart body.
const PARTS_MAX: usize = 1_000;
/// Bytes of uploaded files that are kept where a rule reads FILES_TMP_CONTENT.
const FILES_CONTENT_BYTES_MAX: usize = 1 << 20;

/// A body without a length that came so far gets room for all that may come: pages that
/// nothing is written to cost nothing, and it is not copied while it grows.
const GROWS_AT_ONCE_BYTES: usize = 1 << 20;

/// A request's body as it came, as far as it was looked at. Copies share it.
#[derive(Debug, Clone, Default)]
pub struct KeptBody(Arc<Vec<u8>>);

impl AsRef<[u8]> for KeptBody {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bodies of a transaction.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) kind: Option<BodyKind>,
    /// What is wrong with the query, which is read as a form is: the body does not mend it.
    pub(super) query_error: Option<String>,
    pub(super) force_request_body: bool,
    pub(super) request_access: bool,
    pub(super) request_bytes_max: usize,
    pub(super) response_access: bool,
    pub(super) response_bytes_max: usize,
    no_files_bytes_max: usize,
    /// Bytes of the request's body that were looked at.
    request_length: usize,
    request: Vec<u8>,
    /// What `Content-Length` says, bytes.
    announced: usize,
    kept: Option<KeptBody>,
    reader: Option<BodyReader>,
    started: bool,
    cut: bool,
    /// Whether the rest of the request's body does not come.
    pub(super) broken_off: bool,
    pub(super) response_wanted: bool,
    response: Vec<u8>,
    response_cut: bool,
}

impl Body {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            kind: None,
            query_error: None,
            force_request_body: false,
            request_access: settings.request_body_access,
            request_bytes_max: settings.request_body_bytes_max,
            response_access: settings.response_body_access,
            response_bytes_max: settings.response_body_bytes_max,
            no_files_bytes_max: settings.request_body_no_files_bytes_max,
            request_length: 0,
            request: Vec::new(),
            announced: 0,
            kept: None,
            reader: None,
            started: false,
            cut: false,
            broken_off: false,
            response_wanted: false,
            response: Vec::new(),
            response_cut: false,
        }
    }

    /// Whether a rule looks at a body of this kind.
    pub(super) fn is_looked_at(&self, plan: &Plan) -> bool {
        let parsed = self.kind.is_some() && plan.uses_request_body();
        let counted = [Variable::RequestBodyLength, Variable::InboundDataError];
        parsed || self.keeps_raw(plan) || counted.iter().any(|variable| plan.uses(*variable))
    }

    /// Whether all that is taken of the body is kept as it came.
    pub(super) fn keeps_whole(&self, plan: &Plan) -> bool {
        // A multipart body may be longer by its files than what is kept of it.
        self.keeps_raw(plan) && self.taken_bytes_max() <= self.raw_bytes_max()
    }

    /// Most bytes that are taken of the request's body. Without files the smaller limit holds;
    /// a multipart reader counts for itself.
    fn taken_bytes_max(&self) -> usize {
        match self.kind {
            Some(BodyKind::Multipart) => self.request_bytes_max,
            _ => self.raw_bytes_max(),
        }
    }

    /// Most bytes that are kept of it as it came.
    fn raw_bytes_max(&self) -> usize {
        self.request_bytes_max.min(self.no_files_bytes_max)
    }

    /// Whether the body is kept as it came: for REQUEST_BODY and FULL_REQUEST.
    pub(super) fn keeps_raw(&self, plan: &Plan) -> bool {
        let read = plan.uses(Variable::RequestBody);
        let wanted = self.force_request_body || self.kind == Some(BodyKind::Urlencoded);
        let full = [Variable::FullRequest, Variable::FullRequestLength];
        (read && wanted) || full.iter().any(|variable| plan.uses(*variable))
    }
}

/// Makes room for a piece of a body of which so many bytes were announced and at most so
/// many are kept.
fn make_room(kept: &mut Vec<u8>, piece: usize, announced: usize, most: usize) {
    let length = kept.len() + piece;
    if length <= kept.capacity() {
        return;
    }
    let wanted = match (announced >= length, length > GROWS_AT_ONCE_BYTES) {
        (true, _) => announced,
        (false, true) => most,
        (false, false) => length,
    };
    match wanted > length {
        true => kept.reserve_exact(wanted - kept.len()),
        false => kept.reserve(piece),
    }
}

/// What a piece of a body may still be.
fn room(length: usize, max: usize, piece: &[u8]) -> (&[u8], bool) {
    match piece.get(..max.saturating_sub(length)) {
        Some(part) => (part, part.len() < piece.len()),
        None => (piece, false),
    }
}

impl State {
    pub(super) fn request_chunk(&mut self, set: &RuleSet, piece: &[u8]) -> Intake {
        if !self.body.request_access || self.body.cut {
            return Intake::Enough;
        }
        self.start_reader(set);
        let body = &mut self.body;
        let (taken, over) = room(body.request_length, body.taken_bytes_max(), piece);
        body.request_length += taken.len();
        if body.keeps_raw(&set.plan) {
            let most = body.raw_bytes_max();
            let (raw, _) = room(body.request.len(), most, taken);
            make_room(&mut body.request, raw.len(), body.announced.min(most), most);
            body.request.extend_from_slice(raw);
        }
        if let Some(reader) = &mut body.reader {
            reader.feed(taken);
        }
        if !over {
            return Intake::More;
        }
        body.cut = true;
        let reject = set.settings.request_body_limit_action == LimitAction::Reject;
        self.over_limit(reject, Cause::BodyTooLong)
    }

    /// A body went over its limit.
    fn over_limit(&mut self, reject: bool, cause: Cause) -> Intake {
        match reject {
            true => self.refuse(cause),
            false => Intake::Enough,
        }
    }

    /// The engine itself has something against the transaction.
    fn refuse(&mut self, cause: Cause) -> Intake {
        let verdict = cause.verdict();
        self.intended.get_or_insert(verdict.clone());
        if self.engine != EngineMode::On {
            return Intake::Enough;
        }
        self.ended = Ended::Verdict(verdict.clone());
        Intake::Refused(verdict)
    }

    fn start_reader(&mut self, set: &RuleSet) {
        if self.body.started {
            return;
        }
        self.body.started = true;
        let name = crate::target::Selector::Name(b"content-length".to_vec());
        let announced = self.store.select(Variable::RequestHeaders, &name).next();
        let announced = announced.map(|member| parse_number(self.store.values.value(member.value)));
        self.body.announced = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let Some(kind) = self.body.kind else { return };
        let name = crate::target::Selector::Name(b"content-type".to_vec());
        let found = self.store.select(Variable::RequestHeaders, &name).next();
        let content_type =
            found.map(|member| self.store.values.value(member.value).to_vec()).unwrap_or_default();
        self.body.reader =
            Some(BodyReader::new(kind, &content_type, &limits(set, self.body.no_files_bytes_max)));
    }

    /// The request's body is complete: what it held becomes variables.
    pub(super) fn finish_request(&mut self, set: &RuleSet) {
        if self.body.request_access && self.body.request_length > 0 {
            self.start_reader(set);
        }
        let cut = self.body.cut;
        let partial = cut || self.body.broken_off;
        let reader = self.body.reader.take();
        let parsed = reader.map(|reader| if partial { reader.finish_cut() } else { reader.finish() });
        if let Some(parsed) = &parsed {
            for (name, value) in &parsed.args {
                let (of, names) = (Variable::ArgsPost, Variable::ArgsPostNames);
                match name {
                    Some(name) => self.store.add_named(of, names, name, value),
                    None => self.store.add_alike(of, names, value),
                }
            }
            self.files(parsed);
        }
        let over = cut || parsed.as_ref().is_some_and(|parsed| parsed.over_no_files_limit);
        let error = parsed.as_ref().and_then(|parsed| parsed.error.clone());
        if over && let Some(true) = parsed.as_ref().map(|parsed| parsed.over_no_files_limit) {
            let reject = set.settings.request_body_limit_action == LimitAction::Reject;
            let _ = self.over_limit(reject, Cause::BodyTooLong);
        }
        // What stands behind the fault no rule sees: a rule may take that upon itself, else it does
        // not go on.
        let judged = [Variable::ReqbodyError, Variable::ReqbodyProcessorError];
        let unread =
            error.is_some() && !over && !judged.iter().any(|variable| set.plan.judges.tells(*variable));
        let doubtful = self.body.request_length > 0 && self.is_doubtful(set, parsed.as_ref());
        if (unread || doubtful) && self.ended == Ended::No {
            let _ = self.refuse(if unread { Cause::BodyUnreadable } else { Cause::BodyAmbiguous });
        }
        let flag = |set: bool| if set { b"1".as_slice() } else { b"0" };
        let any_error = error.as_ref().or(self.body.query_error.as_ref());
        let store = &mut self.store;
        store.set(Variable::ReqbodyError, flag(any_error.is_some()));
        store.set(Variable::ReqbodyProcessorError, flag(error.is_some()));
        if let Some(error) = any_error {
            store.set(Variable::ReqbodyErrorMsg, error.as_bytes());
        }
        if let Some(error) = &error {
            store.set(Variable::ReqbodyProcessorErrorMsg, error.as_bytes());
        }
        store.set(Variable::InboundDataError, flag(over));
        if parsed.as_ref().is_some_and(|parsed| parsed.urlencoded_error) {
            store.set(Variable::UrlencodedError, b"1");
        }
        let empty = MultipartFlags::default();
        self.multipart(parsed.as_ref().map_or(&empty, |parsed| &parsed.multipart));
        self.raw(set);
        self.decode_path();
        self.combined_size();
        self.store.changed();
    }

    fn raw(&mut self, set: &RuleSet) {
        let body = std::mem::take(&mut self.body.request);
        let length = self.body.request_length.to_string();
        self.store.set(Variable::RequestBodyLength, length.as_bytes());
        if self.body.keeps_raw(&set.plan) {
            if set.plan.uses(Variable::FullRequest) || set.plan.uses(Variable::FullRequestLength) {
                self.full_request(&body);
            }
            let wanted = self.body.force_request_body || self.body.kind == Some(BodyKind::Urlencoded);
            let body = KeptBody(Arc::new(body));
            if wanted && (self.body.request_length > 0 || self.body.kind.is_some()) {
                self.store.set_shared(Variable::RequestBody, &body);
            }
            self.body.kept = Some(body);
        }
    }

    /// The body as it was kept for the rules; once it is over.
    pub(super) fn kept_request(&self) -> Option<&KeptBody> {
        self.body.kept.as_ref()
    }

    /// The size of all arguments, names and values.
    pub(super) fn combined_size(&mut self) {
        let mut size = 0;
        for part in [Variable::ArgsGet, Variable::ArgsPost] {
            for member in self.store.members(part) {
                size +=
                    self.store.values.get(member.name).len() + self.store.values.value(member.value).len();
            }
        }
        self.store.set(Variable::ArgsCombinedSize, size.to_string().as_bytes());
    }

    fn files(&mut self, parsed: &Parsed) {
        let store = &mut self.store;
        let mut combined = 0;
        for file in &parsed.files {
            combined += file.size;
            store.add(Variable::Files, &file.name, &file.filename);
            if let Some(filename) = &file.filename_besides {
                store.add(Variable::Files, &file.name, filename);
            }
            store.add(Variable::FilesNames, &file.name, &file.name);
            store.add(Variable::FilesSizes, &file.name, file.size.to_string().as_bytes());
            if !file.content.is_empty() {
                store.add(Variable::FilesTmpContent, &file.name, &file.content);
            }
        }
        store.set(Variable::FilesCombinedSize, combined.to_string().as_bytes());
        for (name, line) in &parsed.part_headers {
            store.add_to(Variable::MultipartPartHeaders, name.as_deref(), line);
        }
        if self.body.kind == Some(BodyKind::Xml) {
            store.add(Variable::Xml, b"/*", &parsed.xml_text);
            for value in &parsed.xml_attributes {
                store.add(Variable::Xml, b"//@*", value);
            }
        }
    }

    fn multipart(&mut self, flags: &MultipartFlags) {
        for (variable, set) in multipart_flags(flags) {
            self.store.set(variable, set.to_string().as_bytes());
        }
        if flags.seen {
            self.store.set(Variable::MultipartName, &flags.name);
            self.store.set(Variable::MultipartFilename, &flags.filename);
            if let Some(filename) = &flags.filename_besides {
                self.store.add(Variable::MultipartFilename, b"", filename);
            }
        }
    }

    pub(super) fn response_chunk(&mut self, set: &RuleSet, piece: &[u8]) -> Intake {
        if !self.body.response_wanted || self.body.response_cut {
            return Intake::Enough;
        }
        let (taken, over) = room(self.body.response.len(), self.body.response_bytes_max, piece);
        self.body.response.extend_from_slice(taken);
        if !over {
            return Intake::More;
        }
        self.body.response_cut = true;
        self.over_limit(
            set.settings.response_body_limit_action == LimitAction::Reject,
            Cause::ResponseTooLong,
        )
    }

    /// The response's body is complete.
    pub(super) fn finish_response(&mut self) {
        self.store.set(Variable::OutboundDataError, if self.body.response_cut { b"1" } else { b"0" });
        if self.body.response_wanted {
            let body = std::mem::take(&mut self.body.response);
            self.store.set(Variable::ResponseBody, &body);
        }
        self.store.changed();
    }
}

/// The variables that are 0 where nothing is to be said.
pub(super) fn multipart_flags(flags: &MultipartFlags) -> [(Variable, u8); 14] {
    use Variable as V;
    [
        (V::MultipartBoundaryQuoted, u8::from(flags.boundary_quoted)),
        (V::MultipartBoundaryWhitespace, u8::from(flags.boundary_whitespace)),
        (V::MultipartDataBefore, u8::from(flags.data_before)),
        (V::MultipartDataAfter, u8::from(flags.data_after)),
        (V::MultipartHeaderFolding, u8::from(flags.header_folding)),
        (V::MultipartInvalidHeaderFolding, u8::from(flags.invalid_header_folding)),
        (V::MultipartLfLine, u8::from(flags.lf)),
        (V::MultipartCrlfLfLines, u8::from(flags.crlf_lf_lines())),
        (V::MultipartMissingSemicolon, u8::from(flags.missing_semicolon)),
        (V::MultipartInvalidQuoting, u8::from(flags.invalid_quoting)),
        (V::MultipartInvalidPart, u8::from(flags.invalid_part)),
        (V::MultipartUnmatchedBoundary, flags.unmatched()),
        (V::MultipartFileLimitExceeded, u8::from(flags.file_limit_exceeded)),
        (V::MultipartStrictError, u8::from(flags.strict_error())),
    ]
}

fn limits(set: &RuleSet, no_files_bytes_max: usize) -> BodyLimits {
    let settings = &set.settings;
    let keeps_files = set.plan.uses(Variable::FilesTmpContent);
    BodyLimits {
        no_files_bytes_max: no_files_bytes_max as u64,
        arguments_max: settings.arguments_max,
        json_depth_max: settings.json_depth_max,
        xml_depth_max: XML_DEPTH_MAX,
        files_max: settings.files_max,
        parts_max: PARTS_MAX,
        keeps_part_headers: set.plan.uses(Variable::MultipartPartHeaders),
        files_content_bytes_max: if keeps_files { FILES_CONTENT_BYTES_MAX } else { 0 },
        separator: settings.argument_separator,
    }
}

/// Arguments of a query, read as a form is. More of them than are allowed are an error, but
/// all are read: the target has a limit of its own, and no rule need look for the error.
pub(super) fn query(set: &RuleSet, query: &[u8]) -> Parsed {
    let limits = BodyLimits { arguments_max: usize::MAX, ..limits(set, query.len()) };
    let mut reader = BodyReader::new(BodyKind::Urlencoded, b"", &limits);
    reader.feed(query);
    let mut parsed = reader.finish();
    let arguments_max = set.settings.arguments_max;
    if parsed.args.len() > arguments_max {
        parsed.error = Some(over_arguments_limit(arguments_max));
    }
    parsed
}
