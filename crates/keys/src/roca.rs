//! Recognises RSA moduli of Infineon's broken generator (ROCA, CVE-2017-15361), whose
//! private keys can be computed from the public ones.
//!
//! Their primes are `k·M + 65537^a mod M` for a product `M` of small primes, so the
//! modulus is a power of 65537 modulo each of these. A random modulus passes all 38
//! tests once in about 2^27 times (Nemec et al., CCS 2017, §3.3).

const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus (big-endian) has the generator's fingerprint.
pub(crate) fn is_vulnerable(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        loop {
            if power == rest {
                return true;
            }
            power = power * (65537 % prime) % prime;
            if power == 1 || power == 0 {
                return false;
            }
        }
    })
}
