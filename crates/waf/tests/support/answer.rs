//! An upstream that answers as a request to `/reflect` asks, and otherwise with nothing.

use super::Raw;
use std::collections::BTreeMap;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wish {
    status: Option<u16>,
    headers: Option<BTreeMap<String, String>>,
    body: Option<String>,
    encoded_body: Option<String>,
}

pub(crate) fn answer(raw: &Raw) -> Answer {
    let path = raw.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut answer = Answer { status: 200, headers: Vec::new(), body: Vec::new() };
    if raw.method == b"POST" && path.starts_with(b"/reflect") {
        match serde_json::from_slice::<Wish>(&raw.body) {
            Ok(wish) => {
                answer.status = wish.status.unwrap_or(200);
                answer.headers = wish.headers.unwrap_or_default().into_iter().collect();
                answer.body = wish.body.unwrap_or_default().into_bytes();
                if let Some(encoded) = wish.encoded_body.filter(|_| answer.body.is_empty()) {
                    answer.body = decode(&encoded);
                }
            }
            Err(_) => {
                answer.status = 400;
                answer.body = b"Invalid JSON in request body".to_vec();
            }
        }
    }
    let typed = answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if !answer.body.is_empty() && !typed {
        answer.headers.push(("Content-Type".to_owned(), sniff(&answer.body).to_owned()));
    }
    answer
}

/// Base64 (RFC 4648), anything outside of the alphabet stepped over.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

/// The type that a Go server would give a body, as far as text goes.
fn sniff(body: &[u8]) -> &'static str {
    const HTML: &[&str] = &[
        "<!DOCTYPE HTML",
        "<HTML",
        "<HEAD",
        "<SCRIPT",
        "<IFRAME",
        "<H1",
        "<DIV",
        "<FONT",
        "<TABLE",
        "<A",
        "<STYLE",
        "<TITLE",
        "<B",
        "<BODY",
        "<BR",
        "<P",
        "<!--",
    ];
    let text = body[..body.len().min(512)].trim_ascii_start();
    let html = HTML.iter().any(|tag| {
        text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
            && text.get(tag.len()).is_some_and(|next| b" >".contains(next))
    });
    let binary = text.iter().any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f));
    match (html, text.starts_with(b"<?xml"), binary) {
        (true, ..) => "text/html; charset=utf-8",
        (_, true, _) => "text/xml; charset=utf-8",
        (_, _, true) => "application/octet-stream",
        _ => "text/plain; charset=utf-8",
    }
}
