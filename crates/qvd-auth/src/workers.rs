//! Threads that hash, as long as there is something to hash.
//!
//! A thread owns the memory of its hash and ends with it when nothing came for a while, so that a process in which
//! nobody logs in holds none. The memory is a mapping of its own: the allocator would keep blocks of this size.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::Block;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A thread that had nothing to do for this long ends.
const REST: Duration = Duration::from_secs(3);

/// What a thread does with its memory.
pub(crate) type Job = Box<dyn FnOnce(&mut [Block]) + Send>;

/// Up to `most` threads, each with memory of `blocks`.
#[derive(Debug)]
pub(crate) struct Workers {
    state: Mutex<State>,
    work: Condvar,
    most: usize,
    blocks: usize,
    rest: Duration,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} jobs, {} threads, {} idle", self.jobs.len(), self.threads, self.idle)
    }
}

impl Workers {
    pub(crate) fn new(most: usize, blocks: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            most: most.max(1),
            blocks,
            rest: REST,
        })
    }

    /// Has a thread do this, after what others have asked for. Fails where there is no thread and the system gives
    /// none.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.jobs.len() > state.idle && state.threads < self.most {
            match self.start() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.jobs.pop_back();
                    return Err(error);
                }
                // Those that there are do it.
                Err(_) => {}
            }
        }
        self.work.notify_one();
        Ok(())
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let memory = Memory::new(self.blocks)?;
        let workers = self.clone();
        let run = move || workers.run(memory);
        std::thread::Builder::new().name("password".to_owned()).spawn(run).map(drop)
    }

    fn run(&self, mut memory: Memory) {
        while let Some(job) = self.next() {
            // A job that panics answers nobody, and takes no thread along.
            let _ = catch_unwind(AssertUnwindSafe(|| job(memory.blocks())));
        }
    }

    /// The next job; `None` after a rest without one, and then the thread no longer counts.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let waited = self.work.wait_timeout_while(state, self.rest, |state| state.jobs.is_empty());
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mapping of zeros that nobody else has, given back to the system with this.
struct Memory {
    start: NonNull<Block>,
    blocks: usize,
}

#[allow(unsafe_code, reason = "memory that goes back to the system needs a mapping")]
mod mapping {
    use super::*;

    // SAFETY: nobody but its owner knows the mapping, and it is bound to no thread.
    unsafe impl Send for Memory {}

    impl Memory {
        pub(super) fn new(blocks: usize) -> io::Result<Self> {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            let bytes = blocks.saturating_mul(size_of::<Block>());
            // SAFETY: a new mapping anywhere touches none that there is.
            let start = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) }?;
            let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { start, blocks })
        }

        pub(super) fn blocks(&mut self) -> &mut [Block] {
            // SAFETY: the mapping is ours alone, as long as the borrow of `self`, readable and writable, that many
            // blocks long, and begins at a page, which satisfies the alignment of a block. A block is made of
            // integers, so whatever bytes it holds are a value; the system gave it as zeros.
            unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.blocks) }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: exactly the mapping that `new` made, and no borrow of it is left. That it goes cannot fail.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.blocks * size_of::<Block>()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn workers(most: usize, rest: Duration) -> Arc<Workers> {
        Arc::new(Workers { state: Mutex::default(), work: Condvar::new(), most, blocks: 16, rest })
    }

    #[test]
    fn no_more_threads_run_than_allowed_and_all_jobs_are_done_in_order() {
        let workers = workers(1, Duration::from_secs(3600));
        let (done, seen) = mpsc::channel();
        for number in 0..50 {
            let done = done.clone();
            let job = move |memory: &mut [Block]| done.send((number, memory.len())).unwrap();
            workers.submit(Box::new(job)).unwrap();
            assert_eq!(workers.lock().threads, 1);
        }
        let all: Vec<_> = seen.iter().take(50).collect();
        assert_eq!(all, (0..50).map(|number| (number, 16)).collect::<Vec<_>>());
    }

    #[test]
    fn as_many_jobs_as_threads_run_at_the_same_time() {
        let workers = workers(2, Duration::from_secs(3600));
        let meeting = Arc::new(std::sync::Barrier::new(2));
        let (done, seen) = mpsc::channel();
        for _ in 0..2 {
            let (meeting, done) = (meeting.clone(), done.clone());
            let job = move |_: &mut [Block]| {
                meeting.wait();
                done.send(()).unwrap();
            };
            workers.submit(Box::new(job)).unwrap();
        }
        assert_eq!(seen.iter().take(2).count(), 2);
    }

    #[test]
    fn a_thread_without_work_ends_and_another_one_comes_for_more() {
        let workers = workers(1, Duration::ZERO);
        for _ in 0..3 {
            let (done, seen) = mpsc::channel();
            workers.submit(Box::new(move |_| done.send(()).unwrap())).unwrap();
            seen.recv().unwrap();
            while workers.lock().threads > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_job_that_panics_takes_no_thread_along() {
        let workers = workers(1, Duration::from_secs(3600));
        let (done, seen) = mpsc::channel();
        workers.submit(Box::new(|_| panic!("on purpose"))).unwrap();
        workers.submit(Box::new(move |_| done.send(()).unwrap())).unwrap();
        seen.recv().unwrap();
    }

    #[test]
    fn memory_is_given_back_to_the_system() {
        let resident = || {
            let own = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = own.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
        };
        const BLOCKS: usize = 256 * 1024;
        let before = resident();
        let mut memory = Memory::new(BLOCKS).unwrap();
        memory.blocks().fill(Block::new());
        assert!(resident() > before + BLOCKS / 2, "it is not used");
        drop(memory);
        assert!(resident() < before + BLOCKS / 2, "it stays");
    }
}
