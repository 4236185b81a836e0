//! Whole numbers: as they are typed in flags and variables, and as they are left out on the wire.

use std::num::IntErrorKind;
use std::ops::RangeInclusive;

/// Reads a whole number.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the standard library's list is open"
)]
pub fn whole_number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => "is too large".to_owned(),
        _ => "expected a whole number".to_owned(),
    })?;
    T::try_from(number).map_err(|_| "is too large".to_owned())
}

/// Returns a reader of whole numbers in this range.
pub fn whole_number_in(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| {
        let number = whole_number(text)?;
        let problem = || {
            format!(
                "expected a whole number from {} to {}",
                range.start(),
                range.end()
            )
        };
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(problem())
        }
    }
}

/// Returns whether a field is left out on the wire, which then stands for 0.
pub const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_anything_else_is_named() {
        assert_eq!(whole_number("42"), Ok(42_u64));
        assert_eq!(whole_number("0"), Ok(0_usize));
        for text in ["x", "", "-1", "1.5", "1e3", "１"] {
            assert_eq!(
                whole_number::<u64>(text),
                Err("expected a whole number".to_owned()),
                "{text:?}"
            );
        }
        assert_eq!(
            whole_number::<u64>("99999999999999999999"),
            Err("is too large".to_owned())
        );
        assert_eq!(
            whole_number::<u32>("4294967296"),
            Err("is too large".to_owned())
        );
    }

    #[test]
    fn a_range_is_kept_to() {
        let read = whole_number_in(1..=1_000);
        assert_eq!((read("1"), read("1000")), (Ok(1), Ok(1_000)));
        assert_eq!(
            read("0"),
            Err("expected a whole number from 1 to 1000".to_owned())
        );
        assert_eq!(read("x"), Err("expected a whole number".to_owned()));
    }
}
