//! Small things as people read them: modes, times, types.

use std::fmt;

use dimsum_tree::FileType;

/// Type and permissions as `ls -l` shows them: `drwxr-sr-t`.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// What it is.
    pub file_type: FileType,
    /// The lower 12 bits of `st_mode`.
    pub permissions: u16,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.file_type {
            FileType::Regular => '-',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::CharDevice => 'c',
            FileType::BlockDevice => 'b',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
        };
        write!(f, "{letter}")?;
        for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = self.permissions >> shift;
            let execute = match (self.permissions & special != 0, bits & 1 != 0) {
                (false, false) => '-',
                (false, true) => 'x',
                (true, false) => set.to_ascii_uppercase(),
                (true, true) => set,
            };
            let read = if bits & 4 != 0 { 'r' } else { '-' };
            let write = if bits & 2 != 0 { 'w' } else { '-' };
            write!(f, "{read}{write}{execute}")?;
        }
        Ok(())
    }
}

/// The name of a type in JSON and in tables.
#[must_use]
pub const fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::CharDevice => "char device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}

/// Seconds since 1970 as `2024-02-29 23:59:59`, in UTC: the image is the same everywhere, so is its listing.
#[derive(Debug, Clone, Copy)]
pub struct UtcTime(pub i64);

/// Seconds of a day.
const DAY: i64 = 86_400;

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        let second = self.0.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// Turns days since 1970 into a date of the Gregorian calendar, for every `i64` of seconds.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years = 146,097 days.
const fn civil(days: i64) -> (i64, i64, i64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const TO_EPOCH: i64 = 719_468;
    const ERA: i64 = 146_097;
    let days = days + TO_EPOCH;
    let (era, of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        let show = |file_type, permissions| Mode { file_type, permissions }.to_string();
        assert_eq!(show(FileType::Regular, 0o4755), "-rwsr-xr-x");
        assert_eq!(show(FileType::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(show(FileType::Directory, 0o7000), "d--S--S--T");
        assert_eq!(show(FileType::Fifo, 0o640), "prw-r-----");
    }

    #[test]
    fn times_are_right_before_and_after_1970() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-62_167_219_200, "0000-01-01 00:00:00"),
        ] {
            assert_eq!(UtcTime(seconds).to_string(), text);
        }
        // The far ends must not overflow.
        let _far = (UtcTime(i64::MIN).to_string(), UtcTime(i64::MAX).to_string());
    }
}
