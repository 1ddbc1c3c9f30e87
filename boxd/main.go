// Command boxd is the daemon inside every sandbox: it runs commands, transfers files, and enforces the box's limits.
// docs/boxd-protocol.md specifies it.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"envfarm.dev/boxd/internal/config"
	"envfarm.dev/boxd/internal/launch"
)

// version begins with the protocol's major number; the build may set it with -ldflags -X.
var version = "1.0.0"

const usage = `usage: boxd serve --config-fd N | boxd await ADDRESS TOKEN-SHA256 [--own-addresses] | boxd install DEST | boxd version`

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "boxd:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve" && args[1] == "--config-fd":
		fd, err := strconv.Atoi(args[2])
		if err != nil || fd < 0 {
			return errors.New("--config-fd must be a descriptor")
		}
		runtime.GOMAXPROCS(2)
		settings, err := config.ReadFD(fd)
		if err != nil {
			return err
		}
		return serve(settings)
	case len(args) >= 3 && len(args) <= 4 && args[0] == "await" && (len(args) == 3 || args[3] == "--own-addresses"):
		runtime.GOMAXPROCS(2)
		return await(args[1], args[2], len(args) == 4)
	case len(args) == 2 && args[0] == "install":
		return install(args[1])
	case len(args) == 1 && args[0] == "version":
		fmt.Println(version)
		return nil
	case len(args) >= 4 && args[0] == launch.LimitedCommand:
		err := launch.ExecLimited(args[1:])
		fmt.Fprintln(os.Stderr, "boxd:", err)
		if errors.Is(err, syscall.ENOENT) {
			os.Exit(127)
		}
		os.Exit(126)
	}
	return errors.New(usage)
}

// install copies this binary, for an init container whose image contains nothing else.
func install(destination string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	temporary := destination + ".new"
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(to, from); err != nil {
		to.Close()
		return err
	}
	if err = errors.Join(to.Chmod(0o755), to.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, destination)
}

func listen(c *config.Config) (net.Listener, error) {
	switch {
	case c.ListenFD != nil:
		syscall.CloseOnExec(*c.ListenFD)
		file := os.NewFile(uintptr(*c.ListenFD), "listener")
		if file == nil {
			return nil, errors.New("listen_fd is not open")
		}
		defer file.Close()
		return net.FileListener(file)
	case c.ListenUnix != "":
		listener, err := net.Listen("unix", c.ListenUnix)
		if err != nil {
			return nil, err
		}
		return listener, os.Chmod(c.ListenUnix, 0o600)
	}
	return net.Listen("tcp", c.ListenTCP)
}
