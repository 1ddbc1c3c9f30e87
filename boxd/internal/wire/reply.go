package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"time"
)

// Reply is the answer to one request: exactly one JSON value or one stream.
type Reply struct {
	request  *Request // nil if it could not be parsed
	conn     *countedConn
	progress time.Duration
	started  bool
	close    bool
	broken   bool
	reader   *bufio.Reader
	taken    bool // by Upgrade
}

var statusText = map[int]string{
	200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
	409: "Conflict", 410: "Gone", 413: "Content Too Large", 422: "Unprocessable Content",
	431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
	503: "Service Unavailable", 505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}

// Problem is the form of every error.
type Problem struct {
	Error   string `json:"error"`
	Message string `json:"message"`
	Epoch   *int64 `json:"epoch,omitempty"`
}

// Fail answers with an error code for programs and a message for people.
func (r *Reply) Fail(status int, code, message string) {
	r.JSON(status, Problem{Error: code, Message: message})
}

// CloseAfter closes the connection after this answer.
func (r *Reply) CloseAfter() { r.close = true }

// Started returns whether a byte of the answer may have been sent.
func (r *Reply) Started() bool { return r.started }

// JSON sends one value with its length in one write.
func (r *Reply) JSON(status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	r.started = true
	r.settleBody()
	head := r.head(status, "application/json", make([]byte, 0, 160+body.Len()))
	head = append(head, "Content-Length: "...)
	head = strconv.AppendInt(head, int64(body.Len()), 10)
	head = append(head, "\r\n\r\n"...)
	r.write(append(head, body.Bytes()...))
}

// settleBody reads what a route left of the body, or announces that the connection will be closed.
func (r *Reply) settleBody() {
	if r.request != nil && !r.close && !r.request.drain() {
		r.close = true
	}
}

func (r *Reply) head(status int, contentType string, out []byte) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ')
	out = append(out, statusText[status]...)
	out = append(out, "\r\nContent-Type: "...)
	out = append(out, contentType...)
	if r.close {
		out = append(out, "\r\nConnection: close"...)
	}
	return append(out, "\r\n"...)
}

func (r *Reply) write(p []byte) error {
	r.conn.SetWriteDeadline(time.Now().Add(r.progress))
	_, err := r.conn.Write(p)
	if err != nil {
		r.broken = true
	}
	return err
}

// ErrBody is returned for an upgrade of a request with a body.
var ErrBody = errors.New("a request with a body cannot be upgraded")

// Upgrade answers 101 and hands over the connection. The caller must read from the reader, which may have buffered bytes.
func (r *Reply) Upgrade(protocol string) (net.Conn, io.Reader, error) {
	if r.request == nil || !r.request.body.done {
		r.close = true
		r.Fail(400, "bad_request", ErrBody.Error())
		return nil, nil, ErrBody
	}
	r.started, r.taken = true, true
	if err := r.write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")); err != nil {
		return nil, nil, err
	}
	r.conn.SetReadDeadline(time.Time{})
	return r.conn, r.reader, nil
}

// Stream starts a chunked answer. Close ends it properly; Break closes the connection, so that the client sees that
// the stream is incomplete.
func (r *Reply) Stream(contentType string) *Stream {
	r.started = true
	r.settleBody()
	head := r.head(200, contentType, nil)
	head = append(head, "Transfer-Encoding: chunked\r\n\r\n"...)
	stream := &Stream{reply: r, pending: make([]byte, 0, streamChunkBytes+64)}
	stream.failed = r.write(head)
	return stream
}

const streamChunkBytes = 64 << 10

// Stream is the body of a chunked answer.
type Stream struct {
	reply   *Reply
	pending []byte
	failed  error
}

var _ io.WriteCloser = (*Stream)(nil)

func (s *Stream) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && s.failed == nil {
		n := min(len(p), streamChunkBytes-len(s.pending))
		s.pending = append(s.pending, p[:n]...)
		p = p[n:]
		if len(s.pending) == streamChunkBytes {
			s.flush()
		}
	}
	return total - len(p), s.failed
}

func (s *Stream) flush() {
	if len(s.pending) == 0 || s.failed != nil {
		return
	}
	if s.failed = s.reply.write(append(strconv.AppendInt(nil, int64(len(s.pending)), 16), '\r', '\n')); s.failed != nil {
		return
	}
	s.failed = s.reply.write(append(s.pending, '\r', '\n'))
	s.pending = s.pending[:0]
}

// Close sends pending bytes and the final chunk.
func (s *Stream) Close() error {
	s.flush()
	if s.failed == nil {
		s.failed = s.reply.write([]byte("0\r\n\r\n"))
	}
	return s.failed
}

// Break makes the client see an incomplete stream.
func (s *Stream) Break() { s.reply.broken = true }
