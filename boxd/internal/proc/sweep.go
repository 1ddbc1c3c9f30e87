package proc

import (
	"syscall"
	"time"
)

// Swept is the result of a sweep.
type Swept struct {
	Killed    int
	Rounds    int
	Remaining []Process // still alive: in a system call that cannot be interrupted
}

const (
	sweepTimeout = 5 * time.Second
	freezeScans  = 50
)

// Sweep kills what choose selects from each scan, until two scans in a row select nothing alive.
//
// It freezes before it kills: a stopped process cannot fork, so even a tree that forks faster than a scan shrinks.
// strike, if not nil, runs once in each round before the scans.
func (t *Table) Sweep(choose func([]Process) []Process, strike func()) Swept {
	var swept Swept
	var scan []Process
	killed := map[int]uint64{}
	pause := 200 * time.Microsecond
	deadline := time.Now().Add(sweepTimeout)
	for empty := 0; empty < 2; {
		swept.Rounds++
		if strike != nil {
			strike()
		}
		victims := t.freeze(choose, &scan)
		swept.Remaining = victims
		if len(victims) == 0 {
			empty++
			continue
		}
		empty = 0
		for _, p := range victims {
			syscall.Kill(p.Pid, syscall.SIGKILL)
			killed[p.Pid] = p.Start
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(pause)
		pause = min(2*pause, 20*time.Millisecond)
	}
	swept.Killed = len(killed)
	return swept
}

// freeze stops everything that choose selects, until a scan shows nothing new, and returns all that is alive.
func (t *Table) freeze(choose func([]Process) []Process, scan *[]Process) []Process {
	stopped := map[int]bool{}
	var alive []Process
	for range freezeScans {
		*scan, _ = t.Scan((*scan)[:0])
		fresh := false
		alive = alive[:0]
		for _, p := range choose(*scan) {
			if !p.Alive() {
				continue
			}
			alive = append(alive, p)
			if !stopped[p.Pid] {
				stopped[p.Pid] = true
				fresh = true
				syscall.Kill(p.Pid, syscall.SIGSTOP)
			}
		}
		if !fresh {
			break
		}
	}
	return alive
}
