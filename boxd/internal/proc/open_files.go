package proc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"envfarm.dev/boxd/internal/sysnum"
)

// As calls do on a thread whose accesses to files are those of this user and group; boxd must be root. The thread ends with it: not every kernel
// (gVisor) gives a thread that was somebody else exactly the rights back that it had, and what boxd starts has its thread's.
func As(uid, gid int, do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks it
		syscall.Setfsgid(gid)
		syscall.Setfsuid(uid)
		do()
	}()
	<-done
}

const listed = 512 // names read from a directory at a time

// OpenFiles visits what a process has open; each thread may have descriptors of its own. An error means that something was not seen.
func (t *Table) OpenFiles(pid int, visit func(*syscall.Stat_t)) error {
	return t.list(strconv.Itoa(pid)+"/task", func(thread string) error {
		return t.list(thread+"/fd", func(descriptor string) error {
			var stat syscall.Stat_t
			if err := t.stat(descriptor, &stat); err != nil {
				return err
			}
			visit(&stat)
			return nil
		})
	})
}

// list calls do with the path of each entry of a directory of /proc. What has ended meanwhile is no error.
func (t *Table) list(path string, do func(string) error) error {
	fd, err := syscall.Openat(int(t.root.Fd()), path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return unlessEnded(err)
	}
	folder := os.NewFile(uintptr(fd), path)
	defer folder.Close()
	for {
		names, end := folder.Readdirnames(listed)
		for _, name := range names {
			if err = unlessEnded(do(path + "/" + name)); err != nil {
				return err
			}
		}
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return unlessEnded(end)
		}
	}
}

func unlessEnded(err error) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Hides returns whether a process of this user has made itself opaque: its files in /proc then belong to root.
func (t *Table) Hides(pid, uid int) bool {
	var stat syscall.Stat_t
	if t.stat(strconv.Itoa(pid)+"/fd", &stat) != nil || int(stat.Uid) == uid {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok := t.readFile(pid, "status")
	return ok && bytes.Contains(text, []byte("\nUid:\t"+strconv.Itoa(uid)+"\t"))
}

func (t *Table) stat(path string, into *syscall.Stat_t) error {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, e := syscall.Syscall6(sysnum.Fstatat, t.root.Fd(), uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(into)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
