//! Ids of records: ULIDs, which sort by the time that they were made.

/// Crockford's alphabet: no letter that is taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A new id at `now_ms`, 26 characters.
#[must_use]
pub fn new(now_ms: i64) -> String {
    let mut random = [0; 10];
    // Without randomness an id may come twice, which the store refuses. No secret hangs on it.
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "the system gives no random numbers");
    }
    let time = u128::try_from(now_ms).unwrap_or(0) & 0xffff_ffff_ffff;
    let value = random.iter().fold(time, |value, byte| (value << 8) | u128::from(*byte));
    let digit = |place: u32| {
        let digit = usize::try_from((value >> (5 * place)) & 0x1f).unwrap_or(0);
        char::from(ALPHABET[digit])
    };
    (0..26).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_do_not_repeat() {
        let ids = [new(0), new(1), new(1_767_229_200_000), new(i64::MAX >> 20)];
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 26));
        assert_ne!(new(5), new(5));
    }
}
