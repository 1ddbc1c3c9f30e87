package files

import (
	"syscall"
	"time"
	"unsafe"

	"envfarm.dev/boxd/internal/sysnum"
)

const (
	atSymlinkNofollow = 0x100
	atRemoveDir       = 0x200
	oPath             = 0x200000

	openDirFlags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
)

func call(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	for {
		_, _, e := syscall.Syscall6(number, all[0], all[1], all[2], all[3], all[4], all[5])
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		return nil
	}
}

// Lstat reads the metadata of a name below a directory, never through a link.
func Lstat(dir int, name string, into *syscall.Stat_t) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return call(sysnum.Fstatat, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(into)), atSymlinkNofollow)
}

// Readlink reads a link below a directory; an empty name reads the O_PATH descriptor itself.
func Readlink(dir int, name string) (string, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return "", err
	}
	buffer := make([]byte, 4097)
	n, _, e := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0)
	if e != 0 {
		return "", e
	}
	return string(buffer[:n]), nil
}

func unlink(dir int, name string, flags uintptr) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return call(syscall.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)), flags)
}

func symlink(target string, dir int, name string) error {
	t, err := syscall.BytePtrFromString(target)
	if err != nil {
		return err
	}
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return call(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(t)), uintptr(dir), uintptr(unsafe.Pointer(p)))
}

func link(fromDir int, from string, dir int, name string) error {
	f, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return call(syscall.SYS_LINKAT, uintptr(fromDir), uintptr(unsafe.Pointer(f)), uintptr(dir), uintptr(unsafe.Pointer(p)), 0)
}

// setTimes sets the modification time; an empty name means the descriptor itself.
func setTimes(dir int, name string, modified time.Time) error {
	const omit = (1 << 30) - 2
	times := [2]syscall.Timespec{{Nsec: omit}, {Sec: modified.Unix(), Nsec: int64(modified.Nanosecond())}}
	if name == "" {
		return call(syscall.SYS_UTIMENSAT, uintptr(dir), 0, uintptr(unsafe.Pointer(&times)), 0)
	}
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return call(syscall.SYS_UTIMENSAT, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&times)), atSymlinkNofollow)
}

// fdWriter writes to a descriptor without owning it.
type fdWriter int

func (w fdWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := syscall.Write(int(w), p[done:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
