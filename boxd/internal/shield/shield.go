// Package shield protects boxd from being killed, stopped, traced or read by the programs of its box.
//
// The programs may run under boxd's own uid (a user namespace with one uid); boxd is PID 1 of the pid namespace there.
package shield

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"unsafe"

	"envfarm.dev/boxd/internal/sysnum"
)

const (
	prSetDumpable       = 4
	prSetChildSubreaper = 36

	closeRangeCloexec = 4
)

// Raise applies all protections. The order matters: a process that is not dumpable may not write its own /proc files.
func Raise() (*OomScore, error) {
	debug.SetTraceback("none")
	hideDescriptors()
	ignoreSignals()
	score := lowerOomScore()
	forbidUrgency()
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); e != 0 {
		return nil, fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", e)
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); e != 0 {
		return nil, fmt.Errorf("prctl(PR_SET_DUMPABLE): %w", e)
	}
	return score, nil
}

// hideDescriptors keeps descriptors that the provider left open from being inherited by children.
func hideDescriptors() {
	_, _, e := syscall.RawSyscall(sysnum.CloseRange, 3, ^uintptr(0)>>33, closeRangeCloexec)
	if e == 0 {
		return
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscanf(entry.Name(), "%d", &fd); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// ignoreSignals makes the kernel drop every signal that can be ignored.
//
// Notify comes first: it makes the runtime remember that the signal is handled, so it restores the default in each
// child. SIG_IGN is then set without the runtime's knowledge, because its own handlers die of a queued SIGSEGV.
func ignoreSignals() {
	sink := make(chan os.Signal, 1)
	signal.Notify(sink)
	const lastSignal = 64
	for number := 1; number <= lastSignal; number++ {
		switch syscall.Signal(number) {
		case syscall.SIGKILL, syscall.SIGSTOP: // cannot be ignored
		case syscall.SIGCHLD: // ignoring it would make the kernel reap
		case syscall.SIGURG, 33: // the runtime sends these to itself; their handlers are harmless
		case 32, 34: // used by the C library; for PID 1 their default is harmless
		default:
			ignoreSignal(number)
		}
	}
}

// kernelSigaction is struct sigaction of amd64 and arm64; the handler is its first word.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

func ignoreSignal(number int) {
	const sigIgn = 1
	action := kernelSigaction{handler: sigIgn}
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(number), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// forbidUrgency keeps every program of the box from raising its priority, even to a value that it had before: boxd relies on a
// program's priority never having been lower than it is now.
func forbidUrgency() {
	const rlimitNice = 13
	syscall.Setrlimit(rlimitNice, &syscall.Rlimit{})
}

// Files bounds the size of files written in the box from now on, and disables core dumps; 0 sets no bound.
func Files(fileBytes int64) error {
	const rlimitCore, rlimitFsize = 4, 1
	if fileBytes == 0 {
		return nil
	}
	size := uint64(fileBytes)
	if err := syscall.Setrlimit(rlimitFsize, &syscall.Rlimit{Cur: size, Max: size}); err != nil {
		return fmt.Errorf("setrlimit(RLIMIT_FSIZE): %w", err)
	}
	return syscall.Setrlimit(rlimitCore, &syscall.Rlimit{})
}
