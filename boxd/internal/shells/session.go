package shells

import (
	"bytes"
	"os"
	"sync"
	"syscall"

	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/launch"
)

// session is one shell process with its pipes. A shell whose process dies gets a new session.
type session struct {
	child    *launch.Child
	control  *os.File
	pumps    [3]*execs.Pump // stdout, stderr, status
	statuses chan statusMessage

	mu      sync.Mutex
	current *execs.Execution // receives the output; nil between runs, when it is discarded
	partial []byte
}

const maxStatusBytes = 8 << 10

// openPipes returns boxd's ends and the child's, in the order stdout, stderr, status, control.
func openPipes() (ours, theirs [4]int, err error) {
	var opened []int
	for i := range ours {
		reading, writing, err := execs.NewPipe()
		if err != nil {
			closeFDs(opened)
			return ours, theirs, err
		}
		opened = append(opened, reading, writing)
		ours[i], theirs[i] = reading, writing
	}
	const control = 3
	ours[control], theirs[control] = theirs[control], ours[control]
	syscall.SetNonblock(theirs[control], false)
	syscall.SetNonblock(ours[control], true)
	return ours, theirs, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

// startSession starts the shell process; spec has user, environment and directory.
func startSession(runner *execs.Runner, spec launch.Spec, admit func() error) (*session, error) {
	path, isBash := execs.ShellPath()
	ours, theirs, err := openPipes()
	if err != nil {
		return nil, err
	}
	extra := theirs[:]
	spec.Path = path
	if isBash {
		boot, err := newBootFile()
		if err != nil {
			closeFDs(append(ours[:], theirs[:]...))
			return nil, err
		}
		extra = append(extra, boot)
		spec.Argv = []string{path, "--noprofile", "--norc", "-c", bashScript, "boxd-shell"}
		spec.Files = placeFiles(bashBoot+1, map[int]int{1: theirs[0], 2: theirs[1], bashStatus: theirs[2], bashControl: theirs[3], bashBoot: boot})
	} else {
		spec.Argv = []string{path, "-c", shScript, "boxd-shell"}
		spec.Files = placeFiles(shStatus+1, map[int]int{1: theirs[0], 2: theirs[1], shStatus: theirs[2], shControl: theirs[3]})
	}
	spec.Files[0] = runner.Null()
	child, err := runner.Launcher.Start(&spec, admit)
	closeFDs(extra)
	if err != nil {
		closeFDs(ours[:])
		return nil, err
	}
	s := &session{child: child, control: os.NewFile(uintptr(ours[3]), "control"), statuses: make(chan statusMessage, 4)}
	s.pumps[0] = execs.StartPump(ours[0], func(p []byte) { s.output(p, (*execs.Execution).WriteStdout) })
	s.pumps[1] = execs.StartPump(ours[1], func(p []byte) { s.output(p, (*execs.Execution).WriteStderr) })
	s.pumps[2] = execs.StartPump(ours[2], s.status)
	return s, nil
}

func placeFiles(count int, at map[int]int) []uintptr {
	files := make([]uintptr, count)
	for i := range files {
		files[i] = launch.Closed
	}
	for place, fd := range at {
		files[place] = uintptr(fd)
	}
	return files
}

func (s *session) output(p []byte, write func(*execs.Execution, []byte)) {
	s.mu.Lock()
	current := s.current
	s.mu.Unlock()
	if current != nil {
		write(current, p)
	}
}

func (s *session) status(p []byte) {
	s.partial = append(s.partial, p...)
	for {
		end := bytes.IndexByte(s.partial, 0)
		if end < 0 {
			break
		}
		if message, ok := parseStatus(string(s.partial[:end])); ok {
			select {
			case s.statuses <- message:
			default: // a program that floods the channel achieves nothing
			}
		}
		s.partial = s.partial[end+1:]
	}
	if len(s.partial) > maxStatusBytes {
		s.partial = nil
	}
}

func (s *session) setCurrent(execution *execs.Execution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = execution
}

// drain passes all output written so far to the current execution.
func (s *session) drain() {
	s.pumps[0].Drain()
	s.pumps[1].Drain()
}

// close lets an idle shell end by itself.
func (s *session) close() { s.control.Close() }
