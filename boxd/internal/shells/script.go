package shells

import (
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"envfarm.dev/boxd/internal/sysnum"
)

// The shell reads one line per run from its control descriptor: a token, a space, and the command with backslashes
// and newlines escaped. It answers on the status descriptor: token, exit code, working directory, NUL.
// Both descriptors are closed while a command runs, so that no program inherits them.

// abortSignal makes bash abandon the current command and keep its state. Programs do not use this signal by accident.
const abortSignal = syscall.Signal(41)

const (
	bashControl, bashStatus, bashBoot = 197, 198, 199
	shControl, shStatus               = 7, 8 // a POSIX sh accepts single digits only
)

// bashScript sources the boot file because "return" in a trap, which aborts a command, works only in a sourced file.
// That leaves one function; the DEBUG trap leaves the others, each at its next command.
// The loop around it contains a stray "break".
const bashScript = `shopt -s expand_aliases
trap '__boxd_aborted=1; set -T; trap "return 130" DEBUG; return 130' 41
while { IFS= read -r -u 197 __boxd_line; } 2>/dev/null; do
  { __boxd_token=${__boxd_line%% *}; builtin printf -v __boxd_command %b "${__boxd_line#* }"; } 2>/dev/null
  for __boxd_once in 1; do . /proc/self/fd/199; done
  { __boxd_code=$?
    [ -z "$__boxd_aborted" ] || { trap - DEBUG; set +T; unset __boxd_aborted; }
    builtin printf '%s %d ' "$__boxd_token" "$__boxd_code"; builtin pwd; builtin printf '\0'; } 2>/dev/null >&198
done
`

const bashBootText = "{ eval \"$__boxd_command\"; } 197<&- 198>&- 199<&-\n"

const shScript = `while { IFS= read -r __boxd_line <&7; } 2>/dev/null; do
  __boxd_token=${__boxd_line%% *}
  __boxd_command=$(printf '%b_' "${__boxd_line#* }")
  __boxd_command=${__boxd_command%_}
  for __boxd_once in 1; do { eval "$__boxd_command"; } 7<&- 8>&-; done
  { __boxd_code=$?; printf '%s %d ' "$__boxd_token" "$__boxd_code"; pwd; printf '\0'; } 2>/dev/null >&8
done
`

var commandEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

func controlLine(token, command string) []byte {
	return []byte(token + " " + commandEscapes.Replace(command) + "\n")
}

// statusMessage is one answer of the shell.
type statusMessage struct {
	token string
	code  int
	cwd   string
}

func parseStatus(text string) (statusMessage, bool) {
	token, rest, found := strings.Cut(text, " ")
	if !found {
		return statusMessage{}, false
	}
	code, cwd, found := strings.Cut(rest, " ")
	number, err := strconv.Atoi(code)
	if !found || err != nil || number < 0 || number > 255 {
		return statusMessage{}, false
	}
	return statusMessage{token, number, strings.TrimSuffix(cwd, "\n")}, true
}

// newBootFile creates an unnamed file in memory, so that shells leave nothing on the box's disk.
func newBootFile() (int, error) {
	name := []byte("boxd-shell\x00")
	const cloexec, allowSealing, noExec = 1, 2, 8
	fd, _, e := syscall.Syscall(sysnum.MemfdCreate, uintptr(unsafe.Pointer(&name[0])), cloexec|allowSealing|noExec, 0)
	if e == syscall.EINVAL { // a kernel before 6.3
		fd, _, e = syscall.Syscall(sysnum.MemfdCreate, uintptr(unsafe.Pointer(&name[0])), cloexec|allowSealing, 0)
	}
	if e != 0 {
		return 0, e
	}
	if _, err := syscall.Write(int(fd), []byte(bashBootText)); err != nil {
		syscall.Close(int(fd))
		return 0, err
	}
	const addSeals, allSeals = 1033, 0xf
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, fd, addSeals, allSeals); e != 0 {
		syscall.Close(int(fd))
		return 0, e
	}
	return int(fd), nil
}
