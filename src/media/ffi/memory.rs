//! The allocator's `unsafe` line.

/// Gives memory back to the system that was used by what is closed now.
///
/// A live run opens encoders and decoders again and again, for days; glibc keeps what they had in pieces, between which what
/// is small comes to lie, and the process grew by 3 MiB with every new file. Telling it to keep nothing
/// (`M_MMAP_THRESHOLD`) costs 8 ms a frame at 720p, for every picture is then new pages; this costs nothing but where
/// something is closed.
pub(in crate::media) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time from any thread; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
