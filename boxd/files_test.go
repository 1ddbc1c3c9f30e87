package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func link(name, target string, kind byte) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}, ""}
}

func pack(entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := range entries {
		if err := w.WriteHeader(&entries[i].Header); err != nil {
			panic(err)
		}
		io.WriteString(w, entries[i].content)
	}
	w.Close()
	return out.Bytes()
}

func (b *box) put(archive []byte, dest, more string) int {
	b.t.Helper()
	status, _ := b.send("PUT", "/v1/archive?dest="+url.QueryEscape(dest)+more, bytes.NewReader(archive))
	return status
}

func unpack(t testing.TB, archive []byte) map[string]entry {
	t.Helper()
	found := map[string]entry{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		found[header.Name] = entry{*header, string(content)}
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	b := startBox(t, options{"umask": 0o77})
	when := time.Unix(1_500_000_000, 123_000_000)
	folder := entry{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o555, ModTime: when, Format: tar.FormatPAX}, ""}
	script := file("d/run", "#!/bin/sh\n")
	script.Mode, script.ModTime, script.Format = 0o4755, when, tar.FormatPAX
	archive := pack(folder, script, link("d/up", "../../anywhere", tar.TypeSymlink), link("d/hard", "d/run", tar.TypeLink), file("./deep/er/x", "x"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(archive)
	z.Close()
	for i, form := range [][]byte{archive, zipped.Bytes()} {
		dest := b.path([]string{"plain", "zipped"}[i]) + "/new"
		if status := b.put(form, dest, ""); status != 200 {
			t.Fatalf("put: %d", status)
		}
		info, _ := os.Stat(dest + "/d/run")
		if info.Mode() != 0o755 || !info.ModTime().Equal(when) {
			t.Errorf("mode %v, time %v: setuid must go, the rest must stay", info.Mode(), info.ModTime())
		}
		if info, _ = os.Stat(dest + "/d"); info.Mode().Perm() != 0o555 || !info.ModTime().Equal(when) {
			t.Errorf("directory: %v %v", info.Mode(), info.ModTime())
		}
	}
	status, got := b.send("GET", "/v1/archive?path="+b.path("plain")+"&path="+b.path("zipped/new/deep"), nil)
	found := unpack(t, got)
	at := strings.TrimPrefix(b.path("plain/new/"), "/") + "/"
	if status != 200 || found[at+"d/hard"].content != "#!/bin/sh\n" || found[at+"d/up"].Linkname != "../../anywhere" || !found[at+"d/"].ModTime.Equal(when) {
		t.Errorf("%d %v", status, found)
	}
	status, problem := b.call("GET", "/v1/archive?path="+b.dir+"&path=/no/such", nil)
	if status != 404 || problem["error"] != "not_found" {
		t.Errorf("missing path: %d %v", status, problem)
	}
	if status, _ = b.call("GET", "/v1/archive?max_bytes=5&path="+b.dir, nil); status != 413 {
		t.Errorf("max_bytes: %d", status)
	}
	os.Chmod(b.path("plain/new/d"), 0o755)
	os.Chmod(b.path("zipped/new/d"), 0o755)
}

func TestArchiveAttacksDoNotLeaveTheDestination(t *testing.T) {
	b := startBox(t, nil)
	outside := t.TempDir()
	os.WriteFile(outside+"/victim", []byte("safe"), 0o600)
	device := entry{tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}
	big := entry{tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 5000}, strings.Repeat("x", 5000)}
	for name, attack := range map[string]struct {
		archive []byte
		status  int
	}{
		"up":             {pack(file("../escaped", "x")), 422},
		"up inside":      {pack(file("a/../../escaped", "x")), 422},
		"absolute":       {pack(file(outside+"/escaped", "x")), 422},
		"link then file": {pack(link("l", outside, tar.TypeSymlink), file("l/escaped", "x")), 422},
		"link chain":     {pack(link("a", "b", tar.TypeSymlink), link("b", outside, tar.TypeSymlink), file("a/escaped", "x")), 422},
		"link as folder": {pack(link("l", outside, tar.TypeSymlink), entry{tar.Header{Name: "l/", Typeflag: tar.TypeDir, Mode: 0o700}, ""}), 422},
		"hard outside":   {pack(link("h", outside+"/victim", tar.TypeLink), file("h", "x")), 422},
		"hard up":        {pack(link("h", "../victim", tar.TypeLink)), 422},
		"hard by link":   {pack(link("l", outside, tar.TypeSymlink), link("h", "l/victim", tar.TypeLink)), 422},
		"hard to link":   {pack(link("l", outside+"/victim", tar.TypeSymlink), link("h", "l", tar.TypeLink)), 422},
		"device":         {pack(device), 422},
		"fifo":           {pack(entry{tar.Header{Name: "p", Typeflag: tar.TypeFifo}, ""}), 422},
		"bomb":           {pack(big), 413},
		"torn":           {pack(big)[:3000], 413},
		"garbage":        {bytes.Repeat([]byte("garbage!"), 200), 400},
		"replaced link":  {pack(link("v", outside+"/victim", tar.TypeSymlink), file("v", "harmless")), 200},
	} {
		dest := b.path(strings.ReplaceAll(name, " ", "-"))
		if status := b.put(attack.archive, dest, "&max_bytes=4000"); status != attack.status {
			t.Errorf("%s: status %d, want %d", name, status, attack.status)
		}
	}
	names, _ := os.ReadDir(outside)
	data, _ := os.ReadFile(outside + "/victim")
	if len(names) != 1 || string(data) != "safe" {
		t.Errorf("something got out: %v %q", names, data)
	}
	if _, err := os.Lstat(b.path("escaped")); err == nil {
		t.Error("an entry landed beside the destination")
	}
}

func TestGzipBombIsStopped(t *testing.T) {
	b := startBox(t, nil)
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	w := tar.NewWriter(z)
	w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 64 << 20})
	io.CopyN(w, zeroReader{}, 64<<20)
	w.Close()
	z.Close()
	if status := b.put(zipped.Bytes(), b.path("d"), "&max_bytes=1000000"); status != 413 {
		t.Errorf("status %d", status)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFiles(t *testing.T) {
	b := startBox(t, nil)
	path := b.path("a/b/f")
	put := func(query, content string) (int, []byte) {
		return b.send("PUT", "/v1/file?path="+query, strings.NewReader(content))
	}
	if status, _ := put(path, "x"); status != 404 {
		t.Errorf("no parents: %d", status)
	}
	if status, _ := put(path+"&parents=1&mode=640", "hello\x00world"); status != 200 {
		t.Errorf("put: %d", status)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	put(path, "hello\x00again")
	if info, _ := os.Stat(path); info.Mode() != 0o640 {
		t.Errorf("the mode of the file that was there is kept, but is %v", info.Mode())
	}
	if status, data := b.send("GET", "/v1/file?path="+path+"&offset=6&limit=3", nil); status != 200 || string(data) != "aga" {
		t.Errorf("%d %q", status, data)
	}
	for query, want := range map[string]int{b.dir: 422, b.path("none"): 404, "relative": 400, b.dir + "/../x": 400} {
		if status, _ := b.send("GET", "/v1/file?path="+query, nil); status != want {
			t.Errorf("GET %s: %d, want %d", query, status, want)
		}
	}
	syscall.Mkfifo(b.path("fifo"), 0o600)
	if status, _ := b.send("GET", "/v1/file?path="+b.path("fifo"), nil); status != 422 {
		t.Errorf("fifo: %d", status)
	}
	os.WriteFile(b.path("target"), []byte("old"), 0o600)
	os.Symlink(b.path("target"), b.path("l"))
	put(b.path("l"), "new")
	if data, _ := os.ReadFile(b.path("target")); string(data) != "old" {
		t.Error("a put went through a link")
	}
	if status, _ := put(b.path("big")+"&max_bytes=3", "1234"); status != 413 {
		t.Errorf("max_bytes: %d", status)
	}
	if names, _ := filepath.Glob(b.path(".boxd-*")); names != nil {
		t.Errorf("left behind: %v", names)
	}
}

func TestAgentCannotTrickRootThroughLinks(t *testing.T) {
	needRoot(t)
	b := startBox(t, options{"agent_uid": 12345})
	outside := t.TempDir()
	os.WriteFile(outside+"/secret", []byte("secret"), 0o600)
	os.Mkdir(b.path("w"), 0o755)
	os.Symlink(outside, b.path("w/d"))
	os.Symlink(outside+"/secret", b.path("w/f"))
	for _, name := range []string{"w", "w/d", "w/f"} {
		os.Lchown(b.path(name), 12345, 12345)
	}
	for _, request := range [][2]string{
		{"PUT", "/v1/file?path=" + b.path("w/d/evil")}, {"PUT", "/v1/archive?dest=" + b.path("w/d")}, {"GET", "/v1/file?path=" + b.path("w/f")},
		{"GET", "/v1/file?path=" + b.path("w/d/secret")}, {"GET", "/v1/archive?path=" + b.path("w/d/secret")},
	} {
		status, data := b.send(request[0], request[1], bytes.NewReader(pack(file("evil", "x"))))
		if status != 422 || bytes.Contains(data, []byte("secret\"")) {
			t.Errorf("%v: %d %s", request, status, data)
		}
	}
	if names, _ := os.ReadDir(outside); len(names) != 1 {
		t.Errorf("%v", names)
	}
	os.Symlink(b.path("w"), b.path("trusted"))
	if status, _ := b.send("PUT", "/v1/file?path="+b.path("trusted/fine"), strings.NewReader("x")); status != 200 {
		t.Errorf("a link of root: %d", status)
	}
	info, _ := os.Stat(b.path("w/fine"))
	if info.Sys().(*syscall.Stat_t).Uid != 12345 {
		t.Error("a file that is put belongs to the agent")
	}
	expect(t, b.shell("cat "+b.path("w/fine")), answer{"stdout": "x"})
}
