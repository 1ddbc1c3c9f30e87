package contention

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"envfarm.dev/boxd/internal/affinity"
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

// watching is a witness of a machine with this /proc/stat, for a box on these CPUs.
func watching(t *testing.T, text string, cores ...int) *Witness {
	path := t.TempDir() + "/stat"
	write(t, path, text)
	witness := &Witness{processors: open(path)}
	witness.watch(cores)
	return witness
}

func TestIdleTimeIsAnAverageOfTheCPUsThatTheBoxWasGiven(t *testing.T) {
	const stat = `cpu  40 0 40 10400 200 0 0 0 0 0
cpu0 5 0 5 5000 50 0 0 0 0 0
cpu1 5 0 5 150 50 0 0 0 0 0
cpu2 5 0 5 5000 50 0 0 0 0 0
cpu10 5 0 5 250 50 0 0 0 0 0
intr 5 0
`
	if idle, known := watching(t, stat, 1, 10).idle(); !known || idle != 2500*time.Millisecond {
		t.Errorf("%v %v", idle, known)
	}
	if idle, known := watching(t, stat, 1, 3).idle(); known {
		t.Errorf("a CPU that the kernel does not tell of: %v", idle)
	}
}

func TestAKernelThatCountsNoIdleTimeIsNotBelieved(t *testing.T) {
	for name, text := range map[string]string{
		"zeros":       "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n", // of some sandbox kernels
		"no lines":    "cpu  10 0 10 300 100 0 0 0 0 0\nintr 5 0\n",
		"few numbers": "cpu  10 0 10 300\ncpu0 10 0 10 300\n",
	} {
		if idle, known := watching(t, text, 0).idle(); known {
			t.Errorf("%s: %v", name, idle)
		}
	}
	if idle, known := watching(t, "cpu0 5 0 5 150 50 0 0 0 0 0\n").idle(); known {
		t.Errorf("nobody knows which CPUs: %v", idle)
	}
}

func TestABoxOnFewCPUsIsWitnessedByThese(t *testing.T) {
	runtime.LockOSThread() // for good: the thread ends with its goroutine
	all, err := affinity.Own()
	if err != nil {
		t.Fatal(err)
	}
	cores := all.Cores()
	last := cores[len(cores)-1]
	few, _ := affinity.Of([]int{last})
	if err = few.Give(0); err != nil {
		t.Skip("this kernel pins no thread")
	}
	witness := Open(groups(t, nanosecondsFile, "1\n"))
	if len(witness.own) != 1 || !witness.own["cpu"+strconv.Itoa(last)] {
		t.Errorf("%v instead of CPU %d alone", witness.own, last)
	}
	if _, known := witness.idle(); !known {
		t.Skip("this kernel counts no idle time")
	}
}
