//! Memory that the allocator keeps although nobody uses it.

/// Gives it back to the system. It takes milliseconds for each hundred megabytes, and whoever allocates meanwhile may
/// wait: for quiet moments.
#[allow(unsafe_code, reason = "the allocator has no other way in")]
pub fn trim() {
    // SAFETY: the C library's own function, which may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    fn resident() -> usize {
        let own = std::fs::read_to_string("/proc/self/statm").unwrap();
        own.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn holes_between_what_is_used_are_given_back() {
        const SIZE: usize = 32 * 1024;
        const COUNT: usize = 4000;
        let mut all: Vec<Vec<u8>> = (0..COUNT).map(|_| vec![1; SIZE]).collect();
        let kept: Vec<_> = all.iter_mut().step_by(8).map(std::mem::take).collect();
        drop(all);
        let before = resident();
        super::trim();
        let after = resident();
        assert!(after + COUNT * SIZE / 2 < before, "{before} then {after}");
        assert_eq!(kept.len(), COUNT / 8);
    }
}
