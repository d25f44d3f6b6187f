//! Waiting for a program: until it ends, its time is over, it prints without end, its output folder is full, or it has taken
//! too much memory.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{SIGNALLED, memory};
use crate::hook::Limits;

/// The most that a program may print, to each of its two streams.
pub(super) const STREAM_BYTES_MAX: u64 = 1 << 20;
/// How much of the end of standard error is told.
const TOLD_BYTES: usize = 2_000;
/// The time between two looks at the output folder.
const LOOK: Duration = Duration::from_millis(20);
/// How long the streams may outlive the program.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// A program that is about to run.
#[derive(Debug)]
pub(super) struct Started {
    /// What is started; when it is killed, what runs in it dies too.
    pub(super) command: Command,
    /// What has to be run afterwards, so that nothing survives.
    pub(super) end: Option<Command>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this code; 128 and more is a signal.
    Exit(i32),
    /// It was killed: it took too long.
    TimedOut,
    /// It was killed: it printed too much.
    Flood,
    /// It was killed: it wrote too much.
    Full,
    /// It was killed: its processes together had too much memory.
    Memory,
}

/// Starts a program and waits for its end; gives the last lines of its standard error, too.
pub(super) fn run(
    started: Started,
    limits: Limits,
    is_full: impl Fn() -> bool,
) -> io::Result<(End, String)> {
    let Started { mut command, end: after } = started;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command.spawn()?, after);
    let mut look_at = now();
    let deadline = look_at.checked_add(limits.run_max);
    let end = loop {
        running.read(LOOK)?;
        if let Some(status) = running.child.try_wait()? {
            running.drain()?;
            let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or(0));
            // What it could not write may be why it failed.
            break if is_full() { End::Full } else { End::Exit(code) };
        }
        if running.has_flooded() {
            break End::Flood;
        }
        let at = now();
        if at < look_at {
            continue;
        }
        look_at = at + LOOK;
        if is_full() {
            break End::Full;
        }
        if memory::resident(running.child.id()) > limits.memory_bytes_max {
            break End::Memory;
        }
        if deadline.is_some_and(|deadline| at >= deadline) {
            break End::TimedOut;
        }
    };
    running.end();
    Ok((end, running.told()))
}

/// A program that runs; it is killed with the value.
struct Running {
    child: Child,
    after: Option<Command>,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

impl Running {
    fn start(mut child: Child, after: Option<Command>) -> Self {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Self { child, after, stdout: Stream::new(stdout), stderr: Stream::new(stderr) }
    }

    /// Takes what the streams have, waiting for something at most so long.
    fn read(&mut self, wait: Duration) -> io::Result<()> {
        let fds = [
            self.stdout.pipe.as_ref().map(AsFd::as_fd),
            self.stderr.pipe.as_ref().map(AsFd::as_fd),
        ];
        let mut fds: Vec<_> =
            fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if fds.is_empty() {
            std::thread::sleep(wait);
            return Ok(());
        }
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, wait) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        self.stdout.read()?;
        self.stderr.read()
    }

    /// Takes what is left in the streams of a program that has ended.
    fn drain(&mut self) -> io::Result<()> {
        let deadline = now() + DRAIN_MAX;
        while (self.stdout.pipe.is_some() || self.stderr.pipe.is_some()) && now() < deadline {
            self.read(LOOK)?;
        }
        Ok(())
    }

    fn has_flooded(&self) -> bool {
        self.stdout.bytes > STREAM_BYTES_MAX || self.stderr.bytes > STREAM_BYTES_MAX
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What the program has started dies a moment later; who holds a stream is not dead yet.
        let _ = self.drain();
        if let Some(mut after) = self.after.take() {
            let silent = after.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let deadline = now() + DRAIN_MAX;
            // It fails as long as something that was killed is not dead yet.
            while !silent.status().is_ok_and(|status| status.success()) && now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
    }

    fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr.last);
        let text: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        text.trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a program prints to: counted, and its end kept.
struct Stream<P> {
    pipe: Option<P>,
    bytes: u64,
    last: Vec<u8>,
}

impl<P: Read + AsFd> Stream<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, bytes: 0, last: Vec::new() }
    }

    /// Takes what is there, without waiting.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO)? == 0 {
            return Ok(());
        }
        let mut buffer = [0; 1 << 16];
        let read = pipe.read(&mut buffer)?;
        if read == 0 {
            self.pipe = None;
        }
        self.bytes += read as u64;
        self.last.extend_from_slice(&buffer[..read]);
        self.last.drain(..self.last.len().saturating_sub(TOLD_BYTES));
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "it bounds another process, in real time")]
fn now() -> Instant {
    Instant::now()
}
