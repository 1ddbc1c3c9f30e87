// Package wire is a small HTTP/1.1 server: keep-alive, Content-Length and chunked bodies, strict limits.
//
// It replaces net/http, which alone would exceed boxd's budget of size and memory.
// It knows nothing of routes, tokens or execs.
package wire

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of one server. Zero durations are not allowed.
type Limits struct {
	HeaderBytes     int           // request line and all header lines together
	Connections     int           // further ones are closed immediately
	HeaderTimeout   time.Duration // from the first byte of a request to the end of its header
	IdleTimeout     time.Duration // between two requests
	ProgressTimeout time.Duration // for each read of a body and each write of an answer
}

// DefaultLimits suit a daemon with one trusted client among many hostile programs.
var DefaultLimits = Limits{
	HeaderBytes:     16 << 10,
	Connections:     512,
	HeaderTimeout:   10 * time.Second,
	IdleTimeout:     10 * time.Minute,
	ProgressTimeout: 60 * time.Second,
}

// Server answers requests until its listener is closed.
type Server struct {
	Limits   Limits
	Admit    func(net.Conn) bool // false closes the connection before a byte is read; nil admits all
	Answer   func(*Request, *Reply)
	BytesIn  atomic.Int64
	BytesOut atomic.Int64

	open atomic.Int64
}

// Serve accepts connections until the listener fails permanently, and returns that error.
func (s *Server) Serve(listener net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of descriptors or memory: the box may recover, so the daemon must continue.
			time.Sleep(pause)
			continue
		}
		if s.open.Load() >= int64(s.Limits.Connections) || (s.Admit != nil && !s.Admit(conn)) {
			conn.Close()
			continue
		}
		s.open.Add(1)
		go s.serveConn(conn)
	}
}

func (s *Server) serveConn(conn net.Conn) {
	counted := &countedConn{Conn: conn, server: s}
	defer func() {
		conn.Close()
		s.open.Add(-1)
	}()
	reader := readerPool.Get().(*bufio.Reader)
	reader.Reset(counted)
	defer func() {
		reader.Reset(nil)
		readerPool.Put(reader)
	}()
	// A connection that has not sent a valid token yet may not stay idle.
	for patience := s.Limits.HeaderTimeout; s.serveOne(counted, reader, patience); {
		patience = s.Limits.IdleTimeout
	}
	if !counted.taken {
		s.linger(counted)
	}
}

// linger keeps reading for a moment: closing with unread data would reset the connection, and the answer might be lost.
func (s *Server) linger(conn *countedConn) {
	half, ok := conn.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	conn.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyBuffer(io.Discard, struct{ io.Reader }{conn}, make([]byte, 32<<10))
}

const lingerTime = 5 * time.Second

// serveOne reads and answers one request; false closes the connection.
func (s *Server) serveOne(conn *countedConn, reader *bufio.Reader, patience time.Duration) bool {
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := reader.Peek(1); err != nil {
		return false
	}
	conn.SetReadDeadline(time.Now().Add(s.Limits.HeaderTimeout))
	reply := &Reply{conn: conn, progress: s.Limits.ProgressTimeout, reader: reader}
	request, err := readRequest(reader, s.Limits.HeaderBytes)
	if err != nil {
		var bad *BadRequest
		if errors.As(err, &bad) {
			reply.close = true
			reply.Fail(bad.Status, "bad_request", bad.Reason)
		}
		return false
	}
	conn.SetReadDeadline(time.Time{})
	reply.request = request
	request.attachBody(conn, reader, s.Limits.ProgressTimeout)
	reply.close = request.wantsClose
	s.answer(request, reply)
	conn.taken = reply.taken
	return reply.started && !reply.broken && !reply.close && !reply.taken
}

// answer confines a panic to its request.
func (s *Server) answer(request *Request, reply *Reply) {
	defer func() {
		if recover() == nil {
			return
		}
		if reply.started {
			reply.broken = true
			return
		}
		reply.close = true
		reply.Fail(500, "internal", "the request caused an internal error")
	}()
	s.Answer(request, reply)
}

var readerPool = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

type countedConn struct {
	net.Conn
	server *Server
	taken  bool // handed over and finished
}

// CloseWrite closes one direction, for connections that were handed over.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.server.BytesIn.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.server.BytesOut.Add(int64(n))
	return n, err
}
