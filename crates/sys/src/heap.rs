//! The size of the allocator's heap.

/// Makes free memory go back to the kernel early: blocks from `threshold_bytes` up are mapped by themselves and unmapped when freed,
/// and a free top of the heap larger than that is given back.
///
/// For a process of which many copies run for a long time and that works rarely.
#[cfg(target_env = "gnu")]
pub fn keep_small(threshold_bytes: i32) {
    // SAFETY: mallopt(3) takes two integers and only sets parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, threshold_bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, threshold_bytes);
    }
}

/// Gives free memory of the heap back to the kernel now.
#[cfg(target_env = "gnu")]
pub fn trim() {
    // SAFETY: malloc_trim(3) takes an integer and releases memory that nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
