package launch

import (
	"math/rand/v2"
	"sort"
	"syscall"
	"unsafe"

	"envfarm.dev/boxd/internal/proc"
	"envfarm.dev/boxd/internal/sysnum"
)

const (
	rlimitNproc       = 6
	rlimitRealTime    = 15 // RLIMIT_RTTIME: no effect on a process without real-time scheduling
	highestMark       = 1 << 60
	largestMarkStep   = 1 << 24
	smallestUsedLimit = 1 << 40
)

type rlimit struct{ soft, hard uint64 }

func prlimit(pid int, resource uintptr, set, old *rlimit) error {
	_, _, e := syscall.RawSyscall6(sysnum.Prlimit64, uintptr(pid), resource,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// marks gives each start a number that all its descendants inherit and none can raise: a hard resource limit that
// otherwise has no effect. boxd lowers its own before each fork, which needs no privilege. A program may lower its
// number further, but then it is one that was never issued, or that of a later exec.
type marks struct {
	current uint64
	issued  []uint64 // descending
	works   bool
}

func newMarks() *marks {
	var now rlimit
	m := &marks{}
	if prlimit(0, rlimitRealTime, nil, &now) != nil || now.hard < smallestUsedLimit {
		return m
	}
	m.current = min(now.hard, highestMark)
	m.works = true
	return m
}

func (m *marks) next() uint64 {
	if !m.works {
		return 0
	}
	step := 1 + rand.Uint64N(largestMarkStep)
	if m.current < smallestUsedLimit+step {
		m.works = false
		return 0
	}
	limit := rlimit{m.current - step, m.current - step}
	if prlimit(0, rlimitRealTime, &limit, nil) != nil {
		m.works = false
		return 0
	}
	m.current -= step
	m.issued = append(m.issued, m.current)
	return m.current
}

func (m *marks) knows(mark uint64) bool {
	i := sort.Search(len(m.issued), func(i int) bool { return m.issued[i] <= mark })
	return i < len(m.issued) && m.issued[i] == mark
}

// Family selects from a scan what belongs to the child: its mark, its session, the descendants of those, and
// every descendant of boxd whose mark was never issued.
func (l *Launcher) Family(table *proc.Table, child *Child) func([]proc.Process) []proc.Process {
	return func(all []proc.Process) []proc.Process {
		mine := proc.Descendants(all, table.Self())
		reaped := child.Reaped()
		return proc.Closure(mine, func(p *proc.Process) bool {
			near := p.Pid == child.Pid || p.Session == child.Pid
			if child.Mark == 0 {
				return near
			}
			mark, readable := table.Mark(p.Pid)
			if readable && (mark == child.Mark || !l.known(mark)) {
				return true
			}
			// Once the child is reaped, its pid may be the session of a later one.
			return near && (!reaped || !readable)
		})
	}
}

// Reaped returns whether the process has ended.
func (c *Child) Reaped() bool {
	select {
	case <-c.Done:
		return true
	default:
		return false
	}
}

func (l *Launcher) known(mark uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks.knows(mark)
}
