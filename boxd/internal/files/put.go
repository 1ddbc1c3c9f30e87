package files

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"syscall"
)

// PutFile replaces a file atomically: readers see the old or the new one. A final link is replaced, not followed.
// mode < 0 keeps the mode of an existing file, and is 0644 for a new one.
func (p Policy) PutFile(path string, content io.Reader, mode int, parents bool, owner *Owner) (int64, error) {
	dir, name, err := p.Parent(path, parents, owner)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(dir)
	if name == "." {
		return 0, syscall.EISDIR
	}
	if mode < 0 {
		mode = 0o644
		var stat syscall.Stat_t
		if Lstat(dir, name, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFREG {
			mode = int(stat.Mode & 0o777)
		}
	}
	var raw [8]byte
	rand.Read(raw[:])
	temporary := ".boxd-" + hex.EncodeToString(raw[:])
	fd, err := createFile(dir, temporary)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	written, err := io.CopyBuffer(fdWriter(fd), content, make([]byte, 64<<10))
	if err == nil {
		err = settleFile(fd, mode&0o777, owner)
	}
	if err == nil {
		err = syscall.Renameat(dir, temporary, dir, name)
	}
	if err != nil {
		unlink(dir, temporary, 0)
	}
	return written, err
}

func createFile(dir int, name string) (int, error) {
	const flags = syscall.O_WRONLY | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	return syscall.Openat(dir, name, flags, 0o600)
}

// settleFile sets an open file's owner and then its mode, since a change of owner can clear mode bits.
func settleFile(fd, mode int, owner *Owner) error {
	if owner != nil {
		if err := syscall.Fchown(fd, owner.UID, owner.GID); err != nil && !owner.Optional {
			return err
		}
	}
	return syscall.Fchmod(fd, uint32(mode))
}
