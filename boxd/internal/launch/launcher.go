// Package launch starts every process of the box and reaps every one that ends.
//
// Nothing else in boxd may call fork or wait, or exit statuses would be lost.
package launch

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/affinity"
	"envfarm.dev/boxd/internal/proc"
)

// Spec is one process to start.
type Spec struct {
	Path       string
	Argv       []string
	Env        []string
	Dir        string
	Files      []uintptr // descriptors 0, 1, 2, …; Closed leaves one out
	Credential *syscall.Credential
	Cores      []int  // CPU affinity; empty: unchanged
	Pids       uint64 // RLIMIT_NPROC; 0: unchanged
}

// Closed marks a descriptor in Spec.Files that the process does not get.
const Closed = ^uintptr(0)

// Child is one process that boxd started. Status and Usage are valid once Done is closed.
type Child struct {
	Pid    int
	Mark   uint64 // 0 if the kernel supports no marks
	Done   chan struct{}
	Status syscall.WaitStatus
	Usage  syscall.Rusage

	launcher *Launcher
	reaped   bool
}

// Forker wraps the moment of the fork.
type Forker interface{ AroundFork(start func()) }

// Launcher starts and reaps. Make one with New.
type Launcher struct {
	// MakeRoom kills what exceeds the box's limit of processes, and returns whether there is room. Set it before the first start.
	MakeRoom func() bool

	forker   Forker
	table    *proc.Table
	scanMu   sync.Mutex
	scan     []proc.Process
	noPrivs  bool
	mu       sync.Mutex
	children map[int]*Child
	marks    *marks
	wake     chan struct{}
	busy     atomic.Bool
	onBusy   func()
	allCores affinity.Set
	heap     *heap
}

// New starts the reaper. onBusy runs whenever the first child after an idle time is started.
// With noPrivs no process gains privileges through a setuid program: an agent with its own uid must not become
// boxd's user.
func New(forker Forker, table *proc.Table, noPrivs bool, onBusy func()) *Launcher {
	l := &Launcher{
		forker: forker, table: table, noPrivs: noPrivs, children: map[int]*Child{}, marks: newMarks(),
		wake: make(chan struct{}, 1), onBusy: onBusy, heap: newHeap(),
	}
	l.allCores, _ = affinity.Own()
	go l.reap()
	return l
}

// Busy returns whether any process that boxd started or inherited is alive.
func (l *Launcher) Busy() bool { return l.busy.Load() }

// ErrCores means that none of the given cores may be used.
var ErrCores = errors.New("none of these cores may be used")

// fullTries bounds the tries to start a program in a box whose programs use up its limit of processes.
const fullTries = 20

// Start forks and executes. admit runs under the lock that orders starts against Fence; its error refuses the start.
// If the kernel refuses a further process, MakeRoom is called, and the start is tried again.
func (l *Launcher) Start(spec *Spec, admit func() error) (*Child, error) {
	for try := 1; ; try++ {
		child, err := l.start(spec, admit)
		if !errors.Is(err, syscall.EAGAIN) || try == fullTries || l.MakeRoom == nil || !l.MakeRoom() {
			return child, err
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
}

func (l *Launcher) start(spec *Spec, admit func() error) (*Child, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if admit != nil {
		if err := admit(); err != nil {
			return nil, err
		}
	}
	mark := l.marks.next()
	var pid int
	err := l.onCores(spec.Cores, func() (err error) {
		if err = l.renouncePrivileges(); err != nil {
			return err
		}
		if spec.Pids > 0 && spec.Credential == nil {
			if pid, err = l.forkLimited(spec); !errors.Is(err, errNotLimited) {
				return err
			}
		}
		path, argv := limitPids(spec)
		pid, _, err = l.fork(path, argv, attributes(spec))
		return err
	})
	if err != nil {
		return nil, err
	}
	child := &Child{Pid: pid, Mark: mark, Done: make(chan struct{}), launcher: l}
	l.children[pid] = child
	if !l.busy.Swap(true) && l.onBusy != nil {
		l.onBusy()
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return child, nil
}

func attributes(spec *Spec) *syscall.ProcAttr {
	return &syscall.ProcAttr{Dir: spec.Dir, Env: spec.Env, Files: spec.Files,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: spec.Credential}}
}

// fork also returns whether a child had to be killed before its exec.
func (l *Launcher) fork(path string, argv []string, attr *syscall.ProcAttr) (pid int, killed bool, err error) {
	stop := l.freeStuckChild()
	l.forker.AroundFork(func() { pid, err = syscall.ForkExec(path, argv, attr) })
	return pid, stop(), err
}

// Fence runs change while no start is in progress.
func (l *Launcher) Fence(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// Collect frees garbage between two forks, once there is enough of it.
func (l *Launcher) Collect() { l.Fence(l.heap.collect) }

// onCores forks on a thread with this affinity, which the child inherits before its first instruction.
// The goroutine keeps its thread during the call.
func (l *Launcher) onCores(cores []int, fork func() error) error {
	runtime.LockOSThread()
	if len(cores) == 0 {
		defer runtime.UnlockOSThread()
		return fork()
	}
	set, ok := affinity.Of(cores)
	if !ok {
		runtime.UnlockOSThread()
		return ErrCores
	}
	if set.Give(0) != nil {
		runtime.UnlockOSThread()
		return ErrCores
	}
	err := fork()
	if l.allCores.Give(0) != nil {
		return err // the thread stays locked, so it ends with its goroutine and serves no other with a wrong affinity
	}
	runtime.UnlockOSThread()
	return err
}

// freeStuckChild watches one fork until the returned function is called. Between its change of user and its exec the
// child can be stopped by the agent's programs, and boxd would wait for it forever.
func (l *Launcher) freeStuckChild() (stop func() (killed bool)) {
	const patience = 3 * time.Millisecond
	var done, killed atomic.Bool
	look := func() {
		l.scanMu.Lock()
		defer l.scanMu.Unlock()
		self, _ := l.table.Get(l.table.Self())
		l.scan, _ = l.table.Scan(l.scan[:0])
		for _, p := range l.scan {
			if p.Ppid != self.Pid || p.Comm != self.Comm || done.Load() {
				continue
			}
			switch p.State {
			case 'T':
				syscall.Kill(p.Pid, syscall.SIGCONT)
			case 't': // a signal stopped a traced child before its exec, and only the waiting thread could continue it
				killed.Store(true)
				syscall.Kill(p.Pid, syscall.SIGKILL)
			}
		}
	}
	timer := time.AfterFunc(patience, func() {
		for !done.Load() {
			look()
			time.Sleep(patience)
		}
	})
	return func() bool {
		done.Store(true)
		timer.Stop()
		return killed.Load()
	}
}

// renouncePrivileges sets no_new_privs on the forking thread; the child inherits it, and for the thread it has no effect.
func (l *Launcher) renouncePrivileges() error {
	const prSetNoNewPrivs = 38
	if !l.noPrivs {
		return nil
	}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}

// Signal sends to the process itself, never to one that reused its pid.
func (c *Child) Signal(number syscall.Signal) error {
	c.launcher.mu.Lock()
	defer c.launcher.mu.Unlock()
	if c.reaped {
		return syscall.ESRCH
	}
	return syscall.Kill(c.Pid, number)
}

// SignalGroup sends to the whole process group that the process leads.
func (c *Child) SignalGroup(number syscall.Signal) error {
	c.launcher.mu.Lock()
	defer c.launcher.mu.Unlock()
	if c.reaped {
		return syscall.ESRCH
	}
	return syscall.Kill(-c.Pid, number)
}

// CPUTime returns the user and system time of a reaped process, including the children that it waited for.
func (c *Child) CPUTime() time.Duration {
	return time.Duration(c.Usage.Utime.Nano() + c.Usage.Stime.Nano())
}
