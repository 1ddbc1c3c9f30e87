package execs

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	defaultOutputBytes = 1 << 20
	maxOutputBytes     = 64 << 20
	maxTimeout         = 30 * 24 * time.Hour
	maxIDBytes         = 128
)

// Request is the body of POST /v1/exec.
type Request struct {
	ID          string            `json:"id"`
	Argv        []string          `json:"argv"`
	Shell       *string           `json:"shell"`
	Cwd         string            `json:"cwd"`
	Env         map[string]string `json:"env"`
	ClearEnv    bool              `json:"clear_env"`
	User        User              `json:"user"`
	Stdin       *string           `json:"stdin"`
	StdinB64    *string           `json:"stdin_b64"`
	TimeoutS    *float64          `json:"timeout_s"`
	OutputBytes *int              `json:"output_bytes"`
	Cores       []int             `json:"cores"`
	Pids        uint64            `json:"pids"`
	Detach      bool              `json:"detach"`
}

// User is "agent" (the default), "boxd" or a uid.
type User struct {
	Name string
	UID  int // when Name is empty and Set
	Set  bool
}

// UnmarshalJSON reads a name or a number.
func (u *User) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	if err := json.Unmarshal(data, &u.Name); err == nil {
		if u.Name != "agent" && u.Name != "boxd" {
			return errors.New(`user: "agent", "boxd" or a uid`)
		}
		return nil
	}
	if err := json.Unmarshal(data, &u.UID); err != nil || u.UID < 0 || u.UID > math.MaxInt32 {
		return errors.New(`user: "agent", "boxd" or a uid`)
	}
	u.Set = true
	return nil
}

// Check rejects invalid requests.
func (r *Request) Check() error {
	if err := CheckID(r.ID); err != nil {
		return err
	}
	if (len(r.Argv) == 0) == (r.Shell == nil) {
		return errors.New("exactly one of argv and shell is required")
	}
	if len(r.Argv) > 0 && r.Argv[0] == "" {
		return errors.New("argv[0] is empty")
	}
	for _, argument := range r.Argv {
		if strings.Contains(argument, "\x00") {
			return errors.New("argv: contains a NUL byte")
		}
	}
	if r.Shell != nil && strings.Contains(*r.Shell, "\x00") {
		return errors.New("shell: contains a NUL byte")
	}
	if r.Stdin != nil && r.StdinB64 != nil {
		return errors.New("at most one of stdin and stdin_b64 is allowed")
	}
	if r.Pids > math.MaxInt32 {
		return errors.New("pids: too large")
	}
	if _, err := r.Input(); err != nil {
		return err
	}
	if err := CheckPlace(r.Cwd, r.Env); err != nil {
		return err
	}
	return CheckBounds(r.TimeoutS, r.OutputBytes, r.Cores)
}

// Input returns the standard input; nil if there is none.
func (r *Request) Input() ([]byte, error) {
	switch {
	case r.Stdin != nil:
		return []byte(*r.Stdin), nil
	case r.StdinB64 != nil:
		data, err := base64.StdEncoding.DecodeString(*r.StdinB64)
		if err != nil {
			return nil, errors.New("stdin_b64: not base64")
		}
		return data, nil
	}
	return nil, nil
}

// CheckID accepts 1 to 128 letters, digits and ._:-
func CheckID(id string) error {
	if id == "" || len(id) > maxIDBytes {
		return errors.New("id: 1 to 128 characters")
	}
	for _, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("._:-", rune(c)) {
			return errors.New("id: letters, digits and ._:- only")
		}
	}
	return nil
}

// CheckPlace checks a working directory and an environment.
func CheckPlace(cwd string, env map[string]string) error {
	if cwd != "" && (cwd[0] != '/' || strings.Contains(cwd, "\x00")) {
		return errors.New("cwd: must be an absolute path")
	}
	for name, value := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fmt.Errorf("env: %q is not a variable", name)
		}
	}
	return nil
}

// CheckBounds checks the parameters that runs and shell runs share.
func CheckBounds(timeoutS *float64, outputBytes *int, cores []int) error {
	if timeoutS != nil && !(*timeoutS > 0 && *timeoutS <= maxTimeout.Seconds()) {
		return errors.New("timeout_s: more than 0, at most 30 days")
	}
	if outputBytes != nil && (*outputBytes < 0 || *outputBytes > maxOutputBytes) {
		return errors.New("output_bytes: 0 to 67108864")
	}
	for _, core := range cores {
		if core < 0 || core > 1023 {
			return errors.New("cores: 0 to 1023")
		}
	}
	return nil
}

// KeptBytes returns the limit of one stream.
func KeptBytes(outputBytes *int) int {
	if outputBytes == nil {
		return defaultOutputBytes
	}
	return *outputBytes
}

// Timeout returns 0 for none.
func Timeout(timeoutS *float64) time.Duration {
	if timeoutS == nil {
		return 0
	}
	return time.Duration(*timeoutS * float64(time.Second))
}
