// Package files accesses the box's files for a client: single files, and tar archives in both directions.
//
// boxd may be root while the agent is not, so no whole path is ever passed to the kernel: each component is opened
// separately, and only links that the agent cannot have made are followed. Inside an archive none is followed.
package files

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

// Errors of this package; all others are of type syscall.Errno.
var (
	ErrUnsafe     = errors.New("unsafe path")
	ErrTooLarge   = errors.New("larger than max_bytes")
	ErrBadArchive = errors.New("not a readable tar archive")
)

// Owner is the owner of new files; nil means boxd's user.
type Owner struct {
	UID, GID int
	// Optional ignores a change that the kernel does not allow, as in a user namespace with one uid.
	Optional bool
}

// Policy defines which links may be followed in a path.
type Policy struct {
	// Guarded is set if the agent has another uid than boxd; then only links of root or of boxd are followed.
	Guarded bool
}

const maxLinks = 40

// trusts returns whether the agent cannot have made the link.
func (p Policy) trusts(link *syscall.Stat_t) bool {
	return !p.Guarded || link.Uid == 0 || int(link.Uid) == os.Getuid()
}

// Directory opens an absolute path as an O_PATH descriptor. With create it creates missing directories.
func (p Policy) Directory(path string, create bool, owner *Owner) (int, error) {
	fd, err := openRoot()
	if err != nil {
		return -1, err
	}
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := p.step(fd, name, create, owner)
		if err != nil {
			syscall.Close(fd)
			return -1, err
		}
		var stat syscall.Stat_t
		if err = syscall.Fstat(next, &stat); err == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			links++
			next, todo, err = p.follow(fd, next, &stat, todo, links)
		} else if err == nil && stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			err = syscall.ENOTDIR
		}
		if next != fd {
			syscall.Close(fd)
		}
		fd = next
		if err != nil {
			syscall.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

func openRoot() (int, error) {
	return syscall.Open("/", oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
}

func (p Policy) step(fd int, name string, create bool, owner *Owner) (int, error) {
	const flags = oPath | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	next, err := syscall.Openat(fd, name, flags, 0)
	if err != syscall.ENOENT || !create {
		return next, err
	}
	if err = syscall.Mkdirat(fd, name, 0o755); err != nil && err != syscall.EEXIST {
		return -1, err
	}
	if err == nil && owner != nil {
		// By descriptor, since the name may meanwhile be something else.
		if opened, err := syscall.Openat(fd, name, openDirFlags, 0); err == nil {
			syscall.Fchown(opened, owner.UID, owner.GID)
			syscall.Fchmod(opened, 0o755)
			syscall.Close(opened)
		}
	}
	return syscall.Openat(fd, name, flags, 0)
}

// follow replaces a link by its target: it returns the directory to continue from, and the remaining components.
func (p Policy) follow(dir, link int, stat *syscall.Stat_t, todo []string, links int) (int, []string, error) {
	defer syscall.Close(link)
	if links > maxLinks {
		return dir, nil, syscall.ELOOP
	}
	if !p.trusts(stat) {
		return dir, nil, ErrUnsafe
	}
	target, err := Readlink(link, "")
	if err != nil {
		return dir, nil, err
	}
	todo = append(strings.Split(target, "/"), todo...)
	if strings.HasPrefix(target, "/") {
		root, err := openRoot()
		if err != nil {
			return dir, nil, err
		}
		return root, todo, nil
	}
	return dir, todo, nil
}

// CheckPath accepts an absolute path without "..", and returns it without duplicate or trailing slashes.
func CheckPath(path string) (string, error) {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") || len(path) > 4096 {
		return "", ErrUnsafe
	}
	parts, err := components(path)
	if err != nil {
		return "", err
	}
	return "/" + strings.Join(parts, "/"), nil
}

// components splits a path, and refuses "..".
func components(path string) ([]string, error) {
	var parts []string
	for _, part := range strings.Split(path, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, ErrUnsafe
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// Parent opens the directory of a checked path, and returns the last component; "." for the root.
func (p Policy) Parent(path string, create bool, owner *Owner) (int, string, error) {
	cut := strings.LastIndexByte(path, '/')
	name := path[cut+1:]
	if name == "" {
		name = "."
	}
	fd, err := p.Directory(path[:cut+1], create, owner)
	return fd, name, err
}

// OpenFile opens a regular file for reading. A final link is followed by the same rule as others.
func (p Policy) OpenFile(path string) (*os.File, error) {
	for range maxLinks {
		dir, name, err := p.Parent(path, false, nil)
		if err != nil {
			return nil, err
		}
		var stat syscall.Stat_t
		err = Lstat(dir, name, &stat)
		if err == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			var target string
			if !p.trusts(&stat) {
				err = ErrUnsafe
			} else if target, err = Readlink(dir, name); err == nil {
				if !strings.HasPrefix(target, "/") {
					target = path[:strings.LastIndexByte(path, '/')+1] + target
				}
				path = target
				syscall.Close(dir)
				continue
			}
		}
		if err != nil {
			syscall.Close(dir)
			return nil, err
		}
		file, err := openRegular(dir, name)
		syscall.Close(dir)
		return file, err
	}
	return nil, syscall.ELOOP
}

// openRegular does not wait for the other end of a fifo, and refuses everything but regular files.
func openRegular(dir int, name string) (*os.File, error) {
	fd, err := syscall.Openat(dir, name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var stat syscall.Stat_t
	if err = syscall.Fstat(fd, &stat); err == nil {
		switch stat.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			syscall.SetNonblock(fd, false)
			return os.NewFile(uintptr(fd), name), nil
		case syscall.S_IFDIR:
			err = syscall.EISDIR
		default:
			err = ErrUnsafe
		}
	}
	syscall.Close(fd)
	return nil, err
}
