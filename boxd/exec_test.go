package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExecReportsHowTheProgramEnded(t *testing.T) {
	b := startBox(t, nil)
	expect(t, b.must(options{"argv": []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}),
		answer{"exit_code": 7, "signal": nil, "stdout": "out\n", "stderr": "err\n", "timed_out": false, "truncated": false, "limit_hit": ""})
	expect(t, b.shell("kill -11 $$"), answer{"exit_code": nil, "signal": 11})
	expect(t, b.must(options{"argv": []string{"/no/such/program"}}), answer{"exit_code": 127})
	expect(t, b.must(options{"argv": []string{"no-such-program"}}), answer{"exit_code": 127})
	expect(t, b.must(options{"argv": []string{"/etc/passwd"}}), answer{"exit_code": 126})
	expect(t, b.must(options{"argv": []string{"true"}, "cwd": "/no/such/dir"}), answer{"exit_code": 126})
}

func TestExecGetsExactlyWhatWasAskedFor(t *testing.T) {
	b := startBox(t, options{"exec_env": options{"A": "1", "B": "2"}})
	expect(t, b.must(options{"argv": []string{"cat"}, "stdin": "ünï"}), answer{"stdout": "ünï"})
	expect(t, b.must(options{"argv": []string{"cat"}, "stdin_b64": "/wA="}), answer{"stdout_b64": "/wA=", "stdout": nil})
	expect(t, b.must(options{"argv": []string{"cat"}}), answer{"stdout": "", "exit_code": 0})
	big := strings.Repeat("0123456789abcdef", 32<<10)
	expect(t, b.must(options{"argv": []string{"wc", "-c"}, "stdin": big}), answer{"stdout": "524288\n"})
	expect(t, b.must(options{"argv": []string{"env"}, "env": options{"B": "3"}, "clear_env": true}), answer{"stdout": "B=3\n"})
	env := b.must(options{"argv": []string{"env"}, "env": options{"B": "3"}}).text("stdout")
	if !strings.Contains(env, "A=1\nB=3\n") || strings.Contains(env, "BOXD") || strings.Contains(env, testToken) {
		t.Errorf("environment: %q", env)
	}
	expect(t, b.must(options{"argv": []string{"pwd"}, "cwd": "/usr"}), answer{"stdout": "/usr\n"})
	expect(t, b.shell("ls /proc/self/fd | wc -l"), answer{"stdout": "4\n"}) // 0, 1, 2 and the one of ls
	// Signals 32 and 33 are libc's own: its posix_spawn leaves them ignored in what it starts, these tests under make among them.
	const libcOwn = 1<<31 | 1<<32
	said := strings.Fields(b.shell("grep SigIgn /proc/self/status").text("stdout"))
	ignored, err := strconv.ParseUint(said[len(said)-1], 16, 64)
	if err != nil || ignored&^libcOwn != 0 {
		t.Errorf("a child inherits ignored signals: %x (%v)", ignored, err)
	}
}

func TestSameIDRunsOnce(t *testing.T) {
	b := startBox(t, nil)
	request := options{"id": "once", "shell": "echo x >> count; sleep 0.3; cat count"}
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			if status, result := b.call("POST", "/v1/exec", request); status != 200 || result.text("stdout") != "x\n" {
				t.Errorf("%d %v", status, result)
			}
		}()
	}
	all.Wait()
	expect(t, b.must(request), answer{"stdout": "x\n"})
}

func TestForgottenIDNeverRunsAgain(t *testing.T) {
	b := startBox(t, nil)
	b.must(options{"id": "first", "shell": "echo x >> count"})
	for range 256 {
		b.must(options{"argv": []string{"true"}})
	}
	status, problem := b.call("POST", "/v1/exec", options{"id": "first", "shell": "echo x >> count"})
	if status != 410 || problem["error"] != "forgotten" {
		t.Errorf("%d %v", status, problem)
	}
	if data, _ := os.ReadFile(b.path("count")); string(data) != "x\n" {
		t.Errorf("ran again: %q", data)
	}
}

func TestTimeoutKillsEverythingThatTheExecStarted(t *testing.T) {
	b := startBox(t, nil)
	script := `sleep 300 & echo $! > plain
setsid sh -c 'echo $$ > newsession; exec sleep 300' &
(setsid sh -c '(sh -c "echo \$\$ > orphan; exec sleep 300" &) ; exit' &) 
(trap "" TERM HUP INT; echo $BASHPID > deaf; exec sleep 300) &
env -i setsid sh -c 'ulimit -R 12345 2>/dev/null; echo $$ > forged; exec sleep 300' &
sleep 300`
	begun := time.Now()
	result := b.must(options{"shell": script, "timeout_s": 1})
	expect(t, result, answer{"timed_out": true, "exit_code": nil, "signal": 9})
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	for _, name := range []string{"plain", "newsession", "orphan", "deaf", "forged"} {
		pid := waitForFile(t, b.path(name))
		if _, err := os.Stat("/proc/" + pid); err == nil {
			t.Errorf("%s survives the answer", name)
		}
	}
}

func TestTimeoutSparesOtherExecs(t *testing.T) {
	b := startBox(t, nil)
	b.shell("setsid sleep 300 >/dev/null 2>&1 & echo $! > server")
	b.must(options{"shell": "sleep 300", "timeout_s": 0.2})
	if pid := waitForFile(t, b.path("server")); gone(pid) {
		t.Error("a server of an earlier exec died with another exec's timeout")
	}
}

func TestBackgroundProcessesLiveOnAndCanBeKilledByID(t *testing.T) {
	b := startBox(t, nil)
	b.must(options{"id": "server", "shell": "(while :; do echo noise; sleep 0.01; done) & echo $! > pid; echo started"})
	pid := waitForFile(t, b.path("pid"))
	time.Sleep(100 * time.Millisecond)
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatal("the server did not live on")
	}
	status, result := b.call("POST", "/v1/exec/server/kill", nil)
	if status != 200 || result["killed"] != true || !gone(pid) {
		t.Errorf("%d %v", status, result)
	}
}

func TestOutputCapKeepsHeadAndTail(t *testing.T) {
	b := startBox(t, nil)
	result := b.must(options{"shell": "seq 1 100000", "output_bytes": 20})
	expect(t, result, answer{"stdout": "1\n2\n3\n4\n5\n99\n100000\n", "stdout_bytes": 588895, "truncated": true})
	result = b.must(options{"shell": "seq 1 100000", "output_bytes": 588895})
	if len(result.text("stdout")) != 588895 || result["truncated"] != false {
		t.Errorf("an output that just fits was cut: %d", len(result.text("stdout")))
	}
}

func TestOutputLimitEndsAFlood(t *testing.T) {
	b := startBox(t, options{"limits": options{"output_bytes": 5 << 20}})
	result := b.must(options{"argv": []string{"yes"}, "output_bytes": 100, "timeout_s": 20})
	expect(t, result, answer{"limit_hit": "output", "timed_out": false, "signal": 9})
}

func TestOutputCanBeFollowedAndResumed(t *testing.T) {
	b := startBox(t, nil)
	expect(t, b.must(options{"id": "d", "shell": "printf one; while ! test -e go; do sleep 0.01; done; printf two", "detach": true}),
		answer{"id": "d", "running": true})
	var seen string
	for offset := 0.0; len(seen) < 3; {
		_, part := b.call("GET", "/v1/exec/d?stdout_offset=0&wait_s=5", nil)
		seen, offset = part.text("stdout"), part.number("stdout_next")
		if part["running"] != true || int(offset) != len(seen) {
			t.Fatalf("%v", part)
		}
	}
	_, quiet := b.call("GET", "/v1/exec/d?stdout_offset=3&wait_s=0.05", nil)
	expect(t, quiet, answer{"running": true, "stdout": "", "stdout_next": 3})
	os.WriteFile(b.path("go"), nil, 0o644)
	for {
		_, part := b.call("GET", "/v1/exec/d?stdout_offset=3&wait_s=5", nil)
		if part["running"] == true {
			continue
		}
		expect(t, part, answer{"stdout": "two", "stdout_offset": 3, "stdout_next": 6, "exit_code": 0})
		break
	}
	expect(t, b.must(options{"id": "d", "shell": "ignored"}), answer{"stdout": "onetwo"})
	if status, _ := b.call("GET", "/v1/exec/unknown", nil); status != 404 {
		t.Errorf("unknown id: %d", status)
	}
}

func TestKillWithASignal(t *testing.T) {
	b := startBox(t, nil)
	b.must(options{"id": "k", "shell": "trap 'echo got; exit 5' TERM; touch ready; while :; do sleep 0.01; done", "detach": true})
	for range 500 {
		if _, err := os.Stat(b.path("ready")); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.call("POST", "/v1/exec/k/kill", options{"signal": 15})
	expect(t, b.must(options{"id": "k", "shell": ""}), answer{"exit_code": 5, "stdout": "got\n"})
}

func TestCoresAndPids(t *testing.T) {
	b := startBox(t, nil)
	expect(t, b.must(options{"shell": "grep Cpus_allowed_list /proc/self/status | cut -f2", "cores": []int{0}}), answer{"stdout": "0\n"})
	free := b.shell("grep Cpus_allowed_list /proc/self/status | cut -f2").text("stdout")
	if free == "0\n" && strings.TrimSpace(b.shell("nproc --all").text("stdout")) != "1" {
		t.Error("the affinity of one exec stayed for the next")
	}
	status, problem := b.call("POST", "/v1/exec", options{"id": "c", "argv": []string{"true"}, "cores": []int{1000}})
	if status != 400 || problem["error"] != "bad_cores" {
		t.Errorf("%d %v", status, problem)
	}
	expect(t, b.must(options{"id": "c", "argv": []string{"true"}}), answer{"exit_code": 0}) // it had not run
	expect(t, b.must(options{"shell": "ulimit -u", "pids": 321}), answer{"stdout": "321\n"})
}

func TestAgentIsAnotherUser(t *testing.T) {
	needRoot(t)
	b := startBox(t, options{"agent_uid": 12345, "agent_gid": 23456})
	expect(t, b.shell("id -u; id -g; id -G"), answer{"stdout": "12345\n23456\n23456\n"})
	expect(t, b.must(options{"shell": "id -u", "user": "boxd"}), answer{"stdout": "0\n"})
	expect(t, b.must(options{"shell": "id -u", "user": 777}), answer{"stdout": "777\n"})
	expect(t, b.must(options{"shell": "ulimit -u; id -u", "pids": 99}), answer{"stdout": "99\n12345\n"})
	expect(t, b.shell("kill -9 $PPID; cat /proc/$PPID/environ"), answer{"exit_code": 1, "stdout": ""})
	expect(t, b.shell("grep NoNewPrivs /proc/self/status"), answer{"stdout": "NoNewPrivs:\t1\n"})
}

func TestRunsAsBoxdFindNoProgramOfTheAgents(t *testing.T) {
	planted := t.TempDir()
	if err := os.WriteFile(planted+"/true", []byte("#!/bin/sh\necho planted\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := startBox(t, options{"exec_env": options{"PATH": planted + ":/usr/bin:/bin", "LD_PRELOAD": planted + "/none.so"}})
	expect(t, b.must(options{"argv": []string{"true"}}), answer{"stdout": "planted\n"})
	expect(t, b.must(options{"argv": []string{"true"}, "user": "boxd"}), answer{"exit_code": 0, "stdout": "", "stderr": ""})
	expect(t, b.must(options{"shell": "echo $PATH $LD_PRELOAD $OWN", "user": "boxd", "env": options{"OWN": "x"}}),
		answer{"stdout": "/usr/sbin:/usr/bin:/sbin:/bin x\n"})
}

func TestBadRequestsAreRefused(t *testing.T) {
	b := startBox(t, nil)
	for _, request := range []options{
		{"id": "x"}, {"id": "x", "argv": []string{"a"}, "shell": "b"}, {"id": "", "shell": "a"}, {"id": "a/b", "shell": "a"},
		{"id": "x", "shell": "a", "unknown": 1}, {"id": "x", "shell": "a", "timeout_s": -1}, {"id": "x", "shell": "a", "timeout_s": 0},
		{"id": "x", "shell": "a", "user": "root"}, {"id": "x", "shell": "a", "stdin_b64": "!"}, {"id": "x", "shell": "a", "cwd": "relative"},
		{"id": "x", "shell": "a\x00b"}, {"id": "x", "shell": "a", "env": options{"A=B": "c"}}, {"id": "x", "shell": "a", "output_bytes": -1},
		{"id": "x", "argv": []string{""}},
	} {
		if status, problem := b.call("POST", "/v1/exec", request); status != 400 || problem["error"] != "bad_request" {
			t.Errorf("%v: %d %v", request, status, problem)
		}
	}
	if status, problem := b.call("GET", "/v1/nothing", nil); status != 404 || problem["error"] != "no_route" {
		t.Errorf("%d %v", status, problem)
	}
}
