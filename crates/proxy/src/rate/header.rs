//! What a client is told about limits: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10: structured fields, RFC 9651) and
//! `Retry-After` in seconds (RFC 9110 §10.2.3).

use std::time::Duration;

use super::{Rule, Standing};

/// `ratelimit`
pub const RATE_LIMIT: &str = "ratelimit";
/// `ratelimit-policy`
pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
/// `retry-after`
pub const RETRY_AFTER: &str = "retry-after";

/// Whole seconds, rounded up: a client that waits so long is not refused for being
/// early.
pub fn seconds_up(wait: Duration) -> u32 {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Appends a rule's item of `RateLimit-Policy`: `"name";q=100;w=60`. Items of several
/// rules are separated by `, `, which this writes when the value is not empty.
pub fn append_policy(value: &mut Vec<u8>, rule: &Rule) {
    append_name(value, rule.name());
    append_parameter(value, b";q=", rule.count());
    append_parameter(value, b";w=", seconds_up(rule.per()));
}

/// Appends a rule's item of `RateLimit`: `"name";r=12;t=30`, `r` being what would pass
/// at once and `t` the seconds until the burst is whole again.
pub fn append_limit(value: &mut Vec<u8>, rule: &Rule, standing: Standing) {
    append_name(value, rule.name());
    append_parameter(value, b";r=", standing.remaining);
    append_parameter(value, b";t=", standing.reset_seconds);
}

/// Appends the value of `Retry-After`; at least 1, since 0 invites a busy loop.
pub fn append_retry_after(value: &mut Vec<u8>, wait: Duration) {
    value.extend_from_slice(itoa::Buffer::new().format(seconds_up(wait).max(1)).as_bytes());
}

fn append_name(value: &mut Vec<u8>, name: &str) {
    if !value.is_empty() {
        value.extend_from_slice(b", ");
    }
    value.push(b'"');
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => value.extend_from_slice(&[b'\\', byte]),
            // A string of RFC 9651 §3.3.3 holds printable ASCII only.
            0x20..=0x7e => value.push(byte),
            _ => value.push(b'?'),
        }
    }
    value.push(b'"');
}

fn append_parameter(value: &mut Vec<u8>, name: &[u8], number: u32) {
    value.extend_from_slice(name);
    value.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_the_draft_says() {
        let orders = Rule::new(1, "orders", 100, Duration::from_secs(60), 20).unwrap();
        let odd = Rule::new(2, "a\"b\\c\u{e9}\r\n", 5, Duration::from_millis(1500), 5).unwrap();
        let standing = Standing { rule: 1, remaining: 12, reset_seconds: 30 };

        let mut policy = Vec::new();
        append_policy(&mut policy, &orders);
        append_policy(&mut policy, &odd);
        assert_eq!(policy, br#""orders";q=100;w=60, "a\"b\\c????";q=5;w=2"#);

        let mut limit = Vec::new();
        append_limit(&mut limit, &orders, standing);
        assert_eq!(limit, br#""orders";r=12;t=30"#);
    }

    #[test]
    fn waiting_times_are_rounded_up() {
        for (wait, text) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::from_millis(1001), "2"),
            (Duration::MAX, "4294967295"),
        ] {
            let mut value = Vec::new();
            append_retry_after(&mut value, wait);
            assert_eq!(value, text.as_bytes(), "{wait:?}");
        }
    }
}
