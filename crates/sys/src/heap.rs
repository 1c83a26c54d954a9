//! The size of the allocator's heap.

/// Makes free memory go back to the kernel early: blocks from `threshold_bytes` up are mapped by themselves and unmapped when freed,
/// and a free top of the heap larger than that is given back. musl's allocator is such by nature and needs no word.
///
/// For a process of which many copies run for a long time and that works rarely.
pub fn keep_small(threshold_bytes: i32) {
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
