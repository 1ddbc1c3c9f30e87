package contention

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"envfarm.dev/boxd/internal/proc"
)

func groups(t *testing.T, file, text string) string {
	dir := t.TempDir() + "/"
	write(t, dir+file, text)
	return dir
}

func write(t *testing.T, path, text string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheBoxsCPUTimeIsThatOfItsGroup(t *testing.T) {
	for name, file := range map[string][3]string{
		"version 1": {nanosecondsFile, "4000000000\n", "6500000000\n"},
		"version 2": {statisticsFile, "usage_usec 4000000\nuser_usec 1\n", "usage_usec 6500000\nuser_usec 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := groups(t, file[0], file[1])
			witness := Open(dir)
			begun := witness.Begin()
			write(t, dir+file[0], file[2])
			table, err := proc.Open()
			if err != nil {
				t.Fatal(err)
			}
			seen := witness.End(begun, table, []proc.Process{{Pid: os.Getpid()}})
			if seen == nil {
				t.Skip("this kernel does not say how long threads wait")
			}
			if seen.BoxCPUS != 2.5 || seen.ElapsedS <= 0 || seen.IdleS < 0 {
				t.Errorf("%+v", seen)
			}
		})
	}
}

func TestWithoutAGroupNothingIsSeen(t *testing.T) {
	for name, dir := range map[string]string{
		"none":     t.TempDir() + "/",
		"nonsense": groups(t, nanosecondsFile, "many\n"),
		"no usage": groups(t, statisticsFile, "nr_periods 3\n"),
	} {
		witness := Open(dir)
		table, _ := proc.Open()
		if seen := witness.End(witness.Begin(), table, []proc.Process{{Pid: os.Getpid()}}); seen != nil {
			t.Errorf("%s: %+v", name, seen)
		}
	}
}

func TestTheMachinesIdleTimeIsAnAverageOfItsCPUs(t *testing.T) {
	dir := t.TempDir() + "/"
	write(t, dir+"stat", "cpu  10 0 10 300 100 0 0 0 0 0\ncpu0 5 0 5 150 50 0 0 0 0 0\ncpu1 5 0 5 150 50 0 0 0 0 0\nintr 5 0\n")
	witness := &Witness{processors: open(dir + "stat"), count: 2}
	if idle, known := witness.idle(); !known || idle != 2*time.Second {
		t.Errorf("%v %v", idle, known)
	}
	write(t, dir+"stat", "cpu  0 0 0 0 0 0 0 0 0 0\n") // of some sandbox kernels
	if _, known := witness.idle(); known {
		t.Error("a kernel that counts nothing is believed")
	}
}
