package api

import (
	"errors"
	"strconv"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/shells"
)

const (
	maxRunBytes  = 32 << 20
	maxWait      = 60 * time.Second
	commandBytes = 1 << 20
)

// detached is the answer for a run that continues.
type detached struct {
	ID      string `json:"id"`
	Running bool   `json:"running"`
}

func (a *API) exec(c *call) {
	var request execs.Request
	if err := c.ReadJSON(&request, maxRunBytes); err != nil {
		c.fail(err)
		return
	}
	if err := request.Check(); err != nil {
		c.fail(err)
		return
	}
	execution, first, err := a.Runner.Registry.Claim(request.ID)
	if err != nil {
		c.fail(err)
		return
	}
	if first {
		a.Runner.Run(&request, execution, c.epoch)
	}
	if refused := execution.Refused(); refused != nil {
		c.fail(refused)
		return
	}
	if request.Detach {
		select {
		case <-execution.Done():
		default:
			c.reply.JSON(200, detached{ID: execution.ID, Running: true})
			return
		}
		c.reply.JSON(200, detached{ID: execution.ID, Running: first})
		return
	}
	c.await(execution)
}

// await answers with the result. The run continues even if the client disconnects.
func (c *call) await(execution *execs.Execution) {
	<-execution.Done()
	if refused := execution.Refused(); refused != nil {
		c.fail(refused)
		return
	}
	c.reply.JSON(200, execution.Result())
}

func (a *API) find(c *call) *execs.Execution {
	execution, err := a.Runner.Registry.Find(c.id)
	if err != nil {
		c.fail(err)
		return nil
	}
	if execution == nil {
		c.reply.Fail(404, "not_found", "no exec has this id")
	}
	return execution
}

func (a *API) execOutput(c *call) {
	execution := a.find(c)
	if execution == nil {
		return
	}
	stdout, err1 := c.number("stdout_offset", 0)
	stderr, err2 := c.number("stderr_offset", 0)
	waitS, err3 := strconv.ParseFloat(c.text("wait_s", "0"), 64)
	if err := errors.Join(err1, err2, err3); err != nil || !(waitS >= 0) {
		c.reply.Fail(400, "bad_request", "stdout_offset, stderr_offset, wait_s: numbers, not negative")
		return
	}
	wait := time.Duration(min(waitS, maxWait.Seconds()) * float64(time.Second))
	c.reply.JSON(200, execution.Since(stdout, stderr, wait))
}

func (c *call) text(name, otherwise string) string {
	if value := c.Query.Get(name); value != "" {
		return value
	}
	return otherwise
}

func (c *call) number(name string, otherwise int64) (int64, error) {
	value := c.Query.Get(name)
	if value == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(value, 10, 63)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

type killRequest struct {
	Signal *int `json:"signal"`
}

type killAnswer struct {
	ID      string `json:"id"`
	Running bool   `json:"running"`
	Killed  bool   `json:"killed"`
}

func (a *API) execKill(c *call) {
	var request killRequest
	if err := c.ReadJSON(&request, 1<<10); err != nil {
		c.fail(err)
		return
	}
	if request.Signal != nil && (*request.Signal < 1 || *request.Signal > 64) {
		c.reply.Fail(400, "bad_request", "signal: 1 to 64")
		return
	}
	execution := a.find(c)
	if execution == nil {
		return
	}
	if request.Signal != nil && syscall.Signal(*request.Signal) != syscall.SIGKILL {
		child := execution.Child()
		sent := child != nil && child.SignalGroup(syscall.Signal(*request.Signal)) == nil
		c.reply.JSON(200, killAnswer{ID: c.id, Running: execution.Result().Running, Killed: sent})
		return
	}
	wasRunning := execution.Result().Running
	execution.Kill("")
	<-execution.Done()
	killed := wasRunning
	if child := execution.Child(); child != nil && !wasRunning && execution.Result().Cwd == nil {
		killed = a.Runner.KillFamily(child).Killed > 0
	}
	c.reply.JSON(200, killAnswer{ID: c.id, Killed: killed})
}

type shellAnswer struct {
	ID    string `json:"id"`
	Cwd   string `json:"cwd"`
	Shell string `json:"shell"`
}

func (a *API) shellCreate(c *call) {
	var request shells.CreateRequest
	err := c.ReadJSON(&request, maxRunBytes)
	if err == nil {
		err = execs.CheckID(request.ID)
	}
	if err == nil {
		err = execs.CheckPlace(request.Cwd, request.Env)
	}
	if err != nil {
		c.fail(err)
		return
	}
	shell, full, err := a.Shells.Create(&request, c.epoch)
	switch {
	case full:
		c.reply.Fail(409, "too_many_shells", "at most "+strconv.Itoa(shells.MaxShells))
	case err != nil:
		c.fail(err)
	default:
		kind := "sh"
		if _, isBash := execs.ShellPath(); isBash {
			kind = "bash"
		}
		c.reply.JSON(200, shellAnswer{ID: shell.ID, Cwd: shell.Cwd(), Shell: kind})
	}
}

func (a *API) shellRun(c *call) {
	var request shells.RunRequest
	err := c.ReadJSON(&request, 8*commandBytes)
	if err == nil {
		err = request.Check(commandBytes)
	}
	if err != nil {
		c.fail(err)
		return
	}
	execution, first, err := a.Runner.Registry.Claim(request.ID)
	if err != nil {
		c.fail(err)
		return
	}
	if first {
		shell := a.Shells.Find(c.id)
		if shell == nil {
			a.Runner.Registry.Drop(execution, shells.ErrClosed)
		} else if err = shell.Start(&request, execution, c.epoch); err != nil {
			a.Runner.Registry.Drop(execution, err)
		}
	}
	c.await(execution)
}

type deleteAnswer struct {
	ID     string `json:"id"`
	Killed int    `json:"killed"`
}

func (a *API) shellDelete(c *call) {
	swept, found := a.Shells.Delete(c.id)
	if !found {
		c.reply.Fail(404, "not_found", "no shell has this id")
		return
	}
	c.reply.JSON(200, deleteAnswer{ID: c.id, Killed: swept.Killed})
}

type remaining struct {
	Pid  int    `json:"pid"`
	Comm string `json:"comm"`
}

type quiesceAnswer struct {
	Killed    int         `json:"killed"`
	Remaining []remaining `json:"remaining"`
	Rounds    int         `json:"rounds"`
}

// quiesce first refuses further starts, then kills everything.
func (a *API) quiesce(c *call) {
	a.Runner.SetQuiesced(true)
	a.Doors.ShutAll() // afterwards none can be opened
	strike := func() {
		if a.Runner.Table.Self() == 1 {
			syscall.Kill(-1, syscall.SIGKILL) // all at once: the kernel blocks forks meanwhile
		}
	}
	before, _ := a.Runner.Table.Scan(nil)
	alive := map[int]bool{}
	for _, p := range a.Runner.Table.Box(before) {
		if p.Alive() {
			alive[p.Pid] = true
		}
	}
	swept := a.Runner.Table.Sweep(a.Runner.Table.Box, strike)
	answer := quiesceAnswer{Killed: max(swept.Killed, len(alive)), Remaining: []remaining{}, Rounds: swept.Rounds}
	for _, p := range swept.Remaining {
		answer.Remaining = append(answer.Remaining, remaining{Pid: p.Pid, Comm: p.Comm})
	}
	a.settleRuns()
	c.reply.JSON(200, answer)
}

// settleRuns waits until each killed run has its result.
func (a *API) settleRuns() {
	deadline := time.After(2 * time.Second)
	for _, execution := range a.Runner.Registry.Running() {
		select {
		case <-execution.Done():
		case <-deadline:
			return
		}
	}
}

func (a *API) resume(c *call) {
	a.Runner.SetQuiesced(false)
	c.reply.JSON(200, struct {
		Quiesced bool `json:"quiesced"`
	}{})
}

type healthAnswer struct {
	Version  string  `json:"version"`
	Epoch    int64   `json:"epoch"`
	UptimeS  float64 `json:"uptime_s"`
	Quiesced bool    `json:"quiesced"`
}

func (a *API) health(c *call) {
	c.reply.JSON(200, healthAnswer{a.Version, a.Runner.Epoch(), time.Since(a.started).Seconds(), a.Runner.Quiesced()})
}

func (a *API) stats(c *call) {
	stats := a.Watchdog.Stats()
	stats.BytesIn, stats.BytesOut = a.Server.BytesIn.Load(), a.Server.BytesOut.Load()
	c.reply.JSON(200, stats)
}
