//! What a decoder takes from itself before it sees a picture: files, the network, other processes.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::process::{
    Resource, Rlimit, Signal, getpid, set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// File descriptors: the socket, what stands for output, and the memory of one picture.
const FILES: u64 = 16;

/// Gives up what decoding does not need. False where the system or the processor has no filter for system calls; the
/// limits hold all the same.
pub fn enter() -> bool {
    let only = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    // Each is worth having without the others.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = setrlimit(Resource::Core, only(0));
    let _ = setrlimit(Resource::Fsize, only(0));
    let _ = setrlimit(Resource::Nofile, only(FILES));
    // `apply_filter` sets no_new_privs too.
    filter().is_some_and(|filter| seccompiler::apply_filter(&filter).is_ok())
}

/// System calls that are let through. All others fail with EPERM, as files that can't be opened do: what a library only
/// tries, such as asking for the number of processors, then does no harm.
fn filter() -> Option<BpfProgram> {
    let free = [
        // Messages and the memory that comes with them.
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_close,
        libc::SYS_fstat,
        // The allocator.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // Locks, time, randomness for hash tables.
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_getrandom,
        // The end, wanted or not.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        free.iter().map(|&call| (call, Vec::new())).collect();
    // Memory, but none that can be run.
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let data = condition(2, SeccompCmpOp::MaskedEq(executable), 0)?;
    rules.insert(libc::SYS_mmap, vec![data.clone()]);
    rules.insert(libc::SYS_mprotect, vec![data]);
    // `abort` signals itself.
    let me = u64::try_from(getpid().as_raw_nonzero().get()).ok()?;
    rules.insert(libc::SYS_tgkill, vec![condition(0, SeccompCmpOp::Eq, me)?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        ARCH.try_into().ok()?,
    );
    filter.ok()?.try_into().ok()
}

fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Option<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value);
    SeccompRule::new(vec![condition.ok()?]).ok()
}
