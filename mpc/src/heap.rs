//! How the process's allocator treats what is freed. Operators free and take columns of many megabytes;
//! an allocator that hands each back to the system pays a page fault for every page of the next one,
//! which is a tenth of a sort's time.

/// Freed memory up to a gigabyte stays with the process for the next operator. For the main function of
/// a program that computes; does nothing but with glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// What glibc takes at most.
        const MMAP_THRESHOLD: libc::c_int = 32 << 20;
        const TRIM_THRESHOLD: libc::c_int = 1 << 30;
        #[allow(unsafe_code)]
        // SAFETY: takes two numbers; glibc may be told at any time, and refuses what it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        }
    }
}

/// Hands freed memory back to the system, when nothing is left to compute.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: takes a number; touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
