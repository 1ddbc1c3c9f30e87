package launch

import (
	"errors"
	"syscall"
	"unsafe"
)

const (
	waitPid     = 1 // P_PID
	waitStopped = 2 // WSTOPPED

	siginfoCodeOffset   = 8
	siginfoStatusOffset = 24
	childTrapped        = 4 // CLD_TRAPPED
)

// limitedTries bounds the tries to start a program whose children are stopped before their exec.
const limitedTries = 5

// errNotLimited means that boxd may not trace or not set limits; no process is left behind.
var errNotLimited = errors.New("a child cannot be limited from here")

// forkLimited starts a program of boxd's own user with RLIMIT_NPROC. The child requests tracing, so that the kernel
// stops it after its exec and before its first instruction; then its limit is set, and it is continued.
//
// The caller has locked its thread, which becomes the tracer, and holds the lock without which nothing is reaped.
func (l *Launcher) forkLimited(spec *Spec) (int, error) {
	attr := attributes(spec)
	attr.Sys.Ptrace = true
	for range limitedTries {
		pid, killed, err := l.fork(spec.Path, spec.Argv, attr)
		if err == syscall.EPERM || err == syscall.ENOSYS {
			return 0, errNotLimited
		}
		if err != nil {
			return 0, err
		}
		if killed { // nothing of the program has run, so it can be started again
			discard(pid)
			continue
		}
		if !awaitExecStop(pid) {
			return pid, nil // killed by another process: reaped like any other
		}
		limit := rlimit{spec.Pids, spec.Pids}
		if prlimit(pid, rlimitNproc, &limit, nil) != nil {
			discard(pid)
			return 0, errNotLimited
		}
		syscall.PtraceDetach(pid)
		return pid, nil
	}
	return 0, errNotLimited
}

func discard(pid int) {
	syscall.Kill(pid, syscall.SIGKILL)
	for {
		if _, err := syscall.Wait4(pid, nil, waitAnyClone, nil); err != syscall.EINTR {
			return
		}
	}
}

// awaitExecStop returns true if the child is stopped after its exec, and false if it is dead. It reaps nothing.
func awaitExecStop(pid int) bool {
	for {
		var info [128]byte
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, waitPid, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			waitExited|waitStopped|waitNoReap|waitAnyClone, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || *(*int32)(unsafe.Pointer(&info[siginfoCodeOffset])) != childTrapped {
			return false
		}
		signal := *(*int32)(unsafe.Pointer(&info[siginfoStatusOffset]))
		if syscall.Signal(signal) == syscall.SIGTRAP {
			return true
		}
		syscall.PtraceCont(pid, int(signal)) // sent by a program of the box; the trap comes after it
	}
}
