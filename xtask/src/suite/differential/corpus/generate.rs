//! Honest requests from a grammar, and the same ones changed in one or two places.

use super::changes::CHANGES;
use super::{Expect, Honest, Pair, Random, Side};

/// One field line, its parts as they are written.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: Vec<u8>,
    pub(super) colon: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) end: Vec<u8>,
}

/// A request in parts that can be changed one by one.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) method: Vec<u8>,
    pub(super) before_target: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) before_version: Vec<u8>,
    pub(super) version: Vec<u8>,
    pub(super) line_end: Vec<u8>,
    pub(super) fields: Vec<Line>,
    pub(super) head_end: Vec<u8>,
    /// The body as it is written.
    pub(super) body: Vec<u8>,
    /// What the body says.
    pub(super) data: Vec<u8>,
}

impl Draft {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let line = [&self.method, &self.before_target, &self.target, &self.before_version, &self.version];
        line.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(&self.line_end);
        for field in &self.fields {
            for part in [&field.name, &field.colon, &field.value, &field.end] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&self.head_end);
        out.extend_from_slice(&self.body);
        out
    }

    /// Appends a field.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.fields.push(Line {
            name: name.to_vec(),
            colon: b": ".to_vec(),
            value: value.to_vec(),
            end: b"\r\n".to_vec(),
        });
    }

    /// The field of this name, in any case.
    pub(super) fn field(&mut self, name: &str) -> Option<&mut Line> {
        self.fields.iter_mut().find(|line| line.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Takes away what says where the body ends.
    pub(super) fn unframe(&mut self) {
        self.fields.retain(|line| {
            !line.name.eq_ignore_ascii_case(b"content-length")
                && !line.name.eq_ignore_ascii_case(b"transfer-encoding")
        });
    }

    /// Makes it a POST whose body is these bytes, delimited by its length.
    pub(super) fn with_length(&mut self, data: &[u8]) {
        self.unframe();
        self.method = b"POST".to_vec();
        self.push(b"Content-Length", data.len().to_string().as_bytes());
        (self.body, self.data) = (data.to_vec(), data.to_vec());
    }

    /// Makes it a POST whose body is written as these chunks.
    pub(super) fn with_chunks(&mut self, written: &[u8]) {
        self.unframe();
        self.method = b"POST".to_vec();
        self.push(b"Transfer-Encoding", b"chunked");
        self.body = written.to_vec();
        self.data = b"hello".to_vec();
    }
}

pub(super) fn pairs(count: usize, seed: u64) -> Vec<Pair> {
    let mut random = Random(seed);
    let mut pairs = Vec::new();
    let mut number = 0;
    while pairs.len() < count {
        let honest = draft(&mut random);
        // Each change in turn, a second one beside it now and then.
        let Some((name, change)) = CHANGES.get(number % CHANGES.len()) else { return pairs };
        number += 1;
        let mut changed = honest.clone();
        change(&mut changed, &mut random);
        let mut names = (*name).to_owned();
        if number > CHANGES.len() && random.one_in(3) {
            let (second, change) = random.pick(CHANGES, (name, *change));
            change(&mut changed, &mut random);
            names = format!("{names} {second}");
        }
        let attack = changed.write();
        let bytes = honest.write();
        if attack != bytes {
            let honest = Honest { bytes, body: honest.data };
            let name = format!("#{number} {names}");
            pairs.push(Pair { name, side: Side::Client, attack, expect: Expect::Harmless, honest });
        }
    }
    pairs
}

/// An honest request. Nothing in it is read differently by anyone.
fn draft(random: &mut Random) -> Draft {
    let mut draft = Draft {
        method: random.pick(&["GET", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], "GET").into(),
        before_target: b" ".to_vec(),
        target: target(random).into_bytes(),
        before_version: b" ".to_vec(),
        version: b"HTTP/1.1".to_vec(),
        line_end: b"\r\n".to_vec(),
        fields: Vec::new(),
        head_end: b"\r\n".to_vec(),
        body: Vec::new(),
        data: Vec::new(),
    };
    let hosts = ["shop.example.org", "shop.example.org:8080", "127.0.0.1", "a", "xn--caf-dma.example"];
    let host = random.pick(&hosts, "a");
    if random.one_in(10) {
        draft.target = [b"http://", host.as_bytes(), &draft.target].concat();
    }
    let name = random.pick(&["Host", "host", "HOST"], "Host");
    draft.push(name.as_bytes(), host.as_bytes());
    for _ in 0..random.below(5) {
        let (name, value) = random.pick(FIELDS, ("Accept", "*/*"));
        if draft.field(name).is_none() {
            draft.push(name.as_bytes(), value.as_bytes());
            if let Some(line) = draft.fields.last_mut() {
                line.colon = random.pick(&[": ", ":", ":\t", ":  "], ": ").into();
            }
        }
    }
    if draft.method != b"GET" && !random.one_in(4) {
        body(&mut draft, random);
    }
    draft
}

const FIELDS: &[(&str, &str)] = &[
    ("Accept", "text/html, */*;q=0.5"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("Cookie", "a=b; c=\"d\""),
    ("X-Note", "a, b;c=\"d \\\" e\""),
    ("X-Empty", ""),
    ("x-many", "a:b:c"),
    ("Accept-Language", "de, en;q=0.7"),
    ("Authorization", "Basic YTpi"),
    ("X-Latin", "caf\u{e9}"),
    ("If-None-Match", "\"abc\""),
    ("Content-Type", "application/json"),
    ("Origin", "https://app.example.org"),
];

fn target(random: &mut Random) -> String {
    let segments =
        ["a", "orders", "b-1", "c.d", "~e", "%C3%A9", "f_g", "h%20i", "...", "k:l@m", "n!$&'()*+,;=o"];
    let mut target = String::new();
    for _ in 0..=random.below(4) {
        target.push('/');
        target.push_str(random.pick(&segments, "a"));
    }
    if random.one_in(4) {
        target.push('/');
    }
    if random.one_in(3) {
        target.push('?');
        target
            .push_str(random.pick(&["x=1", "x=1&y=%2F%2e%2e", "q=a+b?c/d", "", "url=http://b/../c"], "x=1"));
    }
    target
}

fn body(draft: &mut Draft, random: &mut Random) {
    let data: Vec<u8> = random
        .pick(
            &["hello", "{\"a\":1}", "a=b&c=d", "0\r\n\r\n", "GET /inside HTTP/1.1\r\nHost: a\r\n\r\n", ""],
            "hello",
        )
        .into();
    draft.data.clone_from(&data);
    if random.one_in(2) {
        draft.push(b"Content-Length", data.len().to_string().as_bytes());
        draft.body = data;
        return;
    }
    let name = random.pick(&["Transfer-Encoding", "transfer-encoding"], "Transfer-Encoding");
    draft.push(name.as_bytes(), random.pick(&["chunked", "Chunked"], "chunked").as_bytes());
    let mut written = Vec::new();
    for piece in data.chunks(random.below(9) + 1) {
        let zeros = "0".repeat(random.below(3));
        let extension = random.pick(&["", "", ";a", ";a=b", ";a=\"b;c\""], "");
        written.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", piece.len()).as_bytes());
        written.extend_from_slice(piece);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(b"0\r\n");
    if random.one_in(4) {
        written.extend_from_slice(b"X-Digest: 42\r\n");
    }
    written.extend_from_slice(b"\r\n");
    draft.body = written;
}
