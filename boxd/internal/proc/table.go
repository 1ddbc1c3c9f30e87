// Package proc reads the kernel's process table and kills parts of it.
//
// It follows no path that a program of the box can change: /proc is opened once, at the start.
package proc

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Process is one line of the process table.
type Process struct {
	Pid, Ppid, Pgrp, Session int
	State                    byte
	Threads                  int
	KernelThread             bool
	CPUTicks                 int64 // user and system, of itself and of the children it has waited for
	Start                    uint64
	VirtualBytes             int64
	ResidentPages            int64
	Comm                     string
}

// Alive is false for a process that only waits to be reaped. A dead leader with living threads is alive.
func (p *Process) Alive() bool {
	return p.State != 'X' && (p.State != 'Z' || p.Threads > 1)
}

// Table reads /proc. Its methods may be called from several goroutines.
type Table struct {
	mu    sync.Mutex
	root  *os.File
	self  int
	entry []byte
	text  []byte
}

// Open opens /proc, and keeps it open.
func Open() (*Table, error) {
	root, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	return &Table{root: root, self: os.Getpid(), entry: make([]byte, 16<<10), text: make([]byte, 4<<10)}, nil
}

// Scan appends every process except kernel threads and boxd itself to into, in pid order.
func (t *Table) Scan(into []Process) ([]Process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := int(t.root.Fd())
	if _, err := syscall.Seek(fd, 0, 0); err != nil {
		return into, err
	}
	err := t.numbers(fd, func(pid int) bool {
		if p, ok := t.readStat(pid); pid != t.self && ok && !p.KernelThread {
			into = append(into, p)
		}
		return true
	})
	return into, err
}

// numbers visits the numeric entries of a directory of /proc, in order, until visit returns false.
func (t *Table) numbers(fd int, visit func(int) bool) error {
	for {
		n, err := syscall.ReadDirent(fd, t.entry)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for rest := t.entry[:n]; len(rest) > 19; {
			length := int(rest[16]) | int(rest[17])<<8
			name := rest[19:length]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			rest = rest[length:]
			if name[0] < '1' || name[0] > '9' {
				continue
			}
			number, err := strconv.Atoi(string(name))
			if err == nil && !visit(number) {
				return nil
			}
		}
	}
}

// Get reads one process; false if there is none.
func (t *Table) Get(pid int) (Process, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.readStat(pid)
}

func (t *Table) readFile(pid int, name string) ([]byte, bool) {
	fd, err := syscall.Openat(int(t.root.Fd()), strconv.Itoa(pid)+"/"+name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer syscall.Close(fd)
	n, err := syscall.Read(fd, t.text)
	if err != nil || n <= 0 {
		return nil, false
	}
	return t.text[:n], true
}

func (t *Table) readStat(pid int) (Process, bool) {
	text, ok := t.readFile(pid, "stat")
	if !ok {
		return Process{}, false
	}
	return parseStat(pid, text)
}

// parseStat reads proc_pid_stat(5). The name may contain anything, so the fields begin after the last ')'.
func parseStat(pid int, text []byte) (Process, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open || end+2 >= len(text) {
		return Process{}, false
	}
	p := Process{Pid: pid, Comm: string(text[open+1 : end]), State: text[end+2]}
	const kernelThreadFlag = 0x00200000
	field := 3
	rest := text[end+3:]
	for len(rest) > 0 && field < 24 {
		rest = bytes.TrimLeft(rest, " ")
		field++
		stop := bytes.IndexByte(rest, ' ')
		if stop < 0 {
			stop = len(rest)
		}
		value := parseInt(rest[:stop])
		rest = rest[stop:]
		switch field {
		case 4:
			p.Ppid = int(value)
		case 5:
			p.Pgrp = int(value)
		case 6:
			p.Session = int(value)
		case 9:
			p.KernelThread = value&kernelThreadFlag != 0
		case 14, 15, 16, 17:
			p.CPUTicks += value
		case 20:
			p.Threads = int(value)
		case 22:
			p.Start = uint64(value)
		case 23:
			p.VirtualBytes = value
		case 24:
			p.ResidentPages = value
		}
	}
	return p, field == 24
}

func parseInt(digits []byte) int64 {
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		return -n
	}
	return n
}

// Borrowers returns the processes of a scan that run in their parent's memory: after vfork, until the child calls exec, while the parent
// waits. There is at most one for each parent: code can make its forks look like that, and must not hide their memory behind the one.
func Borrowers(scan []Process) map[int]bool {
	places := make(map[int]int, len(scan))
	for i := range scan {
		places[scan[i].Pid] = i
	}
	borrowers, lenders := map[int]bool{}, map[int]bool{}
	for i := range scan {
		p := &scan[i]
		at, known := places[p.Ppid]
		if !known || lenders[p.Ppid] {
			continue
		}
		parent := &scan[at]
		if parent.State == 'D' && p.VirtualBytes == parent.VirtualBytes && p.ResidentPages == parent.ResidentPages {
			borrowers[p.Pid], lenders[p.Ppid] = true, true
		}
	}
	return borrowers
}

// OwnBytes returns a process's anonymous memory; a page that forks share counts for each in part. False if the kernel does not report it.
//
// It walks the page tables, some 5 ms per GiB: use PrivatePages for frequent measurements.
func (t *Table) OwnBytes(pid int) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok := t.readFile(pid, "smaps_rollup")
	if !ok {
		return 0, false
	}
	_, after, found := bytes.Cut(text, []byte("\nPss_Anon:"))
	if !found {
		return 0, false
	}
	return parseInt(bytes.TrimLeft(after, " ")) << 10, true
}

// PrivatePages returns resident memory without shared file pages; false if the process is gone. Pages that forks share count fully for each.
func (t *Table) PrivatePages(pid int) (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok := t.readFile(pid, "statm")
	if !ok {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 3 {
		return 0, false
	}
	return max(0, parseInt(fields[1])-parseInt(fields[2])), true
}

// Mark returns the hard limit of the real-time timeout, by which launch marks the processes of one exec.
func (t *Table) Mark(pid int) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok := t.readFile(pid, "limits")
	if !ok {
		return 0, false
	}
	_, after, found := bytes.Cut(text, []byte("Max realtime timeout"))
	if !found {
		return 0, false
	}
	fields := bytes.Fields(after)
	if len(fields) < 2 || fields[1][0] < '0' || fields[1][0] > '9' {
		return 0, false
	}
	return uint64(parseInt(fields[1])), true
}
