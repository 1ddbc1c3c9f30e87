package wire

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

var errChunk = errors.New("a malformed chunk")

// bodyReader reads exactly one body from a connection and then returns EOF.
type bodyReader struct {
	conn       *countedConn
	reader     *bufio.Reader
	progress   time.Duration
	left       int64 // of the body, or of the current chunk
	chunked    bool
	inChunk    bool
	done       bool
	expects100 bool
	failed     error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if b.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}

func (b *bodyReader) read(p []byte) (int, error) {
	if b.expects100 {
		b.expects100 = false
		if _, err := b.conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return 0, err
		}
	}
	if b.reader.Buffered() == 0 {
		b.conn.SetReadDeadline(time.Now().Add(b.progress))
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
		if b.done {
			return 0, io.EOF
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.reader.Read(p)
	b.left -= int64(n)
	if errors.Is(err, io.EOF) {
		return n, io.ErrUnexpectedEOF
	}
	if b.left == 0 && !b.chunked {
		b.done = true
	}
	return n, err
}

func (b *bodyReader) nextChunk() error {
	limit := 8 << 10
	if b.inChunk {
		if line, err := readLine(b.reader, &limit); err != nil || line != "" {
			return errChunk
		}
	}
	line, err := readLine(b.reader, &limit)
	if err != nil {
		return errChunk
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
	if err != nil {
		return errChunk
	}
	b.inChunk = true
	b.left = int64(n)
	if n > 0 {
		return nil
	}
	for { // trailers are read and discarded
		line, err := readLine(b.reader, &limit)
		if err != nil {
			return errChunk
		}
		if line == "" {
			b.done = true
			return nil
		}
	}
}
