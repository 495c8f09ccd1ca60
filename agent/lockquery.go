package agent

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

const (
	// maxLockWait bounds wait_ms.
	maxLockWait = 24 * time.Hour
	// maxCommand bounds the name of a client's command, in bytes.
	maxCommand = 64
	// forever is the wait without a bound.
	forever time.Duration = -1
)

// lockQuery is a checked api.LockRequest.
type lockQuery struct {
	ttl     time.Duration
	wait    time.Duration // 0 tries once; forever
	command string
	pid     int // 0 for the agent's
}

// readLockRequest checks r. A request that says nothing of waiting waits for wait.
func readLockRequest(r api.LockRequest, wait time.Duration) (lockQuery, error) {
	q := lockQuery{ttl: lockclient.DefaultTTL, wait: wait, command: r.Command, pid: r.PID}
	if q.command == "" {
		q.command = "http"
	}
	if r.TTLMS != nil {
		low, high := lockclient.MinTTL.Milliseconds(), lockclient.MaxTTL.Milliseconds()
		if *r.TTLMS < low || *r.TTLMS > high {
			return q, badLockRequest(fmt.Sprintf("write ttl_ms from %d to %d, or leave it out for %d", low, high, lockclient.DefaultTTL.Milliseconds()),
				"ttl_ms %d is out of bounds", *r.TTLMS)
		}
		q.ttl = time.Duration(*r.TTLMS) * time.Millisecond
	}
	if r.WaitMS != nil {
		if high := maxLockWait.Milliseconds(); *r.WaitMS < 0 || *r.WaitMS > high {
			return q, badLockRequest(fmt.Sprintf("write wait_ms from 0 to %d", high), "wait_ms %d is out of bounds", *r.WaitMS)
		}
		q.wait = time.Duration(*r.WaitMS) * time.Millisecond
	}
	if len(q.command) > maxCommand || strings.ContainsFunc(q.command, unicode.IsControl) {
		return q, badLockRequest(fmt.Sprintf("write a name of at most %d bytes, without arguments", maxCommand),
			"command %.80q is too long or has control characters", q.command)
	}
	if q.pid < 0 {
		return q, badLockRequest("write the process id, or leave it out", "pid %d is no process", q.pid)
	}
	return q, nil
}

func badLockRequest(fix, format string, args ...any) error {
	return api.NewProblem(http.StatusBadRequest, api.KindBadRequest, fmt.Sprintf(format, args...), fix)
}
