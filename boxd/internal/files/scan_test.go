package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestScanSeesAllNamesOfAWideDirectory(t *testing.T) {
	root := t.TempDir()
	for i := range 3*scanNames + 7 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("/", filepath.Join(root, "link"))
	seen := 0
	if err := (Policy{}).Scan(root, func(*syscall.Stat_t) { seen++ }); err != nil || seen != 1+3*scanNames+7+1 {
		t.Errorf("%d names, %v", seen, err)
	}
}

func TestScanTellsThatATreeIsTooDeep(t *testing.T) {
	deep := func(levels int) string {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, strings.Repeat("d/", levels)), 0o700); err != nil {
			t.Fatal(err)
		}
		return root
	}
	nothing := func(*syscall.Stat_t) {}
	if err := (Policy{}).Scan(deep(maxDepth), nothing); err != nil {
		t.Errorf("a tree as deep as allowed: %v", err)
	}
	if err := (Policy{}).Scan(deep(maxDepth+1), nothing); err != ErrUnsafe {
		t.Errorf("a deeper one: %v", err)
	}
}

func TestWhatIsRemovedDuringAScanOrWalkIsNoError(t *testing.T) {
	make := func() string {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o700); err != nil {
			t.Fatal(err)
		}
		return root
	}
	root := make()
	if err := (Policy{}).Scan(root, func(*syscall.Stat_t) { os.RemoveAll(filepath.Join(root, "a")) }); err != nil {
		t.Errorf("scan: %v", err)
	}
	root = make()
	remove := func(n *Node) (bool, error) {
		if n.Name == "c" {
			os.RemoveAll(filepath.Join(root, "a"))
		}
		return true, nil
	}
	if err := (Policy{}).Walk(root, remove); err != nil {
		t.Errorf("walk: %v", err)
	}
}
