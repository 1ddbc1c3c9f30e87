package api

import (
	"errors"
	"math"
	"strconv"
	"syscall"
	"time"

	"envfarm.dev/boxd/internal/doors"
	"envfarm.dev/boxd/internal/execs"
)

// doorWait is how long a caller waits for a program's connection before it must ask again.
const doorWait = 60 * time.Second

type doorRequest struct {
	ID          string   `json:"id"`
	Port        int      `json:"port"`
	Connections *int     `json:"connections"`
	FirstByteS  *float64 `json:"first_byte_s"`
	IdleS       *float64 `json:"idle_s"`
	ProgressS   *float64 `json:"progress_s"`
}

func (r *doorRequest) limits() (doors.Limits, error) {
	limits := doors.DefaultLimits
	if r.Port < 0 || r.Port > math.MaxUint16 {
		return limits, errors.New("port: 0 to 65535")
	}
	if r.Connections != nil {
		limits.Connections = *r.Connections
	}
	if limits.Connections < 1 || limits.Connections > 128 {
		return limits, errors.New("connections: 1 to 128")
	}
	for _, one := range []struct {
		given *float64
		into  *time.Duration
	}{{r.FirstByteS, &limits.FirstByte}, {r.IdleS, &limits.Idle}, {r.ProgressS, &limits.Progress}} {
		if one.given == nil {
			continue
		}
		if !(*one.given > 0 && *one.given <= 86400) {
			return limits, errors.New("first_byte_s, idle_s, progress_s: above 0, at most 86400")
		}
		*one.into = time.Duration(*one.given * float64(time.Second))
	}
	return limits, nil
}

type doorAnswer struct {
	ID   string `json:"id"`
	Port int    `json:"port"`
}

func (a *API) doorOpen(c *call) {
	var request doorRequest
	err := c.ReadJSON(&request, 1<<12)
	if err == nil {
		err = execs.CheckID(request.ID)
	}
	var limits doors.Limits
	if err == nil {
		limits, err = request.limits()
	}
	if err != nil {
		c.fail(err)
		return
	}
	door, err := a.Doors.Open(request.ID, request.Port, limits, a.Runner.Admit(c.epoch))
	switch {
	case errors.Is(err, doors.ErrTooMany):
		c.reply.Fail(409, "too_many_doors", "at most "+strconv.Itoa(doors.MaxDoors))
	case errors.Is(err, syscall.EADDRINUSE):
		c.reply.Fail(422, "os_error", "the port is in use in the box")
	case err != nil:
		c.fail(err)
	default:
		c.reply.JSON(200, doorAnswer{ID: door.ID, Port: door.Port})
	}
}

type nobodyAnswer struct {
	ID        string `json:"id"`
	Connected bool   `json:"connected"`
}

// doorNext joins the caller's connection with that of the next program at the door.
func (a *API) doorNext(c *call) {
	door := a.Doors.Find(c.id)
	if door == nil {
		c.reply.Fail(404, "not_found", "no door has this id")
		return
	}
	waitS, err := strconv.ParseFloat(c.text("wait_s", "60"), 64)
	if err != nil || !(waitS >= 0) {
		c.reply.Fail(400, "bad_request", "wait_s: must be a number, not negative")
		return
	}
	passage, err := door.Next(time.Duration(min(waitS, doorWait.Seconds()) * float64(time.Second)))
	switch {
	case errors.Is(err, doors.ErrNobody):
		c.reply.JSON(200, nobodyAnswer{ID: c.id})
		return
	case err != nil:
		c.reply.Fail(404, "not_found", err.Error())
		return
	}
	if err = a.Runner.Admit(c.epoch)(); err != nil {
		passage.Drop()
		c.fail(err)
		return
	}
	conn, rest, err := c.reply.Upgrade("envfarm-door")
	if err != nil {
		passage.Drop()
		return
	}
	passage.Carry(conn, rest)
}

func (a *API) doorShut(c *call) {
	if !a.Doors.Shut(c.id) {
		c.reply.Fail(404, "not_found", "no door has this id")
		return
	}
	c.reply.JSON(200, struct {
		ID string `json:"id"`
	}{c.id})
}
