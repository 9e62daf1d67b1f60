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

/// The id that follows `id`, of the same length. After the last one there is none other than a
/// longer one; no clock gets there before the year 10889.
#[must_use]
pub(crate) fn after(id: &str) -> String {
    let mut digits: Vec<u8> = id.bytes().collect();
    for digit in digits.iter_mut().rev() {
        let place = ALPHABET.iter().position(|known| known == digit);
        match place.and_then(|place| ALPHABET.get(place + 1)) {
            Some(next) => {
                *digit = *next;
                return digits.into_iter().map(char::from).collect();
            }
            None => *digit = ALPHABET[0],
        }
    }
    format!("{id}0")
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

    #[test]
    fn the_id_that_follows_is_the_next_higher_one() {
        for (id, next) in [("00", "01"), ("09", "0A"), ("0Z", "10"), ("AZZ", "B00"), ("ZZ", "ZZ0")]
        {
            assert_eq!(after(id), next);
            assert!(after(id).as_str() > id);
        }
    }
}
