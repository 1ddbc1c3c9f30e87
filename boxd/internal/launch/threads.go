package launch

import (
	"runtime"
	"sync"
)

// reservedThreads is above what boxd ever has in blocking system calls at once, beside those that run.
const reservedThreads = 24

// ReserveThreads makes the threads that boxd may need, while there is room for them: the runtime keeps idle ones, but ends the
// whole program where the kernel refuses a new one, which a fork bomb could have it do.
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
