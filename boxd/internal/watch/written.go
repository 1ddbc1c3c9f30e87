package watch

import (
	"math"
	"sync/atomic"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/config"
	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/files"
	"envfarm.dev/boxd/internal/proc"
)

// written measures what the agent wrote to a file system that the box shares with others, such as a container's own: its total use says
// nothing of one box.
//
// It counts the files whose inode changed after the agent's first command: they are completely in the container's own layer. It searches
// for them, and for files without a name that processes hold open, only when the file system has grown by as much as the box has left.
type written struct {
	root   string
	limits Space
	runner *execs.Runner
	began  atomic.Int64 // the agent's first command, in nanoseconds since 1970; 0 before it

	known Space // the result of the last search
	used  Space // the file system's use at that time
	rest  time.Time
}

const searchPause = 20 // times the duration of the last search

func newWritten(c *config.Config, runner *execs.Runner) *written {
	limit := func(value int64) int64 {
		if value == 0 {
			return math.MaxInt64
		}
		return value
	}
	return &written{root: c.SharedDisk, limits: Space{limit(c.Limits.DiskBytes), limit(c.Limits.DiskInodes)}, runner: runner}
}

// Begin records that a command of the agent is about to start.
func (w *written) Begin() {
	if w.root != "" {
		w.began.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// measure returns what was written, as of the last search, and all that is used of the file system. It searches again if the limits may be
// exceeded, given what the box uses elsewhere; then it may pause if the file system has grown by less than a whole limit meanwhile.
func (w *written) measure(elsewhere Space, box []proc.Process) (own, used Space) {
	var disk syscall.Statfs_t
	if w.root == "" || syscall.Statfs(w.root, &disk) != nil {
		return Space{}, Space{}
	}
	used = usedOf(&disk)
	began := w.began.Load()
	if began == 0 || w.used == (Space{}) {
		w.used = used
		return Space{}, used
	}
	w.used = used.atMost(w.used)
	grown := used.minus(w.used)
	reaches := func(limits Space) bool { return grown.Bytes >= limits.Bytes || grown.Inodes >= limits.Inodes }
	pauses := time.Now().Before(w.rest) && !reaches(w.limits)
	if pauses || !reaches(w.limits.minus(elsewhere).minus(w.known)) {
		return w.known, used
	}
	start := time.Now()
	found, whole := w.search(began, box)
	if !whole { // what cannot be examined is the box's
		found = found.atLeast(w.known.plus(grown))
	}
	w.known, w.used = found, used
	w.rest = time.Now().Add(searchPause * time.Since(start))
	return found, used
}

// search also returns whether everything could be examined. A name counts as an inode: a file with many names takes as long to search.
func (w *written) search(began int64, box []proc.Process) (found Space, whole bool) {
	type identity struct{ device, inode uint64 }
	counted := map[identity]bool{}
	var device uint64
	err := files.Policy{}.Scan(w.root, func(stat *syscall.Stat_t) {
		if device == 0 {
			device = uint64(stat.Dev)
		}
		if stat.Ctim.Nano() < began {
			return
		}
		found.Inodes++
		const large = 1 << 20 / 512
		if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR && (stat.Nlink > 1 || stat.Blocks >= large) { // seen twice, too, if it is moved meanwhile
			self := identity{uint64(stat.Dev), stat.Ino}
			if counted[self] {
				return
			}
			counted[self] = true
		}
		found.Bytes += stat.Blocks * 512
	})
	whole = err == nil
	patience := time.Now().Add(closerLook)
	w.asAgent(func() {
		for i := range box {
			whole = whole && w.examined(box[i].Pid, patience, func(stat *syscall.Stat_t) {
				self := identity{uint64(stat.Dev), stat.Ino}
				if stat.Nlink > 0 || self.device != device || stat.Ctim.Nano() < began || counted[self] {
					return
				}
				counted[self] = true
				found = found.plus(Space{stat.Blocks * 512, 1})
			})
		}
	})
	return found, whole
}

// examined visits what a process has open, and returns whether it let itself be examined. In the midst of an exec each is opaque for a moment.
func (w *written) examined(pid int, patience time.Time, visit func(*syscall.Stat_t)) bool {
	for try := 1; ; try++ {
		if w.runner.Table.OpenFiles(pid, visit) == nil || !w.runner.Table.Hides(pid, w.runner.Defaults.AgentUID) {
			return true
		}
		if try == opaqueLooks || time.Now().After(patience) {
			return false
		}
		time.Sleep(opaquePause)
	}
}

const (
	opaqueLooks = 8
	opaquePause = 10 * time.Millisecond
)

// asAgent lets boxd see what the agent's processes have open where it may not trace other users' processes.
func (w *written) asAgent(do func()) {
	agent := w.runner.Defaults
	proc.As(agent.AgentUID, agent.AgentGID, do)
}
