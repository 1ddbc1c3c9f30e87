package files

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

const (
	maxEntries        = 500_000
	streamAllowance   = 256 << 20 // headers and padding beyond max_bytes
	keptModeBits      = 0o1777    // never setuid, never setgid
	maxDepth          = 512
	extractBufferSize = 64 << 10
)

// Extractor unpacks tar entries below one directory and never outside it.
type Extractor struct {
	Owner    *Owner // of every entry; if nil, KeepOwners decides
	MaxBytes int64  // of contents, all entries together
	// KeepOwners sets the uid and gid from the headers.
	KeepOwners bool
	// Replace allows replacing any directory by something else; without it only empty ones are replaced.
	Replace bool

	Entries int
	Bytes   int64

	root       int
	parent     int // of the last entry; -1 for none
	parentName string
	folders    []folder
	buffer     []byte
}

// folder is completed at the end: its mode may forbid writing, and writing changes its time.
type folder struct {
	name     string
	mode     int
	modified time.Time
	owner    *Owner
}

// NewTarReader reads a tar stream, gzipped or not, with a limit against bombs.
func NewTarReader(body io.Reader, maxBytes int64) (*tar.Reader, error) {
	buffered := bufio.NewReaderSize(body, extractBufferSize)
	var stream io.Reader = buffered
	if magic, err := buffered.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadArchive, err)
		}
		stream = unzipped
	}
	return tar.NewReader(&boundedReader{stream, maxBytes + maxBytes/8 + streamAllowance}), nil
}

type boundedReader struct {
	from io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	return n, err
}

// Open sets the directory, which the caller keeps open.
func (x *Extractor) Open(root int) {
	x.root, x.parent = root, -1
	x.buffer = make([]byte, extractBufferSize)
}

// Extract unpacks the remaining entries of archive, then completes the directories.
func (x *Extractor) Extract(archive *tar.Reader) error {
	defer x.forgetParent()
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return x.settleFolders()
		}
		if err != nil {
			return wrapArchive(err)
		}
		if err = x.entry(header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

// wrapArchive marks errors of the tar reader itself.
func wrapArchive(err error) error {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnsafe) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadArchive, err)
}

func (x *Extractor) entry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if x.Entries++; x.Entries > maxEntries {
		return ErrTooLarge
	}
	name, err := relativeName(header.Name)
	if err != nil {
		return err
	}
	if name == "" { // the top itself
		if header.Typeflag != tar.TypeDir {
			return ErrUnsafe
		}
		return nil
	}
	dir, last, err := x.enter(name)
	if err != nil {
		return err
	}
	owner := x.Owner
	if owner == nil && x.KeepOwners {
		owner = &Owner{UID: header.Uid, GID: header.Gid, Optional: true}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return x.makeFolder(dir, last, folder{name, int(header.Mode) & keptModeBits, header.ModTime, owner})
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.makeFile(dir, last, header, content, owner)
	case tar.TypeSymlink:
		return x.makeSymlink(dir, last, header, owner)
	case tar.TypeLink:
		return x.makeLink(name, header.Linkname)
	}
	return fmt.Errorf("%w: an entry of type %q", ErrUnsafe, header.Typeflag)
}

// relativeName cleans the name of an entry; absolute names and those with ".." are refused.
func relativeName(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.Contains(name, "\x00") {
		return "", ErrUnsafe
	}
	parts, err := components(name)
	if err != nil {
		return "", err
	}
	if len(parts) > maxDepth {
		return "", ErrUnsafe
	}
	return strings.Join(parts, "/"), nil
}

// enter opens the directory of an entry without following any link; missing ones are created.
// The descriptor belongs to the extractor and lives until the next call.
func (x *Extractor) enter(name string) (int, string, error) {
	above, last := "", name
	if cut := strings.LastIndexByte(name, '/'); cut >= 0 {
		above, last = name[:cut], name[cut+1:]
	}
	if above == "" {
		return x.root, last, nil
	}
	if x.parent >= 0 && x.parentName == above {
		return x.parent, last, nil
	}
	fd, err := x.descend(above)
	if err != nil {
		return -1, "", err
	}
	x.forgetParent()
	x.parent, x.parentName = fd, above
	return fd, last, nil
}

func (x *Extractor) forgetParent() {
	if x.parent >= 0 {
		syscall.Close(x.parent)
	}
	x.parent = -1
}

func (x *Extractor) descend(path string) (int, error) {
	fd := x.root
	for _, part := range strings.Split(path, "/") {
		next, err := Policy{}.step(fd, part, true, x.Owner)
		if fd != x.root {
			syscall.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd = next
		var stat syscall.Stat_t
		if err = syscall.Fstat(fd, &stat); err == nil && stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			err = ErrUnsafe
		}
		if err != nil {
			syscall.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// clear removes what has a name. A directory that is not empty stays, unless the extractor may replace it.
func (x *Extractor) clear(dir int, name string) error {
	err := unlink(dir, name, 0)
	if err == syscall.EISDIR || err == syscall.EPERM {
		err = unlink(dir, name, atRemoveDir)
		if (err == syscall.ENOTEMPTY || err == syscall.EEXIST) && x.Replace {
			x.forgetParentBelow()
			err = RemoveTree(dir, name)
		}
	}
	if err == syscall.ENOENT {
		return nil
	}
	return err
}

// forgetParentBelow drops the name of the kept directory, which may be removed; its descriptor is still in use.
func (x *Extractor) forgetParentBelow() { x.parentName = "\x00" }

func (x *Extractor) makeFolder(dir int, name string, made folder) error {
	err := syscall.Mkdirat(dir, name, 0o700)
	if err == syscall.EEXIST {
		var stat syscall.Stat_t
		if err = Lstat(dir, name, &stat); err != nil {
			return err
		}
		if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			if !x.Replace {
				return fmt.Errorf("%w: something other than a directory is in its place", ErrUnsafe)
			}
			if err = x.clear(dir, name); err == nil {
				err = syscall.Mkdirat(dir, name, 0o700)
			}
		}
	}
	if err == nil {
		x.folders = append(x.folders, made)
	}
	return err
}

func (x *Extractor) makeFile(dir int, name string, header *tar.Header, content io.Reader, owner *Owner) error {
	if header.Size > x.MaxBytes-x.Bytes {
		return ErrTooLarge
	}
	if err := x.clear(dir, name); err != nil {
		return err
	}
	fd, err := createFile(dir, name)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	n, err := io.CopyBuffer(fdWriter(fd), struct{ io.Reader }{content}, x.buffer)
	x.Bytes += n
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return wrapArchive(err)
	}
	if err == nil {
		err = settleFile(fd, int(header.Mode)&keptModeBits, owner)
	}
	if err == nil {
		err = setTimes(fd, "", header.ModTime)
	}
	return err
}

func (x *Extractor) makeSymlink(dir int, name string, header *tar.Header, owner *Owner) error {
	if header.Linkname == "" || len(header.Linkname) > 4095 {
		return ErrUnsafe
	}
	if err := x.clear(dir, name); err != nil {
		return err
	}
	if err := symlink(header.Linkname, dir, name); err != nil {
		return err
	}
	if owner != nil {
		if err := syscall.Fchownat(dir, name, owner.UID, owner.GID, atSymlinkNofollow); err != nil && !owner.Optional {
			return err
		}
	}
	return setTimes(dir, name, header.ModTime)
}

// makeLink links to a regular file of the same directory tree. The kernel does not follow a final symbolic link.
func (x *Extractor) makeLink(name, target string) error {
	target, err := relativeName(target)
	if err != nil || target == "" || target == name {
		return ErrUnsafe
	}
	from, fromName := x.root, target
	if cut := strings.LastIndexByte(target, '/'); cut >= 0 {
		if from, err = x.descend(target[:cut]); err != nil {
			return err
		}
		defer syscall.Close(from)
		fromName = target[cut+1:]
	}
	var stat syscall.Stat_t
	if err = Lstat(from, fromName, &stat); err != nil {
		return fmt.Errorf("%w: a hard link to a missing file", ErrUnsafe)
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return fmt.Errorf("%w: a hard link to something other than a regular file", ErrUnsafe)
	}
	dir, last, err := x.enter(name)
	if err != nil {
		return err
	}
	if err = x.clear(dir, last); err != nil {
		return err
	}
	return link(from, fromName, dir, last)
}

func (x *Extractor) settleFolders() error {
	for i := len(x.folders) - 1; i >= 0; i-- {
		f := x.folders[i]
		dir, last, err := x.enter(f.name)
		if err != nil {
			return err
		}
		fd, err := syscall.Openat(dir, last, openDirFlags, 0)
		if err != nil {
			continue // a later entry of the archive replaced it
		}
		err = settleFile(fd, f.mode, f.owner)
		if err == nil {
			err = setTimes(fd, "", f.modified)
		}
		syscall.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
