// Package execs runs commands once per id and keeps their results.
package execs

import (
	"crypto/sha256"
	"errors"
	"sync"
)

const (
	keptResults     = 256
	keptResultBytes = 64 << 20
)

// ErrForgotten means that an id ran, but its result is no longer kept.
var ErrForgotten = errors.New("the result of this exec is no longer kept")

type fingerprint [16]byte

// Registry knows every id that ever ran.
type Registry struct {
	mu        sync.Mutex
	byID      map[string]*Execution
	finished  []*Execution // oldest first
	bytes     int
	forgotten map[fingerprint]struct{}
	started   int64
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{byID: map[string]*Execution{}, forgotten: map[fingerprint]struct{}{}}
}

func fingerprintOf(id string) fingerprint {
	sum := sha256.Sum256([]byte(id))
	return fingerprint(sum[:16])
}

// Claim returns the execution of an id; first is true for exactly one caller, which must run it or Drop it.
func (r *Registry) Claim(id string) (execution *Execution, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.byID[id]; known != nil {
		return known, false, nil
	}
	if _, gone := r.forgotten[fingerprintOf(id)]; gone {
		return nil, false, ErrForgotten
	}
	execution = newExecution(id)
	r.byID[id] = execution
	r.started++
	return execution, true, nil
}

// Find returns nil for an id that never ran.
func (r *Registry) Find(id string) (*Execution, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.byID[id]; known != nil {
		return known, nil
	}
	if _, gone := r.forgotten[fingerprintOf(id)]; gone {
		return nil, ErrForgotten
	}
	return nil, nil
}

// Drop undoes a Claim whose run was refused before anything started.
func (r *Registry) Drop(execution *Execution, why error) {
	r.mu.Lock()
	delete(r.byID, execution.ID)
	r.started--
	r.mu.Unlock()
	execution.Refuse(why)
}

// Settle records an end, and forgets the oldest results beyond what is kept.
func (r *Registry) Settle(execution *Execution) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = append(r.finished, execution)
	r.bytes += execution.memory()
	for len(r.finished) > keptResults || (r.bytes > keptResultBytes && len(r.finished) > 1) {
		oldest := r.finished[0]
		r.finished[0] = nil
		r.finished = r.finished[1:]
		r.bytes -= oldest.memory()
		delete(r.byID, oldest.ID)
		r.forgotten[fingerprintOf(oldest.ID)] = struct{}{}
	}
}

// Running lists the executions that have not ended.
func (r *Registry) Running() []*Execution {
	r.mu.Lock()
	defer r.mu.Unlock()
	var running []*Execution
	for _, execution := range r.byID {
		select {
		case <-execution.done:
		default:
			running = append(running, execution)
		}
	}
	return running
}

// Started returns the number of runs.
func (r *Registry) Started() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started
}
