// Package contention measures how long a run that timed out waited for a CPU, and how much CPU its box got.
//
// It judges nothing: docs/grading.md says what the figures prove. Its files are opened once, before any program of the box runs, and are the
// kernel's: no program of the box can change them, or hide what it used.
package contention

import (
	"bytes"
	"strconv"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/affinity"
	"envfarm.dev/boxd/internal/proc"
)

// Groups is the directory of the box's own control group.
const Groups = "/sys/fs/cgroup/"

const (
	nanosecondsFile  = "cpuacct/cpuacct.usage" // of control groups 1
	statisticsFile   = "cpu.stat"              // of control groups 2
	statisticsField  = "usage_usec"
	processorsFile   = "/proc/stat"
	clockTick        = 10 * time.Millisecond
	closed           = -1
	priorityOfNice   = 20 // the raw system call getpriority(2) returns 20 - nice
	idleField        = 4
	waitingField     = 5   // idle, too: for a disk
	longestLineBytes = 256 // of processorsFile: ten numbers of 64 bits
)

// Seen has the figures of a run that timed out.
type Seen struct {
	ElapsedS float64 `json:"elapsed_s"` // since its start
	WaitedS  float64 `json:"waited_s"`  // of its living threads, the longest time in a run queue
	BoxCPUS  float64 `json:"box_cpu_s"` // CPU time of the whole box meanwhile, by its control group
	IdleS    float64 `json:"idle_s"`    // how long the CPUs that boxd was given were idle meanwhile, on average
}

// Witness reads the kernel's counters.
type Witness struct {
	usage      int
	inGroup2   bool
	processors int
	own        map[string]bool // lines of processorsFile: the CPUs that boxd was given
	ownBytes   int             // an upper bound of the bytes up to the end of the last of them
	nice       int
}

// Mark has the counters at a run's start.
type Mark struct {
	at    time.Time
	used  time.Duration
	idle  time.Duration
	known bool
}

// Open finds the counters below a directory of control groups; without them End returns nil.
func Open(groups string) *Witness {
	w := &Witness{usage: open(groups + nanosecondsFile), processors: open(processorsFile)}
	if w.usage == closed {
		w.usage, w.inGroup2 = open(groups+statisticsFile), true
	}
	if set, err := affinity.Own(); err == nil {
		w.watch(set.Cores())
	}
	priority, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	w.nice = priorityOfNice - priority
	return w
}

// watch sets the CPUs whose idle time counts.
func (w *Witness) watch(cores []int) {
	w.own = make(map[string]bool, len(cores))
	for _, core := range cores {
		w.own["cpu"+strconv.Itoa(core)] = true
		w.ownBytes = (core + 2) * longestLineBytes // the sum of all CPUs has a line, too
	}
}

// Begin must be called before a run's first process exists.
func (w *Witness) Begin() Mark {
	used, usedKnown := w.used()
	idle, idleKnown := w.idle()
	return Mark{at: time.Now(), used: used, idle: idle, known: usedKnown && idleKnown}
}

// End measures a run that is still alive; family are its processes. nil if counters are missing.
func (w *Witness) End(begun Mark, table *proc.Table, family []proc.Process) *Seen {
	waited, known := table.LongestWait(family, w.nice)
	now := w.Begin()
	if !known || !begun.known || !now.known {
		return nil
	}
	return &Seen{
		ElapsedS: now.at.Sub(begun.at).Seconds(), WaitedS: waited.Seconds(),
		BoxCPUS: (now.used - begun.used).Seconds(), IdleS: (now.idle - begun.idle).Seconds(),
	}
}

// used returns the CPU time of the box's group since its creation, including processes that nobody waited for.
func (w *Witness) used() (time.Duration, bool) {
	var text [512]byte
	n, err := syscall.Pread(w.usage, text[:], 0)
	if err != nil {
		return 0, false
	}
	if !w.inGroup2 {
		return number(bytes.TrimSpace(text[:n]), time.Nanosecond)
	}
	for _, line := range bytes.Split(text[:n], []byte("\n")) {
		if value, found := bytes.CutPrefix(line, []byte(statisticsField+" ")); found {
			return number(value, time.Microsecond)
		}
	}
	return 0, false
}

// idle returns how long the CPUs that boxd was given were idle since the machine's start, on average. Other CPUs say nothing of a box that
// may not use them. Unknown if the kernel does not count it, or leaves out one of them.
func (w *Witness) idle() (time.Duration, bool) {
	text := make([]byte, w.ownBytes)
	n, err := syscall.Pread(w.processors, text, 0)
	if err != nil {
		return 0, false
	}
	var sum time.Duration
	found := 0
	for line := range bytes.Lines(text[:n]) {
		fields := bytes.Fields(line)
		if len(fields) <= waitingField || !w.own[string(fields[0])] {
			continue
		}
		idle, idleKnown := number(fields[idleField], clockTick)
		waiting, waitingKnown := number(fields[waitingField], clockTick)
		if !idleKnown || !waitingKnown {
			return 0, false
		}
		sum += idle + waiting
		found++
	}
	if sum == 0 || found != len(w.own) {
		return 0, false
	}
	return sum / time.Duration(found), true
}

func open(path string) int {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return closed
	}
	return fd
}

func number(digits []byte, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return time.Duration(n) * unit, err == nil
}
