package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkExecTrue is one exec over a kept connection; BenchmarkBareTrue is the same program without boxd.
func BenchmarkExecTrue(b *testing.B) {
	box := startBox(b, nil)
	b.ResetTimer()
	for range b.N {
		box.must(options{"argv": []string{"/bin/true"}})
	}
	b.StopTimer()
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(box.cmd.Process.Pid) + "/status")
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS") {
			b.Log(line)
		}
	}
}

// BenchmarkShellTrue is one run of a builtin in a persistent shell.
func BenchmarkShellTrue(b *testing.B) {
	box := startBox(b, nil)
	box.newShell("s")
	b.ResetTimer()
	for range b.N {
		box.run("s", "true")
	}
}

func BenchmarkBareTrue(b *testing.B) {
	for range b.N {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
