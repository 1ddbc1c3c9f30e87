package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// waiter asks for a door's next connection; status is that of the answer, and the connection is the program's after a 101.
func (b *box) waiter(door, body string) (conn net.Conn, reader *bufio.Reader, status string) {
	b.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(b.dir, "boxd.sock"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(answerTimeout))
	fmt.Fprintf(conn, "POST /v1/doors/%s/next?wait_s=20 HTTP/1.1\r\nAuthorization: Bearer %s\r\nX-Boxd-Epoch: %d\r\nContent-Length: %d\r\n\r\n%s",
		door, testToken, b.epoch, len(body), body)
	reader = bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		b.t.Fatal(err)
	}
	status = strings.Fields(line)[1]
	for line != "\r\n" && err == nil {
		line, err = reader.ReadString('\n')
	}
	return conn, reader, status
}

func (b *box) openDoor(id string) int {
	b.t.Helper()
	status, said := b.call("POST", "/v1/doors", options{"id": id})
	if status != 200 {
		b.t.Fatalf("a door: %d %v", status, said)
	}
	return int(said.number("port"))
}

func TestAProgramSpeaksThroughADoor(t *testing.T) {
	b := startBox(t, nil)
	port := b.openDoor("model")
	if again := b.openDoor("model"); again != port {
		t.Errorf("the same id: port %d, then %d", port, again)
	}
	go b.shell(fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; printf 'ask\\n' >&3; head -n1 <&3 >%s", port, b.path("heard")))
	conn, reader, status := b.waiter("model", "")
	if status != "101" {
		t.Fatalf("status %s", status)
	}
	if asked, err := reader.ReadString('\n'); err != nil || asked != "ask\n" {
		t.Errorf("heard %q, %v", asked, err)
	}
	io.WriteString(conn, "answer\n")
	if heard := waitForFile(t, b.path("heard")); heard != "answer" {
		t.Errorf("the program heard %q", heard)
	}
}

func TestQuiesceShutsDoors(t *testing.T) {
	b := startBox(t, nil)
	port := b.openDoor("model")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	_, reader, status := b.waiter("model", "")
	if status != "101" {
		t.Fatalf("status %s", status)
	}
	reader.ReadByte()
	b.call("POST", "/v1/quiesce", nil)
	conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := io.ReadAll(conn); os.IsTimeout(err) {
		t.Error("a connection outlived quiesce")
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		t.Error("a quiesced box has a door")
	}
	if status, said := b.call("POST", "/v1/doors", options{"id": "model"}); status != 409 || said.text("error") != "quiesced" {
		t.Errorf("a door of a quiesced box: %d %v", status, said)
	}
	b.call("POST", "/v1/resume", nil)
	b.openDoor("model")
}

func TestDoorsRefuse(t *testing.T) {
	b := startBox(t, nil)
	for _, wrong := range []options{
		{"id": "a b"}, {"id": "a", "port": 70000}, {"id": "a", "connections": 0}, {"id": "a", "idle_s": 0},
		{"id": "a", "first_byte_s": -1}, {"id": "a", "unknown": 1},
	} {
		if status, _ := b.call("POST", "/v1/doors", wrong); status != 400 {
			t.Errorf("%v: %d", wrong, status)
		}
	}
	if status, _ := b.call("DELETE", "/v1/doors/none", nil); status != 404 {
		t.Errorf("an unknown door: %d", status)
	}
	port := b.openDoor("a")
	if status, said := b.call("POST", "/v1/doors", options{"id": "b", "port": port}); status != 422 {
		t.Errorf("a port that is taken: %d %v", status, said)
	}
	if _, _, status := b.waiter("none", ""); status != "404" {
		t.Errorf("a connection of no door: %s", status)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	if _, _, status := b.waiter("a", "smuggled"); status != "400" {
		t.Errorf("a request with a body: %s", status)
	}
	late := *b
	b.epoch = 2
	b.call("GET", "/v1/stats", nil)
	if _, _, status := late.waiter("a", ""); status != "409" {
		t.Errorf("a caller whose lease has passed on: %s", status)
	}
}
