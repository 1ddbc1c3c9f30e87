package launch

import (
	"syscall"
	"unsafe"
)

const (
	waitAll      = 0 // P_ALL
	waitExited   = 4 // WEXITED
	waitNoReap   = 0x01000000
	waitAnyClone = 0x40000000 // __WALL

	siginfoPidOffset = 16
)

// reap waits for children without a timer and without signals.
//
// It first only looks (WNOWAIT), then reaps under the lock, so that a pid can never be freed between a lookup and a
// kill. A child whose exec failed is reaped by ForkExec itself; then there is nothing to reap here.
func (l *Launcher) reap() {
	for {
		var info [128]byte
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, waitAll, 0, uintptr(unsafe.Pointer(&info)),
			waitExited|waitNoReap|waitAnyClone, 0, 0)
		if e == syscall.ECHILD {
			l.sleep()
			continue
		}
		if e != 0 {
			continue
		}
		l.reapOne(int(*(*int32)(unsafe.Pointer(&info[siginfoPidOffset]))))
	}
}

func (l *Launcher) sleep() {
	l.mu.Lock()
	if len(l.children) == 0 {
		l.busy.Store(false)
	}
	l.mu.Unlock()
	<-l.wake
}

func (l *Launcher) reapOne(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var status syscall.WaitStatus
	var usage syscall.Rusage
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG|waitAnyClone, &usage)
	if err != nil || got != pid {
		return
	}
	child := l.children[pid]
	if child == nil {
		return // an orphaned process of the box
	}
	delete(l.children, pid)
	child.reaped = true
	child.Status, child.Usage = status, usage
	close(child.Done)
}
