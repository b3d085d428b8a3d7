//! Documents of APIs and the requests that are held against them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::fuzz(data));
