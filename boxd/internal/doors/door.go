// Package doors lets programs of a closed box reach one service of the farm, without opening the box's network.
//
// A door listens on the box's loopback. Its connections are handed to callers from outside that ask for the next one;
// boxd itself connects nowhere. The programs are hostile: all resources that they can make a door hold are bounded, and
// what they do not get (a place, a byte) is their own loss. The package knows no HTTP and no token.
package doors

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	// ErrShut means that the door is closed, or was closed before a connection came.
	ErrShut = errors.New("the door is closed")
	// ErrNobody means that no program connected in time.
	ErrNobody = errors.New("no program has connected")
)

// Limits of one door.
type Limits struct {
	Connections int           // at once, including those that wait for the other side
	FirstByte   time.Duration // a program that sends nothing is disconnected after it
	Idle        time.Duration // a connection without traffic in either direction is closed after it
	Progress    time.Duration // for each write: if a side does not read, the connection is closed
}

// DefaultLimits suit a program that calls a model: answers may take long, and few are requested at once.
var DefaultLimits = Limits{Connections: 32, FirstByte: 10 * time.Second, Idle: time.Hour, Progress: 60 * time.Second}

const (
	bufferBytes = 16 << 10 // per direction of a connection: the most data in transit that boxd holds
	backlog     = 32       // connections that the kernel keeps while the door is full
)

// Door is one listener.
type Door struct {
	ID   string
	Port int

	limits   Limits
	listener net.Listener
	places   chan struct{}
	arrived  chan *visitor
	shut     chan struct{}
	once     sync.Once
	mu       sync.Mutex
	inside   map[net.Conn]struct{}
}

// visitor is a program's connection that has sent something.
type visitor struct {
	conn  net.Conn
	first []byte
	taken chan struct{} // closed by the server of the connection when it is over
}

func open(id string, port int, limits Limits) (*Door, error) {
	listener, err := listen(port)
	if err != nil {
		return nil, err
	}
	d := &Door{
		ID: id, Port: listener.Addr().(*net.TCPAddr).Port, limits: limits, listener: listener,
		places: make(chan struct{}, limits.Connections), arrived: make(chan *visitor),
		shut: make(chan struct{}), inside: map[net.Conn]struct{}{},
	}
	go d.admit()
	return d, nil
}

// listen is net.Listen with a short queue, since waiting connections take kernel memory.
func listen(port int) (net.Listener, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	file := fileOf(fd)
	defer file.Close()
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	if err = syscall.Listen(fd, backlog); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// admit accepts as many connections as there are places; the kernel queues or refuses the others.
func (d *Door) admit() {
	for {
		select {
		case d.places <- struct{}{}:
		case <-d.shut:
			return
		}
		conn, err := d.listener.Accept()
		if err != nil {
			<-d.places
			select {
			case <-d.shut:
				return
			case <-time.After(5 * time.Millisecond): // out of descriptors: the box may recover
				continue
			}
		}
		if !d.enter(conn) {
			<-d.places
			return
		}
		go d.receive(conn)
	}
}

// enter remembers a connection, so that closing the door closes it; false if the door is closed.
func (d *Door) enter(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.shut:
		conn.Close()
		return false
	default:
		d.inside[conn] = struct{}{}
		return true
	}
}

func (d *Door) leave(conn net.Conn) {
	conn.Close()
	d.mu.Lock()
	delete(d.inside, conn)
	d.mu.Unlock()
}

// receive waits for the first bytes, then until the connection is taken, then for its end.
func (d *Door) receive(conn net.Conn) {
	defer func() { <-d.places }()
	defer d.leave(conn)
	first := make([]byte, bufferBytes)
	conn.SetReadDeadline(time.Now().Add(d.limits.FirstByte))
	n, err := conn.Read(first)
	if n == 0 || (err != nil && !errors.Is(err, io.EOF)) {
		return
	}
	v := &visitor{conn: conn, first: first[:n], taken: make(chan struct{})}
	patience := time.NewTimer(d.limits.Progress)
	defer patience.Stop()
	select {
	case d.arrived <- v:
		<-v.taken
	case <-patience.C: // the farm does not take it
	case <-d.shut:
	}
}

// Next waits for a program's connection and returns it, with what it has sent so far. Call Carry or Drop on it, once.
func (d *Door) Next(wait time.Duration) (*Passage, error) {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case <-d.shut:
		return nil, ErrShut
	default:
	}
	select {
	case v := <-d.arrived:
		return &Passage{door: d, visitor: v}, nil
	case <-patience.C:
		return nil, ErrNobody
	case <-d.shut:
		return nil, ErrShut
	}
}

// Close closes the door and its connections; it may be called again.
func (d *Door) Close() {
	d.once.Do(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(d.shut)
		d.listener.Close()
		for conn := range d.inside {
			conn.Close()
		}
	})
}

// Passage is one program's connection to be joined with the farm's.
type Passage struct {
	door    *Door
	visitor *visitor
}

// Drop ends the program's connection.
func (p *Passage) Drop() {
	p.visitor.conn.Close()
	close(p.visitor.taken)
}

// Carry joins the program's connection with the farm's, until either ends or stalls. It closes both.
func (p *Passage) Carry(out net.Conn, in io.Reader) {
	defer close(p.visitor.taken)
	conn, limits := p.visitor.conn, p.door.limits
	defer conn.Close()
	defer out.Close()
	if !p.door.enter(out) {
		return
	}
	defer p.door.leave(out)
	var moved atomic.Int64
	moved.Store(time.Now().UnixNano())
	if !write(out, p.visitor.first, limits.Progress) {
		return
	}
	p.visitor.first = nil
	done := make(chan struct{}, 2)
	go pump(conn, out, in, limits, &moved, done)
	go pump(out, conn, conn, limits, &moved, done)
	<-done
	<-done
}

// pump copies one direction. It passes on an end of input; on a failure it closes both directions.
func pump(to, from net.Conn, source io.Reader, limits Limits, moved *atomic.Int64, done chan<- struct{}) {
	defer func() { done <- struct{}{} }()
	buffer := make([]byte, bufferBytes)
	for {
		from.SetReadDeadline(time.Unix(0, moved.Load()).Add(limits.Idle))
		n, err := source.Read(buffer)
		if n > 0 {
			moved.Store(time.Now().UnixNano())
			if !write(to, buffer[:n], limits.Progress) {
				break
			}
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
			break
		}
		if isTimeout(err) && time.Since(time.Unix(0, moved.Load())) < limits.Idle {
			continue // the other direction is active
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

func write(to net.Conn, data []byte, progress time.Duration) bool {
	to.SetWriteDeadline(time.Now().Add(progress))
	_, err := to.Write(data)
	return err == nil
}

func isTimeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}
