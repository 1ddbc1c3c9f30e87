package doors

import (
	"errors"
	"os"
	"sync"
)

// MaxDoors is how many a box may have.
const MaxDoors = 4

// ErrTooMany refuses a door more.
var ErrTooMany = errors.New("the box has all the doors that it may have")

// Set is a box's doors by their ids.
type Set struct {
	mu    sync.Mutex
	doors map[string]*Door
}

// Open gives the door of this id, made now where there is none. `admit` is asked while no Shut can come in between.
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

// Find gives a door, or nil.
func (s *Set) Find(id string) *Door {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doors[id]
}

// Shut closes one door; false where there is none.
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
