//! Sparse maps: which parts of a file are stored.

use super::header::number;
use super::{BLOCK, Extent};
use crate::HeaderProblem;

/// Checks a map against the file's size and the bytes that are stored, and drops empty parts.
///
/// The parts must be in order and must not overlap, and together be exactly what is stored: a map never decides how much is allocated
/// (CVE-2025-58183).
pub(super) fn check(mut map: Vec<Extent>, size_bytes: u64, stored_bytes: u64) -> Result<Vec<Extent>, HeaderProblem> {
    let wrong = |what| HeaderProblem::SparseMap { what };
    let mut end = 0u64;
    let mut sum = 0u64;
    for part in &map {
        let part_end = part.offset.checked_add(part.length).ok_or(wrong("a part ends beyond all numbers"))?;
        if part.offset < end {
            return Err(wrong("its parts overlap or are out of order"));
        }
        if part_end > size_bytes {
            return Err(wrong("a part ends behind the file's end"));
        }
        end = part_end;
        // Cannot overflow: the parts do not overlap and end within a u64.
        sum += part.length;
    }
    if sum != stored_bytes {
        return Err(wrong("it does not add up to the stored bytes"));
    }
    map.retain(|part| part.length > 0);
    Ok(map)
}

/// Bytes of one part in GNU's old header and in the blocks that continue it.
const OLD_PART: usize = 24;

/// Appends the parts of an old GNU map that `area` holds; an unused part ends it.
pub(super) fn parse_old(area: &[u8], map: &mut Vec<Extent>) -> Result<(), HeaderProblem> {
    for part in area.chunks_exact(OLD_PART) {
        if part[0] == 0 || part[12] == 0 {
            break;
        }
        map.push(Extent { offset: positive(&part[..12])?, length: positive(&part[12..])? });
    }
    Ok(())
}

/// Where an old GNU header has its parts, the mark that more blocks follow, and the file's size.
pub(super) fn parse_old_header(block: &[u8; BLOCK]) -> Result<(Vec<Extent>, bool, u64), HeaderProblem> {
    let mut map = Vec::new();
    parse_old(&block[386..386 + 4 * OLD_PART], &mut map)?;
    Ok((map, block[482] != 0, positive(&block[483..495])?))
}

/// Parses one continuation block; whether another follows.
pub(super) fn parse_old_block(block: &[u8; BLOCK], map: &mut Vec<Extent>) -> Result<bool, HeaderProblem> {
    parse_old(&block[..21 * OLD_PART], map)?;
    Ok(block[21 * OLD_PART] != 0)
}

fn positive(field: &[u8]) -> Result<u64, HeaderProblem> {
    number(field).and_then(|value| value.try_into().ok()).ok_or(HeaderProblem::Number { field: "sparse" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(parts: &[(u64, u64)]) -> Vec<Extent> {
        parts.iter().map(|&(offset, length)| Extent { offset, length }).collect()
    }

    #[test]
    fn a_map_must_be_ordered_inside_the_file_and_complete() {
        for (parts, size, stored, good) in [
            (&[(0u64, 512u64), (1024, 512)][..], 2048, 1024, true),
            (&[(2048, 0)], 2048, 0, true),
            (&[], 1 << 60, 0, true),
            (&[(1024, 512), (0, 512)], 2048, 1024, false),
            (&[(0, 513), (512, 511)], 2048, 1024, false),
            (&[(2000, 100)], 2048, 100, false),
            (&[(u64::MAX, 2)], u64::MAX, 2, false),
            (&[(0, 512)], 2048, 1024, false),
        ] {
            assert_eq!(check(map(parts), size, stored).is_ok(), good, "{parts:?}");
        }
        assert_eq!(check(map(&[(0, 1), (5, 0), (7, 1)]), 9, 2).unwrap(), map(&[(0, 1), (7, 1)]));
    }
}
