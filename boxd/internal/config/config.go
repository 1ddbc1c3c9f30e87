// Package config reads boxd's configuration object.
//
// It comes over an inherited descriptor, since argv and environment are readable by others through /proc.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"envfarm.dev/boxd/internal/wire"
)

const (
	maxConfigBytes = 1 << 20

	filterRowBytes = 8    // of struct sock_filter
	filterRowsMax  = 4096 // the kernel's BPF_MAXINSNS
)

// Limits of the whole box; zero means none.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes"`
	Pids        int64 `json:"pids"`
	DiskBytes   int64 `json:"disk_bytes"`
	DiskInodes  int64 `json:"disk_inodes"`  // files, directories and what else has a name
	OutputBytes int64 `json:"output_bytes"` // stdout and stderr of one exec together; more kills it
	FileBytes   int64 `json:"file_bytes"`   // of any single file written in the box
}

// Config is a provider's configuration of boxd.
type Config struct {
	Token              string            `json:"token"`
	Epoch              int64             `json:"epoch"`
	ListenFD           *int              `json:"listen_fd"`
	ListenUnix         string            `json:"listen_unix"`
	ListenTCP          string            `json:"listen_tcp"`
	AgentUID           *int              `json:"agent_uid"`
	AgentGID           *int              `json:"agent_gid"`
	WorkDir            string            `json:"work_dir"`
	Limits             Limits            `json:"limits"`
	RefuseOwnAddresses bool              `json:"refuse_own_addresses"`
	WatchdogMS         int               `json:"watchdog_ms"`
	DiskPaths          []string          `json:"disk_paths"`
	SharedDisk         string            `json:"shared_disk"` // a directory of a file system shared with others; may be empty
	ExecEnv            map[string]string `json:"exec_env"`
	Umask              *int              `json:"umask"`
	Seccomp            []byte            `json:"seccomp"` // rows of struct sock_filter; may be empty
}

// ReadFD reads the object to EOF and closes the descriptor, so that no child can read it.
func ReadFD(fd int) (*Config, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "config")
	if file == nil {
		return nil, errors.New("the config descriptor is not open")
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	if len(data) > maxConfigBytes {
		return nil, errors.New("the config is too large")
	}
	return Parse(data)
}

// ParseDelivered is for a boxd that already listens and knows its token's digest: the object has neither.
func ParseDelivered(data []byte) (*Config, error) {
	c, err := decode(data)
	if err == nil && (c.Token != "" || c.ListenFD != nil || c.ListenUnix != "" || c.ListenTCP != "" || c.RefuseOwnAddresses) {
		err = errors.New("a delivered config must not have token, listen_… or refuse_own_addresses")
	}
	if err != nil {
		return nil, err
	}
	return c, c.checkValues()
}

// Parse decodes and checks one object.
func Parse(data []byte) (*Config, error) {
	c, err := decode(data)
	if err != nil {
		return nil, err
	}
	return c, errors.Join(c.checkAccess(), c.checkValues())
}

func decode(data []byte) (*Config, error) {
	c := &Config{}
	if err := wire.DecodeStrict(data, c); err != nil {
		return nil, fmt.Errorf("the config is not valid: %w", err)
	}
	if c.WatchdogMS == 0 {
		c.WatchdogMS = 50
	}
	if c.WorkDir == "" {
		c.WorkDir = "/"
	}
	return c, nil
}

func (c *Config) checkAccess() error {
	listeners := 0
	for _, set := range []bool{c.ListenFD != nil, c.ListenUnix != "", c.ListenTCP != ""} {
		if set {
			listeners++
		}
	}
	switch {
	case len(c.Token) < 16:
		return errors.New("token: at least 16 characters")
	case strings.ContainsAny(c.Token, " \t\r\n"):
		return errors.New("token: must not contain white space")
	case listeners != 1:
		return errors.New("exactly one of listen_fd, listen_unix, listen_tcp is required")
	}
	return nil
}

func (c *Config) checkValues() error {
	switch {
	case c.Epoch < 0:
		return errors.New("epoch: must not be negative")
	case c.WatchdogMS < 5 || c.WatchdogMS > 60000:
		return errors.New("watchdog_ms: 5 to 60000")
	case len(c.Seccomp)%filterRowBytes != 0 || len(c.Seccomp)/filterRowBytes > filterRowsMax:
		return errors.New("seccomp: whole rows of 8 bytes, at most 4096")
	case c.Limits.FileBytes < 0:
		return errors.New("file_bytes: must not be negative")
	case c.SharedDisk != "" && c.SharedDisk[0] != '/':
		return errors.New("shared_disk: must be an absolute path")
	case c.WorkDir[0] != '/':
		return errors.New("work_dir: must be an absolute path")
	case c.AgentUID != nil && *c.AgentUID < 0, c.AgentGID != nil && *c.AgentGID < 0:
		return errors.New("agent_uid, agent_gid: must not be negative")
	}
	for name, value := range c.ExecEnv {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fmt.Errorf("exec_env: %q is not a variable", name)
		}
	}
	return nil
}
