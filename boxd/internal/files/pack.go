package files

import (
	"archive/tar"
	"io"
	"syscall"
	"time"
)

// Packer writes nodes into a tar stream. Hard links are sent as separate files.
type Packer struct {
	Tar    *tar.Writer
	buffer []byte
}

// NewPacker writes to a stream.
func NewPacker(to io.Writer) *Packer {
	return &Packer{Tar: tar.NewWriter(to), buffer: make([]byte, 64<<10)}
}

// Carried returns whether boxd's tar streams include this kind: directories, regular files and symbolic links.
func Carried(n *Node) bool {
	kind := n.Kind()
	return kind == syscall.S_IFDIR || kind == syscall.S_IFREG || kind == syscall.S_IFLNK
}

// Add writes one node; it is left out if it has disappeared since the walk.
func (p *Packer) Add(n *Node) error {
	header := &tar.Header{
		Name: n.Path, Mode: int64(n.Stat.Mode & 0o7777), Uid: int(n.Stat.Uid), Gid: int(n.Stat.Gid),
		ModTime: time.Unix(n.Stat.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch n.Kind() {
	case syscall.S_IFDIR:
		header.Typeflag, header.Name = tar.TypeDir, n.Path+"/"
		return p.Tar.WriteHeader(header)
	case syscall.S_IFLNK:
		target, err := Readlink(n.Dir, n.Name)
		if err != nil {
			return ignoreGone(err)
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
		return p.Tar.WriteHeader(header)
	case syscall.S_IFREG:
		return p.addFile(n, header)
	}
	return nil
}

func ignoreGone(err error) error {
	if err == syscall.ENOENT || err == syscall.EINVAL {
		return nil
	}
	return err
}

// addFile sends exactly the size that the walk saw: a file that has shrunk is padded with zeros, and one that
// has grown is cut, so that the stream stays valid and within the measured size.
func (p *Packer) addFile(n *Node, header *tar.Header) error {
	file, err := openRegular(n.Dir, n.Name)
	if err == syscall.ENOENT || err == syscall.ELOOP || err == ErrUnsafe || err == syscall.EISDIR {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	header.Typeflag, header.Size = tar.TypeReg, n.Stat.Size
	if err = p.Tar.WriteHeader(header); err != nil {
		return err
	}
	content := io.LimitReader(file, header.Size)
	written, err := io.CopyBuffer(struct{ io.Writer }{p.Tar}, struct{ io.Reader }{content}, p.buffer)
	if err != nil || written == header.Size {
		return err
	}
	_, err = io.CopyN(p.Tar, zeros{}, header.Size-written)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
