package proc

import (
	"maps"
	"testing"
)

func TestOneChildOfAWaitingParentMayRunInItsMemory(t *testing.T) {
	same := func(pid, ppid int, state byte) Process {
		return Process{Pid: pid, Ppid: ppid, State: state, VirtualBytes: 1 << 30, ResidentPages: 1000}
	}
	other := same(14, 10, 'S')
	other.ResidentPages = 999
	for name, c := range map[string]struct {
		scan []Process
		want map[int]bool
	}{
		"vfork":                    {[]Process{same(10, 1, 'D'), same(11, 10, 'R')}, map[int]bool{11: true}},
		"fork of a running parent": {[]Process{same(10, 1, 'S'), same(11, 10, 'R')}, map[int]bool{}},
		"forks beside a vfork":     {[]Process{same(10, 1, 'D'), same(11, 10, 'S'), same(12, 10, 'S'), same(13, 10, 'S')}, map[int]bool{11: true}},
		"another size":             {[]Process{same(10, 1, 'D'), other}, map[int]bool{}},
		"child listed first":       {[]Process{same(9, 10, 'R'), same(10, 1, 'D')}, map[int]bool{9: true}},
	} {
		if got := Borrowers(c.scan); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
