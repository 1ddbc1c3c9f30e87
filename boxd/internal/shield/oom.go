package shield

import (
	"os"
	"strconv"
	"strings"
)

// OomScore keeps boxd's own score low, and its children's unchanged.
type OomScore struct {
	file     *os.File // nil if the score may not be lowered
	original string
	lowest   string
}

const oomPath = "/proc/self/oom_score_adj"

func lowerOomScore() *OomScore {
	data, err := os.ReadFile(oomPath)
	if err != nil {
		return &OomScore{}
	}
	original := strings.TrimSpace(string(data))
	file, err := os.OpenFile(oomPath, os.O_WRONLY, 0)
	if err != nil {
		return &OomScore{}
	}
	now, _ := strconv.Atoi(original)
	for _, score := range []int{-1000, -999, -500, 0} {
		if score >= now {
			break
		}
		lowest := strconv.Itoa(score)
		if _, err = file.WriteString(lowest); err == nil {
			return &OomScore{file: file, original: original, lowest: lowest}
		}
	}
	file.Close()
	return &OomScore{}
}

// AroundFork gives the child that start creates the score that boxd began with. A child inherits the score at its fork,
// and if the kernel never chose children, it would kill the whole box instead.
func (o *OomScore) AroundFork(start func()) {
	if o == nil || o.file == nil {
		start()
		return
	}
	o.file.WriteString(o.original)
	start()
	o.file.WriteString(o.lowest)
}
