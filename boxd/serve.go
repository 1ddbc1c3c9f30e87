package main

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"envfarm.dev/boxd/internal/api"
	"envfarm.dev/boxd/internal/config"
	"envfarm.dev/boxd/internal/contention"
	"envfarm.dev/boxd/internal/doors"
	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/files"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/proc"
	"envfarm.dev/boxd/internal/shells"
	"envfarm.dev/boxd/internal/shield"
	"envfarm.dev/boxd/internal/watch"
	"envfarm.dev/boxd/internal/wire"
)

// serve answers until the listener fails.
func serve(c *config.Config) error {
	listener, err := listen(c)
	if err != nil {
		return err
	}
	score, err := shield.Raise()
	if err != nil {
		return err
	}
	server := &wire.Server{Limits: wire.DefaultLimits}
	if c.RefuseOwnAddresses {
		server.Admit = fromOutside
	}
	surface, err := assemble(c, score, server)
	if err != nil {
		return err
	}
	surface.SetToken(c.Token)
	c.Token = ""
	server.Answer = surface.Answer
	return server.Serve(listener)
}

// assemble connects the parts of one box. From here on the config is in force.
func assemble(c *config.Config, score *shield.OomScore, server *wire.Server) (*api.API, error) {
	table, err := proc.Open()
	if err != nil {
		return nil, err
	}
	agent := agentOf(c)
	separate := agent.AgentUID != os.Getuid()
	if err = shield.Filter(c.Seccomp); err != nil {
		return nil, err
	}
	if err = shield.Files(c.Limits.FileBytes); err != nil {
		return nil, err
	}
	if c.Umask != nil {
		syscall.Umask(*c.Umask)
	}
	os.Clearenv()
	runner := &execs.Runner{
		Defaults: agent, Table: table, Registry: execs.NewRegistry(), MaxOutput: c.Limits.OutputBytes,
		Contention: contention.Open(contention.Groups),
	}
	watchdog := watch.New(c, runner)
	runner.Launcher = launch.New(score, table, separate, watchdog.Wake)
	runner.Launcher.MakeRoom = watchdog.Relieve
	runner.Defaults.AgentBegins = watchdog.AgentBegins
	if err = runner.Open(c.Epoch); err != nil {
		return nil, err
	}
	launch.ReserveThreads()
	go watchdog.Run()
	surface := &api.API{
		Version: version, Runner: runner, Shells: shells.NewSet(runner), Doors: &doors.Set{}, Watchdog: watchdog, Server: server,
		Policy: files.Policy{Guarded: separate},
	}
	if separate {
		surface.NewFiles = &files.Owner{UID: agent.AgentUID, GID: agent.AgentGID}
	}
	return surface, nil
}

func agentOf(c *config.Config) execs.Defaults {
	agent := execs.Defaults{AgentUID: os.Getuid(), AgentGID: os.Getgid(), WorkDir: c.WorkDir, Env: c.ExecEnv}
	if c.AgentUID != nil {
		agent.AgentUID, agent.AgentGID = *c.AgentUID, *c.AgentUID
	}
	if c.AgentGID != nil {
		agent.AgentGID = *c.AgentGID
	}
	return agent
}

// fromOutside rejects peers in the box's own network: they are programs of the box.
func fromOutside(conn net.Conn) bool {
	remote, ok := addressOf(conn.RemoteAddr())
	if !ok {
		return false
	}
	local, ok := addressOf(conn.LocalAddr())
	if !ok || remote == local || remote.IsLoopback() {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, address := range own {
		if network, isNetwork := address.(*net.IPNet); isNetwork {
			if ip, valid := netip.AddrFromSlice(network.IP); valid && ip.Unmap() == remote {
				return false
			}
		}
	}
	return true
}

func addressOf(address net.Addr) (netip.Addr, bool) {
	tcp, isTCP := address.(*net.TCPAddr)
	if !isTCP {
		return netip.Addr{}, false
	}
	return tcp.AddrPort().Addr().Unmap().WithZone(""), true
}
