package shells

import (
	"sync"

	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/proc"
)

// MaxShells is how many shells a box may have at once.
const MaxShells = 64

// CreateRequest is the body of POST /v1/shells.
type CreateRequest struct {
	ID   string            `json:"id"`
	Cwd  string            `json:"cwd"`
	Env  map[string]string `json:"env"`
	User execs.User        `json:"user"`
}

// Set contains all shells of the box.
type Set struct {
	runner *execs.Runner
	mu     sync.Mutex
	byID   map[string]*Shell
}

// NewSet returns an empty set.
func NewSet(runner *execs.Runner) *Set { return &Set{runner: runner, byID: map[string]*Shell{}} }

// Create returns the shell with this id, starting it if there is none. full is true if there are too many.
func (s *Set) Create(request *CreateRequest, epoch int64) (shell *Shell, full bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.byID[request.ID]; known != nil {
		return known, false, nil
	}
	if len(s.byID) >= MaxShells {
		return nil, true, nil
	}
	defaults := &s.runner.Defaults
	spec := launch.Spec{
		Env: defaults.Environment(request.User, request.Env, false), Dir: defaults.Directory(request.Cwd),
		Credential: defaults.Credential(request.User),
	}
	shell, err = newShell(request.ID, s.runner, spec, s.runner.Admit(epoch))
	if err == nil {
		s.byID[request.ID] = shell
	}
	return shell, false, err
}

// Find returns nil if there is no such shell.
func (s *Set) Find(id string) *Shell {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id]
}

// Delete ends a shell; false if there is none.
func (s *Set) Delete(id string) (proc.Swept, bool) {
	s.mu.Lock()
	shell := s.byID[id]
	delete(s.byID, id)
	s.mu.Unlock()
	if shell == nil {
		return proc.Swept{}, false
	}
	return shell.Close(), true
}
