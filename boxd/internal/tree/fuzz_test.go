package tree

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"envfarm.dev/boxd/internal/files"
)

// archive makes a tar stream of names and link targets that a fuzzer chooses.
func archive(entries ...tar.Header) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := range entries {
		if entries[i].Typeflag == tar.TypeReg {
			entries[i].Size = 1
		}
		if w.WriteHeader(&entries[i]) == nil && entries[i].Typeflag == tar.TypeReg {
			w.Write([]byte("x"))
		}
	}
	w.Close()
	return out.Bytes()
}

// arena is a directory with a neighbour that nothing may touch.
func arena(t *testing.T) (inside int, check func()) {
	top := t.TempDir()
	os.MkdirAll(top+"/in/sub", 0o755)
	os.Mkdir(top+"/out", 0o755)
	os.WriteFile(top+"/out/victim", []byte("safe"), 0o644)
	os.Symlink("../out", top+"/in/link")
	os.Symlink("../../out/victim", top+"/in/sub/file")
	fd, err := syscall.Open(top+"/in", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd, func() {
		syscall.Close(fd)
		data, _ := os.ReadFile(top + "/out/victim")
		info, _ := os.Lstat(top + "/out/victim")
		names, _ := filepath.Glob(top + "/out/*")
		above, _ := filepath.Glob(top + "/*")
		if string(data) != "safe" || len(names) != 1 || len(above) != 2 || info.Mode() != 0o644 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
			t.Fatalf("something got out: %q %v %v", data, names, above)
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add("link/x", "link", byte(tar.TypeReg), "a", "b", byte(tar.TypeSymlink))
	f.Add("a", "../out", byte(tar.TypeSymlink), "a/x", "link/victim", byte(tar.TypeLink))
	f.Add("sub", "..", byte(tar.TypeDir), "sub/../../out", "sub/file", byte(tar.TypeLink))
	f.Fuzz(func(t *testing.T, name1, target1 string, kind1 byte, name2, target2 string, kind2 byte) {
		inside, check := arena(t)
		defer check()
		stream := archive(tar.Header{Name: name1, Linkname: target1, Typeflag: kind1, Mode: 0o700},
			tar.Header{Name: name2, Linkname: target2, Typeflag: kind2, Mode: 0o700},
			tar.Header{Name: name2 + "/" + name1, Linkname: target1, Typeflag: tar.TypeReg, Mode: 0o700})
		reader, err := files.NewTarReader(bytes.NewReader(stream), 1<<20)
		if err != nil {
			return
		}
		extractor := &files.Extractor{MaxBytes: 1 << 20, Replace: kind1%2 == 0}
		extractor.Open(inside)
		extractor.Extract(reader)
	})
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"deleted":["link/victim","sub/file"]}`), "link/x", "y", byte(tar.TypeReg))
	f.Add([]byte(`{"deleted":["../out/victim","sub"]}`), "sub", "../out", byte(tar.TypeSymlink))
	f.Fuzz(func(t *testing.T, manifest []byte, name, target string, kind byte) {
		inside, check := arena(t)
		defer check()
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		w.WriteHeader(&tar.Header{Name: ManifestName, Typeflag: tar.TypeReg, Size: int64(len(manifest))})
		w.Write(manifest)
		w.Flush()
		out.Write(archive(tar.Header{Name: name, Linkname: target, Typeflag: kind, Mode: 0o755}))
		Restore(inside, &out, 1<<20, false)
	})
}
