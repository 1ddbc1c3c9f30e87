package shield

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	filterRowBytes = 8 // of struct sock_filter

	prSetNoNewPrivs        = 38
	seccompSetModeFilter   = 1
	seccompFilterFlagTsync = 1
)

// seccompNumber is the number of seccomp(2), by architecture.
var seccompNumber = map[string]uintptr{"amd64": 317, "arm64": 277}

// sockFprog is struct sock_fprog of 64-bit architectures.
type sockFprog struct {
	length uint16
	rows   unsafe.Pointer
}

// Filter applies a system call filter to all threads of this process, and so to everything that it starts. It cannot be removed,
// and of several filters the strictest applies. Without rows nothing is done.
func Filter(rows []byte) error {
	if len(rows) == 0 {
		return nil
	}
	number, known := seccompNumber[runtime.GOARCH]
	if !known {
		return fmt.Errorf("seccomp: no number for %s", runtime.GOARCH)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Required for a filter of an unprivileged process; it is applied to the other threads together with the filter.
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("prctl(PR_SET_NO_NEW_PRIVS): %w", e)
	}
	program := sockFprog{length: uint16(len(rows) / filterRowBytes), rows: unsafe.Pointer(&rows[0])}
	other, _, e := syscall.RawSyscall(number, seccompSetModeFilter, seccompFilterFlagTsync, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	if other != 0 {
		return fmt.Errorf("seccomp: thread %d does not take the filter", other)
	}
	runtime.KeepAlive(rows)
	return nil
}
