package shells

import (
	"syscall"
	"time"
	"unsafe"

	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/proc"
)

// shellRun is one command in a shell.
type shellRun struct {
	shell     *Shell
	session   *session
	execution *execs.Execution
	token     string
	sinceTick uint64
	cpuBefore int64
}

func (r *shellRun) supervise(command string, timeout time.Duration) {
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	go r.session.control.Write(controlLine(r.token, command))
	for {
		select {
		case message := <-r.session.statuses:
			if message.token == r.token {
				r.finish(&message, false)
				return
			}
		case <-r.session.child.Done:
			r.finish(r.lastStatus(), false)
			return
		case <-r.execution.KillRequested():
			r.finish(r.abort(), true)
			return
		case <-expired:
			r.execution.Expire()
			r.finish(r.abort(), true)
			return
		}
	}
}

// lastStatus is the answer of a shell that died right after sending it: the command itself had ended.
func (r *shellRun) lastStatus() *statusMessage {
	r.session.pumps[2].Drain()
	for {
		select {
		case message := <-r.session.statuses:
			if message.token == r.token {
				return &message
			}
		default:
			return nil
		}
	}
}

// abort kills what this run started and makes the shell abandon the rest of the command. nil: the shell had to be killed, too.
func (r *shellRun) abort() *statusMessage {
	newOnes := func(all []proc.Process) []proc.Process { return r.started(all, false) }
	r.session.child.Signal(abortSignal)
	for deadline := time.Now().Add(abortPatience); time.Now().Before(deadline); {
		r.shell.runner.Table.Sweep(newOnes, nil)
		select {
		case message := <-r.session.statuses:
			if message.token == r.token {
				r.shell.runner.Table.Sweep(newOnes, nil)
				return &message
			}
		case <-r.session.child.Done:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.shell.runner.Table.Sweep(func(all []proc.Process) []proc.Process { return r.started(all, true) }, nil)
	select {
	case <-r.session.child.Done:
	case <-time.After(2 * time.Second):
	}
	return nil
}

// started selects the shell's processes that are not older than the run, so that background jobs of earlier runs live on.
func (r *shellRun) started(all []proc.Process, withShell bool) []proc.Process {
	child := r.session.child
	family := r.shell.runner.Launcher.Family(r.shell.runner.Table, child)(all)
	kept := family[:0]
	for _, p := range family {
		if p.Pid == child.Pid {
			if withShell {
				kept = append(kept, p)
			}
		} else if p.Start >= r.sinceTick {
			kept = append(kept, p)
		}
	}
	return kept
}

// finish completes the run. status is nil if the shell's process is gone; then a new one is started.
func (r *shellRun) finish(status *statusMessage, forced bool) {
	r.session.drain()
	cpuAfter := r.cpu()
	r.session.setCurrent(nil)
	ending := execs.Ending{Forced: forced}
	if status != nil {
		ending.Status = syscall.WaitStatus(status.code << 8)
	} else if r.session.child.Reaped() {
		ending.Status = r.session.child.Status
	}
	s := r.shell
	s.mu.Lock()
	if status != nil {
		s.cwd = status.cwd
	} else if !s.closed {
		// A quiesced box refuses this; then the next run starts the shell.
		if s.restart(s.runner.Admit(s.runner.Epoch())) != nil {
			s.restarted = true
		}
	}
	cwd, restarted := s.cwd, s.restarted
	s.restarted = false
	s.mu.Unlock()
	ending.Cwd, ending.ShellRestarted = &cwd, &restarted
	ending.CPU = time.Duration(max(0, cpuAfter-r.cpuBefore)) * clockTick
	s.running.Unlock() // before the answer is sent: the client's next run may follow immediately
	r.execution.Finish(ending)
	s.runner.Registry.Settle(r.execution)
}

// cpu returns the ticks of the shell and of the children that it waited for.
func (r *shellRun) cpu() int64 {
	if r.session.child.Reaped() {
		return int64(r.session.child.CPUTime() / clockTick)
	}
	p, _ := r.shell.runner.Table.Get(r.session.child.Pid)
	return p.CPUTicks
}

func readClock(clock uintptr, into *syscall.Timespec) bool {
	_, _, e := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(into)), 0)
	return e == 0
}
