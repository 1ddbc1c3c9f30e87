package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func (b *box) newShell(id string) {
	b.t.Helper()
	if status, result := b.call("POST", "/v1/shells", options{"id": id, "env": options{"GREETING": "hi"}}); status != 200 || result["cwd"] != b.dir {
		b.t.Fatalf("shell: %d %v", status, result)
	}
}

func (b *box) run(shell, command string, extra ...options) answer {
	b.t.Helper()
	request := options{"id": freshID(), "command": command, "timeout_s": 20}
	for _, more := range extra {
		for name, value := range more {
			request[name] = value
		}
	}
	status, result := b.call("POST", "/v1/shells/"+shell+"/run", request)
	if status != 200 {
		b.t.Fatalf("%q: %d %v", command, status, result)
	}
	return result
}

func TestShellKeepsItsState(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	expect(t, b.run("s", "echo $GREETING"), answer{"stdout": "hi\n", "exit_code": 0, "shell_restarted": false, "cwd": b.dir})
	expect(t, b.run("s", "cd /usr; export A=1; b=2; f() { echo $A$b; return 3; }; declare -A m=([k]=v)"), answer{"exit_code": 0, "cwd": "/usr"})
	expect(t, b.run("s", "f"), answer{"stdout": "12\n", "exit_code": 3, "cwd": "/usr"})
	expect(t, b.run("s", "echo ${m[k]}; alias ll='echo listed'"), answer{"stdout": "v\n"})
	expect(t, b.run("s", "ll"), answer{"stdout": "listed\n"})
	expect(t, b.run("s", "(exit 200)"), answer{"exit_code": 200})
	expect(t, b.run("s", "kill -9 $BASHPID & wait $!"), answer{"exit_code": 137, "shell_restarted": false})
	expect(t, b.run("s", "cat; read x; echo $?"), answer{"stdout": "1\n", "exit_code": 0})
	expect(t, b.run("s", "echo err >&2; printf '\\377'"), answer{"stderr": "err\n", "stdout_b64": "/w=="})
	expect(t, b.run("s", "mkdir -p $'"+b.dir+"/new\\nline' && cd $'"+b.dir+"/new\\nline'"), answer{"cwd": b.dir + "/new\nline"})
}

func TestShellIsNotWedged(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	b.run("s", "kept=yes")
	for command, code := range map[string]int{
		"echo 'unbalanced": 2, "if true; then": 2, "cat <<EOF\nnever ended": 0, "break": 0, "continue": 0, "return 9": 9,
		"": 0, "# only a comment": 0, ")": 2, `echo "back\\slash" \n '\n'`: 0, "exec 5>/dev/null": 0, "trap 'echo x' EXIT; trap - EXIT": 0,
	} {
		expect(t, b.run("s", command), answer{"exit_code": code, "shell_restarted": false})
	}
	expect(t, b.run("s", "printf '%s|' 'a\\nb' 'c\nd' \"\\\\\""), answer{"stdout": "a\\nb|c\nd|\\|"})
	expect(t, b.run("s", "echo $kept"), answer{"stdout": "yes\n"})
	long := "echo " + strings.Repeat("x", 100_000) + " | wc -c"
	expect(t, b.run("s", long), answer{"stdout": "100001\n"})
}

func TestShellThatEndsStartsAnew(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	b.run("s", "cd /usr")
	expect(t, b.run("s", "echo before; exit 3; echo after"), answer{"exit_code": 3, "stdout": "before\n", "shell_restarted": true, "cwd": "/usr"})
	expect(t, b.run("s", "kill -9 $$"), answer{"exit_code": nil, "signal": 9, "shell_restarted": true})
	expect(t, b.run("s", "exec sh -c 'echo replaced; exit 4'"), answer{"exit_code": 4, "stdout": "replaced\n", "shell_restarted": true})
	expect(t, b.run("s", "set -e; false; echo no"), answer{"exit_code": 1, "stdout": "", "shell_restarted": true})
	expect(t, b.run("s", "pwd"), answer{"stdout": "/usr\n", "exit_code": 0, "shell_restarted": false})
}

func TestShellSideChannelIsClosedToPrograms(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	expect(t, b.run("s", "ls /proc/self/fd | wc -l"), answer{"stdout": "4\n"})
	expect(t, b.run("s", "printf 'token 0 /x\\n\\0'; sh -c 'echo t 0 / >&198' 2>/dev/null; false"), answer{"exit_code": 1, "cwd": b.dir})
}

func TestShellTimeoutKillsTheCommandAndKeepsTheShell(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	b.run("s", "kept=yes; sleep 300 >/dev/null 2>&1 & echo $! > job")
	job := waitForFile(t, b.path("job"))
	time.Sleep(30 * time.Millisecond)
	for _, command := range []string{
		"sleep 300; touch rest", "while :; do :; done", "while :; do sleep 0.01; done", "sh -c 'trap \"\" TERM INT; sleep 300; sleep 300'",
		"(setsid sleep 301 &); sleep 300", "sleep 300 | cat; touch rest", "f() { sleep 300; touch rest; }; f; touch rest",
	} {
		begun := time.Now()
		result := b.run("s", command, options{"timeout_s": 0.3})
		expect(t, result, answer{"timed_out": true, "exit_code": nil, "signal": 9, "shell_restarted": false})
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%s: took %v", command, took)
		}
		expect(t, b.run("s", "echo $kept"), answer{"stdout": "yes\n", "exit_code": 0})
	}
	if _, err := os.Stat(b.path("rest")); err == nil {
		t.Error("what came after the killed command ran")
	}
	if _, err := os.Stat("/proc/" + job); err != nil {
		t.Error("a job of an earlier run was killed")
	}
	expect(t, b.run("s", "trap '' 41; while :; do :; done", options{"timeout_s": 0.3}), answer{"timed_out": true, "shell_restarted": true})
	if status, _ := b.call("DELETE", "/v1/shells/s", nil); status != 200 || !gone(job) {
		t.Errorf("delete: %d", status)
	}
	if status, _ := b.call("DELETE", "/v1/shells/s", nil); status != 404 {
		t.Error("a deleted shell is still there")
	}
}

func TestShellRunsAreIdempotentAndExclusive(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	b.newShell("s")
	expect(t, b.run("s", "echo x >> n; cat n", options{"id": "same"}), answer{"stdout": "x\n"})
	expect(t, b.run("s", "echo x >> n; cat n", options{"id": "same"}), answer{"stdout": "x\n"})
	go b.call("POST", "/v1/shells/s/run", options{"id": "slow", "command": "touch started; sleep 5"})
	for range 300 {
		if _, err := os.Stat(b.path("started")); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	status, problem := b.call("POST", "/v1/shells/s/run", options{"id": "other", "command": "true"})
	if status != 409 || problem["error"] != "shell_busy" {
		t.Errorf("%d %v", status, problem)
	}
	_, killed := b.call("POST", "/v1/exec/slow/kill", nil)
	expect(t, killed, answer{"killed": true})
	expect(t, b.run("s", "echo free", options{"id": "other"}), answer{"stdout": "free\n"})
	status, problem = b.call("POST", "/v1/shells/none/run", options{"id": "z", "command": "true"})
	if status != 404 {
		t.Errorf("%d %v", status, problem)
	}
}

func TestShellCoresAndUser(t *testing.T) {
	needRoot(t)
	b := startBox(t, options{"agent_uid": 12345})
	b.newShell("s")
	expect(t, b.run("s", "id -u; grep Cpus_allowed_list /proc/self/status | cut -f2", options{"cores": []int{0}}), answer{"stdout": "12345\n0\n"})
	if free := b.run("s", "nproc").text("stdout"); free == "1\n" && strings.TrimSpace(b.shell("nproc --all").text("stdout")) != "1" {
		t.Error("the affinity of one run stayed for the next")
	}
}

// TestShellWithoutBash hides bash, as an image may not have it.
func TestShellWithoutBash(t *testing.T) {
	wrap := []string{"unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", `for b in /bin/bash /usr/bin/bash; do if test -e $b; then mount --bind /dev/null $b || exit; fi; done; exec "$@"`, "sh"}
	if exec.Command(wrap[0], append(wrap[1:], "true")...).Run() != nil {
		t.Skip("needs user namespaces: sysctl kernel.unprivileged_userns_clone=1")
	}
	b := startBox(t, nil, wrap...)
	status, made := b.call("POST", "/v1/shells", options{"id": "s"})
	if status != 200 || made["shell"] != "sh" {
		t.Fatalf("%d %v", status, made)
	}
	expect(t, b.run("s", "cd /usr; A=1; f() { return 3; }"), answer{"exit_code": 0, "cwd": "/usr"})
	expect(t, b.run("s", "echo \"$A\" 'a\\nb' 'c\nd' \"\\\\\"; f"), answer{"exit_code": 3, "cwd": "/usr", "shell_restarted": false})
	expect(t, b.run("s", "cat; ls /proc/self/fd | wc -l"), answer{"stdout": "4\n"})
	expect(t, b.run("s", "break"), answer{"exit_code": 0, "shell_restarted": false})
	expect(t, b.run("s", "if true; then"), answer{"exit_code": 2})
	expect(t, b.run("s", "exit 5"), answer{"exit_code": 5, "shell_restarted": true, "cwd": "/usr"})
	expect(t, b.run("s", "sleep 300; touch /tmp/never", options{"timeout_s": 0.2}), answer{"timed_out": true, "signal": 9})
	expect(t, b.run("s", "pwd"), answer{"stdout": "/usr\n"})
}
