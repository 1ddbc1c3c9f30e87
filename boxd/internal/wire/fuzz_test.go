package wire

import (
	"bufio"
	"bytes"
	"testing"
)

func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET /v1/health?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := readRequest(bufio.NewReader(bytes.NewReader(data)), 1<<10)
		if err == nil && (request.Path == "" || request.Path[0] != '/' || request.contentLength < -1) {
			t.Errorf("accepted: %+v", request)
		}
	})
}
