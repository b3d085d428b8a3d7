//! Password hashes that people brought along: good for one login, and ours from then on.

use crate::support::{Browser, TestBed};

/// Of [`crate::support::PASSWORD`], made by others: Keycloak, Python's `hashlib` and `bcrypt`.
const BY_OTHERS: [(&str, &str); 7] = [
    ("pbkdf2 sha1", "$pbkdf2-sha1$i=20000,l=20$AAECAwQFBgcICQoLDA0ODw$mDBWhAY1XkkOEOxzcRFoSuJ6yR0"),
    (
        "pbkdf2 sha256",
        "$pbkdf2-sha256$i=27500,l=64$AAECAwQFBgcICQoLDA0ODw$Ca/W1uHPdOF53bPWSQyrHQQPdk6KOe20VTbaw0U+WWswH2gciKNBqwk+H7RPgAmCshFAhVRLSSar72bo1/g8dA",
    ),
    (
        "pbkdf2 sha512",
        "$pbkdf2-sha512$i=210000,l=64$AAECAwQFBgcICQoLDA0ODw$tfP6dFnMFLm84erFFC/hWDzb6fAjAPCAs0RvJLiu5xYHfelPBTAEADgLVRgJzZ8bKvvUpW2nUExEbADbiezuPg",
    ),
    ("bcrypt", "$2b$10$Yz9aEteeeUZrEnGOvzJn7.ZfKUsFzRrIVAiHnUT39VGlAkovlNg/2"),
    ("bcrypt of PHP", "$2y$10$Yz9aEteeeUZrEnGOvzJn7.ZfKUsFzRrIVAiHnUT39VGlAkovlNg/2"),
    ("scrypt", "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$11kKyiyYAc8G7rp3KmncMc44YlkdllIqxOa7pq0fMaU"),
    (
        "argon2id of another cost",
        "$argon2id$v=19$m=7168,t=5,p=1$CZYDLEfAJ6MNg2FxG+kESQ$DCk1wa+32qUPUkC38GGLMuBFYLhbuh+PdCXl8RJpWWM",
    ),
];
/// What ours begin with.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

#[tokio::test]
async fn a_hash_of_another_program_is_replaced_at_the_first_login() {
    for (scheme, hash) in BY_OTHERS {
        let testbed = TestBed::new().await;
        testbed.realm.put_password_hash("alice", hash).await.unwrap();
        let kept = async || testbed.realm.password_hash("alice").await.unwrap().unwrap();
        let mut browser = Browser::new(&testbed);
        let page = browser.authorize("web", &[]).await;
        // A wrong password changes nothing, and is not taken.
        let page = browser.submit(&page, &[("username", "alice"), ("password", "correct horse")]).await;
        assert_eq!((page.status.as_u16(), kept().await), (401, hash.to_owned()), "{scheme}");
        assert!(browser.log_in(&page).await.answer().contains_key("code"), "{scheme}");
        let renewed = kept().await;
        assert!(renewed.starts_with(OURS), "{scheme}: {renewed}");
        // The session that the old hash opened goes on, and the new one opens another; it stays.
        assert!(browser.authorize("web", &[]).await.answer().contains_key("code"), "{scheme}");
        let mut other = Browser::new(&testbed);
        assert!(other.log_in_for("web", &[]).await.contains_key("code"), "{scheme}");
        assert_eq!(kept().await, renewed, "{scheme}");
    }
}
