package files

import (
	"errors"
	"io"
	"os"
	"syscall"
)

const scanNames = 512 // read from a directory at a time

// Scan visits a checked path and what is below it on the same file system, in no order and through no link. However many names there are, it
// keeps few of them. An error means that something was not seen.
func (p Policy) Scan(path string, visit func(*syscall.Stat_t)) error {
	fd, err := p.Directory(path, false, nil)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err = syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	visit(&stat)
	return scan(fd, ".", &stat, visit, 0)
}

func scan(dir int, name string, self *syscall.Stat_t, visit func(*syscall.Stat_t), depth int) error {
	if depth > maxDepth {
		return ErrUnsafe
	}
	fd, err := syscall.Openat(dir, name, openDirFlags, 0)
	switch err {
	case nil:
	case syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.EACCES: // it is another one meanwhile, or not even boxd's to read
		return nil
	default:
		return err
	}
	folder := os.NewFile(uintptr(fd), name)
	defer folder.Close()
	for {
		names, end := folder.Readdirnames(scanNames)
		for _, name := range names {
			var stat syscall.Stat_t
			if err = Lstat(fd, name, &stat); err == syscall.ENOENT {
				continue
			} else if err != nil {
				return err
			}
			isDirectory := stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
			if isDirectory && stat.Dev != self.Dev {
				continue // a mount
			}
			visit(&stat)
			if isDirectory {
				if err = scan(fd, name, &stat, visit, depth+1); err != nil {
					return err
				}
			}
		}
		switch {
		case end == io.EOF || errors.Is(end, syscall.ENOENT): // a directory that was removed meanwhile has no entries
			return nil
		case end != nil:
			return end
		}
	}
}
