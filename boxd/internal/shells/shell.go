// Package shells provides shells whose state persists between runs.
//
// Exit codes and directories come over a separate pipe, never from the output.
package shells

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/proc"
)

// Errors of this package.
var (
	ErrBusy   = errors.New("another run is in progress in this shell")
	ErrClosed = errors.New("the shell was deleted")
)

const (
	abortPatience = 400 * time.Millisecond
	clockTick     = 10 * time.Millisecond // USER_HZ is 100 everywhere
)

// RunRequest is the body of POST /v1/shells/{id}/run.
type RunRequest struct {
	ID          string   `json:"id"`
	Command     string   `json:"command"`
	TimeoutS    *float64 `json:"timeout_s"`
	OutputBytes *int     `json:"output_bytes"`
	Cores       []int    `json:"cores"`
}

// Shell is one persistent shell.
type Shell struct {
	ID string

	runner  *execs.Runner
	spec    launch.Spec
	running sync.Mutex // held during a run

	mu        sync.Mutex
	session   *session
	former    []*launch.Child // dead shells whose background processes may live on
	cwd       string
	closed    bool
	pinned    bool // the last run had its own cores
	restarted bool // not reported yet
}

func newShell(id string, runner *execs.Runner, spec launch.Spec, admit func() error) (*Shell, error) {
	s := &Shell{ID: id, runner: runner, spec: spec, cwd: spec.Dir}
	session, err := startSession(runner, spec, admit)
	s.session = session
	return s, err
}

// Cwd is the directory after the last run.
func (s *Shell) Cwd() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cwd
}

// Start begins a run in the background. It fails with ErrBusy, ErrClosed, launch.ErrCores, or an error of the start;
// then nothing has run.
func (s *Shell) Start(request *RunRequest, execution *execs.Execution, epoch int64) error {
	if !s.running.TryLock() {
		return ErrBusy
	}
	session, err := s.living(s.runner.Admit(epoch))
	if err == nil {
		err = s.pin(session, request.Cores)
	}
	if err != nil {
		s.running.Unlock()
		return err
	}
	execution.Prepare(execs.KeptBytes(request.OutputBytes), s.runner.MaxOutput)
	execution.Attach(session.child)
	run := &shellRun{shell: s, session: session, execution: execution, token: newToken(), sinceTick: bootTicks()}
	run.cpuBefore = run.cpu()
	session.setCurrent(execution)
	go run.supervise(request.Command, execs.Timeout(request.TimeoutS)) // unlocks s.running
	return nil
}

// living returns the current process, or a new one if the last has died.
func (s *Shell) living(admit func() error) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if !s.session.child.Reaped() {
		var refused error
		s.runner.Launcher.Fence(func() { refused = admit() })
		return s.session, refused
	}
	err := s.restart(admit)
	return s.session, err
}

// restart requires s.mu.
func (s *Shell) restart(admit func() error) error {
	spec := s.spec
	if info, err := os.Stat(s.cwd); err == nil && info.IsDir() {
		spec.Dir = s.cwd
	}
	fresh, err := startSession(s.runner, spec, admit)
	if err != nil && spec.Dir != s.spec.Dir {
		spec.Dir = s.spec.Dir
		fresh, err = startSession(s.runner, spec, admit)
	}
	if err != nil {
		return err
	}
	s.session.close()
	s.former = append(s.former, s.session.child)
	s.session, s.cwd, s.restarted, s.pinned = fresh, spec.Dir, true, false
	return nil
}

func (s *Shell) pin(session *session, cores []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(cores) == 0 && !s.pinned {
		return nil
	}
	s.pinned = len(cores) > 0
	return s.runner.Launcher.SetCores(session.child.Pid, cores, s.spec.Credential)
}

// Close ends the shell and everything that it started.
func (s *Shell) Close() proc.Swept {
	s.mu.Lock()
	s.closed = true
	children := append(s.former, s.session.child)
	s.session.close()
	s.mu.Unlock()
	var swept proc.Swept
	for _, child := range children {
		one := s.runner.KillFamily(child)
		swept.Killed += one.Killed
		swept.Remaining = append(swept.Remaining, one.Remaining...)
	}
	return swept
}

func newToken() string {
	var raw [12]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// bootTicks is the current time on the clock that the kernel uses for start times of processes.
func bootTicks() uint64 {
	const clockBoottime = 7
	var now syscall.Timespec
	if !readClock(clockBoottime, &now) {
		return 0
	}
	return uint64(now.Nano()) / uint64(clockTick)
}

// Check rejects invalid requests. maxCommandBytes bounds the command.
func (r *RunRequest) Check(maxCommandBytes int) error {
	if err := execs.CheckID(r.ID); err != nil {
		return err
	}
	if strings.Contains(r.Command, "\x00") {
		return errors.New("command: contains a NUL byte")
	}
	if len(r.Command) > maxCommandBytes {
		return fmt.Errorf("command: at most %d bytes", maxCommandBytes)
	}
	return execs.CheckBounds(r.TimeoutS, r.OutputBytes, r.Cores)
}
