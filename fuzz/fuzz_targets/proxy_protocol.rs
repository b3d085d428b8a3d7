//! Arbitrary bytes at the beginning of a connection from a balancer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((_, length)) = proxy::proxy_protocol::parse(data) {
        assert!(length <= data.len());
    }
});
