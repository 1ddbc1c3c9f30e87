package execs

import (
	"encoding/base64"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"envfarm.dev/boxd/internal/contention"
	"envfarm.dev/boxd/internal/launch"
)

// Result is the answer on an exec; see docs/boxd-protocol.md.
type Result struct {
	ID             string  `json:"id"`
	Running        bool    `json:"running"`
	ExitCode       *int    `json:"exit_code"`
	Signal         *int    `json:"signal"`
	TimedOut       bool    `json:"timed_out"`
	Stdout         *string `json:"stdout,omitempty"`
	StdoutB64      *string `json:"stdout_b64,omitempty"`
	Stderr         *string `json:"stderr,omitempty"`
	StderrB64      *string `json:"stderr_b64,omitempty"`
	StdoutOffset   *int64  `json:"stdout_offset,omitempty"`
	StdoutNext     *int64  `json:"stdout_next,omitempty"`
	StderrOffset   *int64  `json:"stderr_offset,omitempty"`
	StderrNext     *int64  `json:"stderr_next,omitempty"`
	StdoutBytes    int64   `json:"stdout_bytes"`
	StderrBytes    int64   `json:"stderr_bytes"`
	Truncated      bool    `json:"truncated"`
	DurationS      float64 `json:"duration_s"`
	CPUS           float64 `json:"cpu_s"`
	MaxRSSBytes    int64   `json:"max_rss_bytes"`
	LimitHit       string  `json:"limit_hit"`
	Cwd            *string `json:"cwd,omitempty"`
	ShellRestarted *bool   `json:"shell_restarted,omitempty"`

	Contention *contention.Seen `json:"contention,omitempty"`
}

// Ending describes how a run ended, as seen by its driver.
type Ending struct {
	Status         syscall.WaitStatus
	Forced         bool // boxd killed it: reported as killed, whatever the status says
	CPU            time.Duration
	MaxRSSBytes    int64
	Cwd            *string
	ShellRestarted *bool
	Contention     *contention.Seen // of a run that timed out, if the machine has the counters
}

// Execution is the run of one id: its output and its end.
type Execution struct {
	ID      string
	Started time.Time

	mu        sync.Mutex
	stdout    capture
	stderr    capture
	sealed    bool
	refused   error
	result    Result
	timedOut  bool
	limitHit  string
	maxOutput int64
	changed   chan struct{}
	child     *launch.Child

	killOnce sync.Once
	kill     chan struct{} // closed: the driver must kill the tree
	done     chan struct{}
}

func newExecution(id string) *Execution {
	return &Execution{ID: id, Started: time.Now(), kill: make(chan struct{}), done: make(chan struct{})}
}

// Prepare sets the limits before the first byte: bytes kept per stream, and bytes of output at which the run is killed.
func (e *Execution) Prepare(keptBytes int, maxOutput int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stdout, e.stderr = newCapture(keptBytes), newCapture(keptBytes)
	e.maxOutput = maxOutput
	e.Started = time.Now()
}

// Attach sets the process of the run.
func (e *Execution) Attach(child *launch.Child) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child = child
}

// Child is the process of the run; nil before its start.
func (e *Execution) Child() *launch.Child {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.child
}

// WriteStdout adds output of the program; after the end it is discarded.
func (e *Execution) WriteStdout(p []byte) { e.write(&e.stdout, p) }

// WriteStderr does the same for stderr.
func (e *Execution) WriteStderr(p []byte) { e.write(&e.stderr, p) }

func (e *Execution) write(to *capture, p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sealed {
		return
	}
	to.write(p)
	e.announce()
	if e.maxOutput > 0 && e.stdout.total+e.stderr.total > e.maxOutput && e.limitHit == "" {
		e.limitHit = "output"
		e.requestKill()
	}
}

func (e *Execution) announce() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// Kill asks the driver to kill the whole tree. limit names the limit that was hit, or is empty.
func (e *Execution) Kill(limit string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sealed {
		return
	}
	if e.limitHit == "" {
		e.limitHit = limit
	}
	e.requestKill()
}

// Expire records that the run timed out.
func (e *Execution) Expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timedOut = true
}

func (e *Execution) requestKill() { e.killOnce.Do(func() { close(e.kill) }) }

// KillRequested is closed once Kill was called.
func (e *Execution) KillRequested() <-chan struct{} { return e.kill }

// Done is closed at the end.
func (e *Execution) Done() <-chan struct{} { return e.done }

// Refuse ends an execution that never ran.
func (e *Execution) Refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused, e.sealed = err, true
	e.announce()
	close(e.done)
}

// Refused returns why the run never started; nil if it did.
func (e *Execution) Refused() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused
}

// Finish seals the output and stores the result.
func (e *Execution) Finish(ending Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sealed = true
	e.stdout.shrink()
	e.stderr.shrink()
	e.result = Result{
		ID: e.ID, TimedOut: e.timedOut, LimitHit: e.limitHit,
		DurationS: time.Since(e.Started).Seconds(), CPUS: ending.CPU.Seconds(),
		MaxRSSBytes: ending.MaxRSSBytes, Cwd: ending.Cwd, ShellRestarted: ending.ShellRestarted,
		Contention: ending.Contention,
	}
	switch {
	case ending.Forced:
		number := int(syscall.SIGKILL)
		e.result.Signal = &number
	case ending.Status.Signaled():
		number := int(ending.Status.Signal())
		e.result.Signal = &number
	default:
		code := ending.Status.ExitStatus()
		e.result.ExitCode = &code
	}
	e.announce()
	close(e.done)
}

// Result returns the status, with the kept output once the run has ended.
func (e *Execution) Result() Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.status()
	if !r.Running {
		r.Stdout, r.StdoutB64 = encode(e.stdout.kept())
		r.Stderr, r.StderrB64 = encode(e.stderr.kept())
	}
	return r
}

// Since waits for output beyond the offsets, for the end of the run, or until the time is over.
func (e *Execution) Since(stdoutOffset, stderrOffset int64, wait time.Duration) Result {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		e.mu.Lock()
		if e.sealed || wait <= 0 || e.stdout.total > stdoutOffset || e.stderr.total > stderrOffset {
			break
		}
		if e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed := e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			wait = 0
		}
	}
	defer e.mu.Unlock()
	r := e.status()
	out, outAt := e.stdout.from(stdoutOffset)
	errOut, errAt := e.stderr.from(stderrOffset)
	outNext, errNext := outAt+int64(len(out)), errAt+int64(len(errOut))
	r.Stdout, r.StdoutB64 = encode(out)
	r.Stderr, r.StderrB64 = encode(errOut)
	r.StdoutOffset, r.StdoutNext, r.StderrOffset, r.StderrNext = &outAt, &outNext, &errAt, &errNext
	return r
}

func (e *Execution) status() Result {
	r := Result{ID: e.ID, Running: true, DurationS: time.Since(e.Started).Seconds(), LimitHit: e.limitHit}
	if e.sealed {
		r = e.result
	}
	r.StdoutBytes, r.StderrBytes = e.stdout.total, e.stderr.total
	r.Truncated = e.stdout.truncated() || e.stderr.truncated()
	return r
}

func (e *Execution) memory() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stdout.memory() + e.stderr.memory() + 512
}

// encode preserves the bytes: as text if they are valid UTF-8, else as base64.
func encode(p []byte) (text, b64 *string) {
	if utf8.Valid(p) {
		s := string(p)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(p)
	return nil, &s
}
