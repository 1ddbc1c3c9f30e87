package proc

import (
	"bytes"
	"strconv"
	"syscall"
	"time"
)

// threadsAsked bounds one measurement. A box has fewer threads, or is at its limit of processes anyway.
const threadsAsked = 8192

// LongestWait returns the longest time that one living thread of these processes was ready to run and waited for a CPU, in its whole life;
// false if the kernel reports none. A thread waits behind others, behind its own box, and while a quota throttles its group.
//
// Threads of lower priority than nice, or with a policy other than the ordinary one, are left out: they wait by their own choice.
// Without privilege, and with RLIMIT_NICE at 0, no thread can have been such and come back.
func (t *Table) LongestWait(processes []Process, nice int) (longest time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := threadsAsked
	for i := 0; i < len(processes) && left > 0; i++ {
		t.threads(processes[i].Pid, func(thread string) bool {
			waited, ok := t.waited(processes[i].Pid, thread)
			if ok && (waited > longest || !known) && t.isOrdinary(processes[i].Pid, thread, nice) {
				longest, known = waited, true
			}
			left--
			return left > 0
		})
	}
	return longest, known
}

// threads visits the names of a process's threads below /proc/PID.
func (t *Table) threads(pid int, visit func(thread string) bool) {
	fd, err := syscall.Openat(int(t.root.Fd()), strconv.Itoa(pid)+"/task", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	t.numbers(fd, func(tid int) bool { return visit("task/" + strconv.Itoa(tid)) })
}

// waited reads schedstat: nanoseconds on a CPU, nanoseconds in a run queue, time slices.
func (t *Table) waited(pid int, thread string) (time.Duration, bool) {
	text, ok := t.readFile(pid, thread+"/schedstat")
	if !ok {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	return time.Duration(parseInt(fields[1])), true
}

func (t *Table) isOrdinary(pid int, thread string, nice int) bool {
	text, ok := t.readFile(pid, thread+"/stat")
	if !ok {
		return false
	}
	const schedOther = 0
	its, policy, ok := parseUrgency(text)
	return ok && its <= nice && policy == schedOther
}

// parseUrgency reads fields 19 and 41 of proc_pid_stat(5); field 3 is the first after the name.
func parseUrgency(text []byte) (nice, policy int, ok bool) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, 0, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) <= 41-3 {
		return 0, 0, false
	}
	return int(parseInt(fields[19-3])), int(parseInt(fields[41-3])), true
}
