//! See `bastide::import::keycloak::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bastide::import::keycloak::fuzz(data));
