package execs

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Pump reads a pipe as long as it has a writer, so that no program of the box ever blocks on it.
type Pump struct {
	file    *os.File
	sink    func([]byte)
	drained chan struct{}
	ended   chan struct{}
}

var pumpBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// NewPipe returns a reading end for StartPump and a writing end for a child.
func NewPipe() (reading, writing int, err error) {
	var ends [2]int
	if err = syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	if err = syscall.SetNonblock(ends[0], true); err != nil {
		syscall.Close(ends[0])
		syscall.Close(ends[1])
		return 0, 0, err
	}
	return ends[0], ends[1], nil
}

// StartPump takes over the reading end.
func StartPump(reading int, sink func([]byte)) *Pump {
	p := &Pump{
		file: os.NewFile(uintptr(reading), "pipe"), sink: sink,
		drained: make(chan struct{}), ended: make(chan struct{}),
	}
	go p.run()
	return p
}

func (p *Pump) run() {
	defer p.file.Close()
	defer close(p.ended)
	for {
		buffer := pumpBuffers.Get().(*[]byte)
		n, err := p.file.Read(*buffer)
		if n > 0 {
			p.sink((*buffer)[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.readPresent(*buffer)
			p.file.SetReadDeadline(time.Time{})
			p.drained <- struct{}{}
			err = nil
		}
		pumpBuffers.Put(buffer)
		if err != nil {
			return
		}
	}
}

// readPresent reads only what is in the pipe now: a writer that never stops must not block the caller.
func (p *Pump) readPresent(buffer []byte) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		const fionread = 0x541B
		var present int32
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&present))); e != 0 {
			return
		}
		for present > 0 {
			n, err := syscall.Read(int(fd), buffer[:min(len(buffer), int(present))])
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 {
				return
			}
			p.sink(buffer[:n])
			present -= int32(n)
		}
	})
}

// Drain returns when all bytes written before the call have reached the sink. Not for concurrent use.
func (p *Pump) Drain() {
	select {
	case <-p.ended:
		return
	default:
	}
	p.file.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-p.drained:
	case <-p.ended:
	}
}
