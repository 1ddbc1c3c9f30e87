// Package api is boxd's HTTP interface: routes, token, epoch, error codes. docs/boxd-protocol.md specifies it.
// What a route does is implemented in other packages.
package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/doors"
	"envfarm.dev/boxd/internal/execs"
	"envfarm.dev/boxd/internal/files"
	"envfarm.dev/boxd/internal/launch"
	"envfarm.dev/boxd/internal/shells"
	"envfarm.dev/boxd/internal/tree"
	"envfarm.dev/boxd/internal/watch"
	"envfarm.dev/boxd/internal/wire"
)

// API answers requests. Make one with New.
type API struct {
	Version  string
	Runner   *execs.Runner
	Shells   *shells.Set
	Doors    *doors.Set
	Watchdog *watch.Watchdog
	Server   *wire.Server
	Policy   files.Policy
	// NewFiles is the owner of files that a client puts without an owner; nil for boxd's own user.
	NewFiles *files.Owner

	tokenDigest [32]byte
	started     time.Time

	treeMu   sync.Mutex
	baseline *tree.Baseline
}

// SetToken stores only the token's digest.
func (a *API) SetToken(token string) { a.SetTokenDigest(sha256.Sum256([]byte(token))) }

// SetTokenDigest is for a boxd that knows only its token's digest.
func (a *API) SetTokenDigest(digest [sha256.Size]byte) {
	a.tokenDigest = digest
	a.started = time.Now()
}

// call is one request to a route.
type call struct {
	*wire.Request
	reply *wire.Reply
	epoch int64
	id    string // the {id} of the path
}

type route func(*API, *call)

// routes by method and path, with {} for an id.
var routes = map[string]route{
	"GET /v1/health":         (*API).health,
	"POST /v1/exec":          (*API).exec,
	"GET /v1/exec/{}":        (*API).execOutput,
	"POST /v1/exec/{}/kill":  (*API).execKill,
	"POST /v1/shells":        (*API).shellCreate,
	"POST /v1/shells/{}/run": (*API).shellRun,
	"DELETE /v1/shells/{}":   (*API).shellDelete,
	"PUT /v1/archive":        (*API).archivePut,
	"GET /v1/archive":        (*API).archiveGet,
	"PUT /v1/file":           (*API).filePut,
	"GET /v1/file":           (*API).fileGet,
	"POST /v1/baseline":      (*API).baselineTake,
	"GET /v1/diff":           (*API).diff,
	"POST /v1/restore":       (*API).restore,
	"POST /v1/quiesce":       (*API).quiesce,
	"POST /v1/resume":        (*API).resume,
	"GET /v1/stats":          (*API).stats,
	"POST /v1/doors":         (*API).doorOpen,
	"POST /v1/doors/{}/next": (*API).doorNext,
	"DELETE /v1/doors/{}":    (*API).doorShut,
	"POST /v1/reach":         (*API).reach,
}

// Answer is the wire.Server's Answer.
func (a *API) Answer(request *wire.Request, reply *wire.Reply) {
	defer a.Runner.Launcher.Collect()
	if !Admits(a.tokenDigest, request, reply) {
		return
	}
	pattern, id := split(request.Path)
	serve, known := routes[request.Method+" "+pattern]
	if !known {
		reply.Fail(404, "no_route", request.Method+" "+request.Path)
		return
	}
	c := &call{Request: request, reply: reply, id: id}
	if !a.enter(c) {
		return
	}
	serve(a, c)
}

// Admits returns whether a request has the token with this digest; if not, it answers the request.
func Admits(tokenDigest [sha256.Size]byte, request *wire.Request, reply *wire.Reply) bool {
	token, found := strings.CutPrefix(request.Header["authorization"], "Bearer ")
	digest := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(digest[:], tokenDigest[:]) == 1 && found {
		return true
	}
	reply.CloseAfter()
	reply.Fail(401, "unauthorized", "a valid bearer token is required")
	return false
}

// split takes the id out of /v1/exec/{id}…; ids contain no slash.
func split(path string) (pattern, id string) {
	parts := strings.Split(path, "/")
	if len(parts) < 4 || (parts[2] != "exec" && parts[2] != "shells" && parts[2] != "doors") {
		return path, ""
	}
	id = parts[3]
	parts[3] = "{}"
	return strings.Join(parts, "/"), id
}

// enter checks the epoch. Only health needs none.
func (a *API) enter(c *call) bool {
	text, given := c.Header["x-boxd-epoch"]
	if !given {
		if c.Path == "/v1/health" {
			return true
		}
		c.reply.Fail(400, "epoch_missing", "X-Boxd-Epoch is required")
		return false
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch < 0 {
		c.reply.Fail(400, "bad_request", "X-Boxd-Epoch: must be a number")
		return false
	}
	c.epoch = epoch
	if err = a.Runner.Enter(epoch); err != nil {
		c.fail(err)
		return false
	}
	return true
}

// fail answers with an error. After the first byte of a stream that is no longer possible.
func (c *call) fail(err error) {
	var fenced *execs.FencedError
	var errno syscall.Errno
	switch {
	case errors.As(err, &fenced):
		c.reply.JSON(409, wire.Problem{Error: "fenced", Message: err.Error(), Epoch: &fenced.Epoch})
	case errors.Is(err, execs.ErrQuiesced):
		c.reply.Fail(409, "quiesced", err.Error())
	case errors.Is(err, shells.ErrBusy):
		c.reply.Fail(409, "shell_busy", err.Error())
	case errors.Is(err, shells.ErrClosed):
		c.reply.Fail(404, "not_found", err.Error())
	case errors.Is(err, execs.ErrForgotten):
		c.reply.Fail(410, "forgotten", err.Error())
	case errors.Is(err, launch.ErrCores):
		c.reply.Fail(400, "bad_cores", err.Error())
	case errors.Is(err, files.ErrTooLarge), errors.Is(err, wire.ErrBodyTooLarge):
		c.reply.Fail(413, "too_large", err.Error())
	case errors.Is(err, files.ErrUnsafe):
		c.reply.Fail(422, "unsafe_path", err.Error())
	case errors.Is(err, files.ErrBadArchive):
		c.reply.Fail(400, "bad_archive", err.Error())
	case errors.As(err, &errno):
		status, code := errnoProblem(errno)
		c.reply.Fail(status, code, err.Error())
	default:
		c.reply.Fail(400, "bad_request", err.Error())
	}
}

func errnoProblem(errno syscall.Errno) (int, string) {
	switch errno {
	case syscall.ENOENT:
		return 404, "not_found"
	case syscall.ENOSPC, syscall.EDQUOT:
		return 507, "no_space"
	case syscall.ELOOP:
		return 422, "unsafe_path"
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		return 503, "no_resources"
	}
	return 422, "os_error"
}
