//! Users and groups as the image itself names them.
//!
//! `/etc/passwd` and `/etc/group` come out of the image and are parsed here. Parsing is bounded, and a line that makes
//! no sense is passed over, as in the C library. Names mean what the *image* says they mean, never what the host says.

use crate::RunError;

/// Longest `/etc/passwd` or `/etc/group` that is looked at: some thousand times what images have, and no burden.
pub const MAX_ACCOUNT_FILE: u64 = 4 << 20;
/// Most supplementary groups of a process; the kernel's own limit (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;
/// Largest id; 2^32 - 1 means "unchanged" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// Who the process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Finds out what `USER[:GROUP]` means, given the image's account files. An empty text is user 0.
///
/// The rules are those of other container tools. A number is always an id and needs no account. A user without an
/// account has group 0. An explicit group replaces the user's supplementary groups.
///
/// # Errors
/// If a name has no account.
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, RunError> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, group),
        None => (user, ""),
    };
    let account = find_user(user_part, passwd)?;
    let (gid, groups) = if group_part.is_empty() {
        let member = |row: &GroupRow<'_>| account.name.is_some_and(|name| row.members().any(|member| member == name));
        let groups = groups(group).filter(member).map(|row| row.gid).take(MAX_GROUPS).collect();
        (account.gid, groups)
    } else {
        (find_group(group_part, group)?, Vec::new())
    };
    let home = account.home.and_then(|home| std::str::from_utf8(home).ok()).filter(|home| home.starts_with('/'));
    Ok(Identity { uid: account.uid, gid, groups, home: home.unwrap_or("/").to_owned() })
}

/// One line of `/etc/passwd`, or a user without one.
#[derive(Debug, Clone, Copy)]
struct Account<'a> {
    name: Option<&'a [u8]>,
    uid: u32,
    gid: u32,
    home: Option<&'a [u8]>,
}

fn find_user<'a>(user: &str, passwd: &'a [u8]) -> Result<Account<'a>, RunError> {
    let number = if user.is_empty() { Some(0) } else { id(user.as_bytes()) };
    let found = accounts(passwd).find(|account| match number {
        Some(number) => account.uid == number,
        None => account.name == Some(user.as_bytes()),
    });
    match (found, number) {
        (Some(account), _) => Ok(account),
        (None, Some(uid)) => Ok(Account { name: None, uid, gid: 0, home: None }),
        (None, None) => Err(RunError::NoAccount { what: "user", name: user.to_owned(), file: "/etc/passwd" }),
    }
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, RunError> {
    if let Some(gid) = id(name.as_bytes()) {
        return Ok(gid);
    }
    let found = groups(group).find(|row| row.name == name.as_bytes());
    found.map(|row| row.gid).ok_or_else(|| RunError::NoAccount {
        what: "group",
        name: name.to_owned(),
        file: "/etc/group",
    })
}

fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        let (_comment, home) = (fields.next(), fields.next());
        Some(Account { name: Some(name), uid, gid, home })
    })
}

struct GroupRow<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> GroupRow<'a> {
    fn members(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.members.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
    }
}

fn groups(group: &[u8]) -> impl Iterator<Item = GroupRow<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = id(fields.next()?)?;
        Some(GroupRow { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// Parses an id: decimal digits only, so `+1` or ` 1` stay names.
fn id(digits: &[u8]) -> Option<u32> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\n# comment\nbroken:x\nredis:x:999:998::/var/lib/redis:/sbin/nologin\nrelative:x:7:7::home:\nlast:x:8:9";
    const GROUP: &[u8] = b"root:x:0:\nredis:x:998:\nadm:x:4:other, redis\nbad:x:many:redis\ntty:x:5:redis,root\n";

    fn identity(user: &str) -> Identity {
        resolve(user, PASSWD, GROUP).unwrap()
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let expected = Identity { uid: 999, gid: 998, groups: vec![4, 5], home: "/var/lib/redis".into() };
        assert_eq!(identity("redis"), expected);
        assert_eq!(identity("999"), expected);
    }

    #[test]
    fn no_user_is_root_even_without_account_files() {
        assert_eq!(identity(""), Identity { uid: 0, gid: 0, groups: vec![5], home: "/root".into() });
        let bare = resolve("", b"", b"").unwrap();
        assert_eq!(bare, Identity { uid: 0, gid: 0, groups: vec![], home: "/".into() });
    }

    #[test]
    fn an_explicit_group_replaces_the_supplementary_ones() {
        assert_eq!(identity("redis:tty"), Identity { gid: 5, groups: vec![], ..identity("redis") });
        assert_eq!(identity("redis:77").gid, 77);
        assert_eq!(identity("1234:adm"), Identity { uid: 1234, gid: 4, groups: vec![], home: "/".into() });
    }

    #[test]
    fn a_number_needs_no_account_and_a_name_does() {
        assert_eq!(identity("1234"), Identity { uid: 1234, gid: 0, groups: vec![], home: "/".into() });
        for user in ["nobody", "redis:nogroup", "4294967295", "-1", "+1"] {
            assert!(resolve(user, PASSWD, GROUP).is_err(), "{user}");
        }
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert!(resolve("broken", PASSWD, GROUP).is_err());
        assert_eq!(identity("relative").home, "/");
        assert_eq!((identity("last").uid, identity("last").gid), (8, 9));
    }
}
