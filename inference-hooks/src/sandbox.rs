//! What keeps a worker in, so that a picture or shader that breaks a decoder or driver gains nothing.
//!
//! In two steps, because a driver must be loaded first and starts threads, and Landlock binds only the calling thread
//! and those it starts later. [`enter`] runs before the driver: from then on every thread reads driver files at most.
//! [`seal`] runs after it, on all threads at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The Landlock rules that are asked for; an older kernel enforces those it knows.
const LANDLOCK_ABI: ABI = ABI::V6;
/// Most open files: a driver's devices and libraries, the socket, a job's file and its results.
const OPEN_FILES_MAX: u64 = 1024;

/// Where drivers and their libraries and settings are. Nothing of a user is below these.
const DRIVER_FILES: &[&str] = &[
    "/etc/drirc",
    "/etc/glvnd",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nvidia",
    "/etc/vulkan",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc/cpuinfo",
    "/proc/driver",
    "/proc/meminfo",
    "/proc/self",
    "/proc/sys/vm",
    "/run/opengl-driver",
    "/sys",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/share/vulkan",
    "/usr/share",
];
/// Devices that a GPU driver opens, now or later.
const DEVICES: &[&str] = &[
    "/dev/dri",
    "/dev/kfd",
    "/dev/null",
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia0",
    "/dev/nvidia1",
    "/dev/nvidia2",
    "/dev/nvidia3",
    "/dev/nvidiactl",
    "/dev/urandom",
];
/// Variables of the environment that name further driver files.
const DRIVER_VARIABLES: &[&str] = &["LD_LIBRARY_PATH", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// Bounds what this process can have and read. To be called while it has one thread.
///
/// Returns what Landlock does, for the operator.
///
/// # Errors
/// A limit cannot be set. A kernel without Landlock is no error: the answer says so.
pub(crate) fn enter(memory_bytes_max: u64) -> io::Result<String> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES_MAX, OPEN_FILES_MAX)?;
    // Not the address space, of which GPU drivers reserve terabytes: what is private and can be written.
    setrlimit(Resource::RLIMIT_DATA, memory_bytes_max, memory_bytes_max)?;
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    Ok(match restrict_files() {
        Ok(RulesetStatus::FullyEnforced) => "on: driver files only, no TCP, no signals".to_owned(),
        Ok(RulesetStatus::PartiallyEnforced) => {
            "on: driver files only; this kernel knows no rules for TCP or signals".to_owned()
        }
        Ok(RulesetStatus::NotEnforced) => "off: this kernel has no Landlock".to_owned(),
        Err(error) => format!("off: {error}"),
    })
}

/// A daemon that runs as root does not make a worker that does.
fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    // For the calling process, which is 0: effective, permitted and inheritable, twice 32 bits each.
    let (header, none) = ([VERSION_3, 0], [0_u32; 6]);
    // SAFETY: both pointers are to arrays of the size that version 3 of the call reads, alive until it returns.
    #[expect(unsafe_code, reason = "there is no safe interface to capset")]
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn restrict_files() -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK_ABI))?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    let named = DRIVER_VARIABLES.iter().filter_map(std::env::var_os);
    let named: Vec<PathBuf> =
        named.flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>()).collect();
    let read = AccessFs::from_read(LANDLOCK_ABI);
    for path in DRIVER_FILES.iter().map(Path::new).chain(named.iter().map(PathBuf::as_path)) {
        rules = allow(rules, path, read)?;
    }
    let open = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    for path in DEVICES {
        rules = allow(rules, Path::new(path), open)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Allows what is there. Of a plain file only what a file can be asked for.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK_ABI) };
    rules.add_rule(PathBeneath::new(fd, access))
}

/// Refuses system calls that no hook needs, on all threads. Without a GPU that means opening any file.
///
/// Returns what seccomp does, for the operator.
pub(crate) fn seal(may_open: bool) -> String {
    let calls: Vec<i64> = if may_open {
        REFUSED.to_vec()
    } else {
        REFUSED.iter().chain(REFUSED_WITHOUT_GPU).copied().collect()
    };
    match install(&calls) {
        Ok(()) if may_open => {
            "on: no sockets, programs, other processes or changes to files".to_owned()
        }
        Ok(()) => "on: no files, sockets, programs or other processes".to_owned(),
        Err(error) => format!("off: {error}"),
    }
}

fn install(calls: &[i64]) -> Result<(), Box<dyn std::error::Error>> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        calls.iter().map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?;
    let program = BpfProgram::try_from(filter)?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}

/// A list and not its complement, because a driver's calls are not ours to know.
const REFUSED: &[i64] = &[
    // The network. The socket to the daemon is open already.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_socket,
    libc::SYS_socketpair,
    // Programs and other processes.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_tkill,
    // Ways around this filter, and the kernel's larger corners.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    // What Landlock does not know: to change a file without opening it.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_setxattr,
    libc::SYS_utimensat,
    // What root may do.
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_reboot,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// On the CPU nothing is opened by name.
const REFUSED_WITHOUT_GPU: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
];

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "FSD_TEST_INSIDE_THE_SANDBOX";

    /// Runs the test of this name in a process of its own, which the sandbox may spoil.
    fn in_a_process(name: &str) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .status();
        assert!(status.unwrap().success());
    }

    #[expect(clippy::print_stdout, reason = "skips are printed and counted")]
    fn skip(why: &str) {
        println!("SKIP: no Landlock test: {why}");
    }

    fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_driver_may_open_its_files_and_nobody_else_s() {
        if std::env::var_os(INSIDE).is_none() {
            return in_a_process("sandbox::tests::a_driver_may_open_its_files_and_nobody_else_s");
        }
        let landlock = enter(1 << 30).unwrap();
        let seccomp = seal(true);
        assert!(seccomp.starts_with("on"), "{seccomp}");
        let refused = Some(ErrorKind::PermissionDenied);
        assert_eq!(kind(Command::new("/bin/true").status()), refused);
        assert_eq!(kind(TcpStream::connect("127.0.0.1:1")), refused);
        assert_eq!(kind(fs::read_dir("/usr/share")), None);
        let itself = std::env::current_exe().unwrap();
        let permissions = fs::Permissions::from_mode(0o755);
        assert_eq!(kind(fs::set_permissions(itself, permissions)), refused);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        if landlock.starts_with("off") {
            skip(&landlock);
            return;
        }
        for path in ["/etc/passwd", "/root", "/tmp", "/proc/1/environ", "/var/lib"] {
            assert_eq!(kind(File::open(path)), refused, "{path}");
        }
        assert_eq!(kind(fs::write("/usr/share/fsd-test", "")), refused);
        // A thread that is started now is no less shut in.
        let opened = std::thread::spawn(|| kind(File::open("/etc/passwd"))).join().unwrap();
        assert_eq!(opened, refused);
    }

    #[test]
    fn without_a_gpu_nothing_can_be_opened_by_any_thread() {
        if std::env::var_os(INSIDE).is_none() {
            return in_a_process(
                "sandbox::tests::without_a_gpu_nothing_can_be_opened_by_any_thread",
            );
        }
        // A thread that was there before, as a driver's are.
        let (go, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            wait.recv().unwrap();
            kind(File::open("/usr/share"))
        });
        let seccomp = seal(false);
        assert!(seccomp.starts_with("on: no files"), "{seccomp}");
        go.send(()).unwrap();
        let refused = Some(ErrorKind::PermissionDenied);
        assert_eq!(thread.join().unwrap(), refused);
        assert_eq!(kind(File::open("/usr/share")), refused);
        // What a job needs goes on: memory, threads, sealed files in memory.
        let memory = nix::sys::memfd::memfd_create("test", nix::sys::memfd::MFdFlags::empty());
        memory.unwrap();
    }

    #[test]
    fn memory_beyond_the_limit_is_not_given() {
        if std::env::var_os(INSIDE).is_none() {
            return in_a_process("sandbox::tests::memory_beyond_the_limit_is_not_given");
        }
        enter(256 << 20).unwrap();
        let mut much = Vec::<u8>::new();
        assert!(much.try_reserve_exact(512 << 20).is_err());
        assert!(much.try_reserve_exact(64 << 20).is_ok());
    }
}
