package execs

import (
	"bufio"
	"errors"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// Defaults apply to runs that do not override them.
type Defaults struct {
	AgentUID int
	AgentGID int
	WorkDir  string
	Env      map[string]string
	// AgentBegins is called before each run as a user other than boxd's; may be nil.
	AgentBegins func()
}

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// ownPath is for runs as boxd's own user. They are the client's housekeeping, and paths in exec_env (PATH, preloaded libraries)
	// may be writable by the agent.
	ownPath = "/usr/sbin:/usr/bin:/sbin:/bin"
)

// Credential returns nil for boxd's own user, which needs no change.
func (d *Defaults) Credential(user User) *syscall.Credential {
	uid, gid := d.AgentUID, d.AgentGID
	if user.Name == "boxd" {
		return nil
	}
	if d.AgentBegins != nil {
		d.AgentBegins()
	}
	if user.Set && user.UID != d.AgentUID {
		uid, gid = user.UID, primaryGroup(user.UID)
	}
	if uid == os.Getuid() && gid == os.Getgid() {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// primaryGroup reads /etc/passwd; a uid without an entry gets the group of the same number.
func primaryGroup(uid int) int {
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return uid
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 4 || fields[2] != strconv.Itoa(uid) {
			continue
		}
		if gid, err := strconv.Atoi(fields[3]); err == nil && gid >= 0 {
			return gid
		}
	}
	return uid
}

// Environment merges the defaults with the request's variables; boxd's own are never included. The order is fixed.
// A run as "boxd" gets none of the defaults, only a PATH with the system's directories.
func (d *Defaults) Environment(user User, extra map[string]string, clear bool) []string {
	merged := make(map[string]string, len(d.Env)+len(extra)+1)
	switch {
	case clear:
	case user.Name == "boxd":
		merged["PATH"] = ownPath
	default:
		merged["PATH"] = defaultPath
		for name, value := range d.Env {
			merged[name] = value
		}
	}
	for name, value := range extra {
		merged[name] = value
	}
	env := make([]string, 0, len(merged))
	for name, value := range merged {
		env = append(env, name+"="+value)
	}
	sort.Strings(env)
	return env
}

// Directory returns the working directory of a run.
func (d *Defaults) Directory(cwd string) string {
	if cwd == "" {
		return d.WorkDir
	}
	return cwd
}

// findProgram looks up a name in the run's PATH, not in boxd's.
func findProgram(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // relative to the working directory: the kernel resolves it after the change
	}
	path := defaultPath
	for _, entry := range env {
		if value, found := strings.CutPrefix(entry, "PATH="); found {
			path = value
		}
	}
	failure := error(syscall.ENOENT)
	for _, folder := range strings.Split(path, ":") {
		if !strings.HasPrefix(folder, "/") {
			folder = dir + "/" + folder
		}
		candidate := folder + "/" + name
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Mode()&0o111 != 0 {
			return candidate, nil
		}
		failure = syscall.EACCES
	}
	return "", failure
}

// ShellPath returns bash if it is installed, else the system's sh.
func ShellPath() (path string, isBash bool) {
	for _, candidate := range []string{"/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"} {
		if info, err := os.Stat(candidate); err == nil && info.Mode()&0o111 != 0 {
			return candidate, true
		}
	}
	return "/bin/sh", false
}

// failedStart reports, as shells do, why a program could not be started: 127 not found, 126 found but not started.
func failedStart(name, dir string, err error) (exitCode int, message string) {
	if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
		return 126, "boxd: " + dir + ": not an accessible directory\n"
	}
	code := 126
	if errors.Is(err, syscall.ENOENT) {
		code = 127
	}
	return code, "boxd: " + name + ": " + err.Error() + "\n"
}
