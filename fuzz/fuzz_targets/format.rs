//! The layout of configuration files: taken or refused, and what was taken is left alone.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let file = std::path::Path::new("bastide.yaml");
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(once) = bastide::config::format(file, text)
    {
        assert_eq!(bastide::config::format(file, &once), Ok(once));
    }
});
