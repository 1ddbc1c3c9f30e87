package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// ramDisk mounts a file system of its own; empty is what it uses without files.
func ramDisk(t *testing.T, mountOptions string) (path string, empty syscall.Statfs_t) {
	t.Helper()
	needRoot(t)
	path = t.TempDir()
	if err := syscall.Mount("none", path, "tmpfs", 0, mountOptions); err != nil {
		t.Skip("needs to mount: run as root of a machine")
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
	os.Chmod(path, 0o777)
	syscall.Statfs(path, &empty)
	return path, empty
}

// sharedBox is a box whose agent, another uid, may write to one directory of a file system that others use, too.
func sharedBox(t *testing.T, limits options) (b *box, own, other string) {
	t.Helper()
	disk, _ := ramDisk(t, "size=256m,nr_inodes=100000")
	own, other = disk+"/own", disk+"/other"
	for _, folder := range []string{own, other} {
		if err := os.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(folder, 0o777)
	}
	b = startBox(t, options{"limits": limits, "shared_disk": own, "work_dir": own, "agent_uid": 4321, "watchdog_ms": 10})
	expect(t, b.must(options{"shell": "echo begun; sleep 0.3"}), answer{"stdout": "begun\n"})
	return b, own, other
}

func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		t.Skip("needs /usr/bin/python3, which any user can start")
	}
	return path
}

// hold writes to files that have no name any more, and waits; `first` comes before it.
func hold(t *testing.T, mebibytes int, first string) []string {
	program := `
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
def run():
    ` + first + `
    held = []
    for i in range(` + strconv.Itoa(mebibytes) + `):
        held.append(os.open(f"f{i}", os.O_CREAT | os.O_RDWR))
        os.unlink(f"f{i}")
        os.write(held[-1], bytes(1 << 20))
        time.sleep(0.005)
    time.sleep(1)
    print("held", flush=True)
thread = threading.Thread(target=run)
thread.start()
thread.join()
`
	return []string{python(t), "-I", "-c", program}
}

func TestWatchdogHoldsTheDisk(t *testing.T) {
	needRoot(t)
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("needs to mount: run as root of a machine")
	}
	defer syscall.Unmount(disk, 0)
	b := startBox(t, options{"limits": options{"disk_bytes": 8 << 20}, "disk_paths": []string{disk}, "watchdog_ms": 10})
	expect(t, b.must(options{"shell": "head -c 20000000 /dev/zero > " + disk + "/f; sleep 300", "timeout_s": 30}), answer{"limit_hit": "disk"})
}

// A container's file system is its host's: what counts is what the agent wrote there, and neither the image nor a neighbour.
func TestWatchdogHoldsTheAgentsPartOfASharedDisk(t *testing.T) {
	needRoot(t)
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=128m"); err != nil {
		t.Skip("needs to mount: run as root of a machine")
	}
	defer syscall.Unmount(disk, 0)
	own, other := disk+"/own", disk+"/other"
	for _, folder := range []string{own, other} {
		if err := os.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(own+"/image", make([]byte, 20<<20), 0o666)
	b := startBox(t, options{"limits": options{"disk_bytes": 8 << 20}, "shared_disk": own, "watchdog_ms": 10})
	expect(t, b.must(options{"shell": "echo begun; sleep 0.3"}), answer{"stdout": "begun\n"})
	os.WriteFile(other+"/neighbour", make([]byte, 20<<20), 0o666)
	expect(t, b.must(options{"shell": "head -c 1000000 /dev/zero > " + own + "/a; sleep 0.3; echo on"}), answer{"stdout": "on\n"})
	fill := "for i in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > " + own + "/f$i; done; sleep 300"
	expect(t, b.must(options{"shell": fill, "timeout_s": 30}), answer{"limit_hit": "disk"})
}

func TestFilesWithoutANameCountAgainstASharedDisk(t *testing.T) {
	b, _, _ := sharedBox(t, options{"disk_bytes": 16 << 20})
	const ownDescriptors = "libc.unshare(0x400)" // the thread's; those of its process are others
	for _, first := range []string{"pass", ownDescriptors} {
		expect(t, b.must(options{"argv": hold(t, 10, first), "timeout_s": 30}), answer{"stdout": "held\n", "limit_hit": ""})
		expect(t, b.must(options{"argv": hold(t, 60, first), "timeout_s": 30}), answer{"limit_hit": "disk"})
	}
}

// A process can keep others, boxd too, from looking at what it has open; then what the file system has grown is the box's.
func TestWhatHidesItsFilesIsChargedForTheGrowth(t *testing.T) {
	b, _, other := sharedBox(t, options{"disk_bytes": 16 << 20})
	const hide = "libc.prctl(4, 0, 0, 0, 0)"
	expect(t, b.must(options{"argv": hold(t, 10, hide), "timeout_s": 30}), answer{"stdout": "held\n", "limit_hit": ""})
	os.WriteFile(other+"/neighbour", make([]byte, 40<<20), 0o666)
	expect(t, b.must(options{"argv": hold(t, 10, "pass"), "timeout_s": 30}), answer{"stdout": "held\n", "limit_hit": ""})
	expect(t, b.must(options{"argv": hold(t, 60, hide), "timeout_s": 30}), answer{"limit_hit": "disk"})
}

func TestInodesHaveALimit(t *testing.T) {
	make := "mkdir many; i=0; while [ $i -lt %d ]; do i=$((i+1)); %s; done; sleep 0.2; echo end"
	for name, one := range map[string]string{"files": ": >many/$i", "directories": "mkdir many/$i", "names of one file": "ln f many/$i"} {
		t.Run(name, func(t *testing.T) {
			b, own, other := sharedBox(t, options{"disk_inodes": 500})
			for i := range 600 {
				os.WriteFile(other+"/neighbour"+strconv.Itoa(i), nil, 0o666)
			}
			within := ": >f; " + fmt.Sprintf(make, 300, one)
			expect(t, b.must(options{"shell": within, "timeout_s": 60}), answer{"stdout": "end\n", "limit_hit": ""})
			beyond := "mv many before; " + fmt.Sprintf(make, 100000, one)
			expect(t, b.must(options{"shell": beyond, "timeout_s": 60}), answer{"limit_hit": "disk"})
			os.RemoveAll(own + "/many")
		})
	}
	t.Run("of a file system of its own", func(t *testing.T) {
		disk, empty := ramDisk(t, "size=16m,nr_inodes=100000")
		limits := options{"disk_inodes": int64(empty.Files-empty.Ffree) + 500}
		b := startBox(t, options{"limits": limits, "disk_paths": []string{disk}, "work_dir": disk, "watchdog_ms": 10})
		expect(t, b.must(options{"shell": fmt.Sprintf(make, 300, ": >many/$i"), "timeout_s": 60}), answer{"stdout": "end\n", "limit_hit": ""})
		expect(t, b.must(options{"shell": "mv many before; " + fmt.Sprintf(make, 100000, ": >many/$i"), "timeout_s": 60}), answer{"limit_hit": "disk"})
		// It is over its limit, but what makes room is let be.
		expect(t, b.must(options{"shell": "rm -r before many; sleep 0.2; echo room", "timeout_s": 60}), answer{"stdout": "room\n", "limit_hit": ""})
	})
}

func TestWhatACommandLeftBehindDoesNotFillTheDisk(t *testing.T) {
	b, own, _ := sharedBox(t, options{"disk_bytes": 16 << 20})
	fill := "i=0; while [ $i -lt 100 ]; do i=$((i+1)); head -c 1000000 /dev/zero >f$i; sleep 0.02; done"
	expect(t, b.must(options{"shell": "setsid sh -c '" + fill + "' >/dev/null 2>&1 & echo $! >pid"}), answer{"limit_hit": ""})
	pid := waitForFile(t, own+"/pid")
	for tries := 0; tries < 10 && !gone(pid); tries++ {
	}
	if left, _ := os.ReadDir(own); len(left) > 60 {
		t.Errorf("%d files of 1 MB in a box of 16 MiB", len(left))
	}
	_, stats := b.call("GET", "/v1/stats", nil)
	if answer(stats["limit_hits"].(map[string]any)).number("disk") < 1 {
		t.Errorf("%v", stats)
	}
}

// A tree that is too deep to be searched hides nothing: what cannot be examined stays the box's, however often it is searched.
func TestATooDeepTreeHidesNothing(t *testing.T) {
	b, own, _ := sharedBox(t, options{"disk_bytes": 16 << 20})
	deep := `
import os
for _ in range(600):
    os.mkdir("!")
    os.chdir("!")
`
	expect(t, b.must(options{"argv": []string{python(t), "-I", "-c", deep}, "timeout_s": 30}), answer{"exit_code": 0.0})
	for i := range 4 {
		fill := fmt.Sprintf("for i in $(seq 60); do head -c 1000000 /dev/zero >f%d-$i; sleep 0.01; done; sleep 0.5", i)
		expect(t, b.must(options{"shell": fill, "timeout_s": 30}), answer{"limit_hit": "disk"})
	}
	left, _ := os.ReadDir(own)
	if len(left) > 60 {
		t.Errorf("%d files of 1 MB in a box of 16 MiB", len(left))
	}
}
