//! The unseal key in parts: any `threshold` of them give the key, fewer say nothing about
//! it (Shamir's secret sharing, by `blahaj`).

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use blahaj::Sharks;
use zeroize::Zeroizing;

use super::{KEY_BYTES, UnsealKey, checked_text, parse_checked};
use crate::error::Error;

/// Most shares of one key.
pub const SHARES_MAX: u8 = 64;
/// How the text of a share begins.
const SHARE_PREFIX: &str = "bastide-share-";
/// Bytes that tell the shares of one key from those of another: of a digest of the key.
const SET_BYTES: usize = 4;

/// One part of an unseal key.
pub struct Share {
    set: [u8; SET_BYTES],
    threshold: u8,
    number: u8,
    points: Zeroizing<[u8; KEY_BYTES]>,
}

impl Share {
    /// Its number among the shares, from 1.
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// As a text: `bastide-share-`, then base64url.
    pub fn to_text(&self) -> Zeroizing<String> {
        let head = [self.threshold, self.number];
        let whole = Zeroizing::new([&self.set[..], &head, &*self.points].concat());
        Zeroizing::new(checked_text(SHARE_PREFIX, &whole))
    }

    /// Reads what [`Share::to_text`] wrote; space around it is ignored.
    ///
    /// # Errors
    /// [`Error::Key`]. The text is not in it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |why| Error::Key { place: "share".to_owned(), why };
        let bytes = parse_checked(SHARE_PREFIX, text.trim()).map_err(refused)?;
        Self::from_bytes(&bytes).ok_or_else(|| refused("it is no share that Bastide made".to_owned()))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (set, rest) = bytes.split_first_chunk()?;
        let ([threshold, number], points) = rest.split_first_chunk()?;
        let points = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(points).ok()?);
        // Share 0 would be the key itself.
        let fits = (2..=SHARES_MAX).contains(threshold) && (1..=SHARES_MAX).contains(number);
        fits.then_some(Self { set: *set, threshold: *threshold, number: *number, points })
    }
}

fn set_of(key: &UnsealKey) -> [u8; SET_BYTES] {
    let purpose = [&b"bastide shares "[..], key.bytes()].concat();
    let found = digest(&SHA256, &Zeroizing::new(purpose));
    found.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Splits a key into `count` shares, of which any `threshold` give it back.
///
/// # Errors
/// [`Error::Usage`]: expected 2 ≤ `threshold` ≤ `count` ≤ [`SHARES_MAX`].
pub fn split(key: &UnsealKey, threshold: u8, count: u8) -> Result<Vec<Share>, Error> {
    if threshold < 2 || threshold > count || count > SHARES_MAX {
        return Err(Error::Usage("expected at least 2 of at most 64 shares, and no more than there are"));
    }
    let dealt = Sharks(threshold).dealer(key.bytes()).take(usize::from(count));
    let shares = dealt.map(|share| {
        let bytes = Zeroizing::new(Vec::from(&share));
        let (number, points) = bytes.split_first()?;
        let points = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(points).ok()?);
        Some(Share { set: set_of(key), threshold, number: *number, points })
    });
    shares.collect::<Option<Vec<_>>>().ok_or(Error::Cryptography("splitting the unseal key"))
}

/// Shares that come in one by one, until there are enough.
#[derive(Default)]
pub struct Shares {
    given: BTreeMap<u8, Share>,
}

impl Shares {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many different shares came in.
    pub fn given(&self) -> usize {
        self.given.len()
    }

    /// How many are needed; `None`: no share came in that would say so.
    pub fn needed(&self) -> Option<u8> {
        self.given.values().next().map(|share| share.threshold)
    }

    /// Takes a share; gives the key once there are enough. The same share twice counts
    /// once. A key that the shares do not make up is refused, and all of them are forgotten.
    ///
    /// # Errors
    /// [`Error::Key`]: the share is of another key, or the shares do not fit together.
    pub fn add(&mut self, share: Share) -> Result<Option<UnsealKey>, Error> {
        let refused =
            |why: &str| Error::Key { place: format!("share {}", share.number), why: why.to_owned() };
        let first = self.given.values().next();
        if first.is_some_and(|first| first.set != share.set || first.threshold != share.threshold) {
            return Err(refused("it is a share of another key than those given before"));
        }
        let (threshold, set) = (share.threshold, share.set);
        self.given.insert(share.number, share);
        if self.given.len() < usize::from(threshold) {
            return Ok(None);
        }
        let given = std::mem::take(&mut self.given);
        let wrong = || Error::Key {
            place: "shares".to_owned(),
            why: "together they make no key: one of them is not what it was; begin again".to_owned(),
        };
        let points = given.values().map(|share| {
            let bytes = Zeroizing::new([&[share.number][..], &*share.points].concat());
            blahaj::Share::try_from(bytes.as_slice())
        });
        let points = points.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        let secret = Sharks(threshold).recover(&points).map(Zeroizing::new).map_err(|_| wrong())?;
        let key = <[u8; KEY_BYTES]>::try_from(secret.as_slice()).map_err(|_| wrong())?;
        let key = UnsealKey::from_bytes(key);
        if set_of(&key) != set { Err(wrong()) } else { Ok(Some(key)) }
    }
}
