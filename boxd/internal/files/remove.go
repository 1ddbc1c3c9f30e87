package files

import (
	"os"
	"syscall"
)

// RemoveTree removes a name and everything below it, without following a link.
func RemoveTree(dir int, name string) error { return removeTree(dir, name, 0) }

func removeTree(dir int, name string, depth int) error {
	err := unlink(dir, name, 0)
	if err == nil || err == syscall.ENOENT {
		return nil
	}
	if err != syscall.EISDIR && err != syscall.EPERM {
		return err
	}
	if depth > maxDepth {
		return ErrUnsafe
	}
	fd, err := syscall.Openat(dir, name, openDirFlags, 0)
	if err != nil {
		return err
	}
	folder := os.NewFile(uintptr(fd), name)
	names, err := folder.Readdirnames(-1)
	for _, child := range names {
		if err == nil {
			err = removeTree(fd, child, depth+1)
		}
	}
	folder.Close()
	if err != nil {
		return err
	}
	return unlink(dir, name, atRemoveDir)
}

// Remove removes one name below a directory descriptor: a file, a link or an empty directory. Missing is fine;
// kept is true for a directory that is not empty.
func (x *Extractor) Remove(name string) (kept bool, err error) {
	name, err = relativeName(name)
	if err != nil || name == "" {
		return false, ErrUnsafe
	}
	dir, last, err := x.enterExisting(name)
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer syscall.Close(dir)
	err = unlink(dir, last, 0)
	if err == syscall.EISDIR || err == syscall.EPERM {
		err = unlink(dir, last, atRemoveDir)
	}
	switch err {
	case syscall.ENOENT:
		return false, nil
	case syscall.ENOTEMPTY, syscall.EEXIST, syscall.EBUSY:
		return true, nil
	}
	return false, err
}

// enterExisting opens the directory of a name, following no link and making nothing.
func (x *Extractor) enterExisting(name string) (int, string, error) {
	fd, err := syscall.Openat(x.root, ".", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	start := 0
	for i := 0; i < len(name) && err == nil; i++ {
		if name[i] != '/' {
			continue
		}
		var next int
		next, err = syscall.Openat(fd, name[start:i], oPath|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		syscall.Close(fd)
		fd, start = next, i+1
	}
	return fd, name[start:], err
}
