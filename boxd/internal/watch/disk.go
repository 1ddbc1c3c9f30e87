package watch

import "syscall"

// Space is an amount of a file system. Everything that has a name takes an inode.
type Space struct{ Bytes, Inodes int64 }

func usedOf(disk *syscall.Statfs_t) Space {
	return Space{int64(disk.Blocks-disk.Bfree) * disk.Bsize, int64(disk.Files - disk.Ffree)}
}

func (s Space) plus(other Space) Space { return Space{s.Bytes + other.Bytes, s.Inodes + other.Inodes} }

func (s Space) minus(other Space) Space { return Space{s.Bytes - other.Bytes, s.Inodes - other.Inodes} }

func (s Space) atLeast(other Space) Space {
	return Space{max(s.Bytes, other.Bytes), max(s.Inodes, other.Inodes)}
}

func (s Space) atMost(other Space) Space {
	return Space{min(s.Bytes, other.Bytes), min(s.Inodes, other.Inodes)}
}

// diskUse returns what counts against the box's limits, and all that is used of the file system that it shares.
func (w *Watchdog) diskUse() (counted, shared Space) {
	var seen []syscall.Fsid
next:
	for _, path := range w.disks {
		var disk syscall.Statfs_t
		if syscall.Statfs(path, &disk) != nil {
			continue
		}
		for _, other := range seen {
			if disk.Fsid == other && disk.Fsid != (syscall.Fsid{}) {
				continue next
			}
		}
		seen = append(seen, disk.Fsid)
		counted = counted.plus(usedOf(&disk))
	}
	own, shared := w.own.measure(counted, w.scan)
	return counted.plus(own), shared
}

// fills returns whether the box is over a limit of its disk and uses more than it did: what makes room may go on.
func (w *Watchdog) fills(now *Usage) bool {
	overBytes := w.limits.DiskBytes > 0 && now.Disk.Bytes > w.limits.DiskBytes
	overInodes := w.limits.DiskInodes > 0 && now.Disk.Inodes > w.limits.DiskInodes
	if !overBytes && !overInodes {
		w.fillings, w.low = 0, *now
		return false
	}
	more, stirred := now.Disk.minus(w.low.Disk).minus(othersStir), now.shared.minus(w.low.shared).minus(othersStir)
	w.low.Disk, w.low.shared = now.Disk.atMost(w.low.Disk), now.shared.atMost(w.low.shared)
	return overBytes && max(more.Bytes, stirred.Bytes) > 0 || overInodes && max(more.Inodes, stirred.Inodes) > 0
}

// othersStir is how much a file system may grow while a box that is over its limit makes room: others may write to it, too.
var othersStir = Space{1 << 20, 64}

// stopFilling kills all that runs and, if that does not help, what ended runs have left behind.
func (w *Watchdog) stopFilling() {
	running := w.runner.Registry.Running()
	for _, execution := range running {
		execution.Kill("disk")
	}
	w.fillings++
	if len(running) == 0 || w.fillings > spared {
		for _, group := range w.groups() {
			w.kill(group, "disk")
		}
	}
	for _, execution := range running {
		await(execution)
	}
	w.low = w.Measure() // what they wrote until they were dead is not the next one's
}

// spared is how often a box may go on filling its disk, once it is over its limit, before all in it is killed.
const spared = 2
