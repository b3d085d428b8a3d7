//! What the fuzzers call: parts of the engine that read bytes from outside. None may panic.

use crate::operator::{Found, Operator};
use crate::sources::{SourceFault, Sources};
use crate::transform::Transformation;
use crate::{
    Budget, Connection, Match, Memory, MemoryLimits, Options, RequestHead, ResponseHead, RuleSet,
    Transaction, Verdict,
};
use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

/// No files.
struct Nowhere;

impl Sources for Nowhere {
    fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
        Err(SourceFault("there are no files".to_owned()))
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// Every transformation of a value, and pairs of them.
pub fn transformations(value: &[u8]) {
    for name in Transformation::names() {
        let Some(first) = Transformation::from_name(name) else { continue };
        let once = first.apply(Cow::Borrowed(value));
        for second in ["urlDecodeUni", "htmlEntityDecode", "jsDecode", "cssDecode", "normalisePathWin"] {
            if let Some(second) = Transformation::from_name(second) {
                let _ = second.apply(Cow::Borrowed(&once));
            }
        }
    }
}

/// An operator by its number (the first byte), an argument and a value, NUL between them.
pub fn operators(data: &[u8]) {
    let Some((&number, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |&byte| byte == 0);
    let (Some(argument), Some(value)) = (parts.next(), parts.next()) else { return };
    let Ok(argument) = std::str::from_utf8(argument) else { return };
    let names: Vec<&str> = Operator::names().collect();
    let Some(name) = names.get(usize::from(number) % names.len()) else { return };
    for has_macros in [false, true] {
        let Ok(operator) = Operator::compile(name, argument, has_macros, &Nowhere, "rules.conf") else {
            continue;
        };
        let mut found = Found::default();
        if !operator.evaluate(value, has_macros.then_some(argument.as_bytes()), &mut found) {
            continue;
        }
        for index in 0..found.len() {
            let _ = found.get(value, index);
        }
        // What the plan relies on: a match holds a byte of those kinds of which the operator needs
        // one, and contains one of its literals.
        let needs = operator.needs();
        assert!(
            needs == 0 || crate::classes::of(value) & needs != 0,
            "@{name} {argument} matches without what it needs"
        );
        if crate::classes::of(value) & operator.unless() == 0
            && let Some(literals) = operator.literals()
        {
            let folded = value.to_ascii_lowercase();
            assert!(
                literals.iter().any(|literal| memchr::memmem::find(&folded, literal.bytes()).is_some()),
                "@{name} {argument} matches without its literals"
            );
        }
    }
}

/// A rule file: any answer but a panic, and what loads is run.
pub fn rules(data: &[u8]) {
    struct One<'a>(&'a [u8]);
    impl Sources for One<'_> {
        fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
            match path {
                "rules.conf" => Ok(self.0.to_vec()),
                _ => Nowhere.read(path),
            }
        }

        fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault> {
            Nowhere.glob(pattern, from)
        }
    }
    if let Ok(set) = RuleSet::load(&One(data), &["rules.conf"], &Options::default()) {
        judge(Arc::new(set), b"GET /a?b=c%27+or+1=1 HTTP/1.1\nCookie: d=e\n\nf=g");
    }
}

/// Rules that use every part of the engine, for [`transaction`].
const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "xml" "id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecAction "id:3,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1,ctl:forceRequestBodyVariable=On"
SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|REQUEST_HEADERS|XML:/*|XML://@* "@rx (a.)(b)?" \
    "id:4,phase:2,pass,t:none,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:lowercase,capture,multiMatch,\
    msg:'%{TX.1} %{MATCHED_VAR_NAME}',logdata:'%{MATCHED_VAR}',setvar:'tx.%{MATCHED_VAR_NAME}=+1',chain"
    SecRule MATCHED_VARS "!@within %{ARGS.x}" "t:none"
SecRule ARGS "@detectSQLi" "id:5,phase:2,pass,t:none,t:utf8toUnicode,t:cmdLine,t:normalizePath"
SecRule TX:/^args/ "@ge 2" "id:6,phase:2,pass,ctl:ruleRemoveTargetById=7;ARGS:a"
SecRule REQUEST_BODY|FILES|MULTIPART_PART_HEADERS|ARGS "@pm a bb ccc" "id:7,phase:2,pass,sanitiseMatchedBytes"
SecRule RESPONSE_BODY "@rx e+" "id:8,phase:4,deny"
"#;

/// A request, head and body parted by an empty line, through all phases.
pub fn transaction(data: &[u8]) {
    struct Rules;
    impl Sources for Rules {
        fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
            Ok(RULES.as_bytes().to_vec())
        }

        fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
            Ok(Vec::new())
        }
    }
    static SETS: OnceLock<Option<[Arc<RuleSet>; 2]>> = OnceLock::new();
    let load = |plain| {
        RuleSet::load(&Rules, &["rules.conf"], &Options { plain, ..Options::default() }).map(Arc::new).ok()
    };
    let sets = SETS.get_or_init(|| load(false).zip(load(true)).map(|(planned, plain)| [planned, plain]));
    assert!(sets.is_some(), "the fuzzer's own rules do not load");
    let Some([planned, plain]) = sets else { return };
    let (planned, plain) = (judge(Arc::clone(planned), data), judge(Arc::clone(plain), data));
    assert_eq!(planned, plain, "the plan came to something else than rule by rule");
}

fn judge(set: Arc<RuleSet>, data: &[u8]) -> Option<(Verdict, Vec<Match>)> {
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let address = IpAddr::from([192, 0, 2, 1]);
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 2 };
    let mut transaction = Transaction::new(set, memory, connection, "id", 0);
    let end = memchr::memmem::find(data, b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.next()?;
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let headers: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            Some((line.get(..at)?, line.get(at + 1..)?.trim_ascii()))
        })
        .collect();
    let head = RequestHead {
        line,
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        protocol: words.next().unwrap_or_default(),
        headers: &headers,
    };
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    for piece in body.chunks(7) {
        let _ = transaction.request_body_chunk(piece);
    }
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    let answer =
        ResponseHead { status: 200, protocol: b"HTTP/1.1", headers: &[(b"Content-Type", b"text/html")] };
    let _ = transaction.response_headers(&answer, Budget::UNLIMITED);
    let _ = transaction.response_body_chunk(body);
    let _ = transaction.response_body_end(Budget::UNLIMITED);
    let _ = transaction.logging(1, Budget::UNLIMITED);
    Some((transaction.verdict(), transaction.matches().to_vec()))
}

/// A value that may be an injection.
pub fn injection(value: &[u8]) {
    let _ = (crate::injection::sql(value), crate::injection::script(value));
}

/// A body: the first byte chooses the processor and the pieces in which it comes, which
/// must not change what is read.
pub fn bodies(data: &[u8]) {
    crate::body::fuzz(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fuzz_smoke_targets(data in prop::collection::vec(any::<u8>(), 0..80), argument in "[ -~]{0,20}") {
            transformations(&data);
            operators(&data);
            operators(&[&data[..data.len().min(1)], argument.as_bytes(), b"\0", &data].concat());
            injection(&data);
        }

        #[test]
        fn fuzz_smoke_transactions(
            query in "[a-c=&%0-9'+<;]{0,20}", header in "(Content-Type: (json|xml|application/x-www-form-urlencoded|multipart/form-data; boundary=b)|Cookie: [a-b=; ]{0,9})",
            body in prop_oneof![
                "[a-c=&%\"{}:,0-9<>/']{0,40}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..60),
            ],
        ) {
            let head = format!("POST /{query}?{query} HTTP/1.1\n{header}\n\n");
            transaction(&[head.as_bytes(), &body].concat());
        }

        #[test]
        fn fuzz_smoke_rules(text in "(SecRule (ARGS|TX:a|&ARGS|MATCHED_VARS|REQUEST_URI)\\|?[A-Z:/!]{0,4} \"!?(@[a-z]{2,8} )?[a-c%{}.]{0,9}\" \"id:[1-9],(phase:[1-5],)?(pass|deny|nolog|chain|capture|t:[a-z]{4,9}|setvar:tx.a=%?[{}a-c.+1]{0,6})(,log)?\"\n){1,4}") {
            rules(format!("SecRuleEngine On\n{text}").as_bytes());
        }
    }
}
