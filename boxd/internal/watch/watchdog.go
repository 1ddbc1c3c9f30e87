// Package watch measures the box, and enforces its limits where no cgroup does.
package watch

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"envfarm.dev/boxd/internal/config"
	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/proc"
)

// Hits counts how often each limit was hit.
type Hits struct {
	Memory int64 `json:"memory"`
	Pids   int64 `json:"pids"`
	Disk   int64 `json:"disk"`
}

// Usage is one measurement.
type Usage struct {
	MemoryBytes int64
	Pids        int64
	Disk        Space
	CPUTicks    int64 // of living processes; reaped ones are in the usage of boxd's children

	shared Space // all that is used of the file system that the box shares, by whomever
}

// Watchdog measures only while a process is alive.
type Watchdog struct {
	limits config.Limits
	every  time.Duration
	disks  []string
	own    *written
	runner *execs.Runner
	wake   chan struct{}

	checking   sync.Mutex
	low        Usage // the disk's least since it was within its limits, or since its box was stopped
	fillings   int   // see stopFilling; 0 while the disk is within its limits
	mu         sync.Mutex
	scan       []proc.Process
	memoryPeak int64
	pidsPeak   int64
	hits       [3]atomic.Int64 // memory, pids, disk
}

// New does not start anything; Run does.
func New(c *config.Config, runner *execs.Runner) *Watchdog {
	return &Watchdog{
		limits: c.Limits, every: time.Duration(c.WatchdogMS) * time.Millisecond,
		disks: c.DiskPaths, own: newWritten(c, runner), runner: runner, wake: make(chan struct{}, 1),
	}
}

// AgentBegins must be called before each command of the agent.
func (w *Watchdog) AgentBegins() { w.own.Begin() }

// Wake reports that a process is alive.
func (w *Watchdog) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run measures forever. Without limits it only records the peaks, ten times less often.
func (w *Watchdog) Run() {
	pause := w.every
	if w.limits.MemoryBytes == 0 && w.limits.Pids == 0 && w.limits.DiskBytes == 0 && w.limits.DiskInodes == 0 {
		pause *= 10
	}
	for range w.wake {
		for {
			time.Sleep(pause)
			if !w.runner.Launcher.Busy() {
				break
			}
			w.check()
		}
	}
}

// Relieve checks immediately. It returns whether the box is now within its limit of processes, so that a failed start can be retried.
func (w *Watchdog) Relieve() bool {
	w.check()
	return w.limits.Pids > 0 && !w.runner.Table.Crowded(w.limits.Pids)
}

func (w *Watchdog) check() {
	w.checking.Lock()
	defer w.checking.Unlock()
	if w.limits.Pids > 0 && w.runner.Table.Crowded(w.limits.Pids) {
		defer w.runner.Table.Hold()()
	}
	now := w.Measure()
	fills := w.fills(&now)
	switch {
	case w.limits.MemoryBytes > 0 && now.MemoryBytes > w.limits.MemoryBytes && w.exceedsMemory():
		w.hits[0].Add(1)
		w.punish("memory", func(g *group) int64 { return g.pages })
	case w.limits.Pids > 0 && now.Pids > w.limits.Pids:
		w.hits[1].Add(1)
		w.punish("pids", func(g *group) int64 { return g.processes })
	case fills:
		w.hits[2].Add(1)
		w.stopFilling()
	}
}

// Measure measures the box once.
func (w *Watchdog) Measure() Usage {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scanBox()
	var usage Usage
	usage.Disk, usage.shared = w.diskUse()
	for i := range w.scan {
		p := &w.scan[i]
		usage.Pids += int64(max(1, p.Threads)) // the kernel also counts threads
		usage.CPUTicks += p.CPUTicks
		usage.MemoryBytes += w.pages(p)
	}
	usage.MemoryBytes *= int64(os.Getpagesize())
	if w.limits.MemoryBytes == 0 || usage.MemoryBytes <= w.limits.MemoryBytes {
		w.memoryPeak = max(w.memoryPeak, usage.MemoryBytes)
	}
	w.pidsPeak = max(w.pidsPeak, usage.Pids)
	return usage
}

// exceedsMemory checks the quick sum of the last scan more closely. A fork that ends between two readings leaves its part of shared pages to
// those that are read after it, so that these pages count more than once: a second look must agree.
func (w *Watchdog) exceedsMemory() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	total := w.ownBytes()
	if total > w.limits.MemoryBytes {
		w.scanBox()
		total = min(total, w.ownBytes())
	}
	w.memoryPeak = max(w.memoryPeak, total)
	return total > w.limits.MemoryBytes
}

// ownBytes sums the memory of the last scan's processes; what forks share, which is most of their memory, counts in part for each of them.
// Processes that cannot be examined, or not in time, count as in the quick sum.
func (w *Watchdog) ownBytes() int64 {
	borrowers := proc.Borrowers(w.scan)
	end := time.Now().Add(closerLook)
	var total int64
	for i := range w.scan {
		p := &w.scan[i]
		if borrowers[p.Pid] {
			continue
		}
		own, ok := int64(0), false
		if time.Now().Before(end) {
			own, ok = w.runner.Table.OwnBytes(p.Pid)
		}
		if !ok {
			own = w.pages(p) * int64(os.Getpagesize())
		}
		total += own
	}
	return total
}

// closerLook bounds how long code that stays close to its limit can keep the watchdog busy at a time.
const closerLook = 200 * time.Millisecond

func (w *Watchdog) scanBox() {
	all, _ := w.runner.Table.Scan(w.scan[:0])
	w.scan = all
	box := w.runner.Table.Box(all)
	w.scan = w.scan[:copy(w.scan, box)]
}

func (w *Watchdog) pages(p *proc.Process) int64 {
	if p.ResidentPages == 0 {
		return 0
	}
	pages, _ := w.runner.Table.PrivatePages(p.Pid)
	return pages
}

// group is the running processes of one exec or shell.
type group struct {
	mark      uint64
	session   int // identifies the group if there are no marks
	pages     int64
	processes int64
}

// groups sorts the last scan's processes.
func (w *Watchdog) groups() map[[2]uint64]*group {
	w.mu.Lock()
	defer w.mu.Unlock()
	groups := map[[2]uint64]*group{}
	for i := range w.scan {
		p := &w.scan[i]
		mark, _ := w.runner.Table.Mark(p.Pid)
		key := [2]uint64{mark, 0}
		if mark == 0 {
			key[1] = uint64(p.Session)
		}
		g := groups[key]
		if g == nil {
			g = &group{mark: mark, session: p.Session}
			groups[key] = g
		}
		g.pages += w.pages(p)
		g.processes += int64(max(1, p.Threads))
	}
	return groups
}

// punish kills the largest group; among equals the one started last, which has the lowest mark.
func (w *Watchdog) punish(limit string, weigh func(*group) int64) {
	var worst *group
	for _, g := range w.groups() {
		if worst == nil || weigh(g) > weigh(worst) || weigh(g) == weigh(worst) && g.mark < worst.mark {
			worst = g
		}
	}
	if worst != nil {
		w.kill(worst, limit)
	}
}

// kill ends a running exec through its driver, so that its result has the reason; what an ended exec left is swept.
func (w *Watchdog) kill(g *group, limit string) {
	for _, execution := range w.runner.Registry.Running() {
		child := execution.Child()
		if child == nil || (child.Mark != 0 && child.Mark != g.mark) || (child.Mark == 0 && child.Pid != g.session) {
			continue
		}
		execution.Kill(limit)
		await(execution)
		return
	}
	ended := make(chan struct{})
	close(ended)
	child := &launch.Child{Mark: g.mark, Done: ended}
	if g.mark == 0 {
		child.Pid, child.Done = g.session, make(chan struct{})
	}
	w.runner.KillFamily(child)
}

const sweepPatience = 6 * time.Second

func await(execution *execs.Execution) {
	select {
	case <-execution.Done():
	case <-time.After(sweepPatience):
	}
}
