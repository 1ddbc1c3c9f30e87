package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTokenAndEpoch(t *testing.T) {
	b := startBox(t, nil)
	for header, want := range map[string]int{"Bearer wrong": 401, "": 401, testToken: 401, "Bearer " + testToken: 200} {
		conn, _ := net.Dial("unix", b.path("boxd.sock"))
		fmt.Fprintf(conn, "GET /v1/health HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", header)
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, strconv.Itoa(want)) {
			t.Errorf("%q: %s", header, line)
		}
		conn.Close()
	}
	b.epoch = 5
	if status, health := b.call("GET", "/v1/health", nil); status != 200 || health.number("epoch") != 5 {
		t.Errorf("%d %v", status, health)
	}
	b.epoch = 4
	status, problem := b.call("POST", "/v1/exec", options{"id": "late", "shell": "touch late"})
	if status != 409 || problem["error"] != "fenced" || problem.number("epoch") != 5 {
		t.Errorf("%d %v", status, problem)
	}
	if _, err := os.Stat(b.path("late")); err == nil {
		t.Error("a fenced exec ran")
	}
	b.epoch = 5
	expect(t, b.must(options{"id": "late", "argv": []string{"true"}}), answer{"exit_code": 0})
}

func TestMalformedHTTPIsRefused(t *testing.T) {
	b := startBox(t, nil)
	auth := "Authorization: Bearer " + testToken + "\r\nX-Boxd-Epoch: 1\r\n"
	for request, want := range map[string]string{
		"GET /v1/health HTTP/1.0\r\n\r\n": "505",
		"nonsense\r\n\r\n":                "400",
		"GET /v1/health HTTP/1.1\r\nA: " + strings.Repeat("x", 20<<10) + "\r\n\r\n":                         "431",
		"GET /v1/health HTTP/1.1\r\nA: 1\r\nA: 2\r\n\r\n":                                                   "400",
		"POST /v1/exec HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n":                 "400",
		"POST /v1/exec HTTP/1.1\r\nContent-Length: -3\r\n\r\n":                                              "400",
		"POST /v1/exec HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nzz\r\n":                    "400",
		"POST /v1/exec HTTP/1.1\r\n" + auth + "Content-Length: 99999999\r\n\r\n" + strings.Repeat("x", 100): "",
		"PUT /v1/resume HTTP/1.1\r\n" + auth + "\r\n":                                                       "404",
		"POST /v1/resume HTTP/1.1\r\nAuthorization: Bearer " + testToken + "\r\n\r\n":                       "400",
		"POST /v1/resume HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n":    "200",
	} {
		conn, _ := net.Dial("unix", b.path("boxd.sock"))
		io.WriteString(conn, request)
		if want == "" {
			conn.Close() // half a body
			continue
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, " "+want+" ") {
			t.Errorf("%.60q: %q, want %s", request, line, want)
		}
		conn.Close()
	}
	if status, _ := b.call("GET", "/v1/health", nil); status != 200 {
		t.Error("boxd did not stay well")
	}
}

func TestQuiesceEndsATreeThatRespawns(t *testing.T) {
	b := startBox(t, nil)
	b.must(options{"id": "tree", "detach": true, "shell": `
f() { while :; do (setsid sh -c 'sleep 300' &); sleep 0.005 & trap '' TERM; done; }
f & f & (setsid bash -c 'while :; do (bash -c "sleep 0.02; sleep 300" &) ; sleep 0.01; done' &) ; wait`})
	time.Sleep(500 * time.Millisecond)
	status, result := b.call("POST", "/v1/quiesce", nil)
	left, _ := result["remaining"].([]any)
	if status != 200 || len(left) != 0 || result.number("killed") < 10 {
		t.Errorf("%d %v", status, result)
	}
	// What is dead may not be reaped yet; what had been left alive would still be there.
	_, stats := b.call("GET", "/v1/stats", nil)
	for end := time.Now().Add(5 * time.Second); stats.number("pids") != 0 && time.Now().Before(end); _, stats = b.call("GET", "/v1/stats", nil) {
		time.Sleep(10 * time.Millisecond)
	}
	if stats.number("pids") != 0 {
		t.Errorf("%v", stats)
	}
	status, problem := b.call("POST", "/v1/exec", options{"id": "later", "shell": "true"})
	if status != 409 || problem["error"] != "quiesced" {
		t.Errorf("%d %v", status, problem)
	}
	expect(t, b.must(options{"id": "tree", "shell": ""}), answer{"signal": 9})
	b.call("POST", "/v1/resume", nil)
	expect(t, b.must(options{"id": "later", "argv": []string{"true"}}), answer{"exit_code": 0})
}

func TestShellOutlivesQuiesceAsANewOne(t *testing.T) {
	b := startBox(t, nil)
	b.newShell("s")
	b.run("s", "cd /usr")
	b.call("POST", "/v1/quiesce", nil)
	status, problem := b.call("POST", "/v1/shells/s/run", options{"id": "q", "command": "true"})
	if status != 409 || problem["error"] != "quiesced" {
		t.Errorf("%d %v", status, problem)
	}
	b.call("POST", "/v1/resume", nil)
	expect(t, b.run("s", "pwd", options{"id": "q"}), answer{"stdout": "/usr\n", "shell_restarted": true})
}

func TestWatchdogHoldsTheLimits(t *testing.T) {
	b := startBox(t, options{"limits": options{"memory_bytes": 200 << 20, "pids": 40}, "watchdog_ms": 10})
	b.must(options{"id": "innocent", "shell": "sleep 300", "detach": true})
	expect(t, b.must(options{"shell": `x=$(head -c 400000000 /dev/zero | tr '\0' x); sleep 300`, "timeout_s": 30}),
		answer{"limit_hit": "memory", "exit_code": nil, "timed_out": false})
	expect(t, b.must(options{"shell": "for i in $(seq 100); do sleep 300 & done; wait", "timeout_s": 30}), answer{"limit_hit": "pids"})
	b.must(options{"shell": "for i in $(seq 100); do sleep 300 & done; exit"}) // what it left is over the limit, too
	for range 300 {
		if _, stats := b.call("GET", "/v1/stats", nil); stats.number("pids") <= 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, stats := b.call("GET", "/v1/stats", nil)
	hits := answer(stats["limit_hits"].(map[string]any))
	if hits.number("memory") < 1 || hits.number("pids") < 2 || stats.number("memory_peak_bytes") < 200<<20 || stats.number("pids") != 1 {
		t.Errorf("%v", stats)
	}
	if _, part := b.call("GET", "/v1/exec/innocent", nil); part["running"] != true {
		t.Error("the small exec was killed for the big one")
	}
}

func TestMemoryThatForksShareCountsOnce(t *testing.T) {
	b := startBox(t, options{"limits": options{"memory_bytes": 300 << 20}, "watchdog_ms": 10})
	hold := `x=$(head -c 60000000 /dev/zero | tr '\0' x); for i in 1 2 3 4 5 6 7 8; do (sleep 0.5; :) & done; wait; echo ${#x}`
	expect(t, b.must(options{"shell": hold, "timeout_s": 30}), answer{"exit_code": 0.0, "stdout": "60000000\n"})
	grow := `for i in 1 2 3 4 5 6 7 8; do (x=$(head -c 60000000 /dev/zero | tr '\0' x); sleep 30; :) & done; wait`
	expect(t, b.must(options{"shell": grow, "timeout_s": 30}), answer{"limit_hit": "memory", "exit_code": nil})
}

// Nothing but the watchdog limits the bomb here, and boxd is PID 1 of its own namespace, as in a pod.
func TestAForkBombIsHeldAndOthersGoOn(t *testing.T) {
	wrap := []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command(wrap[0], append(wrap[1:], "true")...).Run() != nil {
		t.Skip("needs user and pid namespaces: unprivileged_userns_clone")
	}
	b := startBox(t, options{"limits": options{"pids": 60}, "watchdog_ms": 20}, wrap...)
	b.must(options{"id": "innocent", "shell": "trap 'echo ended' TERM; while :; do sleep 0.1; echo on; done", "detach": true})
	grow := "n=0; while [ $n -lt 400 ]; do sleep 300 & n=$((n+1)); done; wait"
	for range 3 {
		expect(t, b.must(options{"shell": grow, "timeout_s": 30}), answer{"limit_hit": "pids", "exit_code": nil})
		b.must(options{"shell": "(" + grow + ") >/dev/null 2>&1 &"}) // left behind, it is over the limit, too
		expect(t, b.must(options{"shell": "echo up", "timeout_s": 30}), answer{"stdout": "up\n"})
	}
	_, before := b.call("GET", "/v1/exec/innocent", nil)
	time.Sleep(300 * time.Millisecond)
	_, after := b.call("GET", "/v1/exec/innocent", nil)
	if after["running"] != true || after["stdout"] == before["stdout"] {
		t.Error("the small exec does not go on")
	}
}

func TestStatsAttributeWork(t *testing.T) {
	b := startBox(t, nil)
	b.must(options{"shell": "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"})
	_, stats := b.call("GET", "/v1/stats", nil)
	if stats.number("cpu_s") < 0.05 || stats.number("execs") != 1 || stats.number("bytes_in") < 100 || stats.number("bytes_out") < 100 {
		t.Errorf("%v", stats)
	}
}

// TestBoxdSurvivesItsOwnUser runs boxd as PID 1 of a user namespace with one uid, as local sandboxes do.
func TestBoxdSurvivesItsOwnUser(t *testing.T) {
	wrap := []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command(wrap[0], append(wrap[1:], "true")...).Run() != nil {
		t.Skip("needs user namespaces: sysctl kernel.unprivileged_userns_clone=1")
	}
	b := startBox(t, nil, wrap...)
	// setpriv is not everywhere; the shell of a namespace's root has the capabilities of that namespace, which
	// makes this harder than a real box.
	result := b.shell(`
for s in $(seq 1 64); do kill -$s 1 2>/dev/null; done
kill -9 1; kill -STOP 1
grep -q "` + testToken + `" /proc/1/cmdline /proc/1/environ 2>/dev/null && echo token-in-cmdline
echo end`)
	if !strings.Contains(result.text("stdout"), "end") || strings.Contains(result.text("stdout"), "token") {
		t.Errorf("%v", result)
	}
	script := `import ctypes, os
libc = ctypes.CDLL(None)
for sig in range(1, 65):
    info = (ctypes.c_int * 32)(sig, 0, -1)
    libc.syscall(129, 1, sig, ctypes.byref(info))
print("queued")`
	if result = b.must(options{"argv": []string{"python3", "-c", script}}); result.text("stdout") != "queued\n" {
		t.Logf("no python3 here, or not amd64: %v", result)
	}
	if status, health := b.call("GET", "/v1/health", nil); status != 200 {
		t.Fatalf("boxd is gone: %v", health)
	}
	b.must(options{"id": "bg", "shell": "setsid sleep 300 & setsid sleep 300 &"})
	_, quiet := b.call("POST", "/v1/quiesce", nil)
	if left, _ := quiet["remaining"].([]any); len(left) != 0 || quiet.number("killed") < 2 {
		t.Errorf("%v", quiet)
	}
}

func TestOwnAddressesAreRefused(t *testing.T) {
	port, _ := net.Listen("tcp", "127.0.0.1:0")
	address := port.Addr().String()
	port.Close()
	for _, refuse := range []bool{true, false} {
		b := startBox(t, options{"listen_fd": nil, "listen_tcp": address, "refuse_own_addresses": refuse})
		var conn net.Conn
		var err error
		for range 200 {
			if conn, err = net.Dial("tcp", address); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /v1/health HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n", testToken)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if strings.Contains(line, "200") == refuse {
			t.Errorf("refuse %v: %q", refuse, line)
		}
		conn.Close()
		b.cmd.Process.Kill()
		b.cmd.Wait()
		b.t = quietT{t}
	}
}

// quietT lets the cleanup of a box that is already gone pass.
type quietT struct{ testing.TB }

func (quietT) Errorf(string, ...any) {}
func (quietT) Helper()               {}

func TestInstallCopiesTheBinary(t *testing.T) {
	self, _ := os.Executable()
	destination := t.TempDir() + "/boxd"
	if out, err := exec.Command(self, "install", destination).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	a, _ := os.Stat(self)
	if c, err := os.Stat(destination); err != nil || c.Size() != a.Size() || c.Mode() != 0o755 {
		t.Errorf("%v %v", c, err)
	}
}

func TestAnEarlyRefusalReachesAClientThatStillSends(t *testing.T) {
	b := startBox(t, nil)
	conn, _ := net.Dial("unix", b.path("boxd.sock"))
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/archive?dest=relative HTTP/1.1\r\nAuthorization: Bearer %s\r\nX-Boxd-Epoch: 1\r\nContent-Length: 8000000\r\n\r\n", testToken)
	if _, err := conn.Write(make([]byte, 8_000_000)); err != nil {
		t.Errorf("the upload broke: %v", err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "Connection: close") {
		t.Errorf("%v %q", err, answer)
	}
}

// podCapabilities is all that boxd has in a pod.
var podCapabilities = []string{"setpriv", "--inh-caps=-all", "--bounding-set=-all,+chown,+dac_override,+fowner,+kill,+setgid,+setuid"}

func TestThePodsCapabilitiesAreEnough(t *testing.T) {
	needRoot(t)
	if exec.Command(podCapabilities[0], append(podCapabilities[1:], "true")...).Run() != nil {
		t.Skip("needs setpriv: install util-linux")
	}
	b := startBox(t, options{"agent_uid": 12345}, podCapabilities...)
	os.Mkdir(b.path("w"), 0o777)
	os.Chmod(b.path("w"), 0o777)
	expect(t, b.must(options{"shell": "ulimit -u; id -u; grep CapEff /proc/self/status", "pids": 99}), answer{"stdout": "99\n12345\nCapEff:\t0000000000000000\n"})
	b.must(options{"shell": "cd w; (setsid sh -c '(sh -c \"echo \\$\\$ > orphan; exec sleep 300\" &)' &) ; sleep 300", "timeout_s": 0.7})
	if pid := waitForFile(t, b.path("w/orphan")); !gone(pid) {
		t.Error("an orphan survives")
	}
	b.newShell("s")
	expect(t, b.run("s", "grep Cpus_allowed_list /proc/self/status | cut -f2", options{"cores": []int{0}}), answer{"stdout": "0\n"})
	if status := b.put(pack(file("a/f", "x")), b.path("w/d"), ""); status != 200 {
		t.Errorf("put: %d", status)
	}
	expect(t, b.shell("stat -c %u:%g w/d/a/f && chmod 000 w/d/a"), answer{"stdout": "12345:12345\n"})
	if status, data := b.send("GET", "/v1/file?path="+b.path("w/d/a/f"), nil); status != 200 || string(data) != "x" {
		t.Errorf("%d %s", status, data)
	}
	_, quiet := b.call("POST", "/v1/quiesce", nil)
	if left, _ := quiet["remaining"].([]any); len(left) != 0 {
		t.Errorf("%v", quiet)
	}
}

func TestAgentCannotHoldAForkUp(t *testing.T) {
	needRoot(t)
	b := startBox(t, options{"agent_uid": 54321})
	b.must(options{"id": "attacker", "shell": "while :; do kill -STOP -1; done", "detach": true})
	for range 15 {
		b.must(options{"argv": []string{"true"}, "timeout_s": 0.05})
	}
	begun := time.Now()
	_, quiet := b.call("POST", "/v1/quiesce", nil)
	if left, _ := quiet["remaining"].([]any); len(left) != 0 || time.Since(begun) > 3*time.Second {
		t.Errorf("%v after %v", quiet, time.Since(begun))
	}
}

// TestSignalsCannotHoldALimitedStartUp has the box's own user send signals to every process, one that is about to be limited too.
func TestSignalsCannotHoldALimitedStartUp(t *testing.T) {
	wrap := []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command(wrap[0], append(wrap[1:], "true")...).Run() != nil {
		t.Skip("needs user namespaces: sysctl kernel.unprivileged_userns_clone=1")
	}
	b := startBox(t, nil, wrap...)
	attack := "trap '' WINCH; while :; do kill -WINCH -1; done"
	for _, id := range []string{"attacker", "another"} {
		b.must(options{"id": id, "shell": attack, "detach": true})
	}
	begun := time.Now()
	for range 300 {
		expect(t, b.must(options{"argv": []string{"true"}, "pids": 99, "timeout_s": 20}), answer{"exit_code": 0.0})
	}
	if taken := time.Since(begun); taken > 20*time.Second {
		t.Errorf("300 starts took %v", taken)
	}
	_, quiet := b.call("POST", "/v1/quiesce", nil)
	if left, _ := quiet["remaining"].([]any); len(left) != 0 {
		t.Errorf("%v", quiet)
	}
	b.call("POST", "/v1/resume", nil)
	expect(t, b.must(options{"shell": "ulimit -Su; ulimit -Hu", "pids": 99}), answer{"stdout": "99\n99\n"})
}

// filterThatDenies is a classic BPF program in which some system calls fail with EPERM.
func filterThatDenies(numbers ...uint32) []byte {
	const loadWord, jumpEqual, ret = 0x20, 0x15, 0x06
	row := func(code uint16, ifTrue, ifFalse byte, operand uint32) []byte {
		return append(binary.NativeEndian.AppendUint16(nil, code), append([]byte{ifTrue, ifFalse}, binary.NativeEndian.AppendUint32(nil, operand)...)...)
	}
	rows := row(loadWord, 0, 0, 0)
	for _, number := range numbers {
		rows = append(rows, row(jumpEqual, 0, 1, number)...)
		rows = append(rows, row(ret, 0, 0, 0x00050000|uint32(syscall.EPERM))...)
	}
	return append(rows, row(ret, 0, 0, 0x7fff0000)...)
}

func TestAFilterHoldsForAllThatRuns(t *testing.T) {
	mkdirs := map[string][]uint32{"amd64": {83, 258}, "arm64": {34}}[runtime.GOARCH]
	b := startBox(t, options{"seccomp": filterThatDenies(mkdirs...)})
	for n := range 8 { // whichever of boxd's threads it is that forks
		r := b.shell(fmt.Sprintf("LC_ALL=C mkdir d%d || grep -e NoNewPrivs -e Seccomp: /proc/self/status", n))
		expect(t, r, answer{"stdout": "NoNewPrivs:\t1\nSeccomp:\t2\n", "stderr": fmt.Sprintf("mkdir: cannot create directory 'd%d': Operation not permitted\n", n)})
	}
	expect(t, startBox(t, nil).shell("mkdir d"), answer{"exit_code": 0})
}
