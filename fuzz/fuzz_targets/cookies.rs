//! See `gateway::session::cookie::fuzz` and `identity::fuzz::cookies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    gateway::session::cookie::fuzz(data);
    identity::fuzz::cookies(data);
});
