//! What a rule file's `Sec…` directives set for every transaction.

/// `SecRuleEngine`: whether rules run and whether they may interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineMode {
    /// No rule runs.
    Off,
    /// Rules run and are recorded; the verdict is always to pass.
    DetectionOnly,
    /// Rules run and block.
    On,
}

/// What happens to a body over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitAction {
    /// The transaction is refused.
    Reject,
    /// What fitted is inspected, the rest passes unseen.
    ProcessPartial,
}

/// The settings of a rule set, all from its directives; defaults as ModSecurity 2.9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SecRuleEngine`.
    pub engine: EngineMode,
    /// `SecRequestBodyAccess`: whether request bodies are buffered and parsed.
    pub request_body_access: bool,
    /// `SecRequestBodyLimit`, bytes: the largest request body that is buffered.
    pub request_body_bytes_max: usize,
    /// `SecRequestBodyNoFilesLimit`, bytes: the largest request body without files.
    pub request_body_no_files_bytes_max: usize,
    /// `SecRequestBodyLimitAction`.
    pub request_body_limit_action: LimitAction,
    /// `SecRequestBodyJsonDepthLimit`: deepest nesting of arrays and objects.
    pub json_depth_max: usize,
    /// `SecArgumentsLimit`: most arguments of one request.
    pub arguments_max: usize,
    /// `SecUploadFileLimit`: most files of one multipart body.
    pub files_max: usize,
    /// `SecArgumentSeparator`: between `name=value` pairs.
    pub argument_separator: u8,
    /// `SecCookieFormat`: 1 for RFC 2965 (`$Version`), otherwise Netscape cookies.
    pub cookie_format: u8,
    /// `SecCookieV0Separator`.
    pub cookie_separator: u8,
    /// `SecResponseBodyAccess`: whether response bodies are buffered.
    pub response_body_access: bool,
    /// `SecResponseBodyLimit`, bytes.
    pub response_body_bytes_max: usize,
    /// `SecResponseBodyLimitAction`.
    pub response_body_limit_action: LimitAction,
    /// `SecResponseBodyMimeType`, lower case; `(null)` stands for no Content-Type.
    pub response_body_types: Vec<String>,
    /// `SecWebAppId`.
    pub web_app_id: String,
    /// `SecSensorId`.
    pub sensor_id: String,
    /// `SecCollectionTimeout`, seconds.
    pub collection_timeout_s: u64,
    /// `SecComponentSignature`s, in order.
    pub component_signatures: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineMode::Off,
            request_body_access: false,
            request_body_bytes_max: 134_217_728,
            request_body_no_files_bytes_max: 1_048_576,
            request_body_limit_action: LimitAction::Reject,
            json_depth_max: 10_000,
            arguments_max: 1_000,
            files_max: 100,
            argument_separator: b'&',
            cookie_format: 0,
            cookie_separator: b';',
            response_body_access: false,
            response_body_bytes_max: 524_288,
            response_body_limit_action: LimitAction::Reject,
            response_body_types: vec!["text/plain".to_owned(), "text/html".to_owned()],
            web_app_id: "default".to_owned(),
            sensor_id: String::new(),
            collection_timeout_s: 3_600,
            component_signatures: Vec::new(),
        }
    }
}
