//! What a process uses of its host.

use std::{fs, io, time::Duration};

use super::{Stat, proc_dir, status_field};

/// What a process uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is in use, in bytes.
    pub rss_bytes: u64,
    /// Processor time since its start, of all its threads.
    pub cpu: Duration,
    /// Open files.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Looks at a process. Its files can be counted by its own user only.
    ///
    /// # Errors
    /// When there is none of this pid, or it may not be looked at.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        let status = fs::read_to_string(proc_dir(pid).join("status"))?;
        let number = |name| {
            let word = status_field(&status, name).and_then(|field| field.split_whitespace().next());
            word.and_then(|word| word.parse::<u64>().ok())
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(Self {
            rss_bytes: number("VmRSS:")? * 1024,
            cpu: ticks(stat.cpu_ticks),
            files: fs::read_dir(proc_dir(pid).join("fd"))?.count() as u64,
            threads: number("Threads:")?,
        })
    }
}

fn ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / per_second)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, hint::black_box, time::Instant};

    use super::*;

    #[test]
    fn a_process_that_works_uses_more() {
        let pid = nix::unistd::getpid().as_raw();
        let before = Usage::of(pid).unwrap();
        assert!(before.rss_bytes > 100_000 && before.threads >= 1, "{before:?}");
        // Far more than the other tests of this process open and close beside it.
        let _files: Vec<File> = (0..200).map(|_| File::open("/proc/self/stat").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            black_box((0..1_000_000_u64).map(black_box).sum::<u64>());
            let now = Usage::of(pid).unwrap();
            let more = now.files >= before.files + 100 && now.rss_bytes > before.rss_bytes + (32 << 20);
            if more && now.cpu > before.cpu {
                break;
            }
            assert!(Instant::now() < give_up, "{before:?}, {now:?}");
        }
        drop(memory);
    }

    #[test]
    fn ticks_are_parts_of_a_second() {
        let per_second = rustix::param::clock_ticks_per_second();
        assert_eq!(ticks(per_second * 3 + per_second / 2), Duration::from_millis(3500));
    }
}
