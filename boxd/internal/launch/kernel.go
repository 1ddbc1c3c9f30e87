package launch

import (
	"os"
	"runtime"
	"strconv"
	"syscall"

	"envfarm.dev/boxd/internal/affinity"
)

// SetCores moves a running process to the cores, or back to all of them if there are none.
// Without CAP_SYS_NICE the kernel requires the owner's effective uid, so the thread takes it for the call. Its real
// uid, which decides who may signal boxd, stays.
func (l *Launcher) SetCores(pid int, cores []int, owner *syscall.Credential) error {
	set := l.allCores
	if len(cores) > 0 {
		var ok bool
		if set, ok = affinity.Of(cores); !ok {
			return ErrCores
		}
	}
	err := set.Give(pid)
	if err != nil && owner != nil {
		err = asEffectiveUser(owner.Uid, func() error { return set.Give(pid) })
	}
	if err != nil && len(cores) > 0 {
		return ErrCores
	}
	return nil
}

func asEffectiveUser(uid uint32, call func() error) error {
	const keep = ^uintptr(0)
	runtime.LockOSThread()
	old := uintptr(os.Geteuid())
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		runtime.UnlockOSThread()
		return e
	}
	err := call()
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, old, keep); e != 0 {
		return e // the thread stays locked, so it ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// LimitedCommand is the subcommand of boxd that sets RLIMIT_NPROC on itself and then becomes the program.
const LimitedCommand = "exec-limited"

// limitPids returns what to execute if boxd may not set the limit itself (see forkLimited): boxd's binary, which sets the limit
// on itself and then executes the program. It costs 2 ms.
func limitPids(spec *Spec) (path string, argv []string) {
	if spec.Pids == 0 {
		return spec.Path, spec.Argv
	}
	front := []string{"boxd", LimitedCommand, strconv.FormatUint(spec.Pids, 10), spec.Path}
	return "/proc/self/exe", append(front, spec.Argv...)
}

// ExecLimited is the body of LimitedCommand: args are the count, the path and the argument vector.
func ExecLimited(args []string) error {
	count, err := strconv.ParseUint(args[0], 10, 63)
	if err != nil {
		return err
	}
	limit := rlimit{count, count}
	if err = prlimit(0, rlimitNproc, &limit, nil); err != nil {
		return err
	}
	return syscall.Exec(args[1], args[2:], os.Environ())
}
