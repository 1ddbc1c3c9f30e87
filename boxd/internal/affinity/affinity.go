// Package affinity is the sets of CPUs that threads may use, as the kernel takes and tells them. launch gives them to programs; contention
// asks for boxd's own, which a cpuset narrows, too.
package affinity

import (
	"syscall"
	"unsafe"
)

const maxCores = 1024

// Set is CPUs, a bit each.
type Set [maxCores / 64]uint64

// Of makes a set of these; false where one cannot be a CPU's number.
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

// Own is the calling thread's.
func Own() (Set, error) {
	var set Set
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if e != 0 {
		return set, e
	}
	return set, nil
}

// Cores are the numbers of the CPUs, upwards.
func (s *Set) Cores() []int {
	var cores []int
	for core := range maxCores {
		if s[core/64]>>(core%64)&1 == 1 {
			cores = append(cores, core)
		}
	}
	return cores
}

// Give sets it on a thread; 0 is the calling one.
func (s *Set) Give(pid int) error {
	_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(pid), unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s)))
	if e != 0 {
		return e
	}
	return nil
}
