package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// thread is what the kernel says of one thread, as far as it is asked.
type thread struct {
	pid, tid     int
	nice, policy int
	waited       time.Duration
}

// tableOf is a table over files as the kernel writes them.
func tableOf(t *testing.T, threads ...thread) *Table {
	root := t.TempDir()
	for _, each := range threads {
		dir := filepath.Join(root, fmt.Sprint(each.pid), "task", fmt.Sprint(each.tid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (a) R 1 (x)) R 1 1 1 0 -1 0 0 0 0 0 5 5 0 0 20 %d 1 0 7 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 %d 0 0 0\n",
			each.tid, each.nice, each.policy)
		os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644)
		os.WriteFile(filepath.Join(dir, "schedstat"), fmt.Appendf(nil, "1000 %d 12\n", each.waited.Nanoseconds()), 0o644)
	}
	opened, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return &Table{root: opened, self: 1, entry: make([]byte, 16<<10), text: make([]byte, 4<<10)}
}

func TestTheLongestWaitIsOfOneThreadOfTheProcessesAskedFor(t *testing.T) {
	table := tableOf(t,
		thread{pid: 40, tid: 40, waited: time.Second},
		thread{pid: 40, tid: 41, waited: 3 * time.Second},
		thread{pid: 50, tid: 50, waited: 2 * time.Second},
		thread{pid: 60, tid: 60, waited: 9 * time.Second})
	if waited, known := table.LongestWait([]Process{{Pid: 40}, {Pid: 50}, {Pid: 99}}, 0); !known || waited != 3*time.Second {
		t.Errorf("%v %v", waited, known)
	}
}

func TestThreadsThatMadeThemselvesLessUrgentWaitByTheirOwnWish(t *testing.T) {
	const schedIdle = 5
	table := tableOf(t,
		thread{pid: 40, tid: 40, nice: 5, waited: time.Second},
		thread{pid: 40, tid: 41, nice: 6, waited: 8 * time.Second},
		thread{pid: 40, tid: 42, nice: 5, policy: schedIdle, waited: 9 * time.Second})
	if waited, known := table.LongestWait([]Process{{Pid: 40}}, 5); !known || waited != time.Second {
		t.Errorf("%v %v", waited, known)
	}
	if _, known := table.LongestWait([]Process{{Pid: 40}}, 0); known {
		t.Error("a wait is known of no thread that counts")
	}
}

func TestAKernelThatTellsNoWaitsGivesNone(t *testing.T) {
	table := tableOf(t, thread{pid: 40, tid: 40, waited: time.Second})
	os.Remove(filepath.Join(table.root.Name(), "40/task/40/schedstat"))
	if _, known := table.LongestWait([]Process{{Pid: 40}}, 0); known {
		t.Error("known")
	}
}
