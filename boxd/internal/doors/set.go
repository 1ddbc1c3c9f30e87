package doors

import (
	"errors"
	"os"
	"sync"
)

// MaxDoors is the most doors of a box.
const MaxDoors = 4

// ErrTooMany means that a box has MaxDoors doors.
var ErrTooMany = errors.New("the box has the maximum number of doors")

// Set contains a box's doors by id.
type Set struct {
	mu    sync.Mutex
	doors map[string]*Door
}

// Open returns the door with this id, opening it if there is none. admit is called while no Shut can intervene.
func (s *Set) Open(id string, port int, limits Limits, admit func() error) (*Door, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := admit(); err != nil {
		return nil, err
	}
	if known := s.doors[id]; known != nil {
		return known, nil
	}
	if len(s.doors) >= MaxDoors {
		return nil, ErrTooMany
	}
	made, err := open(id, port, limits)
	if err != nil {
		return nil, err
	}
	if s.doors == nil {
		s.doors = map[string]*Door{}
	}
	s.doors[id] = made
	return made, nil
}

// Find returns a door, or nil.
func (s *Set) Find(id string) *Door {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doors[id]
}

// Shut closes one door; false if there is none.
func (s *Set) Shut(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	door := s.doors[id]
	if door == nil {
		return false
	}
	delete(s.doors, id)
	door.Close()
	return true
}

// ShutAll closes every door.
func (s *Set) ShutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, door := range s.doors {
		door.Close()
		delete(s.doors, id)
	}
}

func fileOf(fd int) *os.File { return os.NewFile(uintptr(fd), "door") }
