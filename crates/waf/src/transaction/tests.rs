//! What cannot be brought about from outside within a test's memory.

use super::*;
use crate::{MemoryLimits, Options, SourceFault, Sources};

struct Text(&'static str);

impl Sources for Text {
    fn read(&self, _: &str) -> Result<Vec<u8>, SourceFault> {
        Ok(self.0.as_bytes().to_vec())
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// A transaction that has not begun.
fn fresh(set: &Arc<RuleSet>) -> Transaction {
    let address = IpAddr::from([192, 0, 2, 1]);
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 2 };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    Transaction::new(Arc::clone(set), memory, connection, "id", 0)
}

/// It, through both request phases, with this argument.
fn judged(mut transaction: Transaction, argument: &str) -> Transaction {
    let target = format!("/?a={argument}");
    let head = RequestHead {
        line: b"GET / HTTP/1.1",
        method: b"GET",
        target: target.as_bytes(),
        protocol: b"HTTP/1.1",
        headers: &[],
    };
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    transaction
}

/// A transaction with room for so many bytes of values, through both request phases.
fn judge(rules: &'static str, bytes_max: usize, plain: bool) -> Transaction {
    let options = Options { plain, ..Options::default() };
    let set = Arc::new(RuleSet::load(&Text(rules), &["rules.conf"], &options).unwrap());
    let mut transaction = fresh(&set);
    transaction.state.store.values.bytes_max = bytes_max;
    judged(transaction, &"61".repeat(200))
}

/// Rules, and a database of places.
struct WithPlaces(&'static str);

impl Sources for WithPlaces {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault> {
        Ok(if path == "places.mmdb" { crate::operator::places() } else { self.0.as_bytes().to_vec() })
    }

    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, SourceFault> {
        Ok(Vec::new())
    }
}

/// What becomes of a request from this address, and what is known of its place.
fn judge_from(rules: &'static str, client: [u8; 4], plain: bool) -> (Verdict, Option<String>) {
    let options = Options { plain, ..Options::default() };
    let set = Arc::new(RuleSet::load(&WithPlaces(rules), &["rules.conf"], &options).unwrap());
    let (client_address, server_address) = (IpAddr::from(client), IpAddr::from([192, 0, 2, 1]));
    let connection = Connection { client_address, client_port: 1, server_address, server_port: 2 };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let mut transaction = Transaction::new(set, memory, connection, "id", 0);
    let head = RequestHead {
        line: b"GET / HTTP/1.1",
        method: b"GET",
        target: b"/",
        protocol: b"HTTP/1.1",
        headers: &[],
    };
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    let country = transaction.variable("GEO", Some("COUNTRY_CODE"));
    let country = country.map(|country| String::from_utf8_lossy(&country).into_owned());
    (transaction.verdict(), country.filter(|country| !country.is_empty()))
}

#[test]
fn rules_read_the_place_that_was_looked_up() {
    const KNOWN: [u8; 4] = [203, 0, 113, 9];
    const UNKNOWN: [u8; 4] = [10, 0, 0, 1];
    let denied = |rule| Verdict::Deny { status: 403, rule, cause: None };
    let (known, unknown) = ((denied(2), Some("XA".to_owned())), (Verdict::Pass, None));
    let elsewhere = (Verdict::Pass, Some("XA".to_owned()));
    for (rules, of_known, of_unknown) in [
        ("SecRule GEO:COUNTRY_CODE \"@streq XA\" \"id:2,phase:1,deny,status:403\"", &known, &unknown),
        ("SecRule GEO:country_code \"@streq XA\" \"id:2,phase:2,deny,status:403\"", &known, &unknown),
        ("SecRule GEO:CITY \"@streq Sampletown\" \"id:2,phase:2,deny,status:403\"", &known, &unknown),
        ("SecRule &GEO:COUNTRY_CODE \"@eq 1\" \"id:2,phase:1,deny,status:403\"", &known, &unknown),
        ("SecRule GEO:COUNTRY_CODE \"!@pm XA XB\" \"id:2,phase:1,deny,status:403\"", &elsewhere, &unknown),
        ("SecRule GEO:COUNTRY_CODE \"@streq XB\" \"id:2,phase:1,deny,status:403\"", &elsewhere, &unknown),
    ] {
        let lookup = "SecRule REMOTE_ADDR \"@geoLookup\" \"id:1,phase:1,pass,nolog,t:none\"";
        let text = format!("SecRuleEngine On\nSecGeoLookupDb places.mmdb\n{lookup}\n{rules}\n");
        let text: &'static str = Box::leak(text.into_boxed_str());
        for plain in [false, true] {
            assert_eq!(&judge_from(text, KNOWN, plain), of_known, "{rules}");
            assert_eq!(&judge_from(text, UNKNOWN, plain), of_unknown, "{rules}");
        }
    }
    // In one rule, as manuals write it; and whoever looks nothing up knows nothing.
    let chained = "SecRuleEngine On\nSecGeoLookupDb places.mmdb\n\
        SecRule REMOTE_ADDR \"@geoLookup\" \"id:2,phase:1,deny,status:403,chain\"\n\
        SecRule GEO:COUNTRY_CODE \"@streq XA\"\n";
    let without =
        "SecRuleEngine On\nSecRule GEO:COUNTRY_CODE \"@streq XA\" \"id:2,phase:1,deny,status:403\"\n";
    for plain in [false, true] {
        assert_eq!(judge_from(chained, KNOWN, plain), known);
        assert_eq!(judge_from(chained, UNKNOWN, plain), unknown);
        assert_eq!(judge_from(without, KNOWN, plain), unknown);
    }
}

#[test]
fn values_without_a_place_stop_the_transaction() {
    // One rule that is passed over for want of its literal, one that would match nothing.
    for rules in [
        "SecRuleEngine On\nSecRule ARGS \"@rx attack\" \"id:1,phase:2,deny,t:none,t:hexEncode\"",
        "SecRuleEngine On\nSecRule ARGS \"@rx ^attack\" \"id:1,phase:1,deny,t:none,t:hexEncode\"",
        "SecRuleEngine On\nSecRule ARGS \"@rx .\" \"id:1,phase:2,pass,nolog,t:none,t:hexEncode\"",
    ] {
        for plain in [false, true] {
            let well = judge(rules, VALUES_ENOUGH, plain);
            assert_eq!((well.verdict(), well.intended()), (Verdict::Pass, None), "{rules}");
            assert!(well.request_is_judged() && well.pass().is_some());
        }
        let over = judge(rules, VALUES_FEW, false);
        assert_eq!(
            over.verdict(),
            Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::ValuesTooMany) },
            "{rules}"
        );
        assert!(over.pass().is_none(), "{rules}");
    }
}

#[test]
fn without_the_right_to_interfere_it_is_only_noted() {
    let rules =
        "SecRuleEngine DetectionOnly\nSecRule ARGS \"@rx attack\" \"id:1,phase:2,deny,t:none,t:hexEncode\"";
    let over = judge(rules, VALUES_FEW, false);
    assert_eq!(over.verdict(), Verdict::Pass);
    assert_eq!(
        over.intended(),
        Some(&Verdict::Deny { status: 500, rule: 0, cause: Some(Cause::ValuesTooMany) })
    );
}

/// Holds the request's values and what `hexEncode` makes of its argument, bytes.
const VALUES_ENOUGH: usize = 5_000;
/// Holds the request's values only.
const VALUES_FEW: usize = 1_600;

/// Bytes of values and names that are kept of a body.
fn kept(rules: &'static str, content_type: &str, body: &str) -> usize {
    let set = Arc::new(RuleSet::load(&Text(rules), &["rules.conf"], &Options::default()).unwrap());
    let address = IpAddr::from([192, 0, 2, 1]);
    let connection =
        Connection { client_address: address, client_port: 1, server_address: address, server_port: 2 };
    let memory = Arc::new(Memory::new(MemoryLimits::default()));
    let mut transaction = Transaction::new(set, memory, connection, "id", 0);
    let headers = [(&b"content-type"[..], content_type.as_bytes())];
    let head = RequestHead {
        line: b"POST / HTTP/1.1",
        method: b"POST",
        target: b"/",
        protocol: b"HTTP/1.1",
        headers: &headers,
    };
    let _ = transaction.request_headers(&head, Budget::UNLIMITED);
    let _ = transaction.request_body_chunk(body.as_bytes());
    let _ = transaction.request_body_end(Budget::UNLIMITED);
    let said = transaction.variable("REQBODY_ERROR_MSG", None).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&said), "");
    transaction.state.store.values.bytes_kept()
}

#[test]
fn a_body_is_kept_as_a_small_multiple_of_its_length() {
    let json = "SecRuleEngine On\nSecRequestBodyAccess On\nSecAction \"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n\
        SecRule ARGS_NAMES \"@contains 9\" \"id:2,phase:2,pass,nolog,t:none,t:lowercase\"\n";
    let list = |key: &str| format!("{{\"{key}\":[{}1]}}", "1,".repeat(999));
    let (short, long) = (list("K"), list(&"K".repeat(2_040)));
    let honest = kept(json, "application/json", &short);
    let kept_long = kept(json, "application/json", &long);
    assert!(kept_long < 8 * long.len(), "{kept_long} of {}, {honest} of {}", long.len(), short.len());

    let files = |rule: &str| format!("SecRuleEngine On\nSecRequestBodyAccess On\n{rule}");
    let parts = "SecRule MULTIPART_PART_HEADERS|ARGS_NAMES \"@contains 9\" \"id:2,phase:2,pass,nolog\"\n";
    let without: &str = "SecRule ARGS_NAMES \"@contains 9\" \"id:2,phase:2,pass,nolog\"\n";
    let part = |name: usize, headers: usize| {
        let lines: String = (0..headers).map(|number| format!("a{number}: b\r\n")).collect();
        let name = "n".repeat(name);
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n{lines}\r\nx\r\n")
    };
    let body = format!("{}--b--\r\n", part(3_900, 62).repeat(10));
    for rule in [parts, without] {
        let text: &'static str = Box::leak(files(rule).into_boxed_str());
        let kept = kept(text, "multipart/form-data; boundary=b", &body);
        assert!(kept < 4 * body.len(), "{rule}: {kept} of {}", body.len());
    }
}

#[test]
fn memory_that_has_grown_is_given_back() {
    let rules = "SecRuleEngine On\nSecRule ARGS \"@rx .\" \"id:1,phase:2,pass,nolog\"";
    let set = Arc::new(RuleSet::load(&Text(rules), &["rules.conf"], &Options::default()).unwrap());
    let spare = |length: usize| {
        judged(fresh(&set), &"a".repeat(length)).into_spare().map(|spare| spare.text_room_bytes())
    };
    assert!(spare(100).is_some_and(|texts| texts >= 100), "the value that matched has a place");
    // The texts that it copied to, of one value, are given back sooner than all its values.
    assert!(spare(10_000).is_some_and(|texts| texts < 10_000));
    assert_eq!(spare(200_000), None);
}
