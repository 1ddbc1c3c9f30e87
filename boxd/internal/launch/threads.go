package launch

import (
	"runtime"
	"sync"
)

// reservedThreads exceeds the number of threads that boxd ever has in blocking system calls at once, besides running ones.
const reservedThreads = 24

// ReserveThreads creates the threads that boxd may need while there is room for them: the runtime keeps idle ones, but aborts the
// whole program if the kernel refuses a new one, which a fork bomb could cause.
func ReserveThreads() {
	var all, done sync.WaitGroup
	all.Add(reservedThreads)
	done.Add(reservedThreads)
	for range reservedThreads {
		go func() {
			runtime.LockOSThread()
			all.Done()
			all.Wait()
			runtime.UnlockOSThread()
			done.Done()
		}()
	}
	done.Wait()
}
