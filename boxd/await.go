package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"envfarm.dev/boxd/internal/api"
	"envfarm.dev/boxd/internal/config"
	"envfarm.dev/boxd/internal/shield"
	"envfarm.dev/boxd/internal/wire"
)

const maxDelivered = 1 << 20

// await listens without a config, and accepts one from whoever knows the token with the given digest. The digest is not secret: it may
// be readable by everyone, and distinguishes the farm's config from a stranger's. The first config is final; a second is refused.
func await(address, tokenDigest string, ownAddresses bool) error {
	digest, err := hex.DecodeString(tokenDigest)
	if err != nil || len(digest) != sha256.Size {
		return errors.New("await needs the token's SHA-256 as 64 hexadecimal digits")
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	score, err := shield.Raise()
	if err != nil {
		return err
	}
	waiting := &unconfigured{tokenDigest: [sha256.Size]byte(digest), score: score, server: &wire.Server{Limits: wire.DefaultLimits}}
	if !ownAddresses {
		waiting.server.Admit = fromOutside
	}
	waiting.server.Answer = waiting.answer
	return waiting.server.Serve(listener)
}

// unconfigured is a boxd before its config: it runs nothing.
type unconfigured struct {
	tokenDigest [sha256.Size]byte
	score       *shield.OomScore
	server      *wire.Server

	delivery sync.Mutex
	box      atomic.Pointer[api.API]
}

func (u *unconfigured) answer(request *wire.Request, reply *wire.Reply) {
	box := u.box.Load()
	route := request.Method + " " + request.Path
	switch {
	case route == "PUT /v1/config":
		if api.Admits(u.tokenDigest, request, reply) {
			u.take(request, reply)
		}
	case box != nil:
		box.Answer(request, reply)
	case !api.Admits(u.tokenDigest, request, reply):
	case route == "GET /v1/health":
		reply.JSON(200, waitingAnswer{Version: version, Architecture: runtime.GOARCH, Variables: os.Environ()})
	case route == "POST /v1/reach":
		api.AnswerReach(request, reply)
	default:
		reply.Fail(409, "unconfigured", "this boxd waits for PUT /v1/config")
	}
}

type waitingAnswer struct {
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	Configured   bool   `json:"configured"`
	// Variables that boxd was started with: the image's, which otherwise only the container runtime knows. Runs do not inherit them.
	Variables []string `json:"variables,omitempty"`
}

func (u *unconfigured) take(request *wire.Request, reply *wire.Reply) {
	u.delivery.Lock()
	defer u.delivery.Unlock()
	if u.box.Load() != nil {
		reply.Fail(409, "configured", "this boxd has its config, and takes no other")
		return
	}
	data, err := io.ReadAll(io.LimitReader(request.Body, maxDelivered+1))
	if err != nil || len(data) > maxDelivered {
		reply.CloseAfter()
		reply.Fail(413, "too_large", "a config of at most 1 MiB, whole")
		return
	}
	settings, err := config.ParseDelivered(data)
	if err != nil {
		reply.Fail(400, "bad_request", err.Error())
		return
	}
	box, err := assemble(settings, u.score, u.server)
	if err != nil {
		reply.Fail(500, "internal", err.Error())
		return
	}
	box.SetTokenDigest(u.tokenDigest)
	u.box.Store(box)
	reply.JSON(200, waitingAnswer{Version: version, Architecture: runtime.GOARCH, Configured: true})
}
