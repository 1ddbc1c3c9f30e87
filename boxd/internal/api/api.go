// Package api is boxd's HTTP surface: routes, token, epoch, error codes. Only main makes it.
// What a route does is done elsewhere; docs/boxd-protocol.md is the contract.
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
	// NewFiles is who files belong to that a client puts without naming an owner; nil for boxd's own user.
	NewFiles *files.Owner

	tokenDigest [32]byte
	started     time.Time

	treeMu   sync.Mutex
	baseline *tree.Baseline
}

// SetToken keeps only a digest.
func (a *API) SetToken(token string) { a.SetTokenDigest(sha256.Sum256([]byte(token))) }

// SetTokenDigest is for a boxd that was never told its token, but only how to know it.
func (a *API) SetTokenDigest(digest [sha256.Size]byte) {
	a.tokenDigest = digest
	a.started = time.Now()
}

// call is one request on its way through a route.
type call struct {
	*wire.Request
	reply *wire.Reply
	epoch int64
	id    string // the {id} of the path
}

type route func(*API, *call)

// routes are by method and path, with {} for an id.
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

// Admits tells whether a request shows the token with this digest; it has answered one that does not.
func Admits(tokenDigest [sha256.Size]byte, request *wire.Request, reply *wire.Reply) bool {
	token, found := strings.CutPrefix(request.Header["authorization"], "Bearer ")
	digest := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(digest[:], tokenDigest[:]) == 1 && found {
		return true
	}
	reply.CloseAfter()
	reply.Fail(401, "unauthorized", "a valid bearer token is needed")
	return false
}

// split takes the id out of /v1/exec/{id}…; ids hold no slash.
func split(path string) (pattern, id string) {
	parts := strings.Split(path, "/")
	if len(parts) < 4 || (parts[2] != "exec" && parts[2] != "shells" && parts[2] != "doors") {
		return path, ""
	}
	id = parts[3]
	parts[3] = "{}"
	return strings.Join(parts, "/"), id
}

// enter checks the epoch. Only health may be asked without one.
func (a *API) enter(c *call) bool {
	text, given := c.Header["x-boxd-epoch"]
	if !given {
		if c.Path == "/v1/health" {
			return true
		}
		c.reply.Fail(400, "epoch_missing", "X-Boxd-Epoch is needed")
		return false
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch < 0 {
		c.reply.Fail(400, "bad_request", "X-Boxd-Epoch: a number")
		return false
	}
	c.epoch = epoch
	if err = a.Runner.Enter(epoch); err != nil {
		c.fail(err)
		return false
	}
	return true
}

// fail turns an error into its answer. After the first byte of a stream nothing can be said any more.
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
