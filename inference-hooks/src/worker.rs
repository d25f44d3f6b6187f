//! The worker process: it opens the GPU, shuts itself in and serves one request after the other on its standard input,
//! a Unix stream socket. It ends when the daemon hangs up, even in the middle of a job.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, raise};
use thiserror::Error;

use crate::engine::{Engines, Loaded};
use crate::hook::{Hook, HookError, HookSource};
use crate::protocol::{
    Engine, Failure, FailureKind, FrameError, Hello, Reply, Request, Sandbox, Wire,
};
use crate::sandbox;

/// The most of what a driver keeps that is handed from one worker to the next.
pub(crate) const KEPT_BYTES_MAX: u64 = 64 << 20;

/// What ends a worker before its daemon does.
#[derive(Debug, Error)]
enum WorkerError {
    #[error("standard input is not the daemon's socket")]
    NoSocket(#[source] io::Error),
    #[error("the limits of the sandbox cannot be set")]
    Sandbox(#[source] io::Error),
    #[error("the daemon speaks another protocol: {0}")]
    Protocol(FrameError),
    #[error("the daemon's first word was not its configuration")]
    NotConfigured,
    #[error("no reply could be sent: {0}")]
    Reply(FrameError),
    #[error("no memory for a derived file")]
    Memory(#[source] io::Error),
}

/// The whole life of a worker. `fsd hook-worker` calls it first thing, before any thread is started or file opened;
/// it is not for people, and says so when standard input is no socket.
pub fn worker_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hook worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), WorkerError> {
    close_inherited_files();
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(WorkerError::NoSocket)?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().map_err(WorkerError::NoSocket)?;
    let hang_up = socket.try_clone().map_err(WorkerError::NoSocket)?;
    let wire = Wire::new(socket);
    let (request, _) = wire.receive(None).map_err(WorkerError::Protocol)?;
    let Request::Configure { allow_software_adapter, memory_bytes_max } = request else {
        return Err(WorkerError::NotConfigured);
    };
    let landlock = sandbox::enter(memory_bytes_max).map_err(WorkerError::Sandbox)?;
    thread::spawn(move || die_with_the_daemon(&hang_up));
    let engines = Engines::open(allow_software_adapter);
    let adapter = engines.adapter();
    let seccomp = sandbox::seal(adapter.as_ref().is_ok_and(|adapter| !adapter.software));
    let sandbox = Sandbox { landlock, seccomp, memory_bytes_max };
    let hello = Reply::Ready(Hello { adapter, sandbox });
    wire.send(&hello, &[], None).map_err(WorkerError::Reply)?;
    Worker { wire, engines, memory_bytes_max, hooks: BTreeMap::new() }.requests()
}

/// Whatever the daemon had open and forgot to mark is not for this process.
fn close_inherited_files() {
    // SAFETY: nothing in this process owns a descriptor above standard error yet; see `worker_main`.
    #[expect(unsafe_code, reason = "there is no safe interface to close_range")]
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

/// A shader that hangs keeps the main thread from seeing that the daemon is gone.
fn die_with_the_daemon(socket: &UnixStream) {
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            end_now();
        }
    }
}

/// Ends this process at once: a driver with work that hangs never returns from its exit handlers.
fn end_now() {
    // If even this fails, the daemon kills the process.
    let _ = raise(Signal::SIGKILL);
}

struct Worker {
    wire: Wire,
    engines: Engines,
    memory_bytes_max: u64,
    /// By name; a new version takes the place of the old one.
    hooks: BTreeMap<String, Loaded>,
}

impl Worker {
    fn requests(mut self) -> Result<(), WorkerError> {
        loop {
            let (request, fds) = match self.wire.receive(None) {
                Ok(received) => received,
                Err(FrameError::Closed) => return Ok(()),
                Err(error) => return Err(WorkerError::Protocol(error)),
            };
            match request {
                Request::Configure { .. } => return Err(WorkerError::NotConfigured),
                Request::Load { files } => {
                    let loaded = self.load(files).map(|engine| Reply::Loaded { engine });
                    let kept = Vec::from_iter(self.engines.kept());
                    self.reply(loaded.map(|reply| (reply, kept)))?;
                }
                Request::Warm => {
                    let mut data = Vec::new();
                    let file = fds.into_iter().next().map(File::from);
                    // Without it all is as it would be with it, but later.
                    let read = file.map(|file| file.take(KEPT_BYTES_MAX).read_to_end(&mut data));
                    if matches!(read, Some(Ok(_))) {
                        self.engines.warm(&data);
                    }
                    self.reply(Ok((Reply::Warm, Vec::new())))?;
                }
                Request::Run { hook } => self.run(&hook, fds)?,
            }
        }
    }

    fn load(&mut self, files: BTreeMap<String, String>) -> Result<Engine, Failure> {
        let broken = |error: HookError| Failure::new(FailureKind::HookBroken, error);
        let files = files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        let hook = Hook::parse(HookSource::new(files)).map_err(broken)?;
        let name = hook.name().to_owned();
        self.hooks.remove(&name);
        let loaded = self.engines.load(hook)?;
        self.hooks.insert(name, loaded);
        Ok(if self.engines.adapter().is_ok() { Engine::Gpu } else { Engine::Cpu })
    }

    fn run(&self, hook: &str, fds: Vec<OwnedFd>) -> Result<(), WorkerError> {
        let Some(loaded) = self.hooks.get(hook) else {
            let why = format!("hook `{hook}` is not loaded");
            let failure = |_| self.reply(Err(Failure::new(FailureKind::HookBroken, &why)));
            return fds.iter().try_for_each(failure);
        };
        let files: Vec<_> = fds.into_iter().map(File::from).collect();
        self.engines.run(loaded, &files, self.memory_bytes_max, |said| {
            self.reply(said.map(|(done, derived)| (Reply::Done(done), derived)))
        })
    }

    fn reply(&self, said: Result<(Reply, Vec<Vec<u8>>), Failure>) -> Result<(), WorkerError> {
        let (reply, files) = match said {
            Ok(said) => said,
            Err(failure) => {
                let last = failure.kind.is_the_end();
                let sent = self.wire.send(&Reply::Failed(failure), &[], None);
                if last {
                    end_now();
                }
                return sent.map_err(WorkerError::Reply);
            }
        };
        let files = files.into_iter().map(sealed).collect::<io::Result<Vec<_>>>();
        let files = files.map_err(WorkerError::Memory)?;
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        self.wire.send(&reply, &fds, None).map_err(WorkerError::Reply)
    }
}

/// A file in memory that nobody can change any more.
fn sealed(bytes: Vec<u8>) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("derived", flags)?);
    file.write_all(&bytes)?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file)
}

/// Whether a file is a memfd that nobody can change any more.
pub(crate) fn is_sealed(file: impl AsFd) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    seals.is_ok_and(|seals| seals.contains(SEALS))
}

/// What makes a memfd a constant.
pub(crate) const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_SEAL);
