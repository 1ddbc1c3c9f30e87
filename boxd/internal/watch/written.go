package watch

import (
	"sync/atomic"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/files"
)

// written measures what the agent wrote to a file system that the box shares with others, such as a container's own: its total use says
// nothing of one box.
//
// It counts the files whose inode changed after the agent's first command: they are completely in the container's own layer. It searches
// for them only when the file system has grown by as much as the box has left. Deleted files that are still open are not seen.
type written struct {
	root  string
	began atomic.Int64 // the agent's first command, in nanoseconds since 1970; 0 before it

	known int64 // the result of the last walk
	used  int64 // the file system's use at that time
	rest  time.Time
}

const walkPause = 20 // times the duration of the last walk

// Begin records that a command of the agent is about to start.
func (w *written) Begin() {
	if w.root != "" {
		w.began.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// bytes returns what was written, as of the last walk; it walks again if the limit may be exceeded.
func (w *written) bytes(limit int64) int64 {
	var disk syscall.Statfs_t
	if w.root == "" || syscall.Statfs(w.root, &disk) != nil {
		return 0
	}
	used := int64(disk.Blocks-disk.Bfree) * disk.Bsize
	began := w.began.Load()
	if began == 0 || w.used == 0 || used < w.used {
		w.used = used
	}
	if began == 0 || used-w.used < limit-w.known || time.Now().Before(w.rest) {
		return w.known
	}
	start := time.Now()
	found, err := w.walk(began)
	if err != nil {
		found += used - w.used // what cannot be examined is attributed to the box
	}
	w.known, w.used = found, used
	w.rest = time.Now().Add(walkPause * time.Since(start))
	return found
}

func (w *written) walk(began int64) (int64, error) {
	var total int64
	var device *uint64
	linked := map[uint64]bool{}
	err := files.Policy{}.Walk(w.root, func(n *files.Node) (bool, error) {
		if n.Kind() == syscall.S_IFDIR {
			if device == nil {
				own := uint64(n.Stat.Dev)
				device = &own
			}
			if uint64(n.Stat.Dev) != *device {
				return false, nil // a mount, with its own size
			}
		}
		if n.Stat.Ctim.Nano() < began {
			return true, nil
		}
		if n.Stat.Nlink > 1 && n.Kind() != syscall.S_IFDIR {
			if linked[n.Stat.Ino] {
				return true, nil
			}
			linked[n.Stat.Ino] = true
		}
		total += n.Stat.Blocks * 512
		return true, nil
	})
	return total, err
}
