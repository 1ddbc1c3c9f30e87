package launch

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	heapGrowth = 1 << 20  // bytes of garbage that trigger a collection
	heapLimit  = 64 << 20 // total bytes above which the runtime collects by itself, even during a fork
)

// heap decides when garbage is collected, instead of the runtime. A collection stops every goroutine and waits for the
// thread that forks, which waits for its child. If the agent stops the child at that moment, boxd would hang forever,
// since freeStuckChild is stopped, too. So collections are made between forks, under their lock.
type heap struct {
	sample []metrics.Sample
	kept   uint64
}

func newHeap() *heap {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(heapLimit)
	return &heap{sample: []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}}
}

func (h *heap) collect() {
	if h.size() < h.kept+heapGrowth {
		return
	}
	runtime.GC()
	h.kept = h.size()
}

func (h *heap) size() uint64 {
	metrics.Read(h.sample)
	return h.sample[0].Value.Uint64()
}
