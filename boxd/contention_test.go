package main

import (
	"os"
	"testing"
)

func TestOnlyARunThatRanOutOfTimeSaysHowItSpentIt(t *testing.T) {
	b := startBox(t, nil)
	if seen := b.shell("exit 0")["contention"]; seen != nil {
		t.Errorf("a run that ended: %v", seen)
	}
	result := b.must(options{"shell": "sleep 300", "timeout_s": 0.3})
	expect(t, result, answer{"timed_out": true})
	seen, told := result["contention"].(map[string]any)
	if !told {
		if _, err := os.Stat("/sys/fs/cgroup/cpuacct/cpuacct.usage"); err == nil {
			t.Errorf("control groups tell what is used, and the run says nothing: %v", result)
		}
		t.Skip("no control group's use of CPUs is told here")
	}
	elapsed, _ := seen["elapsed_s"].(float64)
	if elapsed < 0.3 {
		t.Errorf("%v", seen)
	}
	for _, name := range []string{"waited_s", "box_cpu_s", "idle_s"} {
		if n, ok := seen[name].(float64); !ok || n < 0 {
			t.Errorf("%s: %v", name, seen)
		}
	}
}

func TestNoProgramTakesBackUrgencyThatItGaveUp(t *testing.T) {
	b := startBox(t, nil)
	expect(t, b.shell("ulimit -H -e; ulimit -e"), answer{"stdout": "0\n0\n"})
}
