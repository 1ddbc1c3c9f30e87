package files

import (
	"errors"
	"os"
	"sort"
	"strings"
	"syscall"
)

// Node is one name found by a walk. Dir stays open only during the visit.
type Node struct {
	Path string // relative to "/", without a leading slash
	Dir  int
	Name string
	Stat syscall.Stat_t
}

// Kind is the S_IFMT part of the mode.
func (n *Node) Kind() uint32 { return n.Stat.Mode & syscall.S_IFMT }

// Visitor is called for each node, a directory before its entries. If descend is false, its entries are skipped.
type Visitor func(*Node) (descend bool, err error)

// Walk visits a checked path and everything below it, names in byte order, following no link below it.
func (p Policy) Walk(path string, visit Visitor) error {
	dir, name, err := p.Parent(path, false, nil)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	return walkNode(&Node{Path: strings.TrimPrefix(path, "/"), Dir: dir, Name: name}, visit, 0)
}

func walkNode(node *Node, visit Visitor, depth int) error {
	if err := Lstat(node.Dir, node.Name, &node.Stat); err != nil {
		if depth > 0 && err == syscall.ENOENT {
			return nil // it disappeared meanwhile
		}
		return err
	}
	if depth > maxDepth {
		return ErrUnsafe
	}
	descend, err := visit(node)
	if err != nil || !descend || node.Kind() != syscall.S_IFDIR {
		return err
	}
	fd, err := syscall.Openat(node.Dir, node.Name, openDirFlags, 0)
	if err != nil {
		return nil // gone or not readable for boxd: the visit has recorded the directory itself
	}
	folder := os.NewFile(uintptr(fd), node.Name)
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil && !errors.Is(err, syscall.ENOENT) { // a directory that was removed meanwhile has no entries
		return err
	}
	sort.Strings(names)
	for _, name := range names {
		child := &Node{Path: name, Dir: fd, Name: name}
		if node.Path != "" {
			child.Path = node.Path + "/" + name
		}
		if err = walkNode(child, visit, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// ComparePaths orders paths as Walk visits them: by components, so that a directory's entries follow it immediately.
func ComparePaths(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}
