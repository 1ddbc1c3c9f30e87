package launch

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	heapGrowth = 1 << 20  // bytes of garbage before a collection
	heapLimit  = 64 << 20 // bytes in all above which the runtime collects by itself, however the forks stand
)

// heap decides when garbage is collected, instead of the runtime: a collection stops every goroutine and waits for the
// thread that forks, which waits for its child; an agent that stops the child at that moment would stop boxd for ever,
// since freeStuckChild is stopped too. So collections are made between forks, under their lock.
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
