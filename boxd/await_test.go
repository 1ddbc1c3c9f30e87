package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startWaiting starts a boxd that has no config yet, and says where it listens.
func startWaiting(t *testing.T) *box {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	digest := sha256.Sum256([]byte(testToken))
	self, _ := os.Executable()
	cmd := exec.Command(self, "await", address, hex.EncodeToString(digest[:]), "--own-addresses")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 500 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return &box{t: t, dir: t.TempDir(), epoch: 1, cmd: cmd, client: &http.Client{Transport: toAddress{address}, Timeout: answerTimeout}}
}

// toAddress sends every request to one boxd.
type toAddress struct{ address string }

func (to toAddress) RoundTrip(request *http.Request) (*http.Response, error) {
	request.URL.Host = to.address
	return http.DefaultTransport.RoundTrip(request)
}

func put(t *testing.T, b *box, token string, config any) (int, string) {
	t.Helper()
	text, _ := json.Marshal(config)
	request, _ := http.NewRequest("PUT", "http://box/v1/config", bytes.NewReader(text))
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var said bytes.Buffer
	said.ReadFrom(response.Body)
	return response.StatusCode, said.String()
}

func TestAConfigIsTakenFromTheFarmAlone(t *testing.T) {
	b := startWaiting(t)
	settings := options{"work_dir": b.dir, "epoch": 3}
	if status, said := put(t, b, "another-box's-token", settings); status != 401 {
		t.Errorf("a stranger's config: %d %s", status, said)
	}
	if status, problem := b.call("POST", "/v1/exec", options{"id": "early", "shell": "touch early"}); status != 409 ||
		problem["error"] != "unconfigured" {
		t.Errorf("a run before the config: %d %v", status, problem)
	}
	if status, health := b.call("GET", "/v1/health", nil); status != 200 || health["configured"] != false {
		t.Errorf("%d %v", status, health)
	}
	for _, bad := range []options{{"token": testToken}, {"listen_tcp": "0.0.0.0:1"}, {"refuse_own_addresses": true}, {"unknown": 1}} {
		if status, said := put(t, b, testToken, bad); status != 400 {
			t.Errorf("%v: %d %s", bad, status, said)
		}
	}
	if status, said := put(t, b, testToken, settings); status != 200 || !strings.Contains(said, `"configured":true`) {
		t.Fatalf("%d %s", status, said)
	}
	if status, said := put(t, b, testToken, settings); status != 409 || !strings.Contains(said, `"configured"`) {
		t.Errorf("a second config: %d %s", status, said)
	}
	b.epoch = 3
	expect(t, b.must(options{"id": "early", "shell": "pwd"}), answer{"stdout": b.dir + "\n"})
	b.epoch = 2
	if status, problem := b.call("POST", "/v1/exec", options{"id": "late", "shell": "true"}); status != 409 || problem["error"] != "fenced" {
		t.Errorf("%d %v", status, problem)
	}
}

func TestABoxdThatWaitsTellsNobodyItsToken(t *testing.T) {
	b := startWaiting(t)
	if status, said := put(t, b, testToken, options{}); status != 200 {
		t.Fatalf("%d %s", status, said)
	}
	for _, name := range []string{"cmdline", "environ"} {
		if said, _ := os.ReadFile("/proc/" + strconv.Itoa(b.cmd.Process.Pid) + "/" + name); strings.Contains(string(said), testToken) {
			t.Errorf("the token is in %s", name)
		}
	}
}

func TestWhatABoxReachesIsTold(t *testing.T) {
	b := startWaiting(t)
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	shut, _ := net.Listen("tcp", "127.0.0.1:0")
	shut.Close()
	asked := options{"addresses": []string{open.Addr().String(), shut.Addr().String()}, "timeout_ms": 2000}
	for range 2 { // before the config, and after
		status, said := b.call("POST", "/v1/reach", asked)
		list, _ := said["addresses"].([]any)
		if status != 200 || len(list) != 2 {
			t.Fatalf("%d %v", status, said)
		}
		for i, want := range []bool{true, false} {
			if one, _ := list[i].(map[string]any); one["reached"] != want {
				t.Errorf("%v", one)
			}
		}
		put(t, b, testToken, options{})
	}
}

func TestAFileIsBounded(t *testing.T) {
	b := startBox(t, options{"limits": options{"file_bytes": 1 << 20}})
	expect(t, b.shell("head -c 1000000 /dev/zero >fits"), answer{"exit_code": 0})
	if said := b.shell("head -c 2000000 /dev/zero >large"); said["exit_code"] == float64(0) {
		t.Errorf("%v", said)
	}
}
