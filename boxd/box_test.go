package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"envfarm.dev/boxd/internal/launch"
)

// TestMain lets the test binary stand in for boxd: the daemon under test is always a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "await" || os.Args[1] == launch.LimitedCommand || os.Args[1] == "install") {
		main()
		return
	}
	os.Exit(m.Run())
}

// answerTimeout names the test whose daemon hangs, long before the whole run is given up.
const answerTimeout = time.Minute

const testToken = "0123456789abcdef-token"

// box is one running boxd and a client for it.
type box struct {
	t      testing.TB
	dir    string
	epoch  int64
	client *http.Client
	cmd    *exec.Cmd
}

type options map[string]any

// startBox starts boxd on a unix socket that it inherits; wrap is put before its command line.
func startBox(t testing.TB, config options, wrap ...string) *box {
	t.Helper()
	dir := t.TempDir()
	// A test may put the agent under another uid: every directory above must let it pass.
	for up := dir; up != "/" && up != os.TempDir(); up = filepath.Dir(up) {
		os.Chmod(up, 0o755)
	}
	socket := filepath.Join(dir, "boxd.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listening, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	full := options{"token": testToken, "epoch": 1, "listen_fd": 4, "work_dir": dir}
	for name, value := range config {
		full[name] = value
	}
	text, _ := json.Marshal(full)
	reading, writing, _ := os.Pipe()
	self, _ := os.Executable()
	args := append(wrap, self, "serve", "--config-fd", "3")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"BOXD_SECRET=not-for-children", "PATH=" + os.Getenv("PATH")}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{reading, listening}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writing.Write(text)
	writing.Close()
	reading.Close()
	listening.Close()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	b := &box{t: t, dir: dir, epoch: 1, cmd: cmd, client: &http.Client{
		Transport: &http.Transport{DialContext: dial}, Timeout: answerTimeout}}
	t.Cleanup(func() {
		b.call("POST", "/v1/quiesce", nil)
		cmd.Process.Kill()
		cmd.Wait()
	})
	return b
}

// send makes one request and returns status and body.
func (b *box) send(method, path string, body io.Reader) (int, []byte) {
	b.t.Helper()
	request, err := http.NewRequest(method, "http://box"+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testToken)
	request.Header.Set("X-Boxd-Epoch", strconv.FormatInt(b.epoch, 10))
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, path, err)
		return 0, nil
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return -1, data
	}
	return response.StatusCode, data
}

func (b *box) call(method, path string, body any) (int, answer) {
	b.t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	status, data := b.send(method, path, reader)
	decoded := answer{}
	if err := json.Unmarshal(data, &decoded); err != nil && status > 0 {
		b.t.Errorf("%s %s: not JSON: %q", method, path, data)
	}
	return status, decoded
}

type answer map[string]any

func (a answer) text(name string) string {
	if s, ok := a[name].(string); ok {
		return s
	}
	if s, ok := a[name+"_b64"].(string); ok {
		raw, _ := base64.StdEncoding.DecodeString(s)
		return string(raw)
	}
	return ""
}

func (a answer) number(name string) float64 {
	n, _ := a[name].(float64)
	return n
}

var nextID int

func freshID() string {
	nextID++
	return fmt.Sprintf("id-%d", nextID)
}

// must runs an exec that has to be accepted.
func (b *box) must(request options) answer {
	b.t.Helper()
	if request["id"] == nil {
		request["id"] = freshID()
	}
	status, result := b.call("POST", "/v1/exec", request)
	if status != 200 {
		b.t.Fatalf("exec %v: %d %v", request, status, result)
	}
	return result
}

func (b *box) shell(script string) answer {
	b.t.Helper()
	return b.must(options{"shell": script})
}

func expect(t testing.TB, got answer, want answer) {
	t.Helper()
	for name, value := range want {
		if n, isInt := value.(int); isInt {
			value = float64(n)
		}
		if got[name] != value {
			t.Errorf("%s: got %v, want %v, in %v", name, got[name], value, got)
		}
	}
}

// gone waits until a process has ended; a zombie counts as ended.
func gone(pid string) bool {
	for range 100 {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(text), ") Z") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func waitForFile(t testing.TB, path string) string {
	t.Helper()
	for range 300 {
		if data, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(data), "\n") {
			return strings.TrimSpace(string(data))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not appear", path)
	return ""
}

func needRoot(t testing.TB) {
	t.Helper()
	if syscall.Getuid() != 0 {
		t.Skip("needs root: run as root in a container")
	}
}
