//! Who may use a file besides its owner, where an access control list says more than the mode (acl(5)).
//!
//! With a list, the group's bits of the mode are the most that the list grants anybody, and say nothing of the
//! group. systemd gives a credential to the user of a service this way: owned by root, mode 0440, with a list that
//! names this user.

use std::fs::File;

/// The list, as the kernel shows it.
const LIST: &str = "system.posix_acl_access";
/// The largest list that is read, bytes: some 500 entries.
const LIST_BYTES_MAX: usize = 4 * 1024;
/// The one version of its form.
const VERSION: u32 = 2;
/// Bytes of an entry: tag and permissions of 16 bits each, the id of 32.
const ENTRY_BYTES: usize = 8;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const MASK: u16 = 0x10;

/// Whether the group's bits of the file's mode are there for `user` (or root) alone: by a list that grants nothing
/// to any group, to everybody else, or to another user. False without a list.
pub(super) fn is_for_user_alone(file: &File, user: u32) -> bool {
    let mut list = [0; LIST_BYTES_MAX];
    let length = rustix::fs::fgetxattr(file, LIST, &mut list).unwrap_or(0);
    list.get(..length).is_some_and(|list| grants_user_alone(list, user))
}

/// The same of the list itself.
pub(super) fn grants_user_alone(list: &[u8], user: u32) -> bool {
    let Some((version, entries)) = list.split_first_chunk() else { return false };
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    let mut has_mask = false;
    let each = entries.iter().all(|[tag0, tag1, may0, may1, id @ ..]| {
        let (tag, may) = (u16::from_le_bytes([*tag0, *tag1]), u16::from_le_bytes([*may0, *may1]));
        has_mask |= tag == MASK;
        match tag {
            // The file's owner is judged as such; the mask grants nothing.
            OWNER | MASK => true,
            USER => may == 0 || [0, user].contains(&u32::from_le_bytes(*id)),
            // A group, everybody else, or what is not known here.
            _ => may == 0,
        }
    });
    u32::from_le_bytes(*version) == VERSION && rest.is_empty() && has_mask && each
}
