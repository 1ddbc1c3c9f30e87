package execs

import (
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/contention"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/proc"
)

// ErrQuiesced is returned for starts between quiesce and resume.
var ErrQuiesced = errors.New("the box is quiesced")

// FencedError is returned to a caller with an outdated epoch.
type FencedError struct{ Epoch int64 }

func (f *FencedError) Error() string { return "a later epoch holds this box" }

// Runner runs requests. Set the exported fields once, before the first run.
type Runner struct {
	Defaults   Defaults
	Launcher   *launch.Launcher
	Table      *proc.Table
	Registry   *Registry
	Contention *contention.Witness
	MaxOutput  int64 // bytes of both streams at which a run is killed; 0 for no limit

	quiesced atomic.Bool
	epoch    atomic.Int64
	null     *os.File
}

// Open prepares what every run needs.
func (r *Runner) Open(epoch int64) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	r.null = null
	r.epoch.Store(epoch)
	return err
}

// Null returns a descriptor of /dev/null.
func (r *Runner) Null() uintptr { return r.null.Fd() }

// Enter raises the epoch, or returns a FencedError for a lower one.
func (r *Runner) Enter(epoch int64) error {
	for {
		now := r.epoch.Load()
		if epoch < now {
			return &FencedError{Epoch: now}
		}
		if epoch == now || r.epoch.CompareAndSwap(now, epoch) {
			return nil
		}
	}
}

// Epoch returns the highest epoch of any caller so far.
func (r *Runner) Epoch() int64 { return r.epoch.Load() }

// Admit returns a check to be made at each fork, so that no older call can start something after a quiesce or a new lease.
func (r *Runner) Admit(epoch int64) func() error {
	return func() error {
		if r.quiesced.Load() {
			return ErrQuiesced
		}
		if now := r.epoch.Load(); epoch < now {
			return &FencedError{Epoch: now}
		}
		return nil
	}
}

// SetQuiesced returns once no start admitted by the old state is in progress.
func (r *Runner) SetQuiesced(quiesced bool) {
	r.Launcher.Fence(func() { r.quiesced.Store(quiesced) })
}

// Quiesced returns whether starts are refused.
func (r *Runner) Quiesced() bool { return r.quiesced.Load() }

// Run starts a checked request in the background; the execution must have been claimed for it.
func (r *Runner) Run(request *Request, execution *Execution, epoch int64) {
	execution.Prepare(KeptBytes(request.OutputBytes), r.MaxOutput)
	spec := &launch.Spec{
		Argv: request.Argv, Env: r.Defaults.Environment(request.User, request.Env, request.ClearEnv),
		Dir: r.Defaults.Directory(request.Cwd), Credential: r.Defaults.Credential(request.User),
		Cores: request.Cores, Pids: request.Pids,
	}
	if request.Shell != nil {
		path, _ := ShellPath()
		spec.Argv = []string{path, "-c", *request.Shell}
	}
	input, err := request.Input()
	if err != nil {
		r.Registry.Drop(execution, err)
		return
	}
	run, err := r.start(spec, input, execution, epoch)
	if err != nil {
		r.refuse(execution, spec, err)
		return
	}
	go r.supervise(run, Timeout(request.TimeoutS))
}

// refuse distinguishes refusals from programs that cannot be started, which are ordinary results.
func (r *Runner) refuse(execution *Execution, spec *launch.Spec, err error) {
	var fenced *FencedError
	if errors.As(err, &fenced) || errors.Is(err, ErrQuiesced) || errors.Is(err, launch.ErrCores) {
		r.Registry.Drop(execution, err)
		return
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		execution.Kill("pids")
	case errors.Is(err, syscall.ENOMEM):
		execution.Kill("memory")
	}
	code, message := failedStart(spec.Argv[0], spec.Dir, err)
	execution.WriteStderr([]byte(message))
	execution.Finish(Ending{Status: syscall.WaitStatus(code << 8)})
	r.Registry.Settle(execution)
}

// run is one started process with its pipes.
type run struct {
	execution *Execution
	child     *launch.Child
	pumps     [2]*Pump
	begun     contention.Mark
}

func (r *Runner) start(spec *launch.Spec, input []byte, execution *Execution, epoch int64) (*run, error) {
	var err error
	if spec.Path, err = findProgram(spec.Argv[0], spec.Env, spec.Dir); err != nil {
		return nil, err
	}
	var ours, theirs []int
	closeAll := func(fds []int) {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	for range 2 {
		reading, writing, err := NewPipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, err
		}
		ours, theirs = append(ours, reading), append(theirs, writing)
	}
	spec.Files = []uintptr{r.null.Fd(), uintptr(theirs[0]), uintptr(theirs[1])}
	var stdin *os.File
	if len(input) > 0 {
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			closeAll(append(ours, theirs...))
			return nil, err
		}
		syscall.SetNonblock(ends[1], true)
		theirs = append(theirs, ends[0])
		spec.Files[0] = uintptr(ends[0])
		stdin = os.NewFile(uintptr(ends[1]), "stdin")
	}
	begun := r.Contention.Begin()
	child, err := r.Launcher.Start(spec, r.Admit(epoch))
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		if stdin != nil {
			stdin.Close()
		}
		return nil, err
	}
	execution.Attach(child)
	if stdin != nil {
		go feed(stdin, input, child)
	}
	return &run{execution: execution, child: child, begun: begun, pumps: [2]*Pump{
		StartPump(ours[0], execution.WriteStdout), StartPump(ours[1], execution.WriteStderr)}}, nil
}

// feed writes the standard input, and gives up if the program ends without reading it.
func feed(stdin *os.File, input []byte, child *launch.Child) {
	written := make(chan struct{})
	go func() {
		stdin.Write(input)
		close(written)
	}()
	select {
	case <-written:
	case <-child.Done:
	}
	stdin.Close()
}

func (r *Runner) supervise(run *run, timeout time.Duration) {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	forced := false
	var seen *contention.Seen
	select {
	case <-run.child.Done:
	case <-run.execution.KillRequested():
		forced = true
	case <-expired:
		run.execution.Expire()
		seen = r.look(run)
		forced = true
	}
	if forced {
		r.KillFamily(run.child)
		select {
		case <-run.child.Done:
		case <-time.After(2 * time.Second):
			// Stuck in the kernel; quiesce will report it.
		}
	}
	for _, pump := range run.pumps {
		pump.Drain()
	}
	ending := Ending{Forced: forced, Contention: seen}
	if run.child.Reaped() {
		ending.Status = run.child.Status
		ending.CPU = run.child.CPUTime()
		ending.MaxRSSBytes = run.child.Usage.Maxrss << 10
	}
	run.execution.Finish(ending)
	r.Registry.Settle(run.execution)
}

// look measures, before the kill, how a run that timed out spent its time. Processes older than the run do not belong to it.
func (r *Runner) look(run *run) *contention.Seen {
	first, ok := r.Table.Get(run.child.Pid)
	all, err := r.Table.Scan(nil)
	if !ok || err != nil {
		return nil
	}
	family := r.Launcher.Family(r.Table, run.child)(all)
	family = slices.DeleteFunc(family, func(p proc.Process) bool { return p.Start < first.Start })
	return r.Contention.End(run.begun, r.Table, family)
}

// KillFamily kills a process and everything that it started; see launch.Family.
func (r *Runner) KillFamily(child *launch.Child) proc.Swept {
	return r.Table.Sweep(r.Launcher.Family(r.Table, child), nil)
}
