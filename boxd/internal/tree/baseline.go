// Package tree records the state of the box's files, finds what has changed, and applies changes to another box.
package tree

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/files"
)

// Baseline is a packed snapshot of a tree: each path as the length shared with the one before and the rest, then eight
// bytes of a keyed hash of its metadata. 100,000 files take about 3 MB.
//
// Contents are not read: every change of a file sets its ctime, which no program can set back.
type Baseline struct {
	roots   []string
	exclude []string
	packed  []byte
	seed    maphash.Seed
	policy  files.Policy
	Count   int
}

// alwaysExcluded has only paths that programs of the box do not create.
var alwaysExcluded = []string{"/proc", "/sys", "/dev"}

// settleTime is longer than a tick of the clock for ctimes, so that whatever changes after the baseline
// has another ctime than before.
const settleTime = 20 * time.Millisecond

// Take walks the roots. Paths must have been checked.
func Take(roots, exclude []string, policy files.Policy) (*Baseline, error) {
	b := &Baseline{roots: outermost(roots), exclude: exclude, seed: maphash.MakeSeed(), policy: policy}
	last := ""
	err := b.walk(func(n *files.Node) error {
		shared := 0
		for shared < len(last) && shared < len(n.Path) && last[shared] == n.Path[shared] {
			shared++
		}
		b.packed = binary.AppendUvarint(b.packed, uint64(shared))
		b.packed = binary.AppendUvarint(b.packed, uint64(len(n.Path)-shared))
		b.packed = append(b.packed, n.Path[shared:]...)
		b.packed = binary.LittleEndian.AppendUint64(b.packed, b.digest(&n.Stat))
		b.Count++
		last = n.Path
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.packed = append([]byte(nil), b.packed...)
	time.Sleep(settleTime)
	return b, nil
}

// outermost sorts the roots in walk order, and drops those inside another root.
func outermost(roots []string) []string {
	var kept []string
	for _, root := range roots {
		inside := false
		for _, other := range roots {
			if root != other && within(root, other) {
				inside = true
			}
		}
		for _, other := range kept {
			inside = inside || other == root
		}
		if !inside {
			kept = append(kept, root)
		}
	}
	for i := range kept {
		for j := i; j > 0 && files.ComparePaths(kept[j], kept[j-1]) < 0; j-- {
			kept[j], kept[j-1] = kept[j-1], kept[j]
		}
	}
	return kept
}

// within returns whether a checked path is the folder or inside it.
func within(path, folder string) bool {
	return folder == "/" || path == folder || strings.HasPrefix(path, folder+"/")
}

// walk visits everything that is not excluded, in a fixed order. A missing root is treated as empty.
func (b *Baseline) walk(visit func(*files.Node) error) error {
	for _, root := range b.roots {
		err := b.policy.Walk(root, func(n *files.Node) (bool, error) {
			if b.excluded("/" + n.Path) {
				return false, nil
			}
			if n.Path == "" {
				return true, nil
			}
			if err := visit(n); err != nil {
				return false, err
			}
			return !isPseudo(n), nil
		})
		if err != nil && err != syscall.ENOENT {
			return err
		}
	}
	return nil
}

func (b *Baseline) excluded(path string) bool {
	for _, prefix := range b.exclude {
		if within(path, prefix) {
			return true
		}
	}
	for _, prefix := range alwaysExcluded {
		if within(path, prefix) {
			return true
		}
	}
	return false
}

// isPseudo recognizes the kernel's own file systems wherever they are mounted.
func isPseudo(n *files.Node) bool {
	if n.Kind() != syscall.S_IFDIR || n.Stat.Dev>>8&0xfff != 0 { // they have no device, so their major number is 0
		return false
	}
	var dir, parent syscall.Stat_t
	if files.Lstat(n.Dir, n.Name, &dir) != nil || files.Lstat(n.Dir, ".", &parent) != nil || dir.Dev == parent.Dev {
		return false
	}
	fd, err := syscall.Openat(n.Dir, n.Name, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer syscall.Close(fd)
	var where syscall.Statfs_t
	if syscall.Fstatfs(fd, &where) != nil {
		return true
	}
	switch uint32(where.Type) {
	case 0x9fa0, 0x62656572, 0x63677270, 0x27e0eb, 0x1cd1, 0x19800202, 0x64626720, 0x73636673, 0xcafe4a11, 0x74726163:
		return true // proc, sysfs, cgroup2, cgroup, devpts, mqueue, debugfs, securityfs, bpf, tracefs
	}
	return false
}

// digest covers what a change of the node itself changes. Changes inside a directory show in its entries.
func (b *Baseline) digest(s *syscall.Stat_t) uint64 {
	var text [72]byte
	put := binary.LittleEndian.PutUint64
	put(text[0:], uint64(s.Mode))
	put(text[8:], uint64(s.Uid)<<32|uint64(s.Gid))
	if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		put(text[16:], uint64(s.Size))
		put(text[24:], s.Ino)
		put(text[32:], uint64(s.Mtim.Sec))
		put(text[40:], uint64(s.Mtim.Nsec))
		put(text[48:], uint64(s.Ctim.Sec))
		put(text[56:], uint64(s.Ctim.Nsec))
		put(text[64:], uint64(s.Rdev))
	}
	return maphash.Bytes(b.seed, text[:])
}

// reader unpacks a baseline in order.
type reader struct {
	rest   []byte
	path   string
	digest uint64
}

// next returns false at the end.
func (r *reader) next() bool {
	if len(r.rest) == 0 {
		return false
	}
	shared, n := binary.Uvarint(r.rest)
	r.rest = r.rest[n:]
	length, n := binary.Uvarint(r.rest)
	r.rest = r.rest[n:]
	r.path = r.path[:shared] + string(r.rest[:length])
	r.digest = binary.LittleEndian.Uint64(r.rest[length:])
	r.rest = r.rest[length+8:]
	return true
}
