// Package affinity has sets of CPUs that threads may use, in the kernel's format. The kernel's answer on boxd's own set includes the
// restrictions of a cpuset.
package affinity

import (
	"syscall"
	"unsafe"
)

const maxCores = 1024

// Set has one bit per CPU.
type Set [maxCores / 64]uint64

// Of makes a set of CPUs; false if one is not a valid CPU number.
func Of(cores []int) (Set, bool) {
	var set Set
	for _, core := range cores {
		if core < 0 || core >= maxCores {
			return set, false
		}
		set[core/64] |= 1 << (core % 64)
	}
	return set, true
}

// Own returns the calling thread's set.
func Own() (Set, error) {
	var set Set
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if e != 0 {
		return set, e
	}
	return set, nil
}

// Cores returns the CPU numbers in ascending order.
func (s *Set) Cores() []int {
	var cores []int
	for core := range maxCores {
		if s[core/64]>>(core%64)&1 == 1 {
			cores = append(cores, core)
		}
	}
	return cores
}

// Give applies it to a thread; 0 is the calling one.
func (s *Set) Give(pid int) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(pid), unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
	if e != 0 {
		return e
	}
	return nil
}
