package api

import (
	"net"
	"sync"
	"time"

	"envfarm.dev/boxd/internal/wire"
)

const (
	maxAddresses  = 16
	maxReachBytes = 16 << 10
	maxReach      = 10 * time.Second
)

// reachRequest is the body of POST /v1/reach.
type reachRequest struct {
	Addresses []string `json:"addresses"`
	TimeoutMS int64    `json:"timeout_ms"`
}

type reached struct {
	Address string `json:"address"`
	Reached bool   `json:"reached"`
	Error   string `json:"error,omitempty"`
}

func (a *API) reach(c *call) { AnswerReach(c.Request, c.reply) }

// AnswerReach tries to connect from the box to some addresses, so that a client can verify that its network is closed. It sends no data.
func AnswerReach(request *wire.Request, reply *wire.Reply) {
	var asked reachRequest
	if err := request.ReadJSON(&asked, maxReachBytes); err != nil {
		reply.Fail(400, "bad_request", err.Error())
		return
	}
	patience := time.Duration(asked.TimeoutMS) * time.Millisecond
	if len(asked.Addresses) > maxAddresses || patience <= 0 || patience > maxReach {
		reply.Fail(400, "bad_request", "at most 16 addresses; timeout_ms: 1 to 10000")
		return
	}
	answers := make([]reached, len(asked.Addresses))
	var all sync.WaitGroup
	for i, address := range asked.Addresses {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[i] = try(address, patience)
		}()
	}
	all.Wait()
	reply.JSON(200, struct {
		Addresses []reached `json:"addresses"`
	}{answers})
}

func try(address string, patience time.Duration) reached {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return reached{Address: address, Error: err.Error()}
	}
	conn.Close()
	return reached{Address: address, Reached: true}
}
