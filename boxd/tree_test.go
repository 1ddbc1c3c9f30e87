package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"envfarm.dev/boxd/internal/tree"
)

// mutate makes one random change below a directory.
func mutate(r *rand.Rand, top string) {
	var dirs, all []string
	filepath.Walk(top, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != top {
			all = append(all, path)
		}
		if err == nil && info.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	name := filepath.Join(dirs[r.Intn(len(dirs))], fmt.Sprintf("n%d", r.Intn(6)))
	switch r.Intn(8) {
	case 0, 1, 2:
		os.WriteFile(name, []byte(strings.Repeat("c", r.Intn(2000))), os.FileMode(0o600+r.Intn(0o100)))
	case 3:
		os.Mkdir(name, 0o755)
	case 4:
		os.Symlink(fmt.Sprintf("t%d", r.Intn(9)), name)
	case 5:
		if len(all) > 0 {
			os.RemoveAll(all[r.Intn(len(all))])
		}
	case 6:
		if len(all) > 0 {
			os.Chmod(all[r.Intn(len(all))], os.FileMode(0o700+r.Intn(0o100)))
		}
	case 7:
		if len(all) > 0 {
			os.Rename(all[r.Intn(len(all))], name)
		}
	}
}

// snapshot describes a tree: types, modes, contents, and the times of files.
func snapshot(top string) string {
	var lines []string
	filepath.Walk(top, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == top {
			return nil
		}
		line := strings.TrimPrefix(path, top) + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, _ := os.ReadFile(path)
			line += fmt.Sprintf(" %q %d", data, info.ModTime().UnixNano())
		case info.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestDiffAndRestoreMakeTheSameTree(t *testing.T) {
	b := startBox(t, nil)
	top, kept := b.path("top"), b.path("kept")
	for seed := range int64(25) {
		r := rand.New(rand.NewSource(seed))
		os.RemoveAll(top)
		os.RemoveAll(kept)
		os.Mkdir(top, 0o755)
		for range 25 {
			mutate(r, top)
		}
		b.shell("cp -a " + top + " " + kept)
		if status, _ := b.call("POST", "/v1/baseline", options{"roots": []string{top}}); status != 200 {
			t.Fatal(status)
		}
		for range r.Intn(25) {
			mutate(r, top)
		}
		want := snapshot(top)
		status, diff := b.send("GET", "/v1/diff", nil)
		if status != 200 {
			t.Fatalf("seed %d: diff: %d %s", seed, status, diff)
		}
		if _, again := b.send("GET", "/v1/diff", nil); !bytes.Equal(diff, again) {
			t.Errorf("seed %d: two diffs of one tree differ", seed)
		}
		b.shell("rm -rf " + top + "; cp -a " + kept + " " + top)
		if status, data := b.send("POST", "/v1/restore", bytes.NewReader(diff)); status != 200 {
			t.Fatalf("seed %d: restore: %d %s", seed, status, data)
		}
		if got := snapshot(top); got != want {
			t.Fatalf("seed %d:\n%s\n-- want --\n%s", seed, got, want)
		}
	}
}

func manifestOf(t *testing.T, diff []byte) tree.Manifest {
	t.Helper()
	var manifest tree.Manifest
	if err := json.Unmarshal([]byte(unpack(t, diff)[tree.ManifestName].content), &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest
}

func TestDiffNamesWhatChanged(t *testing.T) {
	b := startBox(t, nil)
	top := b.path("top")
	b.shell("mkdir -p top/skip top/dir && cd top && echo a > same && echo b > edited && echo c > removed && echo d > skip/x && echo e > dir/x")
	if status, problem := b.call("GET", "/v1/diff", nil); status != 409 || problem["error"] != "no_baseline" {
		t.Errorf("%d %v", status, problem)
	}
	b.call("POST", "/v1/baseline", options{"roots": []string{top, top + "/dir"}, "exclude": []string{top + "/skip"}})
	// The edit keeps size and mtime: only the ctime tells.
	b.shell("cd top && touch -r edited ref && echo B > edited && touch -r ref edited && rm ref removed && echo n > new && mkdir empty && mkfifo pipe && echo z > skip/y && rm -r dir && echo f > dir")
	_, diff := b.send("GET", "/v1/diff", nil)
	m := manifestOf(t, diff)
	at := strings.TrimPrefix(top, "/") + "/"
	for got, want := range map[*[]string]string{&m.Deleted: "dir/x removed", &m.Changed: "dir edited", &m.Added: "empty new", &m.Special: "pipe"} {
		if text := strings.ReplaceAll(strings.Join(*got, " "), at, ""); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	if !bytes.HasPrefix(diff, []byte(tree.ManifestName)) && !bytes.Contains(diff[:1024], []byte(tree.ManifestName)) {
		t.Error("the manifest is not the first entry")
	}
	if status, _ := b.call("GET", "/v1/diff?max_bytes=3", nil); status != 413 {
		t.Errorf("max_bytes: %d", status)
	}
}

func TestRestoreDoesNotFollowLinks(t *testing.T) {
	b := startBox(t, nil)
	outside := t.TempDir()
	os.WriteFile(outside+"/victim", []byte("safe"), 0o600)
	os.Symlink(outside, b.path("l"))
	at := strings.TrimPrefix(b.dir, "/") + "/"
	for _, manifest := range []string{`{"deleted":["` + at + `l/victim"]}`, `{"deleted":["../x"]}`, `{"deleted":["/etc/x"]}`, `{}`, `not json`} {
		status, _ := b.send("POST", "/v1/restore", bytes.NewReader(pack(file(tree.ManifestName, manifest), file(at+"l/evil", "x"))))
		if status == 200 {
			t.Errorf("%s was accepted", manifest)
		}
	}
	if status, _ := b.send("POST", "/v1/restore", bytes.NewReader(pack(file("x", "y")))); status != 400 {
		t.Errorf("without a manifest: %d", status)
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("%v", names)
	}
	syscall.Unlink(b.path("l"))
}

func TestADiffOfVeryLongPathsIsRefused(t *testing.T) {
	b := startBox(t, nil)
	b.call("POST", "/v1/baseline", options{"roots": []string{b.dir}})
	long := b.path(strings.Repeat(strings.Repeat("d", 250)+"/", 14))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(long, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, problem := b.call("GET", "/v1/diff", nil)
	if status != 413 || problem["error"] != "too_large" {
		t.Errorf("%d %v", status, problem)
	}
	os.RemoveAll(b.path(strings.Repeat("d", 250)))
	if status, _ := b.send("GET", "/v1/diff", nil); status != 200 {
		t.Errorf("%d for a small difference", status)
	}
}
