//! The allocator of a small program, and the size of its heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// An allocator for a program that lives for some milliseconds: the first 64 KiB come out of an area of the program itself, one after the other, and
/// only the last piece can be given back. What does not fit comes from the C library, which asks the kernel for every few pages.
#[derive(Debug)]
pub struct QuickHeap;

const AREA_BYTES: usize = 64 * 1024;

#[repr(align(4096))]
struct Area(UnsafeCell<[MaybeUninit<u8>; AREA_BYTES]>);

// SAFETY: pieces of it are handed out once each, by an atomic counter.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([MaybeUninit::uninit(); AREA_BYTES]));
/// How much of the area is in use.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Whether nothing more is taken out of the area.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

fn area() -> *mut u8 {
    AREA.0.get().cast()
}

/// Where in the area a piece begins.
fn place(piece: *mut u8) -> Option<usize> {
    piece.addr().checked_sub(area().addr()).filter(|&at| at < AREA_BYTES)
}

/// Changes the end of what is in use, unless somebody else did.
fn move_end(from: usize, to: usize) -> bool {
    USED.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn take(layout: Layout) -> Option<*mut u8> {
    loop {
        let used = USED.load(Ordering::Acquire);
        // The area is aligned to a page, so an aligned offset is an aligned address.
        let at = used.checked_next_multiple_of(layout.align())?;
        let end = at.checked_add(layout.size()).filter(|&end| end <= AREA_BYTES)?;
        if layout.align() > 4096 || IS_CLOSED.load(Ordering::Relaxed) {
            return None;
        }
        if move_end(used, end) {
            // SAFETY: `at` is below the size of the area, or equal to it for a piece of no bytes.
            return Some(unsafe { area().add(at) });
        }
    }
}

// SAFETY: a piece is either one of the area that nobody else has, as the counter went past it by one atomic step, or one of the system's allocator,
// which gets back what is its own: `place` tells them apart, since no allocation of the system's lies in a static of ours.
unsafe impl GlobalAlloc for QuickHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match place(piece) {
            // Of pieces in the middle nothing is kept.
            Some(at) => drop(move_end(at + layout.size(), at)),
            // SAFETY: the caller's promises are passed on; it is not of the area, so it is the system's.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(at) = place(piece) else {
            // SAFETY: the caller's promises are passed on; it is not of the area, so it is the system's.
            return unsafe { System.realloc(piece, layout, size) };
        };
        let end = at.checked_add(size).filter(|&end| end <= AREA_BYTES);
        if end.is_some_and(|end| move_end(at + layout.size(), end)) || size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that the size, rounded up to the alignment, is no overflow; the new piece, if there is one, has room for the
        // old one's bytes and is another.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(piece, new, layout.size());
            }
            new
        }
    }
}

/// Makes free memory go back to the kernel early: nothing more comes out of a [`QuickHeap`]'s area; with glibc, blocks from `threshold_bytes` up are
/// mapped by themselves and unmapped when freed, and a free top of the heap larger than that is given back. musl's allocator is such by nature.
///
/// For a process of which many copies run for a long time and that works rarely.
pub fn keep_small(threshold_bytes: i32) {
    IS_CLOSED.store(true, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two integers and only sets parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, threshold_bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, threshold_bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = threshold_bytes;
}

/// Gives free memory of the heap back to the kernel now; what musl's allocator frees is back already.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer and releases memory that nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// One test, since there is one area.
    #[test]
    fn pieces_do_not_overlap_the_last_grows_in_place_and_what_does_not_fit_is_the_systems() {
        // SAFETY: every piece is used within its layout, and given back with it.
        unsafe {
            let first = QuickHeap.alloc(layout(3, 1));
            let second = QuickHeap.alloc(layout(16, 16));
            assert_eq!((place(first), place(second)), (Some(0), Some(16)));
            second.write_bytes(7, 16);
            let grown = QuickHeap.realloc(second, layout(16, 16), 64);
            assert_eq!(grown, second);
            first.write_bytes(1, 3);
            let moved = QuickHeap.realloc(first, layout(3, 1), 40);
            assert_eq!(place(moved), Some(80));
            assert_eq!(std::slice::from_raw_parts(moved, 3), [1, 1, 1]);
            assert_eq!(std::slice::from_raw_parts(grown, 16), [7; 16]);
            QuickHeap.dealloc(moved, layout(40, 1));
            assert_eq!(place(QuickHeap.alloc(layout(8, 8))), Some(80));
            let large = QuickHeap.alloc(layout(AREA_BYTES, 8));
            assert_eq!(place(large), None);
            QuickHeap.dealloc(large, layout(AREA_BYTES, 8));
            // A piece that outgrows the area is copied out of it.
            let outside = QuickHeap.realloc(grown, layout(64, 16), AREA_BYTES);
            assert_eq!(place(outside), None);
            assert_eq!(std::slice::from_raw_parts(outside, 16), [7; 16]);
            QuickHeap.dealloc(outside, layout(AREA_BYTES, 16));
            keep_small(64 * 1024);
            let later = QuickHeap.alloc(layout(8, 8));
            assert_eq!(place(later), None);
            QuickHeap.dealloc(later, layout(8, 8));
        }
    }
}
