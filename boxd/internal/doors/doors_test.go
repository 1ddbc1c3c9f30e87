package doors

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

func admitted() error { return nil }

func openDoor(t testing.TB, limits Limits) (*Set, *Door) {
	t.Helper()
	set := &Set{}
	door, err := set.Open("d", 0, limits, admitted)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.ShutAll)
	return set, door
}

func knock(t testing.TB, door *Door) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", door.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// pair is two ends of one TCP connection: what the farm and boxd have between them.
func pair(t testing.TB) (farm, boxd net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	farm, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	boxd, err = listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { farm.Close(); boxd.Close() })
	farm.SetDeadline(time.Now().Add(20 * time.Second))
	return farm, boxd
}

// echo serves a door's connections as a farm would, until the door is closed.
func echo(t testing.TB, door *Door, done *sync.WaitGroup) {
	for {
		passage, err := door.Next(time.Second)
		if errors.Is(err, ErrNobody) {
			continue
		}
		if err != nil {
			return
		}
		farm, boxd := pair(t)
		done.Add(1)
		go func() {
			defer done.Done()
			passage.Carry(boxd, boxd)
		}()
		go func() {
			io.Copy(farm, farm)
			farm.(*net.TCPConn).CloseWrite()
		}()
	}
}

func TestManyProgramsAtOnce(t *testing.T) {
	set, door := openDoor(t, Limits{Connections: 8, FirstByte: time.Minute, Idle: time.Minute, Progress: time.Minute})
	var carried, programs sync.WaitGroup
	go echo(t, door, &carried)
	for number := range 40 {
		programs.Add(1)
		go func() {
			defer programs.Done()
			conn := knock(t, door)
			said := bytes.Repeat([]byte(fmt.Sprintf("%d|", number)), 20_000)
			go func() {
				conn.Write(said)
				conn.(*net.TCPConn).CloseWrite()
			}()
			if back, err := io.ReadAll(conn); err != nil || !bytes.Equal(back, said) {
				t.Errorf("program %d: %d bytes of %d, %v", number, len(back), len(said), err)
			}
		}()
	}
	programs.Wait()
	set.ShutAll()
	carried.Wait()
}

func TestSilentProgramsAreLetGoOf(t *testing.T) {
	_, door := openDoor(t, Limits{Connections: 2, FirstByte: 50 * time.Millisecond, Idle: time.Minute, Progress: time.Minute})
	for range 6 { // more than there are places for: the later ones wait in the kernel
		knock(t, door)
	}
	var carried sync.WaitGroup
	go echo(t, door, &carried)
	conn := knock(t, door)
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("a program behind silent ones is not served: %v", err)
	}
}

func TestAFarmThatIsAwayKeepsNobodyWaiting(t *testing.T) {
	_, door := openDoor(t, Limits{Connections: 2, FirstByte: time.Minute, Idle: time.Minute, Progress: 50 * time.Millisecond})
	conn := knock(t, door)
	conn.Write([]byte("hello"))
	if _, err := io.ReadAll(conn); err != nil && !isReset(err) {
		t.Errorf("not closed: %v", err)
	}
	if _, err := door.Next(10 * time.Millisecond); !errors.Is(err, ErrNobody) {
		t.Errorf("a connection that is over was handed out: %v", err)
	}
}

func isReset(err error) bool { return !isTimeout(err) }

func TestWhoDoesNotReadIsEnded(t *testing.T) {
	_, door := openDoor(t, Limits{Connections: 2, FirstByte: time.Minute, Idle: time.Minute, Progress: 100 * time.Millisecond})
	conn := knock(t, door)
	conn.Write([]byte("all of it, please"))
	passage, err := door.Next(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	farm, boxd := pair(t)
	over := make(chan struct{})
	go func() { passage.Carry(boxd, boxd); close(over) }()
	go io.Copy(io.Discard, farm)
	go func() {
		for chunk := make([]byte, 1<<20); ; {
			if _, err := farm.Write(chunk); err != nil {
				return
			}
		}
	}()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Error("a program that does not read holds its connection")
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	_, door := openDoor(t, Limits{Connections: 2, FirstByte: time.Minute, Idle: 100 * time.Millisecond, Progress: time.Minute})
	conn := knock(t, door)
	conn.Write([]byte("x"))
	passage, err := door.Next(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_, boxd := pair(t)
	passage.Carry(boxd, boxd) // returns: nothing is said
	if _, err := io.ReadAll(conn); isTimeout(err) {
		t.Error("the program's connection is still open")
	}
}

func TestOneSidesTalkKeepsBothAlive(t *testing.T) {
	_, door := openDoor(t, Limits{Connections: 2, FirstByte: time.Minute, Idle: 300 * time.Millisecond, Progress: time.Minute})
	conn := knock(t, door)
	conn.Write([]byte("x"))
	passage, err := door.Next(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	farm, boxd := pair(t)
	go passage.Carry(boxd, boxd)
	const beats = 12 // four times as long as an idle connection lives
	go func() {
		for range beats {
			time.Sleep(100 * time.Millisecond)
			farm.Write([]byte("."))
		}
	}()
	if _, err = io.ReadFull(conn, make([]byte, beats)); err != nil {
		t.Errorf("a stream was ended while it spoke: %v", err)
	}
}

func TestClosingTurnsEverybodyOut(t *testing.T) {
	for range 30 { // each time at another moment of the others
		set, door := openDoor(t, Limits{Connections: 4, FirstByte: time.Minute, Idle: time.Minute, Progress: time.Minute})
		var carried, programs sync.WaitGroup
		serving := make(chan struct{})
		go func() { echo(t, door, &carried); close(serving) }()
		for range 8 {
			conn := knock(t, door)
			programs.Add(1)
			go func() {
				defer programs.Done()
				conn.Write([]byte("x"))
				if _, err := io.ReadAll(conn); isTimeout(err) {
					t.Error("a connection outlived its door")
				}
			}()
		}
		set.ShutAll()
		<-serving
		carried.Wait()
		programs.Wait()
		if _, err := door.Next(time.Minute); !errors.Is(err, ErrShut) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestASetIsBounded(t *testing.T) {
	set := &Set{}
	defer set.ShutAll()
	for n := range MaxDoors {
		if _, err := set.Open(fmt.Sprint(n), 0, DefaultLimits, admitted); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := set.Open("one more", 0, DefaultLimits, admitted); !errors.Is(err, ErrTooMany) {
		t.Errorf("a door too many: %v", err)
	}
	again, err := set.Open("0", 0, DefaultLimits, admitted)
	if err != nil || again != set.Find("0") {
		t.Errorf("the same id is another door: %v", err)
	}
	refused := errors.New("no")
	if _, err = set.Open("0", 0, DefaultLimits, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("opened although it was not admitted: %v", err)
	}
}

// FuzzCarry: whatever is said, in whatever pieces, comes out the same.
func FuzzCarry(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\n\r\n"), uint16(3))
	f.Add(bytes.Repeat([]byte{0, 255}, 20_000), uint16(9_999))
	f.Fuzz(func(t *testing.T, said []byte, piece uint16) {
		if len(said) == 0 {
			return
		}
		_, door := openDoor(t, Limits{Connections: 1, FirstByte: time.Minute, Idle: time.Minute, Progress: time.Minute})
		var carried sync.WaitGroup
		go echo(t, door, &carried)
		conn := knock(t, door)
		go func() {
			for rest := said; len(rest) > 0; {
				n := min(int(piece)+1, len(rest))
				conn.Write(rest[:n])
				rest = rest[n:]
			}
			conn.(*net.TCPConn).CloseWrite()
		}()
		if back, err := io.ReadAll(conn); err != nil || !bytes.Equal(back, said) {
			t.Errorf("%d bytes of %d came back: %v", len(back), len(said), err)
		}
	})
}
