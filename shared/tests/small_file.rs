//! Tests for small files: which are read, and which are refused.
#![cfg(feature = "codec")]
#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails fails the test that called it"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use soramode_protocol::small_file::{Guard, read, read_text};

const MAX: u64 = 16;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("soramode-small-file-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, bytes: &[u8], bits: u32) -> PathBuf {
        let path = self.0.join("file");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        path
    }

    fn uid(&self) -> u32 {
        fs::metadata(&self.0).unwrap().uid()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_file_is_read_up_to_its_limit_and_without_a_byte_order_mark() {
    let folder = Folder::new("limit");
    assert_eq!(
        read(&folder.file(&[7; 16], 0o644), MAX, Guard::Nothing)
            .unwrap()
            .len(),
        16
    );
    assert_eq!(
        read(&folder.file(&[7; 17], 0o644), MAX, Guard::Nothing).unwrap_err(),
        "has more than 16 bytes"
    );
    assert_eq!(
        read_text(
            &folder.file("\u{feff}token\n".as_bytes(), 0o600),
            MAX,
            Guard::Nothing
        )
        .unwrap(),
        "token\n"
    );
    assert_eq!(
        read_text(&folder.file(&[0xff], 0o600), MAX, Guard::Nothing).unwrap_err(),
        "is not text in UTF-8"
    );
    assert!(
        read(Path::new("/nonexistent"), MAX, Guard::Nothing)
            .unwrap_err()
            .starts_with("cannot be read: ")
    );
    assert_eq!(
        read(&folder.0, MAX, Guard::Nothing).unwrap_err(),
        "is not a regular file"
    );
}

#[test]
fn a_named_pipe_does_not_block() {
    let folder = Folder::new("pipe");
    let pipe = folder.0.join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let uid = folder.uid();
    for guard in [Guard::Nothing, Guard::Owner { uid }, Guard::Writers { uid }] {
        assert_eq!(
            read(&pipe, MAX, guard).unwrap_err(),
            "is not a regular file"
        );
    }
}

#[test]
fn permissions_that_are_too_open_are_refused() {
    let folder = Folder::new("bits");
    let uid = folder.uid();
    let takes = |guard: Guard, bits: u32| read(&folder.file(b"x", bits), MAX, guard);
    for (guard, good, wrong) in [
        (
            Guard::Owner { uid },
            &[0o600, 0o400][..],
            &[0o640, 0o604, 0o622][..],
        ),
        (
            Guard::Group { uid },
            &[0o600, 0o640],
            &[0o644, 0o660, 0o602],
        ),
        (Guard::Writers { uid }, &[0o600, 0o644, 0o664], &[0o666]),
    ] {
        for bits in good {
            takes(guard, *bits).unwrap();
        }
        for bits in wrong {
            let told = takes(guard, *bits).unwrap_err();
            assert!(
                told.contains(&format!("permissions too open ({bits:04o}); run: chmod 0")),
                "{told}"
            );
        }
    }
    let other = Guard::Owner { uid: uid + 1 };
    // Root's are taken from any user.
    assert_eq!(takes(other, 0o600).is_ok(), uid == 0);
    if uid == 0 {
        let path = folder.file(b"x", 0o600);
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        let told = read(&path, MAX, Guard::Owner { uid }).unwrap_err();
        assert!(
            told.starts_with("belongs to another user (uid 65534); run this command as that user (sudo -u '#65534'), or: chown 0 "),
            "{told}"
        );
    }
}
