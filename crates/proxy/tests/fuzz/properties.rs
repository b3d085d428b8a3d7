//! What must hold for any bytes: one function per fuzzer. The fuzzers of `fuzz/` call
//! them under libFuzzer; the smoke test beside this file calls them on every run.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};
use http::Method;
use proxy::admit::{Admission, IdentityHeaders, admit};
use proxy::head::Framing;
use proxy::http1::encode::{UpstreamRequest, request_framing};
use proxy::http1::{body, encode, request, response};
use proxy::http2::head::from_h2;
use proxy::route::{HostMatch, RouteId, RouteMatch, Segment};
use proxy::{Additions, Admitted, Frame, Limits, RawRequest, RequestHead, Router};

/// The first byte says into how large pieces the rest is cut.
fn pieces(data: &[u8]) -> Option<(usize, &[u8])> {
    let (size, rest) = data.split_first()?;
    Some((usize::from(*size % 31) + 1, rest))
}

fn small() -> Limits {
    let mut limits = Limits::default();
    for (name, value) in [
        ("head_bytes_max", 1024),
        ("header_count_max", 12),
        ("uri_bytes_max", 256),
        ("trailer_bytes_max", 128),
    ] {
        limits.set(name, value).unwrap();
    }
    limits
}

/// Feeds `data` to `read` piece by piece until it says something. Gives that, and what
/// is left over.
fn feed<T>(
    data: &[u8],
    size: usize,
    mut read: impl FnMut(&mut BytesMut) -> Option<T>,
) -> (Option<T>, Vec<u8>) {
    let mut buffer = BytesMut::new();
    let mut fed = 0;
    for piece in data.chunks(size) {
        buffer.extend_from_slice(piece);
        fed += piece.len();
        if let Some(said) = read(&mut buffer) {
            buffer.extend_from_slice(&data[fed..]);
            return (Some(said), buffer.to_vec());
        }
    }
    (None, buffer.to_vec())
}

fn listed(fields: &proxy::Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.kept().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// A request head is read alike however it is cut.
pub fn head(data: &[u8]) {
    let Some((size, data)) = pieces(data) else { return };
    let limits = small();
    let run = |size: usize| {
        let mut reader = request::Reader::new();
        feed(data, size, |buffer| reader.read(buffer, &limits).transpose())
    };
    let (whole, whole_rest) = run(data.len().max(1));
    let (cut, cut_rest) = run(size);
    match (whole, cut) {
        (Some(Ok(whole)), Some(Ok(cut))) => {
            assert_eq!(listed(&whole.fields), listed(&cut.fields));
            assert_eq!(whole.fields.buffer, cut.fields.buffer);
            assert_eq!(whole_rest, cut_rest);
        }
        (Some(Err(_)), Some(Err(_))) | (None, None) => {}
        (whole, cut) => panic!("whole {whole:?}, cut {cut:?}"),
    }
}

/// A response head is read alike however it is cut, and its framing is one that its
/// fields say.
pub fn response(data: &[u8]) {
    let Some((size, data)) = pieces(data) else { return };
    let limits = small();
    let asked = response::Asked { method: &Method::GET, upgrade: Some(b"websocket") };
    let run = |size: usize| {
        let mut reader = response::Reader::new();
        feed(data, size, |buffer| reader.read(buffer, &limits, asked).transpose())
    };
    let (whole, whole_rest) = run(data.len().max(1));
    let (cut, cut_rest) = run(size);
    match (whole, cut) {
        (Some(Ok(whole)), Some(Ok(cut))) => {
            assert_eq!(listed(&whole.head.fields), listed(&cut.head.fields));
            assert_eq!((whole.head.status, whole.head.framing), (cut.head.status, cut.head.framing));
            assert_eq!((whole.keep_alive, whole_rest), (cut.keep_alive, cut_rest));
            let framing_fields = [&b"content-length"[..], b"transfer-encoding", b"connection"];
            let sent: Vec<_> =
                whole.head.fields.kept().filter(|(name, _)| framing_fields.contains(name)).collect();
            assert!(whole.head.status == 304 || sent.is_empty(), "{sent:?}");
        }
        (Some(Err(_)), Some(Err(_))) | (None, None) => {}
        (whole, cut) => panic!("whole {whole:?}, cut {cut:?}"),
    }
}

/// What a body gave: its data, its trailers, how it ended, and what is left over.
type BodyRead = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, Option<bool>, Vec<u8>);

/// A chunked body is read alike however it is cut; written anew, it is the same body.
pub fn chunk(data: &[u8]) {
    let Some((size, data)) = pieces(data) else { return };
    let whole = read_chunked(data, data.len().max(1), &small());
    let cut = read_chunked(data, size, &small());
    assert_eq!((&whole.0, &whole.1, whole.2), (&cut.0, &cut.1, cut.2));
    if whole.2 != Some(true) {
        return;
    }
    assert_eq!(whole.3, cut.3);
    let mut written = Vec::new();
    encode::chunk(&mut written, &Bytes::from(whole.0.clone()));
    let mut trailers = proxy::head::FieldsBuilder::default();
    for (name, value) in &whole.1 {
        trailers.push(name, value).unwrap();
    }
    encode::trailers(&mut written, &trailers.finish());
    // What we write may have a space more than what was read at its limit.
    let again = read_chunked(&written, written.len(), &Limits::default());
    assert_eq!((again.0, again.1, again.2), (whole.0, whole.1, Some(true)));
}

fn read_chunked(data: &[u8], size: usize, limits: &Limits) -> BodyRead {
    let mut decoder = body::Decoder::new(Framing::Chunked, limits);
    let (mut read, mut trailers) = (Vec::new(), Vec::new());
    let (ended, rest) = feed(data, size, |buffer| {
        loop {
            match decoder.decode(buffer) {
                Ok(None) => return None,
                Ok(Some(Frame::Data(data))) => read.extend_from_slice(&data),
                Ok(Some(Frame::End)) => return Some(true),
                Ok(Some(Frame::Trailers(fields))) => {
                    trailers = listed(&fields);
                    return Some(true);
                }
                Err(_) => return Some(false),
            }
        }
    });
    (read, trailers, ended, rest)
}

/// What is admitted has a path that every reader reads alike, carries nothing of the
/// hop or of identity, and is the same request once it was written and read again.
/// What both protocols admit is the same request.
pub fn admission(data: &[u8]) {
    let over_http1 = over_http1(data);
    if let Some(admitted) = &over_http1 {
        check_admitted(admitted.head());
    }
    let mut lines = data.split(|&byte| byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, target, host) = (next(), next(), next());
    let fields: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], &line[colon + 1..]))
        })
        .collect();
    let mut head = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"].concat();
    for (name, value) in &fields {
        head.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let one = self::over_http1(&head);
    let other = over_http2(method, target, host, &fields);
    for admitted in [&one, &other].into_iter().flatten() {
        check_admitted(admitted.head());
    }
    if let (Some(one), Some(other)) = (one, other) {
        let said = |head: &RequestHead| {
            (head.method.clone(), head.path.clone(), head.query.clone(), head.host.clone(), head.port)
        };
        assert_eq!(said(one.head()), said(other.head()));
    }
}

fn judge(raw: RawRequest) -> Option<Admitted> {
    let admission = Admission { identity_headers: IdentityHeaders::new(["x-user"]), ..Admission::default() };
    match admit(raw, &admission, &small(), false) {
        Ok(admitted) => Some(admitted),
        Err(refusal) => {
            assert!((400..=599).contains(&refusal.status()));
            assert!(refusal.seen.target.len() <= proxy::admit::TARGET_BYTES_MAX);
            None
        }
    }
}

/// The request of an HTTP/1 head, when it is admitted.
pub fn over_http1(head: &[u8]) -> Option<Admitted> {
    let mut buffer = BytesMut::from(head);
    judge(request::Reader::new().read(&mut buffer, &small()).ok()??)
}

fn over_http2(method: &[u8], target: &[u8], host: &[u8], fields: &[(&[u8], &[u8])]) -> Option<Admitted> {
    let uri = http::Uri::builder().scheme("https").authority(host).path_and_query(target).build().ok()?;
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).ok()?.into_parts().0;
    judge(from_h2(&parts, true, Vec::new(), &small()).ok()?)
}

fn decode_what_can_be(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok()) {
            Some(value) if byte == b'%' => {
                out.push(value);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

fn check_admitted(head: &RequestHead) {
    let path = &head.path[..];
    let text = String::from_utf8_lossy(path).into_owned();
    assert_eq!(path.first(), Some(&b'/'), "{text}");
    let mut decoded = Vec::new();
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        assert!((0x21..=0x7e).contains(&byte) && !b"#?\\".contains(&byte), "{text}");
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits: String = bytes.by_ref().take(2).map(|&digit| char::from(digit)).collect();
        let value = u8::from_str_radix(&digits, 16).expect("two digits");
        assert!(!value.is_ascii_alphanumeric() && !b"-._~\\".contains(&value), "{text}");
        assert!(value >= 0x20 && value != 0x7f, "{text}");
        assert!(value != b'/' || head.encoded_slash, "{text}");
        decoded.push(value);
    }
    assert!(std::str::from_utf8(&decoded).is_ok(), "{text}");
    // As every reader might cut it: at slashes, decoded ones too, and at parameters.
    for segment in decoded.split(|&byte| byte == b'/') {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        assert!(!matches!(name, b"." | b".."), "{text}");
    }
    // A reader that decodes once more ends at the same depth.
    let twice = decode_what_can_be(&decoded);
    let count = |text: &[u8]| text.iter().filter(|&&byte| byte == b'/').count();
    assert_eq!(count(&twice), count(&decoded), "{text}");
    for segment in twice.split(|&byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        assert!(!matches!(name, b"." | b".."), "{text}");
    }
    assert!(!path.windows(2).any(|pair| pair == b"//"), "{text}");
    let forbidden = [
        &b"host"[..],
        b"connection",
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"te",
        b"expect",
        b"keep-alive",
        b"x-user",
        b"forwarded",
        b"x-forwarded-for",
        b"x-real-ip",
        b"proxy",
    ];
    for (name, value) in head.fields.kept() {
        assert!(!forbidden.contains(&name) && !name.contains(&b'_'), "{}", String::from_utf8_lossy(name));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    check_written(head);
}

fn check_written(head: &RequestHead) {
    let mut written = Vec::new();
    encode::request(
        &mut written,
        &UpstreamRequest {
            head,
            path: &head.path,
            additions: &Additions::default(),
            framing: request_framing(head.framing),
            upgrade: head.upgrade.is_some(),
            expect: head.expects_continue,
        },
    );
    let mut buffer = BytesMut::from(&written[..]);
    let mut limits = Limits::default();
    limits.set("uri_bytes_max", 1024).unwrap();
    let raw = request::Reader::new().read(&mut buffer, &limits).expect("well formed").expect("complete");
    assert!(buffer.is_empty());
    let again = admit(raw, &Admission::default(), &limits, false).expect("admitted again");
    let again = again.head();
    assert_eq!((&head.method, &head.path, &head.query), (&again.method, &again.path, &again.query));
    assert_eq!((&head.host, head.port, &head.upgrade), (&again.host, again.port, &again.upgrade));
    assert_eq!(
        (head.encoded_slash, head.accepts_trailers || again.upgrade.is_some()),
        (again.encoded_slash, again.accepts_trailers || again.upgrade.is_some())
    );
    assert_eq!(request_framing(head.framing), request_framing(again.framing));
    assert_eq!(listed(&head.fields), listed(&again.fields));
}

/// The router and a reader of its rules agree. Lines of routes, an empty line, then
/// method, host and path of a request.
pub fn router(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (routes, asked) = text.split_once("\n\n").unwrap_or((&text, ""));
    let routes: Vec<RouteMatch> =
        routes.lines().take(64).filter_map(|line| RouteMatch::parse(line).ok()).collect();
    let mut words = asked.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default().as_bytes();
    let (method, host, path) = (word(), word(), word());
    let head = [method, b" ", path, b" HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    if let Some(admitted) = over_http1(&head) {
        agree(routes, admitted);
    }
}

/// Routes one request by the router and by [`naive`].
pub fn agree(routes: Vec<RouteMatch>, admitted: Admitted) {
    let Ok(router) = Router::build(routes.clone()) else { return };
    let expected = naive(&routes, admitted.head());
    let encoded_slash = admitted.head().encoded_slash;
    let told = format!("{:?} among {routes:?}", admitted.head());
    match router.route(admitted) {
        Ok(routed) => {
            assert_eq!(Some(routed.route()), expected, "{told}");
            let allowed = routes[routed.route().0 as usize].encoded_slashes;
            assert!(allowed || !encoded_slash, "{told}");
            for (name, value) in routed.parameters().iter() {
                assert!(!name.is_empty() && !value.is_empty(), "{told}");
            }
        }
        Err(unrouted) => match unrouted.why {
            proxy::route::WhyUnrouted::EncodedSlash { route } => assert_eq!(Some(route), expected, "{told}"),
            _ => assert_eq!(expected, None, "{told}"),
        },
    }
}

/// The rules of `proxy::route` read one route after the other.
pub fn naive(routes: &[RouteMatch], head: &RequestHead) -> Option<RouteId> {
    let segments: Vec<&[u8]> = head.path[1..].split(|&byte| byte == b'/').collect();
    let mut best: Option<usize> = None;
    for (at, route) in routes.iter().enumerate() {
        if matches(route, head, &segments)
            && best.is_none_or(|best| compare(route, &routes[best]) == Ordering::Greater)
        {
            best = Some(at);
        }
    }
    best.map(|at| RouteId(u32::try_from(at).unwrap()))
}

fn matches(route: &RouteMatch, head: &RequestHead, segments: &[&[u8]]) -> bool {
    let host = match &route.host {
        HostMatch::Any => true,
        HostMatch::Exact(name) => head.host == **name,
        HostMatch::Wildcard(suffix) => {
            head.host.ends_with(suffix) && head.host[..head.host.len() - suffix.len()].ends_with(b".")
        }
    };
    let pattern = route.path.segments();
    let length =
        if route.path.has_rest() { segments.len() >= pattern.len() } else { segments.len() == pattern.len() };
    let each = |(pattern, segment): (&Segment, &&[u8])| match pattern {
        Segment::Literal(text) => **text == **segment,
        Segment::Parameter(_) => !segment.is_empty(),
    };
    let header = |(name, value): &(String, String)| {
        let found: Vec<_> = head.fields.kept_named(name.as_bytes()).collect();
        !found.is_empty() && found.iter().all(|found| *found == value.as_bytes())
    };
    let method = route.methods.is_empty() || route.methods.contains(&head.method);
    host && length && pattern.iter().zip(segments).all(each) && method && route.headers.iter().all(header)
}

/// Which of two routes that match the same request is more specific.
fn compare(one: &RouteMatch, other: &RouteMatch) -> Ordering {
    let host = |route: &RouteMatch| match &route.host {
        HostMatch::Any => (0, 0),
        HostMatch::Wildcard(suffix) => (1, suffix.len()),
        HostMatch::Exact(_) => (2, 0),
    };
    let path = |route: &RouteMatch| -> Vec<u8> {
        let rank = |segment: &Segment| if matches!(segment, Segment::Literal(_)) { 3 } else { 2 };
        let end = if route.path.has_rest() { 0 } else { 1 };
        route.path.segments().iter().map(rank).chain([end]).collect()
    };
    let key = |route: &RouteMatch| (host(route), path(route), !route.methods.is_empty(), route.headers.len());
    key(one).cmp(&key(other))
}

/// A property: panics on an input for which it does not hold.
pub type Property = fn(&[u8]);

/// Names of the properties, for the smoke test: all must be run.
pub const ALL: [(&str, Property); 5] =
    [("head", head), ("response", response), ("chunk", chunk), ("admit", admission), ("router", router)];
