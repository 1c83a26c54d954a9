//! Sets of CPUs or memory nodes, as lists of numbers and ranges: `0-3,7`.

/// The largest number that is taken, as with runc: a bound on what a bogus list costs.
const LARGEST: usize = 64 * 1024;

/// A set of small numbers, as the bits that system calls take. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberSet(Vec<u64>);

impl NumberSet {
    /// Reads a list. Blanks around its members and empty members are allowed; `None` is a list that nobody gave.
    pub fn parse(list: &str) -> Result<Option<Self>, String> {
        if list.is_empty() {
            return Ok(None);
        }
        let mut words = Vec::new();
        for member in list.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let (first, last) = match member.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(member)?, number(member)?),
            };
            if first > last {
                return Err(format!("invalid range: {member}"));
            }
            words.resize(words.len().max(last / 64 + 1), 0);
            for one in first..=last {
                words[one / 64] |= 1 << (one % 64);
            }
        }
        if words.is_empty() { Err(format!("no members found in set {list:?}")) } else { Ok(Some(Self(words))) }
    }

    /// How many are in it.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Its bits, the lowest number first.
    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

fn number(text: &str) -> Result<usize, String> {
    // No sign, which the standard library would take.
    match text.parse() {
        Ok(number) if number > LARGEST => Err(format!("values larger than {LARGEST} are not supported")),
        Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(format!("{text:?} is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_as_runc_reads_them() {
        let words = |list| NumberSet::parse(list).map(|set| set.map(|set| set.0));
        assert_eq!(words(""), Ok(None));
        assert_eq!(words("0"), Ok(Some(vec![1])));
        assert_eq!(words("0-3,5 , 64,,"), Ok(Some(vec![0b10_1111, 1])));
        for (list, error) in [
            (",", "no members found in set \",\""),
            ("3-1", "invalid range: 3-1"),
            ("-1", "\"\" is no number"),
            ("+1", "\"+1\" is no number"),
            ("a", "\"a\" is no number"),
            ("1-2-3", "\"2-3\" is no number"),
            ("65537", "values larger than 65536 are not supported"),
        ] {
            assert_eq!(words(list), Err(error.to_owned()), "{list}");
        }
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_listed(numbers in proptest::collection::btree_set(0usize..300, 1..20)) {
            let list: Vec<_> = numbers.iter().map(usize::to_string).collect();
            let set = NumberSet::parse(&list.join(",")).unwrap().unwrap();
            let held: Vec<_> = (0..set.words().len() * 64).filter(|one| set.words()[one / 64] >> (one % 64) & 1 == 1).collect();
            prop_assert_eq!(held, Vec::from_iter(numbers));
        }

        #[test]
        fn no_list_is_too_much(list in "[0-9, -]{0,12}") {
            if let Ok(Some(set)) = NumberSet::parse(&list) {
                prop_assert!(set.words().len() <= LARGEST / 64 + 1);
            }
        }
    }
}
