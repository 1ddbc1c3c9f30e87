package execs

import (
	"bytes"
	"testing"

	"envfarm.dev/boxd/internal/wire"
)

func FuzzExecRequest(f *testing.F) {
	f.Add([]byte(`{"id":"a","argv":["x"],"env":{"A":"b"},"user":"agent","stdin_b64":"AA==","timeout_s":1.5,"cores":[0]}`))
	f.Add([]byte(`{"id":"a","shell":"x","user":12,"cwd":"/x","output_bytes":1,"pids":3,"detach":true,"clear_env":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var request Request
		if wire.DecodeStrict(data, &request) != nil || request.Check() != nil {
			return
		}
		defaults := &Defaults{WorkDir: "/"}
		for _, variable := range defaults.Environment(request.User, request.Env, request.ClearEnv) {
			if bytes.ContainsRune([]byte(variable), 0) || variable[0] == '=' {
				t.Errorf("an accepted request has the variable %q", variable)
			}
		}
		if d := Timeout(request.TimeoutS); d < 0 || d > maxTimeout {
			t.Errorf("timeout %v", d)
		}
		if n := KeptBytes(request.OutputBytes); n < 0 || n > maxOutputBytes {
			t.Errorf("output %d", n)
		}
	})
}

// FuzzCapture compares the capture with the whole stream.
func FuzzCapture(f *testing.F) {
	f.Add([]byte("hello world"), uint8(4), uint8(3), uint8(5))
	f.Fuzz(func(t *testing.T, whole []byte, limit, step, offset uint8) {
		c := newCapture(int(limit))
		for rest := whole; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			c.write(rest[:n])
			rest = rest[n:]
		}
		head := int(limit) - int(limit)/2
		want := whole
		if len(whole) > int(limit) {
			want = append(append([]byte{}, whole[:head]...), whole[len(whole)-int(limit)/2:]...)
		}
		if !bytes.Equal(c.kept(), want) {
			t.Fatalf("kept %q, want %q", c.kept(), want)
		}
		chunk, at := c.from(int64(offset))
		if at+int64(len(chunk)) > int64(len(whole)) || !bytes.Equal(chunk, whole[at:at+int64(len(chunk))]) {
			t.Fatalf("from %d: %q at %d of %q", offset, chunk, at, whole)
		}
		c.shrink()
		if !bytes.Equal(c.kept(), want) {
			t.Fatal("shrinking changed the bytes")
		}
	})
}
