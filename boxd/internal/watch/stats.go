package watch

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Stats is the answer of GET /v1/stats.
type Stats struct {
	CPUS            float64 `json:"cpu_s"`
	MemoryBytes     int64   `json:"memory_bytes"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
	Pids            int64   `json:"pids"`
	PidsPeak        int64   `json:"pids_peak"`
	DiskBytes       int64   `json:"disk_bytes"`
	BytesIn         int64   `json:"bytes_in"`
	BytesOut        int64   `json:"bytes_out"`
	Execs           int64   `json:"execs"`
	LimitHits       Hits    `json:"limit_hits"`
	OomKills        *int64  `json:"oom_kills"` // null if no cgroup reports it
}

const cgroupRoot = "/sys/fs/cgroup/"

// Stats measures now. The caller adds the bytes of the connections.
func (w *Watchdog) Stats() Stats {
	now := w.Measure()
	var reaped syscall.Rusage
	const children = -1
	syscall.Getrusage(children, &reaped)
	w.mu.Lock()
	memoryPeak, pidsPeak := w.memoryPeak, w.pidsPeak
	w.mu.Unlock()
	const ticksPerSecond = 100
	for _, file := range []string{"memory.peak", "memory/memory.max_usage_in_bytes"} {
		if peak, ok := readNumber(cgroupRoot + file); ok {
			memoryPeak = max(memoryPeak, peak)
		}
	}
	return Stats{
		CPUS:        float64(reaped.Utime.Nano()+reaped.Stime.Nano())/1e9 + float64(now.CPUTicks)/ticksPerSecond,
		MemoryBytes: now.MemoryBytes, MemoryPeakBytes: memoryPeak,
		Pids: now.Pids, PidsPeak: pidsPeak, DiskBytes: now.Disk.Bytes,
		Execs:     w.runner.Registry.Started(),
		LimitHits: Hits{w.hits[0].Load(), w.hits[1].Load(), w.hits[2].Load()},
		OomKills:  oomKills(),
	}
}

func readNumber(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// oomKills reads memory.events (cgroup 2) or memory.oom_control (cgroup 1).
func oomKills() *int64 {
	for _, file := range []string{"memory.events", "memory/memory.oom_control"} {
		data, err := os.ReadFile(cgroupRoot + file)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(data), "\n") {
			count, found := strings.CutPrefix(line, "oom_kill ")
			if !found {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64); err == nil {
				return &n
			}
		}
	}
	return nil
}
